"""Spent: a turn as the oracle knows it, and windows of the calendar by a walk over their days."""

from calendar import monthrange
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from chatnest.ledger.base import Limit
from chatnest.ledger.books import HoldState
from chatnest.prices import Price

ENDED = HoldState.SETTLED, HoldState.EXPIRED


@dataclass
class Spent:
    """A turn as the oracle knows it. ``true`` is its time by a clock that nobody sets, and ``slid``
    the earliest time at which anybody has looked at it since.
    """

    at: int
    true: int
    limits: tuple[Limit, ...]
    held: dict[str, int]
    until: int
    price: tuple[Price, int, int] | None = None
    now: dict[str, int] = field(default_factory=dict)
    state: HoldState = HoldState.RESERVED
    ended: int = 0
    slid: int = 0
    days: dict[tuple[str, str], tuple[date, int]] = field(default_factory=dict)
    left: set[tuple[str, str, bool]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.now, self.slid = dict(self.held), self.at
        self.places = {(each.name, each.account) for each in self.limits}
        self.sliding = [each for each in self.limits if each.kind == "rate"]
        for each in self.limits:
            if each.kind == "budget":
                day = local_day(self.at, each.timezone)
                ends = midnight(day + timedelta(1), each.timezone)
                self.days[each.name, each.account] = day, ends

    def counts_on(self, name: str, account: str) -> bool:
        return (name, account) in self.places


def turns_of_days(
    turns: Collection[Spent], limit: Limit, first: date, last: date
) -> tuple[list[Spent], list[Spent]]:
    """Those of the turns under a limit that count in a window that begins on ``first``: at least,
    and with the days that other zones have made longer.
    """
    place, start = (limit.name, limit.account), midnight(first, limit.timezone)
    before = first - timedelta(1)
    near = [(turn, *turn.days[place]) for turn in turns if before <= turn.days[place][0] <= last]
    longest: dict[date, int] = {}
    for _, day, ends in near:
        longest[day] = max(longest.get(day, 0), ends)
    least = [turn for turn, _, ends in near if ends > start]
    return least, [turn for turn, day, _ in near if longest[day] > start]


def local_day(at: int, zone: str) -> date:
    return datetime.fromtimestamp(at / 1000, ZoneInfo(zone)).date()


@lru_cache(maxsize=10_000)
def midnight(day: date, zone: str) -> int:
    return round(datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone)).timestamp() * 1000)


def window_of(limit: Limit, now: int) -> tuple[date, date]:
    """The first day of the window, and the one after its last."""
    return window_on(str(limit.window), limit.starts, local_day(now, limit.timezone))


@lru_cache(maxsize=10_000)
def window_on(window: str, starts: int, first: date) -> tuple[date, date]:
    """By a walk, day by day."""
    after = first + timedelta(1)
    while not begins(window, starts, first):
        first -= timedelta(1)
    while not begins(window, starts, after):
        after += timedelta(1)
    return first, after


def begins(window: str, starts: int, day: date) -> bool:
    if window == "week":
        return day.isoweekday() == starts
    if window == "month":
        return day.day == min(starts, monthrange(day.year, day.month)[1])
    return True
