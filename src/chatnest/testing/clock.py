"""A clock that the test moves by hand. No I/O."""

from datetime import UTC, datetime

__all__ = ["ManualClock"]

_START = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


class ManualClock:
    """A clock for ledgers: a call returns whole milliseconds since the epoch, UTC.

    The clock starts at `start` (by default noon UTC on 1 January 2026) and stands still until
    `advance` or `set` moves it. Raises `ValueError` for a datetime without a time zone.
    """

    __slots__ = ("_now",)

    def __init__(self, start: datetime = _START) -> None:
        self._now = _milliseconds(start)

    def __call__(self) -> int:
        """Return milliseconds since the epoch, UTC."""
        return self._now

    @property
    def now(self) -> datetime:
        """The same instant as an aware datetime in UTC."""
        return datetime.fromtimestamp(self._now / 1000, tz=UTC)

    def advance(self, seconds: float) -> int:
        """Move forward by `seconds`, rounded to milliseconds. Return the new time in milliseconds.

        Raises `ValueError` if `seconds` is negative; use `set` to move the clock back.
        """
        if seconds < 0:
            raise ValueError(
                f"seconds: expected a number >= 0, got {seconds}. Use set() to go back."
            )
        self._now += round(seconds * 1000)
        return self._now

    def set(self, instant: datetime) -> int:
        """Jump to `instant`, forward or back. Return the new time in milliseconds.

        Raises `ValueError` if `instant` has no time zone.
        """
        self._now = _milliseconds(instant)
        return self._now


def _milliseconds(instant: datetime) -> int:
    if instant.tzinfo is None:
        raise ValueError(f"instant: expected a datetime with a time zone, got {instant}")
    return round(instant.timestamp() * 1000)
