"""Errors before a stream: JSON, which the clients of AG-UI keep as ``payload``. No I/O."""

from typing import Final

import msgspec

from chatnest.asgi.http import Document
from chatnest.errors import ChatNestError
from chatnest.wire.ag_ui.names import NAMES
from chatnest.wire.error_headers import error_headers

__all__ = ["problem_response"]

_json: Final = msgspec.json.Encoder()


def problem_response(error: ChatNestError, *, request_id: str, charged: bool) -> Document:
    """The response of an error, with the status and the fields that it has in the native format.
    ``message`` is a sentence for people. The clients read JSON only under ``application/json``.
    """
    problem: dict[str, object] = {
        "message": error.detail_in(NAMES),
        **error.fields(),
        "request_id": request_id,
    }
    if charged:
        problem["charged"] = True
    return Document(
        status=error.status,
        media_type="application/json",
        headers=error_headers(error),
        body=_json.encode(problem),
    )
