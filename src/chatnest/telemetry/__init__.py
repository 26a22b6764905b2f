"""Telemetry: an application reports each step of its requests to observers, such as its log."""

from chatnest.telemetry.access_log import AccessLog
from chatnest.telemetry.base import (
    Admitted,
    Asked,
    Attempted,
    Ended,
    FirstPiece,
    Observation,
    Observer,
    Refused,
    Tracing,
)

__all__ = [
    "AccessLog",
    "Admitted",
    "Asked",
    "Attempted",
    "Ended",
    "FirstPiece",
    "Observation",
    "Observer",
    "Refused",
    "Tracing",
]
