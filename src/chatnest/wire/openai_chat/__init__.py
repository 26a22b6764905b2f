"""Chat Completions, OpenAI's API, as a server: for clients that were made for OpenAI. No I/O."""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from chatnest.asgi.http import Document
from chatnest.errors import ChatNestError
from chatnest.requests import ChatRequest
from chatnest.wire.base import RUNS, Action, Frames, MorePath, StreamInfo
from chatnest.wire.openai_chat.body import Body
from chatnest.wire.openai_chat.frames import OpenAIChatFrames
from chatnest.wire.openai_chat.names import NAMES
from chatnest.wire.openai_chat.request import parse_request
from chatnest.wire.openai_chat.whole import OpenAIChatDocument
from chatnest.wire.openai_problem import openai_problem

__all__ = ["OpenAIChatFormat"]

_SUFFIX: Final = "/chat/completions"
_MODELS: Final[Mapping[str, Action]] = {"GET": "models"}
_json: Final = msgspec.json.Encoder()


class OpenAIChatFormat:
    """Speaks as OpenAI's Chat Completions API does; see docs/reference/wire.md. ``path`` is where,
    below the path of the chat. The models are beside it, at ``/v1/models`` by default.
    """

    content_type: str = "text/event-stream"
    headers: Mapping[str, str] = {}
    body_type: type = Body
    has_documents: bool = True
    has_quota_errors: bool = True

    def __init__(self, path: str = "/v1/chat/completions") -> None:
        self.path: str = path
        models = f"{path.removesuffix(_SUFFIX)}/models"
        self.more_paths: Sequence[MorePath] = (
            MorePath(models, _MODELS),
            MorePath(f"{models}/{{model}}", _MODELS),
            MorePath(f"{path}/runs/{{run}}", RUNS),
        )

    def __repr__(self) -> str:
        return f"OpenAIChatFormat({self.path!r})"

    parse: "staticmethod[[bytes, Mapping[bytes, bytes] | None], ChatRequest]" = staticmethod(
        parse_request
    )

    def frames(self, info: StreamInfo) -> Frames:
        """See WireFormat: chunks, or one document."""
        request = info.request
        is_stream = request is None or request.submission.stream
        return OpenAIChatFrames(info) if is_stream else OpenAIChatDocument(info)

    def problem(self, error: ChatNestError, *, request_id: str, charged: bool) -> Document:
        """See WireFormat: an object ``error``."""
        return openai_problem(error, request_id=request_id, charged=charged, names=NAMES)

    def receipt(self, receipt: Mapping[str, object]) -> Document:
        """See HasReceipts: the same as in the native format, since OpenAI has nothing like it."""
        return _document(receipt)

    def models(self, names: Sequence[str], name: str | None) -> Document:
        """See HasModels: a list of models, or one."""
        if name is not None:
            return _document(_model(name))
        return _document({"object": "list", "data": [_model(each) for each in names]})


def _model(name: str) -> dict[str, object]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "chatnest"}


def _document(content: object) -> Document:
    return Document(status=200, media_type="application/json", body=_json.encode(content))
