"""ResponseFrames: the Server-Sent Events of the Responses API, and WholeResponseFrames, its one
document. No I/O.

Each event of a stream becomes the events that belong to it, however many come together. A piece of
text, as nearly all events are, is the template of its item with a number and the piece.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, assert_never

import msgspec

from chatnest.endings import plain_reason
from chatnest.events import (
    ClientEvent,
    Delta,
    Done,
    Failed,
    Numbered,
    Piece,
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
from chatnest.wire.openai_problem import error_object
from chatnest.wire.openai_responses.growing import FOLD, Growing
from chatnest.wire.openai_responses.names import NAMES
from chatnest.wire.openai_responses.output import Output
from chatnest.wire.openai_responses.output_items import Event
from chatnest.wire.openai_responses.response_object import INCOMPLETE, response_object
from chatnest.wire.sse import json_of

__all__ = ["ResponseFrames", "WholeResponseFrames"]

_PING: Final = b": ping\n\n"


class ResponseFrames:
    """Frames from ``response.created`` to ``response.completed``, ``response.incomplete`` or
    ``error``. Their ``sequence_number`` counts from 0. A ping is a comment, which all clients
    ignore.
    """

    __slots__ = ("_growing", "_info", "_kind", "_number", "_output", "headers")

    def __init__(self, info: StreamInfo) -> None:
        self.headers: Mapping[str, str] = {"x-request-id": info.request_id}
        self._info = info
        self._number = -1
        self._output = Output(info.answer_id)
        self._kind: object = None  # of the pieces that are text of what is open
        self._growing: Growing | None = None

    def encode(self, events: Sequence[ClientEvent]) -> bytes:
        if len(events) == 1:
            event: Any = events[0]
            if type(event) is Numbered:
                event = event.event
            growing = self._growing
            if type(event) is self._kind and growing is not None:  # nearly always
                self._number = number = self._number + 1
                growing.late.append(event.text)
                if number % FOLD == 0:
                    growing.fold()
                return growing.template % (number, json_of(event.text))
            return self._frames(event)
        plain: list[Any] = [each.event if type(each) is Numbered else each for each in events]
        if self._growing is not None and set(map(type, plain)) == {self._kind}:
            return self._pieces(self._growing, [event.text for event in plain])
        return b"".join([self._frames(event) for event in plain])

    def _frames(self, event: ClientEvent) -> bytes:
        match event:
            case Start():
                return self._start()
            case Delta() | Refusal() | Reasoning() | ToolCallDelta():
                opened, growing = self._opened(event), self._output.growing_of(event)
                return opened if growing is None else opened + self._pieces(growing, [event.text])
            case ReasoningSignature() | ToolCall() | Source():
                return self._opened(event)
            case Ping():
                return _PING
            case Done():
                return self._done(event)
            case Failed():
                return self._failed(event)
            case Numbered():
                return self._frames(event.event)
            case _:
                assert_never(event)

    def _opened(self, piece: Piece) -> bytes:
        """The frames that a piece needs beside its text, for all that it closes and opens."""
        output = self._output
        events = output.add(piece)
        self._kind, self._growing = output.kind, output.growing
        return self._said(events)

    def _pieces(self, growing: Growing, texts: list[str]) -> bytes:
        first = self._number + 1
        self._number += len(texts)
        return growing.frames(first, texts)

    def _start(self) -> bytes:
        response = msgspec.Raw(json_of(response_object(self._info, "in_progress")))
        names = ("response.created", "response.in_progress")
        return self._said([(name, {"response": response}) for name in names])

    def _done(self, done: Done) -> bytes:
        events, response = ended(self._info, self._output, done)
        return self._said([*events, (f"response.{response['status']}", {"response": response})])

    def _failed(self, failed: Failed) -> bytes:
        """The error in both shapes: some clients read one of them, and some the other. No failed
        response follows: a client that reads both would report the error twice.
        """
        error = error_object(failed.error, charged=failed.charged, names=NAMES)
        flat = {name: error[name] for name in ("code", "message", "param")}
        return self._said([("error", {**flat, "error": error})])

    def _said(self, events: Sequence[Event]) -> bytes:
        """The frames of events."""
        frames: list[bytes] = []
        for name, fields in events:
            self._number += 1
            data = {"type": name, "sequence_number": self._number, **fields}
            frames.append(b"event: %b\ndata: %b\n\n" % (name.encode(), json_of(data)))
        return b"".join(frames)


class WholeResponseFrames:
    """The response as one JSON document, which comes with the last event."""

    __slots__ = ("_info", "_output", "headers")

    def __init__(self, info: StreamInfo) -> None:
        self.headers: Mapping[str, str] = {"x-request-id": info.request_id}
        self._info = info
        self._output = Output(info.answer_id)

    def encode(self, events: Sequence[ClientEvent]) -> bytes:
        output, document = self._output, b""
        for each in events:
            event: Any = each.event if type(each) is Numbered else each
            growing = output.growing
            if type(event) is output.kind and growing is not None:  # nearly always
                growing.late.append(event.text)
                if len(growing.late) > FOLD:
                    growing.fold()
            else:
                document += self._document(event)
        return document

    def _document(self, event: ClientEvent) -> bytes:
        output = self._output
        match event:
            case Delta() | Refusal() | Reasoning() | ToolCallDelta():
                output.add(event)
                if (growing := output.growing_of(event)) is not None:
                    growing.late.append(event.text)
            case ReasoningSignature() | ToolCall() | Source():
                output.add(event)
            case Start() | Ping() | Failed() | Numbered():  # a failure has its own document
                pass
            case Done():
                return json_of(ended(self._info, output, event)[1])
            case _:
                assert_never(event)
        return b""


def ended(info: StreamInfo, output: Output, done: Done) -> tuple[list[Event], dict[str, Any]]:
    """The events that close the items of an answer, and its last response."""
    reason = INCOMPLETE.get(plain_reason(done.finish_reason))
    if output.has_refusal and reason == INCOMPLETE["content_filter"]:
        reason = None  # the model refused in words of its own
    events, items = output.finish(is_incomplete=reason is not None, is_cut=done.incomplete)
    return events, response_object(
        info,
        "completed" if reason is None else "incomplete",
        output=items,
        usage=done.usage,
        incomplete=reason,
    )
