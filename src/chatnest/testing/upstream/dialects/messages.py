"""Messages: the events of Anthropic's Messages API. No I/O."""

from collections.abc import Iterator
from typing import Any, ClassVar

from chatnest.testing.upstream.answers import Answer, content_of, reason_of
from chatnest.testing.upstream.delivery import Fault
from chatnest.testing.upstream.dialects.base import Dialect, to_json
from chatnest.testing.upstream.dialects.message_blocks import (
    closed,
    deltas,
    opened,
    stopped,
    usage_object,
)
from chatnest.testing.upstream.dialects.message_errors import error_object, refusal, type_of_code
from chatnest.testing.upstream.parts import TokenUsage, blocks

__all__ = ["Messages"]

_DELTA = "content_block_delta"
_BROKEN = b'{"type":"content_block_delta","index":0,"delta":'
_STANDARD = "standard"


class Messages(Dialect):
    """The events of one message: its blocks, each from its start to its stop."""

    broken: ClassVar[dict[str, tuple[str, bytes]]] = {
        "bad_json": (_DELTA, _BROKEN),
        "bad_utf8": (_DELTA, _BROKEN + b'{"type":"text_delta","text":"\xff\xfe\xc3\x28"}}'),
        "null_event": (_DELTA, b"null"),
        "wrong_types": (_DELTA, _BROKEN + b'{"type":"text_delta","text":["a"]}}'),
    }

    def __init__(self, answer: Answer, request: dict[str, Any]) -> None:
        super().__init__(answer, request)
        self._blocks = blocks(content_of(answer))

    @classmethod
    def refusal(cls, answer: Answer) -> Answer:
        """Return the answer with the error of this API as its body."""
        return refusal(answer)

    def first(self) -> list[bytes]:
        """Return `message_start`, with the input tokens and the first output token."""
        message = self._message([], None)
        if self.answer.usage is not None:
            message["usage"] = self._usage() | {"output_tokens": 1, **self._tier()}
        return [self._event("message_start", message=message)]

    def pieces(self) -> Iterator[tuple[bytes, int]]:
        for index, block in enumerate(self._blocks):
            start = self._event("content_block_start", index=index, content_block=opened(block))
            yield start, 0
            if index == 0:
                yield self.ping(), 0
            for delta in deltas(block):
                before = self.waiting() if delta.is_piece else b""
                self.sent += delta.is_piece
                event = self._event(_DELTA, index=index, delta=delta.fields)
                yield before + event, int(delta.is_piece)
            yield self._event("content_block_stop", index=index), 0

    def finish(self) -> list[bytes]:
        """Return `message_delta`, whose usage is the total, and `message_stop`."""
        reason = reason_of(self.answer)
        stop = self._event("message_stop")
        if reason is None:
            return [stop]
        fields: dict[str, Any] = {"delta": stopped(reason)}
        if self.answer.usage is not None:
            fields["usage"] = self._usage()
        return [self._event("message_delta", **fields), stop]

    def error(self, fault: Fault) -> bytes:
        """Return an `error` event."""
        return self._event("error", **error_object(type_of_code(fault.code)))

    def ping(self) -> bytes:
        """Return a `ping` event."""
        return self._event("ping")

    def endless_line(self) -> tuple[bytes, bytes]:
        """Return the start and the end of a text delta, without the text."""
        delta = {"type": "text_delta", "text": "#"}
        begin, end = self._event(_DELTA, index=0, delta=delta).split(b"#")
        return begin, end

    def whole(self) -> bytes:
        """Return the body of a response that is not streamed."""
        content = []
        for block in self._blocks:
            found, pieces = closed(block)
            content.append(found)
            self.sent += pieces
        message = self._message(content, reason_of(self.answer))
        if self.answer.usage is not None:
            message["usage"] = self._usage() | self._tier()
        return to_json(message)

    def _message(self, content: list[dict[str, Any]], reason: str | None) -> dict[str, Any]:
        nothing = {"stop_reason": None, "stop_sequence": None}
        return {
            "id": f"msg_{self.number:08d}",
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": content,
            **(nothing if reason is None else stopped(reason)),
        }

    def _usage(self) -> dict[str, Any]:
        is_detailed = isinstance(self.answer.usage, TokenUsage)
        return usage_object(self.usage(), is_detailed=is_detailed) | {**self.answer.usage_fields}

    def _tier(self) -> dict[str, Any]:
        return {"service_tier": self.answer.service_tier or _STANDARD}

    def _event(self, name: str, /, **fields: Any) -> bytes:
        return self.frame(name, to_json({"type": name, **fields}))
