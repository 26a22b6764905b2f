"""The UI message stream of the AI SDK: its requests, its streams and its errors. No I/O."""

from collections.abc import Mapping, Sequence

from chatnest.asgi.http import Document
from chatnest.errors import ChatNestError
from chatnest.requests import ChatRequest
from chatnest.wire.ai_sdk.body import Body
from chatnest.wire.ai_sdk.frames import AISDKFrames
from chatnest.wire.ai_sdk.problem import problem_response
from chatnest.wire.ai_sdk.request import parse_request
from chatnest.wire.base import RUNS, MorePath

__all__ = ["AISDKFormat"]


class AISDKFormat:
    """Speaks with ``useChat`` of the AI SDK 5, 6 and 7, and with assistant-ui; see
    docs/reference/wire.md. ``path`` is where, below the path of the chat: the ``api`` of a
    ``DefaultChatTransport``.
    """

    content_type: str = "text/event-stream"
    headers: Mapping[str, str] = {"x-vercel-ai-ui-message-stream": "v1"}
    body_type: type = Body

    def __init__(self, path: str = "/ai-sdk") -> None:
        self.path: str = path
        self.more_paths: Sequence[MorePath] = (MorePath(f"{path}/{{conversation}}/stream", RUNS),)

    def __repr__(self) -> str:
        return f"AISDKFormat({self.path!r})"

    parse: "staticmethod[[bytes, Mapping[bytes, bytes] | None], ChatRequest]" = staticmethod(
        parse_request
    )
    frames = AISDKFrames

    def problem(
        self,
        error: ChatNestError,
        *,
        request_id: str,  # noqa: ARG002  # a sentence has no place for it
        charged: bool,  # noqa: ARG002  # as above
    ) -> Document:
        """See WireFormat: a sentence, which ``useChat`` shows as it is."""
        return problem_response(error)
