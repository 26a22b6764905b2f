"""Two event stream readers: the WHATWG parser, and the parser of chat-nest's client. No I/O."""

import codecs
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

__all__ = ["Event", "EventReader", "OriginalView", "chat_nest_client", "parse_events"]


class Event(NamedTuple):
    """One dispatched event: its type ("message" by default), its data, the last event id."""

    event: str
    data: str
    id: str = ""


class EventReader:
    """An incremental parser from bytes to events (HTML standard, section 9.2.6).

    LF, CRLF and CR end a line, wherever the bytes are split; one leading BOM is dropped; comments
    and unknown fields are skipped; an event without data is not dispatched. One difference, so
    that a test notices: bytes that are not UTF-8 raise `UnicodeDecodeError`, where a browser would
    show U+FFFD.
    """

    def __init__(self) -> None:
        self.retry: int | None = None
        """The last reconnection time in the stream, in milliseconds."""
        self.last_event_id: str = ""
        self.comments: list[str] = []
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._rest = ""
        self._at_start = True
        self._after_cr = False
        self._type = ""
        self._data: list[str] = []

    @property
    def pending(self) -> bool:
        """Whether an event has begun without its final blank line, as in a truncated stream."""
        undecoded, _ = self._decoder.getstate()
        return bool(self._rest or self._data or self._type or undecoded)

    def feed(self, data: bytes) -> list[Event]:
        """Take the next bytes, split anywhere, and return the events they complete.

        Raises `UnicodeDecodeError` for bytes that are not UTF-8.
        """
        events = []
        for line in self._lines(self._decoder.decode(data)):
            event = self._line(line)
            if event is not None:
                events.append(event)
        return events

    def _lines(self, text: str) -> list[str]:
        if not text:
            return []
        if self._at_start:
            self._at_start = False
            text = text.removeprefix("\ufeff")
        if self._after_cr:
            text = text.removeprefix("\n")
        self._after_cr = text.endswith("\r")
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        *lines, last = text.split("\n")
        if not lines:
            self._rest += last
            return []
        lines[0] = self._rest + lines[0]
        self._rest = last
        return lines

    def _line(self, line: str) -> Event | None:
        if not line:
            return self._dispatch()
        if line.startswith(":"):
            self.comments.append(line[1:].removeprefix(" "))
            return None
        name, _, value = line.partition(":")
        self._field(name, value.removeprefix(" "))
        return None

    def _field(self, name: str, value: str) -> None:
        if name == "event":
            self._type = value
        elif name == "data":
            self._data.append(value)
        elif name == "id" and "\0" not in value:
            self.last_event_id = value
        elif name == "retry" and value.isascii() and value.isdecimal():
            self.retry = int(value)

    def _dispatch(self) -> Event | None:
        name, data = self._type or "message", self._data
        self._type, self._data = "", []
        return Event(name, "\n".join(data), self.last_event_id) if data else None


def parse_events(data: bytes | Iterable[bytes]) -> list[Event]:
    """Return all events of a whole body, given in one piece or in several.

    An event that the end of the body cuts off is not dispatched, as the standard requires.
    Raises `UnicodeDecodeError` for bytes that are not UTF-8.
    """
    reader = EventReader()
    pieces = (data,) if isinstance(data, bytes) else data
    return [event for piece in pieces for event in reader.feed(piece)]


@dataclass(slots=True)
class OriginalView:
    """The state of chat-nest's browser client after a stream.

    `text` is the answer that the client shows, `error` the parsed data of the `error` event,
    `pings` the number of pings.
    """

    text: str = ""
    started: bool = False
    done: bool = False
    error: Any = None
    pings: int = 0


def chat_nest_client(data: bytes) -> OriginalView:
    r"""Read a body as the browser client of chat-nest does, which is not a full SSE parser.

    Only ``\n\n`` ends a block, and only ``\n`` ends a line. Only lines that begin with
    ``event:`` or ``data:`` and a space count, the last of each. Text after the last blank line is
    dropped. Frames with CRLF never end a block, so their tokens are lost silently.

    Raises `ValueError` where the client would throw: data of `token` or `error` that is not JSON.
    """
    view = OriginalView()
    *blocks, _ = data.decode("utf-8", "replace").split("\n\n")
    for block in blocks:
        name = value = ""
        for line in block.split("\n"):
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                value = line.removeprefix("data: ")
        _apply(view, name, value)
    return view


def _apply(view: OriginalView, name: str, value: str) -> None:
    if name == "start":
        view.started = True
    elif name == "token":
        view.text += json.loads(value)
    elif name == "ping":
        view.pings += 1
    elif name == "done":
        view.done = True
    elif name == "error":
        view.error = json.loads(value)
