"""Responses: the events of OpenAI's Responses API. No I/O."""

import itertools
from collections.abc import Iterator
from typing import Any, ClassVar

from chatnest.testing.upstream.answers import Answer, content_of, reason_of
from chatnest.testing.upstream.canary import MESSAGE, openai_error
from chatnest.testing.upstream.delivery import Fault
from chatnest.testing.upstream.dialects.base import Dialect, to_json
from chatnest.testing.upstream.dialects.response_items import item_events, items_of
from chatnest.testing.upstream.dialects.response_object import created, ended, usage_object
from chatnest.testing.upstream.parts import blocks

__all__ = ["Responses"]

_DELTA = "response.output_text.delta"
_BROKEN = b'{"type":"response.output_text.delta","sequence_number":0,"item_id":"msg_0",'


class Responses(Dialect):
    """The events of one response: its items, each from `added` to `done`, numbered from 0."""

    broken: ClassVar[dict[str, tuple[str, bytes]]] = {
        "bad_json": (_DELTA, _BROKEN),
        "bad_utf8": (
            _DELTA,
            _BROKEN
            + b'"output_index":0,"content_index":0,"logprobs":[],"delta":"\xff\xfe\xc3\x28"}',
        ),
        "null_event": (_DELTA, b"null"),
        "wrong_types": (
            _DELTA,
            _BROKEN + b'"output_index":"0","content_index":{},"logprobs":7,"delta":["a"]}',
        ),
    }

    def __init__(self, answer: Answer, request: dict[str, Any]) -> None:
        super().__init__(answer, request)
        self._numbers = itertools.count()
        self._items = items_of(blocks(content_of(answer)))
        head = {"id": f"resp_{self.number:08d}", "created_at": self.created, "model": self.model}
        self._response = created(request, head)
        self._output: list[dict[str, Any]] = []
        reason = reason_of(answer)
        self._end = None if reason is None else ended(reason)

    def first(self) -> list[bytes]:
        """Return `response.created` and `response.in_progress`."""
        events = ("response.created", "response.in_progress")
        return [self._event(name, response=self._response) for name in events]

    def pieces(self) -> Iterator[tuple[bytes, int]]:
        last = len(self._items) - 1
        for index, item in enumerate(self._items):
            status = self._end["status"] if index == last and self._end else "completed"
            for event in item_events(item, index, self.number, status):
                before = self.waiting() if event.is_piece else b""
                self.sent += event.is_piece
                yield before + self._event(event.name, **event.fields), int(event.is_piece)
                if event.name == "response.output_item.done":
                    self._output.append(event.fields["item"])

    def finish(self) -> list[bytes]:
        """Return `response.completed` or `response.incomplete`: the only event with usage."""
        if self._end is None:
            return []
        return [self._event(f"response.{self._end['status']}", response=self._ended(self._end))]

    def error(self, fault: Fault) -> bytes:
        """Return an `error` event or `response.failed`."""
        if fault.name == "failed":
            error = {"code": fault.code, "message": MESSAGE}
            end: dict[str, Any] = {"status": "failed", "error": error}
            if self.answer.usage == "auto":
                end["usage"] = None
            return self._event("response.failed", response=self._ended(end))
        if fault.nested:
            return self._event("error", error=openai_error(fault.code, "server_error"))
        return self._event("error", code=fault.code, message=MESSAGE, param=None)

    def ping(self) -> bytes:
        """Return a `keepalive` event."""
        return self._event("keepalive")

    def endless_line(self) -> tuple[bytes, bytes]:
        """Return the start and the end of a text delta, without the text."""
        fields = {"item_id": f"msg_{self.number:08d}_0", "output_index": 0, "content_index": 0}
        begin, end = self._event(_DELTA, **fields, logprobs=[], delta="#").split(b"#")
        return begin, end

    def whole(self) -> bytes:
        """Return the body of a response that is not streamed."""
        for _ in self.pieces():
            pass
        return to_json(self._ended(self._end or {}))

    def _ended(self, end: dict[str, Any]) -> dict[str, Any]:
        usage: dict[str, Any] | None = None
        if self.answer.usage is not None:
            usage = usage_object(self.usage()) | {**self.answer.usage_fields}
        tier = {"service_tier": self.answer.service_tier or "default"}
        return self._response | tier | {"output": self._output, "usage": usage} | end

    def _event(self, name: str, /, **fields: Any) -> bytes:
        data = {"type": name, "sequence_number": next(self._numbers), **fields}
        return self.frame(name, to_json(data))
