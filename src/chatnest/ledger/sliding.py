"""Sliding: the sliding window of amounts, such as tokens a minute, in buckets. No I/O.

An amount counts in the bucket of its admission until that bucket leaves the window, whether or not
its answer has ended: first the held amount, then the cost. So the requests that are admitted in any
window cost at most the limit's amount, plus what their answers cost beyond their holds. A bucket
has the amounts of a sixtieth of the window, and leaves one window length after the last of them.
Times and lengths are whole milliseconds.
"""

from typing import Final

import msgspec

__all__ = ["Bucket", "Sliding"]

_GRAINS: Final = 60
"""Parts of a window that have a bucket each."""


class Bucket(msgspec.Struct, array_like=True, gc=False):
    """Amounts that were admitted from ``opened`` to ``last``: their sum is ``weight``."""

    serial: int
    opened: int
    last: int
    weight: int


class Sliding(msgspec.Struct, array_like=True):
    """The buckets of a window, the oldest first. ``serial`` is the serial of the newest bucket.

    The first bucket of an empty window has its time as its serial. Each further bucket has the next
    number, which grows more slowly than the time in milliseconds.
    """

    serial: int = 0
    buckets: list[Bucket] = []

    @property
    def weight(self) -> int:
        """The amounts that count."""
        return sum([bucket.weight for bucket in self.buckets])

    def slide(self, length: int, now: int) -> None:
        """Drop the buckets that have left. If a clock was set back, future buckets count as now."""
        buckets = self.buckets
        for bucket in reversed(buckets):
            if bucket.last <= now:
                break
            bucket.last, bucket.opened = now, min(bucket.opened, now)
        gone = 0
        while gone < len(buckets) and buckets[gone].last + length <= now:
            gone += 1
        if gone:
            del buckets[:gone]

    def add(self, amount: int, length: int, now: int) -> int:
        """Count an amount now. Returns the serial of its bucket."""
        if self.buckets:
            last = self.buckets[-1]
            if now - last.opened <= length // _GRAINS:
                last.last, last.weight = now, last.weight + amount
                return last.serial
        # Books may forget an empty window, so the time makes sure that no serial is used twice.
        self.serial = self.serial + 1 if self.buckets else now
        self.buckets.append(Bucket(self.serial, now, now, amount))
        return self.serial

    def correct(self, serial: int, more: int) -> None:
        """Change the amount of a bucket, unless it has left."""
        for bucket in reversed(self.buckets):
            if bucket.serial == serial:
                bucket.weight = max(0, bucket.weight + more)
            if bucket.serial <= serial:
                return

    def resets_at(self, length: int) -> int | None:
        """When the oldest bucket leaves."""
        return self.buckets[0].last + length if self.buckets else None

    def free_at(self, excess: int, length: int) -> int:
        """The time at which ``excess`` has left, with the buckets that it is in."""
        for bucket in self.buckets:
            excess -= bucket.weight
            if excess <= 0:
                return bucket.last + length
        raise ValueError("the window has less than that")
