"""Runs: answers that can be joined, replayed, picked up again and cancelled."""

from chatnest.runs.base import RunLog, RunSettings
from chatnest.runs.memory import MemoryRunLog

__all__ = ["MemoryRunLog", "RunLog", "RunSettings"]
