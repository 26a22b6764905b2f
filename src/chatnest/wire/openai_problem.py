"""Errors in the form of OpenAI's API, with statuses that its clients treat as they should. No I/O.

OpenAI's clients and the AI SDK make up to three calls after a 408, a 409, a 429 and any 5xx, and
other fields of the response do not stop all of them. So these statuses are only for failures that
cost nothing. Failures of the model that a repetition cannot help do not have them either.
"""

import math
import re
from collections.abc import Mapping
from typing import Final

import msgspec

from chatnest.asgi.http import Document
from chatnest.errors import (
    ChatNestError,
    ContextLengthExceeded,
    LimitExceeded,
    RequestError,
    Unauthenticated,
    UpstreamError,
)
from chatnest.wire.error_headers import error_headers

__all__ = ["MOST_WAIT", "error_object", "openai_problem"]

MOST_WAIT: Final = 60.0
"""Maximum seconds to wait that a 429 asks for. Clients ignore a longer time, and retry at once."""

_FINAL: Final = 424
"""The status of a failure of the model that must not be repeated (Failed Dependency). No client
repeats it.
"""

_CANCELLED: Final = 499
_FORBIDDEN: Final = 403
_SERVER_ERROR: Final = 500
_REPEATED: Final = frozenset({408, 409, 429})
_PLACE: Final = re.compile(r"([A-Za-z][\w.\[\]]{0,120}): ")
"""The place of a body with which the detail of an error begins."""

_json: Final = msgspec.json.Encoder()


def openai_problem(
    error: ChatNestError, *, request_id: str, charged: bool, names: Mapping[str, str]
) -> Document:
    """The response to a request that failed before its stream. ``charged`` is whether it cost
    anything. ``names`` are the format's names for the fields of the native one.

    A limit that is free again within MOST_WAIT seconds is a 429. Any other limit is a 402 with the
    code ``insufficient_quota``, which no client repeats.
    """
    status = _status(error, charged=charged)
    headers = {**error_headers(error), "x-request-id": request_id}
    if error.retry_after is not None and _is_repeated(status):
        headers["retry-after-ms"] = str(max(1, math.ceil(error.retry_after * 1000)))
    if not (error.retryable and not charged):
        headers["x-should-retry"] = "false"
    return Document(
        status=status,
        media_type="application/json",
        headers=headers,
        body=_json.encode({"error": error_object(error, charged=charged, names=names)}),
    )


def error_object(
    error: ChatNestError, *, charged: bool, names: Mapping[str, str]
) -> Mapping[str, str | None]:
    """The object ``error`` of a document, and of a frame within a stream.

    The AI SDK decides by ``type`` and ``code`` whether to repeat a stream that failed before its
    first content, so a failure that must not be repeated has a type that it does not repeat.
    """
    code, param, detail = error.code, None, error.detail_in(names)
    if isinstance(error, LimitExceeded):
        code = "rate_limit_exceeded" if _is_short(error, charged) else "insufficient_quota"
    elif isinstance(error, ContextLengthExceeded):
        code = "context_length_exceeded"  # clients that shorten a conversation look for it
    elif isinstance(error, RequestError) and (place := _PLACE.match(detail)) is not None:
        param = place[1]
    return {
        "message": detail,
        "type": _type(error, code, charged=charged),
        "param": param,
        "code": code,
    }


def _status(error: ChatNestError, *, charged: bool) -> int:
    if isinstance(error, LimitExceeded) and not _is_short(error, charged):
        return 402
    if _is_final(error, charged=charged) and _is_repeated(error.status):
        return _FINAL
    if error.code == "cancelled":
        return _CANCELLED
    return error.status


def _is_repeated(status: int) -> bool:
    return status in _REPEATED or status >= _SERVER_ERROR


def _is_final(error: ChatNestError, *, charged: bool) -> bool:
    """Whether a repetition would cost something, or cannot help."""
    return charged or (isinstance(error, UpstreamError) and not error.retryable)


def _is_short(error: LimitExceeded, charged: bool) -> bool:
    """Whether a client should wait and repeat the request."""
    return not charged and error.wait is not None and error.wait <= MOST_WAIT


def _type(error: ChatNestError, code: str, *, charged: bool) -> str:
    if code == "insufficient_quota":
        return code
    if charged or error.code == "cancelled":
        return "invalid_response_error"
    if _is_final(error, charged=charged) and _is_repeated(error.status):
        return "invalid_response_error"
    if isinstance(error, LimitExceeded):
        return "rate_limit_error"
    if isinstance(error, Unauthenticated):
        return "authentication_error"
    if error.status == _FORBIDDEN:
        return "permission_error"
    return "invalid_request_error" if error.status < _SERVER_ERROR else "server_error"
