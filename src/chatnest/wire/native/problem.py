"""Errors before a stream: problem documents (RFC 9457). No I/O."""

from typing import Final

import msgspec

from chatnest.asgi.http import Document
from chatnest.errors import ChatNestError
from chatnest.wire.error_headers import error_headers

__all__ = ["problem_response"]

_json: Final = msgspec.json.Encoder()

_MAX_DETAIL: Final = 768
"""Maximum bytes of a detail in JSON. A problem document has it twice, in at most 2 KiB."""


def problem_response(error: ChatNestError, *, request_id: str, charged: bool = False) -> Document:
    """The problem document of an error, with ``error`` for chat-nest's client. ``charged`` is rare
    before a stream: the model took the request and was silent.
    """
    detail = _within(error.detail, _MAX_DETAIL)
    problem: dict[str, object] = {
        "type": error.problem_type,
        "title": error.title,
        "status": error.status,
        "detail": detail,
        **error.fields(),
        "request_id": request_id,
        "error": detail,
    }
    if charged:
        problem["charged"] = True
    return Document(
        status=error.status,
        media_type="application/problem+json",
        headers=error_headers(error),
        body=_json.encode(problem),
    )


def _within(text: str, most: int) -> str:
    """The beginning of ``text`` that has at most ``most`` bytes in JSON."""
    text = text[:most]
    while len(_json.encode(text)) > most:
        text = text[: len(text) * 9 // 10]
    return text
