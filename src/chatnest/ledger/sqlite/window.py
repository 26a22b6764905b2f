"""RowWindow: the sliding window of a rate in rows. A request reads and writes only the last row."""

import sqlite3
from bisect import bisect_right
from collections.abc import Iterator
from typing import Final

import msgspec

from chatnest.ledger.window import count_as_now, drop_until

__all__ = ["RowWindow"]

_MOST: Final = 128
"""Maximum times in a part. It bounds the cost of one more time, for any limit."""

_decode = msgspec.json.Decoder(list[int]).decode


class _Part(msgspec.Struct):
    """Consecutive times. ``number`` is the number of the first."""

    id: int
    number: int
    times: list[int]

    @property
    def end(self) -> int:
        """The number of the next time."""
        return self.number + len(self.times)


class RowWindow:
    """The window of one key, within one transaction. ``write`` writes the changes back.

    All times are numbered from the first one on, and stored in parts, each in a row. The last row
    also records the number of the oldest time in the window, so that one more time can be counted
    without reading other rows.
    """

    def __init__(self, connection: sqlite3.Connection, key: str) -> None:
        self._execute = connection.execute
        self._key = key
        part, number, entries, gone, oldest = self._execute(
            "SELECT part, number, entries, gone, oldest FROM windows WHERE key = ?"
            " ORDER BY part DESC LIMIT 1",
            (key,),
        ).fetchone() or (0, 0, "[]", 0, 0)
        self._last = _Part(part, number, _decode(entries))
        self._gone: int = gone  # the number of the oldest time in the window
        self._oldest: int = oldest  # the oldest time, if it is in a part before the last
        self._full: list[_Part] = []  # parts that were the last one since it was read
        self._left = -1  # the newest part that has left the window since then
        self._was = part, self._last.times.copy(), gone

    def __len__(self) -> int:
        return self._last.end - self._gone

    def __getitem__(self, index: int) -> int:
        number, last = self._gone + index, self._last
        if number >= last.number:
            return last.times[number - last.number]
        if index == 0:
            return self._oldest
        for part in self._before():
            if number < part.end:  # if the part was forgotten, the part that follows it
                return part.times[max(0, number - part.number)]
        return last.times[0]

    def append(self, at: int) -> None:
        last = self._last
        if len(last.times) >= _MOST:
            if self._gone == last.number:
                self._oldest = last.times[0]
            self._full.append(last)
            last = self._last = _Part(last.id + 1, last.end, [])
        last.times.append(at)

    def slide(self, length: int, now: int) -> None:
        if self._gone < self._last.number and self._last.times[0] > now:
            self._join()  # the clock was set back by more than a part
        last = self._last
        if self._gone < last.number and self._oldest <= now - length:
            self._leave(now - length)
        if self._gone == last.number:
            last.number += drop_until(last.times, now - length)
            self._gone = last.number
        count_as_now(last.times, now)

    def write(self, now: int) -> None:
        """Write the changes back."""
        last = self._last
        if (last.id, last.times, self._gone) == self._was:
            return
        if self._left >= 0:
            self._execute(
                "DELETE FROM windows WHERE key = ? AND part <= ?", (self._key, self._left)
            )
        for part in (*self._full, last):
            if part.id > self._left:
                entries = msgspec.json.encode(part.times).decode()
                self._execute(
                    "INSERT INTO windows VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key, part)"
                    " DO UPDATE SET number = excluded.number, entries = excluded.entries,"
                    " gone = excluded.gone, oldest = excluded.oldest,"
                    " changed_at = excluded.changed_at",
                    (self._key, part.id, part.number, entries, self._gone, self._oldest, now),
                )

    # ------------------------------------------------ the parts before the last

    def _before(self) -> Iterator[_Part]:
        """The parts that have not left the window, in order, read on demand."""
        rows = self._execute(
            "SELECT part, number, entries FROM windows WHERE key = ? AND part > ? AND part < ?"
            " ORDER BY part",
            (self._key, self._left, (*self._full, self._last)[0].id),
        )
        for part, number, entries in rows:
            yield _Part(part, number, _decode(entries))
        for full in self._full:
            if full.id > self._left:
                yield full

    def _leave(self, last: int) -> None:
        """Drop the times up to ``last``."""
        for part in self._before():
            gone = bisect_right(part.times, last)
            if gone < len(part.times):
                self._gone, self._oldest = part.number + gone, part.times[gone]
                return
            self._left = part.id
        self._gone = self._last.number

    def _join(self) -> None:
        """Join all parts into the last one."""
        times: list[int] = []
        for part in self._before():
            times += part.times[max(0, self._gone - part.number) :]
        last = self._last
        self._last = _Part(last.id, last.number - len(times), times + last.times)
        self._gone, self._left, self._full = self._last.number, last.id - 1, []
