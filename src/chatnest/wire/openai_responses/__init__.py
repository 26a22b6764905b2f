"""OpenAI's Responses API for clients, without anything that a server would keep. No I/O."""

from collections.abc import Mapping, Sequence

import msgspec

from chatnest.asgi.http import Document
from chatnest.errors import ChatNestError
from chatnest.requests import ChatRequest
from chatnest.wire.base import Frames, MorePath, StreamInfo
from chatnest.wire.openai_problem import error_object, openai_problem
from chatnest.wire.openai_responses.body import Body
from chatnest.wire.openai_responses.frames import ResponseFrames, WholeResponseFrames
from chatnest.wire.openai_responses.names import NAMES
from chatnest.wire.openai_responses.receipt import receipt_document
from chatnest.wire.openai_responses.request import parse_request
from chatnest.wire.sse import json_of

__all__ = ["OpenAIResponsesFormat"]


class OpenAIResponsesFormat:
    """Speaks as OpenAI's Responses API does; see docs/reference/wire.md. ``path`` is where, below
    the path of the chat. A run is cancelled at ``/resp_{run}/cancel`` below it, by POST.
    """

    content_type: str = "text/event-stream"
    headers: Mapping[str, str] = {}
    body_type: type = Body
    has_documents: bool = True
    has_quota_errors: bool = True

    def __init__(self, path: str = "/v1/responses") -> None:
        self.path: str = path
        self.more_paths: Sequence[MorePath] = (
            MorePath(f"{path}/resp_{{run}}/cancel", {"POST": "cancel"}),
        )

    def __repr__(self) -> str:
        return f"OpenAIResponsesFormat({self.path!r})"

    def parse(self, body: bytes, head: Mapping[bytes, bytes]) -> ChatRequest:
        """See WireFormat."""
        return parse_request(body, head)

    def frames(self, info: StreamInfo) -> Frames:
        """See WireFormat: events, or one document for a request without ``stream``."""
        request = info.request
        if request is None or request.submission.stream:
            return ResponseFrames(info)
        return WholeResponseFrames(info)

    def problem(self, error: ChatNestError, *, request_id: str, charged: bool) -> Document:
        """See WireFormat: an object ``error``. @ai-sdk/open-responses shows its message only if no
        field of it is null.
        """
        document = openai_problem(error, request_id=request_id, charged=charged, names=NAMES)
        fields = error_object(error, charged=charged, names=NAMES)
        body = json_of({"error": {**fields, "param": fields["param"] or ""}})
        return msgspec.structs.replace(document, body=body)

    def receipt(self, receipt: Mapping[str, object]) -> Document:
        """See HasReceipts: a response without its output."""
        return receipt_document(receipt)
