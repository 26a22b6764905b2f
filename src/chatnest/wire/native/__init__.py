"""The native format of chat-nest: its requests, its streams and its errors. No I/O."""

from collections.abc import Mapping

from chatnest.asgi.http import Document
from chatnest.errors import ChatNestError
from chatnest.requests import ChatRequest
from chatnest.wire.native.body import Body
from chatnest.wire.native.frames import NativeFrames
from chatnest.wire.native.problem import problem_response
from chatnest.wire.native.request import parse_request

__all__ = ["NativeFormat", "NativeFrames", "parse_request", "problem_response"]


class NativeFormat:
    """Speaks as chat-nest-server does; see docs/reference/wire.md. ``path`` is where, below the
    path of the chat.
    """

    content_type: str = "text/event-stream"
    headers: Mapping[str, str] = {}
    body_type: type = Body

    def __init__(self, path: str = "") -> None:
        self.path: str = path

    def __repr__(self) -> str:
        return f"NativeFormat({self.path!r})"

    parse: "staticmethod[[bytes, Mapping[bytes, bytes] | None], ChatRequest]" = staticmethod(
        parse_request
    )
    frames = NativeFrames

    def problem(self, error: ChatNestError, *, request_id: str, charged: bool) -> Document:
        """See WireFormat: a problem document (RFC 9457)."""
        return problem_response(error, request_id=request_id, charged=charged)
