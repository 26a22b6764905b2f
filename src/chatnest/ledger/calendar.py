"""Windows of the calendar: the days, weeks and months of time zones. No I/O.

Times are whole milliseconds since the epoch. A window is counted by its days, so that a change from
one window to another loses nothing.
"""

from calendar import monthrange
from datetime import date, timedelta
from typing import Final

import msgspec

from chatnest.ledger.days import day_of, midnight
from chatnest.ledger.limit import Limit

__all__ = ["Span", "seconds_of", "span_of_window"]

_LONGEST: Final = {"day": 86_400, "week": 604_800, "month": 2_678_400}
"""Seconds of the longest window of each kind, without changes of the clocks."""


class Span(msgspec.Struct, frozen=True):
    """The window that a time is in: from ``start`` until ``end``, and the names of the first and of
    the last day whose counters may reach into it. These are a day more at either end, since a day
    may have been counted in another time zone, or before the clock was set back.
    """

    start: int
    end: int
    first: str
    last: str


_latest: Final[dict[tuple[str, int, str], Span]] = {}
"""The window last returned for each kind, start and zone: nearly always the one needed next."""


def span_of_window(limit: Limit, now: int) -> Span:
    """The window of the calendar that ``now`` is in. Not for a lifetime."""
    key = str(limit.window), limit.starts, limit.timezone
    span = _latest.get(key)
    if span is None or not span.start <= now < span.end:
        span = _latest[key] = _find(*key, now)
    return span


def seconds_of(limit: Limit) -> int | None:
    """The length of a limit's window in seconds, at most; None without a window that ends."""
    if isinstance(limit.window, int):
        return limit.window
    return _LONGEST.get(limit.window or "")


def _find(window: str, starts: int, timezone: str, now: int) -> Span:
    today = date.fromisoformat(day_of(now, timezone))
    first, after = today, today + timedelta(days=1)
    if window == "week":
        first = today - timedelta(days=(today.isoweekday() - starts) % 7)
        after = first + timedelta(days=7)
    elif window == "month":
        first = _month_start(today.year, today.month, starts)
        step = 0 if first <= today else -1
        first = _month_start(today.year, today.month + step, starts)
        after = _month_start(today.year, today.month + step + 1, starts)
    one = timedelta(days=1)
    return Span(
        start=midnight(first, timezone),
        end=midnight(after, timezone),
        first=(first - one).isoformat(),
        last=after.isoformat(),
    )


def _month_start(year: int, month: int, starts: int) -> date:
    year, month = year + (month - 1) // 12, (month - 1) % 12 + 1
    return date(year, month, min(starts, monthrange(year, month)[1]))
