"""Days: calendar days of time zones, in which budgets are counted. No I/O.

Times are whole milliseconds since the epoch.
"""

from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

import msgspec

from chatnest.errors import ConfigurationError

__all__ = ["day_end", "day_of", "days_between", "end_of", "is_zone", "midnight", "span_of"]

_HOUR: Final = 3_600_000


class _Day(msgspec.Struct, frozen=True):
    since: int  # a time within the day
    end: int
    name: str


_latest: Final[dict[str, _Day]] = {}
"""The day last returned for each zone, which is nearly always the day needed next."""


def day_of(now: int, timezone: str) -> str:
    """The calendar day in a time zone, as 2026-11-22."""
    day = _latest.get(timezone)
    if day is None or not day.since <= now < day.end:
        day = _begin(now, timezone)
    return day.name


def day_end(now: int, timezone: str) -> int:
    """The end of that day. A day may have 23 or 25 hours."""
    day = _latest.get(timezone)
    if day is None or not day.since <= now < day.end:
        day = _begin(now, timezone)
    return day.end


@lru_cache(maxsize=256)
def days_between(first: str, last: str) -> tuple[str, ...]:
    """The days from the first to the last, with both."""
    begin = date.fromisoformat(first)
    days = (date.fromisoformat(last) - begin).days + 1
    return tuple((begin + timedelta(days=number)).isoformat() for number in range(days))


def is_zone(name: str) -> bool:
    """Whether the time zone database has this name."""
    try:
        zone_of(name)
    except (KeyError, ValueError, OSError):  # missing; invalid; a folder of zones
        return False
    return True


def span_of(day: str) -> tuple[int, int]:
    """The first instant of a day such as 2026-11-22 in any time zone, and the last.

    Raises ConfigurationError for a text in another form.
    """
    try:
        found = date.fromisoformat(day)
    except ValueError:
        found = None
    if found is None or found.isoformat() != day:
        raise ConfigurationError(f"day: expected a date such as 2026-11-22, got {day!r}.")
    midnight = int(datetime(found.year, found.month, found.day, tzinfo=UTC).timestamp() * 1000)
    return midnight - 14 * _HOUR, midnight + 36 * _HOUR


def end_of(day: str, timezone: str) -> int:
    """The end of a day such as 2026-11-22 in a time zone."""
    return midnight(date.fromisoformat(day) + timedelta(days=1), timezone)


def midnight(day: date, timezone: str) -> int:
    """The beginning of a day in a time zone."""
    begin = datetime(day.year, day.month, day.day, tzinfo=zone_of(timezone))
    return round(begin.timestamp() * 1000)


def _begin(now: int, timezone: str) -> _Day:
    """Work out the day at ``now``, and remember it as the latest."""
    zone = zone_of(timezone)
    today = datetime.fromtimestamp(now / 1000, zone).date()
    day = _latest[timezone] = _Day(now, end_of(today.isoformat(), timezone), today.isoformat())
    return day


@lru_cache(maxsize=64)
def zone_of(name: str) -> ZoneInfo:
    """The time zone of a name. Raises what ZoneInfo does."""
    return ZoneInfo(name)
