"""A wire format of the tests, with all that a format can have beside the least."""

from collections.abc import Mapping, Sequence

import msgspec

from chatnest import ChatRequest, Document, Message
from chatnest.errors import ChatNestError
from chatnest.events import ClientEvent, Delta, Done, Failed, Numbered, Ping
from chatnest.requests import Submission
from chatnest.wire.base import MorePath, StreamInfo


class PlainBody(msgspec.Struct):
    """The body of a request."""

    chat: str
    text: str
    again: bool = False
    stream: bool = True
    empty: bool = False


class PlainFrames:
    """Text as it comes, then the reason to stop in brackets, after a head with the note."""

    def __init__(self, info: StreamInfo) -> None:
        self.headers = {"x-plain": info.request_id}
        self._note = info.note if info.request is None else info.request.submission.note
        self._whole = info.request is not None and not info.request.submission.stream
        self._texts: list[str] = []

    def encode(self, events: Sequence[ClientEvent]) -> bytes:
        for event in events:
            each = event.event if isinstance(event, Numbered) else event
            match each:
                case Delta(text=text):
                    self._texts.append(text)
                case Ping():
                    self._texts.append("~")
                case Done():
                    self._texts.append(f"[{each.finish_reason} {self._note}]")
                    return self._flush()
                case Failed():
                    self._texts.append(f"[{each.error.code}]")
                    return self._flush()
                case _:
                    pass
        return b"" if self._whole else self._flush()

    def _flush(self) -> bytes:
        text = "".join(self._texts)
        self._texts.clear()
        return text.encode()


class Plain:
    """Each request of a chat with the same text is one submission."""

    content_type = "text/plain"
    headers: Mapping[str, str] = {}
    body_type = PlainBody
    frames = PlainFrames
    has_documents = True

    def __init__(self, path: str = "/plain") -> None:
        self.path = path
        self.more_paths = (
            MorePath(f"{path}/{{conversation}}/stream", {"GET": "resume", "DELETE": "cancel"}),
            MorePath(f"{path}/models", {"GET": "models"}),
            MorePath(f"{path}/models/{{model}}", {"GET": "models"}),
            MorePath(f"{path}/run_{{run}}/cancel", {"POST": "cancel"}),
        )

    def parse(self, body: bytes, _: Mapping[bytes, bytes]) -> ChatRequest:
        asked = msgspec.json.decode(body, type=PlainBody)
        return ChatRequest(
            messages=(Message.of("user", asked.text),),
            conversation=asked.chat,
            submission=Submission(
                stream=asked.stream,
                may_be_empty=asked.empty,
                key=f"{asked.chat} {asked.text}",
                replays=not asked.again,
                note=f"n-{asked.text}",
            ),
        )

    def problem(self, error: ChatNestError, *, request_id: str, charged: bool) -> Document:
        return Document(
            status=error.status,
            media_type="text/plain",
            headers=error.headers,
            body=f"({error.code} {charged})".encode(),
        )

    def receipt(self, receipt: Mapping[str, object]) -> Document:
        body = f"cancelled {receipt['outcome']}".encode()
        return Document(status=200, media_type="text/plain", body=body)

    def models(self, names: Sequence[str], name: str | None) -> Document:
        body = " ".join([name] if name is not None else names).encode()
        return Document(status=200, media_type="text/plain", body=body)
