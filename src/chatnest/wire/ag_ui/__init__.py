"""The format of AG-UI: its requests, its streams and its errors, in 1.0 and in 0.0.x. No I/O."""

from collections.abc import Mapping, Sequence

from chatnest.asgi.http import Document
from chatnest.errors import ChatNestError
from chatnest.requests import ChatRequest
from chatnest.wire.ag_ui.body import Body
from chatnest.wire.ag_ui.frames import AGUIFrames
from chatnest.wire.ag_ui.problem import problem_response
from chatnest.wire.ag_ui.request import parse_request
from chatnest.wire.base import MorePath

__all__ = ["AGUIFormat"]


class AGUIFormat:
    """Speaks AG-UI, the protocol of HttpAgent and CopilotKit; see docs/reference/wire.md. ``path``
    is where, below the path of the chat.
    """

    content_type: str = "text/event-stream"
    headers: Mapping[str, str] = {}
    more_paths: Sequence[MorePath] = ()
    """None: its clients cannot resume a run, and stop one by closing the connection."""
    body_type: type = Body

    def __init__(self, path: str = "/ag-ui") -> None:
        self.path: str = path

    def __repr__(self) -> str:
        return f"AGUIFormat({self.path!r})"

    parse: "staticmethod[[bytes, Mapping[bytes, bytes] | None], ChatRequest]" = staticmethod(
        parse_request
    )
    frames = AGUIFrames

    def problem(self, error: ChatNestError, *, request_id: str, charged: bool) -> Document:
        """See WireFormat: JSON with the sentence in ``message``."""
        return problem_response(error, request_id=request_id, charged=charged)
