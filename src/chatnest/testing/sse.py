"""Readers of event streams: the WHATWG one, and the one old browser clients have. No I/O."""

import codecs
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

__all__ = ["Event", "EventReader", "OriginalView", "chat_nest_client", "parse_events"]


class Event(NamedTuple):
    """One dispatched event: its type ("message" if unnamed), its data, the last event id."""

    event: str
    data: str
    id: str = ""


class EventReader:
    """Bytes to events, as they come: the parsing rules of the HTML standard, section 9.2.6.

    LF, CRLF and CR end a line, wherever the bytes are divided; one leading BOM is dropped;
    comments and unknown fields are skipped; an event without data is not dispatched.
    One difference, since a test should see it: bytes that are not UTF-8 raise
    `UnicodeDecodeError`, where a browser would show U+FFFD.
    """

    def __init__(self) -> None:
        self.retry: int | None = None
        """The last reconnection time the stream asked for, in milliseconds."""
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
        """Whether an event has begun that no blank line has ended: a stream cut short."""
        undecoded, _ = self._decoder.getstate()
        return bool(self._rest or self._data or self._type or undecoded)

    def feed(self, data: bytes) -> list[Event]:
        """Take the next bytes, in any division, and give the events they complete.

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
    """All events of a whole body, given in one piece or in several.

    An event that the body's end cuts off is not dispatched, as the standard has it.
    Raises `UnicodeDecodeError` for bytes that are not UTF-8.
    """
    reader = EventReader()
    pieces = (data,) if isinstance(data, bytes) else data
    return [event for piece in pieces for event in reader.feed(piece)]


@dataclass(slots=True)
class OriginalView:
    """What the browser client of chat-nest makes of a stream.

    `text` is the answer it shows, `error` the parsed data of its `error` event,
    `pings` how many pings it saw.
    """

    text: str = ""
    started: bool = False
    done: bool = False
    error: Any = None
    pings: int = 0


def chat_nest_client(data: bytes) -> OriginalView:
    r"""Read a body as the browser client of chat-nest does, which is not a full SSE parser.

    Blocks end with ``\n\n`` and nothing else, lines with ``\n``; only lines that begin with
    exactly ``event: `` and ``data: `` count, the last of each; what follows the last blank line
    is dropped. Frames with CRLF never end a block, so that their tokens are lost without a sign.

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
        _see(view, name, value)
    return view


def _see(view: OriginalView, name: str, value: str) -> None:
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
