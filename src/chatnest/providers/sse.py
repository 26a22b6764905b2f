"""EventSplitter: bytes of an event stream to the data of its events, within bounds. No I/O.

The format is defined in WHATWG HTML, section 9.2. The data of an event named ``error`` is returned
as ``{"error": <data>}``, since not every server repeats the word in the data.
"""

from collections.abc import Iterator
from typing import Final

import msgspec

from chatnest.errors import UpstreamBadResponse

__all__ = ["EventSplitter"]

_BOM: Final = b"\xef\xbb\xbf"
_CR: Final = ord("\r")
_BEGUN_BOM: Final = (b"", _BOM[:1], _BOM[:2])


class EventSplitter:
    """The data of server-sent events, from bytes in pieces of any size.

    Raises UpstreamBadResponse beyond ``max_event`` bytes of one event or ``max_total`` bytes in
    total. ``left`` is what remains of the total.
    """

    __slots__ = (
        *("_begun", "_between", "_data", "_is_error", "_max_event", "_size", "_tail", "left"),
    )

    def __init__(self, *, max_event: int = 262_144, max_total: int = 67_108_864) -> None:
        self._max_event = max_event
        self.left: int = max_total
        self._tail = b""
        self._begun = False  # a BOM may only come before
        self._between = False  # whether the last event was complete and nothing of the next is here
        self._data: list[bytes] = []
        self._size = 0
        self._is_error = False

    def feed(self, data: bytes) -> list[bytes]:
        """The data of every event that ``data`` completes."""
        self.left -= len(data)
        if self.left < 0:
            raise UpstreamBadResponse
        if self._between and (payload := self.alone(data)) is not None:
            return [payload]
        if self._tail:
            data = self._tail + data
        if not self._begun:
            self._begun = data not in _BEGUN_BOM
            data = data.removeprefix(_BOM)
        # With a CR anywhere, an event may also end after the last LF LF.
        busy = self._data or self._is_error
        end = 1 if busy or _CR in data else data.rfind(b"\n\n") + 2
        whole = [] if end == 1 else self._whole(data[:end])
        if not whole:
            # A CR at the end may be half of a CRLF, so it waits for the next bytes.
            end = max(data.rfind(b"\n"), data.rfind(b"\r", 0, -1)) + 1
            whole = list(self._events(data[:end])) if end else []
        self._tail = data[end:]
        self._between = self._begun and not (self._tail or self._data or self._is_error)
        if len(self._tail) > self._max_event:
            raise UpstreamBadResponse
        return whole

    def alone(self, data: bytes) -> bytes | None:
        """The data of the event if ``data`` is exactly one, in the form of most servers, with or
        without a name; else None. Changes nothing. Feeding such an event only changes ``left``.
        """
        if self._between:
            if data[:7] == b"event: ":
                name, _, data = data.partition(b"\n")
                if _is_error(name[7:]) or _CR in name:
                    return None
            line, _, rest = data.partition(b"\n")
            alone = rest == b"\n" and line[:6] == b"data: " and _CR not in line
            if alone and len(line) <= self._max_event:
                return line[6:]
        return None

    def _whole(self, data: bytes) -> list[bytes]:
        """The data of events in the form of most servers: one line of data each, without a CR, and
        all with a name before it or none. Empty if any event has another form.
        """
        if len(data) > self._max_event:
            return []
        if data[:7] == b"event: ":
            return _named(data[:-2].split(b"\n\n"))
        if data[:6] != b"data: ":
            return []
        events = data[6:-2].split(b"\n\ndata: ")
        return events if data.count(b"\n") == 2 * len(events) else []

    def _events(self, lines: bytes) -> Iterator[bytes]:
        for line in lines.splitlines():
            if line.startswith(b"data:"):
                value = line[6:] if line[5:6] == b" " else line[5:]
                self._size += len(value)
                if self._size + len(self._data) > self._max_event:  # with the LF between lines
                    raise UpstreamBadResponse
                self._data.append(value)
            elif not line:
                if self._data:
                    data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
                    yield _as_error(data) if self._is_error else data
                    self._data, self._size = [], 0
                self._is_error = False
            elif line.startswith(b"event:"):
                self._is_error = _is_error(line[6:])

    def end(self) -> list[bytes]:
        """The data of a last event without its blank line, which other clients read as well."""
        rest, self._tail = self._tail, b""
        return list(self._events(rest + b"\n\n"))


def _named(events: list[bytes]) -> list[bytes]:
    """The data of events with a name and one line of data. Empty if any event has another form."""
    found = []
    for event in events:
        name, _, line = event.partition(b"\n")
        if name[:7] != b"event: " or line[:6] != b"data: " or b"\n" in line or _is_error(name[7:]):
            return []
        found.append(line[6:])
    return found


def _is_error(name: bytes) -> bool:
    return name.strip() == b"error"


def _as_error(data: bytes) -> bytes:
    try:
        msgspec.json.decode(data)
    except (msgspec.DecodeError, ValueError, RecursionError):
        data = msgspec.json.encode(data.decode("utf-8", "replace"))
    return b'{"error":%b}' % data
