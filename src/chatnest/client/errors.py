"""Errors of the client: ChatError, and a connection that broke."""

from collections.abc import Mapping
from typing import Any, Final

__all__ = ["ChatError", "CutOffError"]

_NEVER: Final = 1e9
_CUT: Final = "cut_off"


class ChatError(Exception):
    """The server refused the request, or the answer is incomplete.

    The fields are the server's, as in docs/reference/errors.md. Status 0 means that the error is
    the client's own: ``cut_off`` if the server could not be reached for too long,
    ``incomplete_call`` and ``too_many_rounds`` in ``run_tools``.
    """

    def __init__(self, status: int, fields: Mapping[str, Any]) -> None:
        self.status: int = status
        self.code: str = str(fields.get("code", _CUT))
        self.detail: str = str(fields.get("detail") or fields.get("message") or self.code)
        self.retryable: bool = bool(fields.get("retryable", False))
        self.retry_after: float | None = _seconds(fields.get("retry_after"))
        self.charged: bool = bool(fields.get("charged", False))
        super().__init__(self.detail)


def _seconds(value: object) -> float | None:
    """The delay in seconds, or None if it is missing or implausible."""
    return value if isinstance(value, int | float) and 0 <= value < _NEVER else None


class CutOffError(Exception):
    """The body ended before the answer did, or is invalid."""
