"""Calendar days of time zones, in which budgets are counted. No I/O.

Times are whole milliseconds since the epoch.
"""

from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

import msgspec

__all__ = ["day_end", "day_of", "is_zone"]


class _Day(msgspec.Struct, frozen=True):
    since: int  # a time in it
    end: int
    name: str


_latest: Final[dict[str, _Day]] = {}
"""The day that was asked for last, of each zone: nearly always the one that is asked for next."""


def day_of(now: int, timezone: str) -> str:
    """The calendar day in that zone, as 2026-11-22."""
    day = _latest.get(timezone)
    if day is None or not day.since <= now < day.end:
        day = _begin(now, timezone)
    return day.name


def day_end(now: int, timezone: str) -> int:
    """When that day ends; a day of 23 or 25 hours ends when its zone's clock says so."""
    day = _latest.get(timezone)
    if day is None or not day.since <= now < day.end:
        day = _begin(now, timezone)
    return day.end


def is_zone(name: str) -> bool:
    """Whether there is a time zone of that name here."""
    try:
        _zone(name)
    except (KeyError, ValueError, OSError):  # not there; no name; a folder of zones
        return False
    return True


def _begin(now: int, timezone: str) -> _Day:
    """Work out another day than the latest."""
    zone = _zone(timezone)
    today = datetime.fromtimestamp(now / 1000, zone).date()
    tomorrow = today + timedelta(days=1)
    midnight = datetime(tomorrow.year, tomorrow.month, tomorrow.day, tzinfo=zone)
    day = _latest[timezone] = _Day(now, round(midnight.timestamp() * 1000), today.isoformat())
    return day


@lru_cache(maxsize=64)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)
