"""What an upstream's status and error document stand for, as errors of ours. No I/O.

The names are those of OpenAI's error objects; the texts are ours, since what the upstream wrote
may name accounts and keys.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from chatnest.errors import (
    ContextLengthExceeded,
    UpstreamAccount,
    UpstreamError,
    UpstreamOverloaded,
    UpstreamRejected,
    UpstreamServerError,
)

__all__ = ["error_for_code", "error_for_status", "name", "names_in"]

_LONGEST_RETRY_AFTER: Final = 60.0
_DEFAULT_RETRY_AFTER: Final = 5.0


def error_for_code(code: str, kind: str) -> UpstreamError | None:
    """What OpenAI's ``code`` and ``type`` stand for, or None where the status says more."""
    names = {code, kind}
    if "insufficient_quota" in names or "billing_hard_limit_reached" in names:
        return UpstreamAccount()
    if names & {"context_length_exceeded", "string_above_max_length", "exceed_context_size_error"}:
        return ContextLengthExceeded()
    if names & {"rate_limit_exceeded", "rate_limit_error", "429"}:
        return UpstreamOverloaded()
    return None


def error_for_status(
    status: int, headers: Mapping[str, str], *, code: str, kind: str
) -> UpstreamError:
    """What a status other than 200 stands for, with the error document's names."""
    retry_after = _retry_after(headers)
    named = error_for_code(code, kind) if status < 500 else None  # noqa: PLR2004  # RFC 9110
    match status:
        case 401 | 403:
            return UpstreamAccount()
        case 429 if not isinstance(named, UpstreamAccount):
            return UpstreamOverloaded(retry_after=retry_after)
        case 503 if retry_after is not None:
            return UpstreamOverloaded(retry_after=retry_after)
        case 408 | 409:
            return UpstreamServerError(retry_after=retry_after)
        case _ if status >= 500:  # noqa: PLR2004  # RFC 9110
            return UpstreamServerError(retry_after=retry_after)
        case _:
            return named or UpstreamRejected()


def names_in(document: bytes) -> tuple[str, str]:
    """``code`` and ``type`` of an error document, ``{"error": {...}}`` or what stands inside it;
    empty where it is none.
    """
    try:
        found: Any = msgspec.json.decode(document)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return "", ""
    error = found.get("error", found) if isinstance(found, dict) else None
    if not isinstance(error, dict):
        return "", ""
    return name(error.get("code")), name(error.get("type"))


def name(value: object) -> str:
    """A code or type as it was found, which may be anything."""
    return str(value) if isinstance(value, str | int) else ""


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds, from the milliseconds that OpenAI adds or from RFC 9110's field, capped."""
    for field, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            seconds = float(headers[field]) / unit
        except (KeyError, ValueError):
            continue
        if 0 <= seconds < float("inf"):
            return min(seconds, _LONGEST_RETRY_AFTER)
    return _DEFAULT_RETRY_AFTER if "retry-after" in headers else None
