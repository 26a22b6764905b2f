"""Window: the sliding window of a rate, as times of admission, oldest first. No I/O.

Times and lengths are whole milliseconds.
"""

from bisect import bisect_right
from collections.abc import Iterable
from typing import Protocol

__all__ = ["ListWindow", "Window", "count_as_now", "drop_until"]


class Window(Protocol):
    """A sliding window, as the rules use it."""

    def __len__(self) -> int:
        """The number of times in the window."""

    def __getitem__(self, index: int, /) -> int:
        """The time at an index; index 0 is the oldest."""

    def append(self, at: int, /) -> None:
        """Add the time of an admission."""

    def slide(self, length: int, now: int) -> None:
        """Drop the times that have left the window. After a clock was set back, some times are in
        the future: they count as ``now``, so that no account waits longer than one window.
        """


class ListWindow(list[int]):
    """A window in memory. ``length`` is the argument of the last slide."""

    __slots__ = ("length",)

    def __init__(self, times: Iterable[int] = ()) -> None:
        super().__init__(times)
        self.length: int = 0

    def slide(self, length: int, now: int) -> None:
        self.length = length
        if self and self[0] <= now - length:
            drop_until(self, now - length)
        if self and self[-1] > now:
            count_as_now(self, now)


def drop_until(times: list[int], last: int) -> int:
    """Drop the times up to ``last``. Returns how many they were."""
    gone = bisect_right(times, last)
    del times[:gone]
    return gone


def count_as_now(times: list[int], now: int) -> None:
    """Set times in the future to ``now``."""
    if times and times[-1] > now:
        known = bisect_right(times, now)
        times[known:] = [now] * (len(times) - known)
