"""Runs: answers that several clients can join, replay, resume and cancel."""

from chatnest.runs.base import RunLog, RunSettings
from chatnest.runs.memory import MemoryRunLog

__all__ = ["MemoryRunLog", "RunLog", "RunSettings"]
