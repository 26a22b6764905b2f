"""OpenAIChatFrames: an answer as chunks of a chat completion, in Server-Sent Events. No I/O.

A frame is complete JSON on one line, so that nothing in a model's text can end it. Optional fields
are absent rather than null, except ``finish_reason``, which OpenAI's API always has.
"""

from collections.abc import Mapping, Sequence
from typing import Final, assert_never

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
from chatnest.wire.base import StreamInfo
from chatnest.wire.openai_chat.fields import annotation_of, head_of, reason_of, usage_of
from chatnest.wire.openai_chat.names import NAMES
from chatnest.wire.openai_problem import error_object
from chatnest.wire.sse import json_of, lines_of

__all__ = ["OpenAIChatFrames"]

_PING: Final = b": ping\n\n"
_DONE: Final = b"data: [DONE]\n\n"
_CLOSE: Final = b',"finish_reason":null}]}\n\n'
_CLOSE_TEXT: Final = b"}" + _CLOSE
_FIRST: Final = b'{"role":"assistant","content":""}'


class OpenAIChatFrames:
    """Chunks of a chat completion, then ``[DONE]``.

    The cost is a chunk of its own, only for clients that ask for it: many read ``choices[0]`` of
    each chunk. A failure is a frame with ``error`` and the last one, since a client that read
    ``[DONE]`` would take the answer for whole. There are no ids of events: OpenAI's client for
    Python takes each comment after an id for an event, and fails because it is empty.
    """

    __slots__ = ("_chunk", "_delta", "_refused", "_text", "_thought", "_usage_event", "headers")

    def __init__(self, info: StreamInfo) -> None:
        self.headers: Mapping[str, str] = {"x-request-id": info.request_id}
        self._usage_event = info.usage_event
        self._refused = False
        head = json_of(head_of(info, "chat.completion.chunk"))
        self._chunk: bytes = b'data: %b,"choices":[' % head.removesuffix(b"}")
        self._delta: bytes = self._chunk + b'{"index":0,"delta":'
        self._text: bytes = self._delta + b'{"content":'
        self._thought: bytes = self._delta + b'{"reasoning_content":'

    def encode(self, events: Sequence[ClientEvent]) -> bytes:
        if len(events) == 1:
            event = events[0]
            if type(event) is Numbered:
                event = event.event
            if type(event) is Delta:  # nearly always
                return self._text + json_of(event.text) + _CLOSE_TEXT
            return self._frame(event)
        if set(map(type, events)) == {Delta}:
            texts = [event.text for event in events if type(event) is Delta]
            return lines_of(texts, self._text, _CLOSE_TEXT)
        return b"".join([self._frame(event) for event in events])

    def _frame(self, event: ClientEvent) -> bytes:
        match event:
            case Start():
                return self._delta + _FIRST + _CLOSE
            case Delta():
                return self._text + json_of(event.text) + _CLOSE_TEXT
            case Reasoning():
                return self._thought + json_of(event.text) + _CLOSE_TEXT
            case ReasoningSignature():  # there is no field for it
                return b""
            case Refusal() | ToolCall() | ToolCallDelta() | Source():
                return self._piece(event)
            case Ping():
                return _PING
            case Done():
                return self._done(event)
            case Failed():
                return _failed(event)
            case Numbered(event=inner):
                return self._frame(inner)
            case _:
                assert_never(event)

    def _piece(self, piece: Refusal | ToolCall | ToolCallDelta | Source) -> bytes:
        if type(piece) is Refusal:
            self._refused = True
        return self._delta + json_of(_delta_of(piece)) + _CLOSE

    def _done(self, done: Done) -> bytes:
        reason = reason_of(done, refused=self._refused)
        frames = self._delta + b'{},"finish_reason":"%b"}]}\n\n' % reason.encode()
        if self._usage_event:
            frames += self._chunk + b'],"usage":%b}\n\n' % json_of(usage_of(done.usage))
        return frames + _DONE


def _delta_of(piece: Refusal | ToolCall | ToolCallDelta | Source) -> dict[str, object]:
    match piece:
        case Refusal(text=text):
            return {"refusal": text}
        case ToolCall(index=index, id=id_, name=name):
            function = {"name": name, "arguments": ""}
            call = {"index": index, "id": id_, "type": "function", "function": function}
            return {"tool_calls": [call]}
        case ToolCallDelta(index=index, text=text):
            return {"tool_calls": [{"index": index, "function": {"arguments": text}}]}
        case Source():
            return {"annotations": [annotation_of(piece)]}
        case _:
            assert_never(piece)


def _failed(failed: Failed) -> bytes:
    error = error_object(failed.error, charged=failed.charged, names=NAMES)
    return b"data: %b\n\n" % json_of({"error": error})
