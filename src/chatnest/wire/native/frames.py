"""NativeFrames: the Server-Sent Events of chat-nest, byte for byte. No I/O.

Frames end their lines with LF alone: chat-nest's browser client splits on two LF and loses every
token of a stream with CRLF. A token is a JSON string on one line, so that nothing in a model's
text can end a frame (WHATWG HTML, section 9.2.5).
"""

from collections.abc import Sequence
from typing import Final, assert_never

import msgspec

from chatnest.events import (
    ClientEvent,
    Delta,
    Done,
    Failed,
    Numbered,
    Ping,
    Reasoning,
    ReasoningSignature,
    Refusal,
    Source,
    Start,
    ToolCall,
    ToolCallDelta,
)
from chatnest.requests import EventKind
from chatnest.wire.base import StreamInfo
from chatnest.wire.proofs import proof_of
from chatnest.wire.sse import json_of, lines_of

__all__ = ["NativeFrames"]

_json: Final = msgspec.json.Encoder()

_START: Final = b"event: start\ndata: \n\n"
_PING: Final = b"event: ping\ndata: \n\n"
_TOKEN: Final = b"event: token\ndata: "
_ONE_TOKEN: Final = _TOKEN + b"%b\n\n"
_NUMBERED_TOKEN: Final = b"event: token\nid: %d\ndata: %b\n\n"
_DONE: Final = b"event: done\ndata: \n\n"


class NativeFrames:
    """Frames ``start``, ``token``, ``ping``, ``done`` and ``error``.

    With ``usage_event`` a frame ``usage`` precedes ``done``. ``events`` are the kinds of additional
    events: thinking, tool calls, sources. The events of a run have their number as ``id``.
    chat-nest's client ignores all of these.
    """

    __slots__ = ("events", "request_id", "usage_event")

    def __init__(self, info: StreamInfo) -> None:
        self.request_id: str = info.request_id
        self.usage_event: bool = info.usage_event
        self.events: frozenset[EventKind] = info.events

    def encode(self, events: Sequence[ClientEvent]) -> bytes:
        if len(events) == 1:
            event = events[0]
            if type(event) is Delta:  # nearly always
                return _ONE_TOKEN % json_of(event.text)
            return self._numbered(event) if type(event) is Numbered else self._frame(event)
        if set(map(type, events)) == {Delta}:
            texts = [event.text for event in events if type(event) is Delta]
            return lines_of(texts, _TOKEN, b"\n\n")
        return b"".join([self._frame(event) for event in events])

    def _frame(self, event: ClientEvent) -> bytes:
        match event:
            case Start():
                return _START
            case Delta() | Refusal():
                return _ONE_TOKEN % json_of(event.text)
            case Reasoning() | ReasoningSignature():
                return _thinking(event) if "reasoning" in self.events else b""
            case ToolCall() | ToolCallDelta():
                return _tool(event) if "tools" in self.events else b""
            case Source():
                return _source(event) if "sources" in self.events else b""
            case Ping():
                return _PING
            case Done():
                return self._done(event)
            case Failed():
                return self._failed(event)
            case Numbered():
                return self._numbered(event)
            case _:
                assert_never(event)

    def _numbered(self, numbered: Numbered) -> bytes:
        event = numbered.event
        if type(event) is Delta:
            return _NUMBERED_TOKEN % (numbered.number, json_of(event.text))
        frame = self._frame(event)
        if not frame:
            return b""
        before, event_line, rest = frame.rpartition(b"event: ")
        name, data = rest.split(b"\n", 1)
        return b"%b%b%b\nid: %d\n%b" % (before, event_line, name, numbered.number, data)

    def _done(self, done: Done) -> bytes:
        if not self.usage_event:
            return _DONE
        usage = done.usage
        data: dict[str, object] = {
            "input_tokens": usage.input_tokens,
            "output_tokens": usage.output_tokens,
            "total_tokens": usage.total_tokens,
            "source": usage.source,
            "finish_reason": done.finish_reason,
        }
        if done.incomplete:
            data["incomplete"] = True
        return b"event: usage\ndata: %b\n\n" % _json.encode(data) + _DONE

    def _failed(self, failed: Failed) -> bytes:
        error = failed.error
        data = {
            "message": error.detail,
            **error.fields(),
            "charged": failed.charged,
            "request_id": self.request_id,
        }
        return b"event: error\ndata: %b\n\n" % _json.encode(data)


def _thinking(event: Reasoning | ReasoningSignature) -> bytes:
    match event:
        case Reasoning(text=text):
            return b"event: reasoning\ndata: %b\n\n" % json_of(text)
        case ReasoningSignature():
            return _frame("reasoning_signature", proof_of(event))
        case _:
            assert_never(event)


def _tool(event: ToolCall | ToolCallDelta) -> bytes:
    match event:
        case ToolCall():
            return _frame("tool_call", {"index": event.index, "id": event.id, "name": event.name})
        case ToolCallDelta():
            return _frame("tool_arguments", {"index": event.index, "arguments": event.text})
        case _:
            assert_never(event)


def _source(event: Source) -> bytes:
    data: dict[str, object] = {"url": event.url}
    if event.title:
        data["title"] = event.title
    if event.end:
        data |= {"start": event.start, "end": event.end}
    return _frame("source", data)


def _frame(name: str, data: dict[str, object]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), json_of(data))
