"""Window: the times of admission under one rate, oldest first. No I/O.

Times and lengths are whole milliseconds.
"""

from bisect import bisect_right
from collections.abc import Iterable
from typing import Protocol

__all__ = ["ListWindow", "Window", "count_as_now", "drop_until"]


class Window(Protocol):
    """What the rules ask of it."""

    def __len__(self) -> int:
        """How many there are."""

    def __getitem__(self, index: int, /) -> int:
        """The time of one of them; 0 is the oldest."""

    def append(self, at: int, /) -> None:
        """One more was admitted."""

    def slide(self, length: int, now: int) -> None:
        """Drop what has left the window. A clock that was set back leaves times in the future: they
        count as of now, so that they lock nobody out for longer than a window.
        """


class ListWindow(list[int]):
    """All of them in memory. ``length`` is that of the last slide."""

    __slots__ = ("length",)

    def __init__(self, times: Iterable[int] = ()) -> None:
        super().__init__(times)
        self.length: int = 0

    def slide(self, length: int, now: int) -> None:
        self.length = length
        drop_until(self, now - length)
        count_as_now(self, now)


def drop_until(times: list[int], last: int) -> int:
    """Drop those up to ``last``, and say how many."""
    gone = bisect_right(times, last)
    del times[:gone]
    return gone


def count_as_now(times: list[int], now: int) -> None:
    """Set those that are in the future to ``now``."""
    if times and times[-1] > now:
        known = bisect_right(times, now)
        times[known:] = [now] * (len(times) - known)
