"""A clock that moves when the test says so. No I/O."""

from datetime import UTC, datetime

__all__ = ["ManualClock"]

_START = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


class ManualClock:
    """A clock for ledgers: called, it gives whole milliseconds since the epoch, UTC.

    It starts at `start` (noon UTC of 1 January 2026 unless told) and stands still until
    `advance` or `set` moves it. Raises `ValueError` for a datetime without a time zone.
    """

    __slots__ = ("_now",)

    def __init__(self, start: datetime = _START) -> None:
        self._now = _milliseconds(start)

    def __call__(self) -> int:
        """Milliseconds since the epoch, UTC."""
        return self._now

    @property
    def now(self) -> datetime:
        """The same instant as an aware datetime in UTC."""
        return datetime.fromtimestamp(self._now / 1000, tz=UTC)

    def advance(self, seconds: float) -> int:
        """Move on by `seconds`, kept to the millisecond; gives the new time in milliseconds.

        Raises `ValueError` below zero: a clock that steps back is what `set` is for.
        """
        if seconds < 0:
            raise ValueError(f"a clock advances by zero or more seconds, not by {seconds}")
        self._now += round(seconds * 1000)
        return self._now

    def set(self, instant: datetime) -> int:
        """Jump to `instant`, back in time too; gives the new time in milliseconds.

        Raises `ValueError` if `instant` has no time zone.
        """
        self._now = _milliseconds(instant)
        return self._now


def _milliseconds(instant: datetime) -> int:
    if instant.tzinfo is None:
        raise ValueError("a clock is set to a datetime with a time zone")
    return round(instant.timestamp() * 1000)
