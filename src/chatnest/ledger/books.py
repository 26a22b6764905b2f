"""Books: the data of a ledger that the accounting rules read and write. The seam. No I/O."""

import enum
from typing import Final, Protocol

import msgspec

from chatnest.errors import UnitConflict, ZoneConflict
from chatnest.ledger.base import Hold
from chatnest.ledger.days import day_of, end_of, span_of
from chatnest.ledger.limit import Limit, Unit
from chatnest.ledger.sliding import Sliding
from chatnest.ledger.usage import UsageRow, Use
from chatnest.ledger.watch import Crossing, Watch, WatchRow
from chatnest.ledger.window import Window

__all__ = [
    "EVER",
    "GRANTED",
    "Books",
    "Counter",
    "HoldRecord",
    "HoldState",
    "check_scale",
    "counter_key",
    "is_day",
    "is_part_of_lifetime",
    "scale_of",
    "set_end",
    "unit_of_scale",
    "zone_of_scale",
]

EVER: Final = "ever"
"""Stands for the day in the key of a counter that sums the days which are no longer kept."""

GRANTED: Final = "granted"
"""Stands for the day in the key of a counter of grants. Their sum is its ``adjusted``."""


class HoldState(enum.IntEnum):
    """The state of a hold."""

    RESERVED = 0
    SETTLED = 1
    RELEASED = 2
    EXPIRED = 3


class Counter(msgspec.Struct):
    """The figures of an account under one limit's name; for a window of the calendar, of one day.

    ``expired`` is the part of ``settled`` that was charged for expired holds. ``adjusted`` is
    signed, and separate, so that corrections do not change ``settled``. ``ends`` is when the day
    ends, in the latest of the time zones in which it was counted. In a counter of grants, it
    is the number of grants.
    """

    settled: int = 0
    held: int = 0
    overrun: int = 0
    expired: int = 0
    adjusted: int = 0
    ends: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing counts here, so that the day has no end yet."""
        return not (self.settled or self.held or self.adjusted)


class HoldRecord(msgspec.Struct, gc=False):
    """A hold and its state. ``until`` is the end of the lease while the hold is RESERVED, and the
    time at which it ended afterwards. ``charged`` are tokens, ``charged_money`` nano-dollars.
    """

    hold: Hold
    state: HoldState
    until: int
    charged: int = 0
    charged_money: int = 0


class Books(Protocol):
    """The data that the rules read and write. Changes to the returned objects are stored."""

    def counter(self, key: str, /) -> Counter:
        """The counter of a key, with zeros if it is new."""

    def sums(
        self, name: str, account: str, first: str, last: str, start: int, /
    ) -> tuple[int, int]:
        """The sums, over the counters of the days from ``first`` to ``last`` that end after
        ``start``, of what is settled and adjusted, and of what is held.
        """

    def all_sums(self, name: str, account: str, /) -> tuple[int, int]:
        """The same sums over all days."""

    def window(self, key: str, /) -> Window:
        """The sliding window of a key, empty if it is new."""

    def sliding(self, key: str, /) -> Sliding:
        """The sliding window of amounts of a key, empty if it is new."""

    def hold(self, hold_id: str) -> HoldRecord | None:
        """The hold of an id, live or ended, or None if it is not known."""

    def add(self, record: HoldRecord) -> None:
        """Store a new hold, or one whose lease was renewed."""

    def zone(self, name: str, /) -> str | None:
        """The scale of the limits of this name, or None before the first one."""

    def keep_zone(self, name: str, zone: str) -> None:
        """Store the scale of a name."""

    def keep_ever(self, name: str, /) -> None:
        """From now on, sum up the days of this name instead of dropping them."""

    def due(self, now: int) -> list[HoldRecord]:
        """The RESERVED holds whose lease has ended by ``now``."""

    def watched(self, name: str, account: str, period: str, /) -> WatchRow:
        """The row of a watched window, empty if it is new."""

    def watches(self, name: str, account: str, /) -> list[Watch]:
        """The latest watch of each window that was watched for an account under a name."""

    def cross(self, crossing: Crossing, /) -> None:
        """Store a new crossing, whose delivery is pending."""

    def spend(self, row: UsageRow, use: Use, sign: int, /) -> None:
        """Add figures to a row of the roll-up, or take them out with a ``sign`` of -1."""


def counter_key(limit: Limit, now: int) -> str:
    """The key of a limit's counter or window. A window of the calendar has a counter for each
    day.
    """
    window = limit.window
    if isinstance(window, str):
        return f"{limit.name}:{day_of(now, limit.timezone)}:{limit.account}"
    if isinstance(window, int):  # a short window has too few entries for a long one
        return f"{limit.name}:{window}:{limit.account}"
    return f"{limit.name}::{limit.account}"


def is_part_of_lifetime(key: str, name: str, account: str) -> bool:
    """Whether a counter counts in the lifetime of an account under a name."""
    named, day, whose = key.split(":", 2)
    return named == name and whose == account and day not in {"", GRANTED}


def set_end(books: Books, key: str, counter: Counter) -> None:
    """Set the end of a counter's day, if its key has a day."""
    name, day, _ = key.split(":", 2)
    if is_day(day):
        scale = books.zone(name)
        counter.ends = span_of(day)[1] if scale is None else end_of(day, zone_of_scale(scale))


def is_day(day: str) -> bool:
    """Whether this part of a key is a day, rather than empty, EVER or GRANTED."""
    return day not in {"", EVER, GRANTED}


def scale_of(limit: Limit) -> str:
    """The time zone in which the days of a limit are counted and, unless it is tokens, its unit
    before it.
    """
    return limit.timezone if limit.unit == "tokens" else f"{limit.unit} {limit.timezone}"


def unit_of_scale(scale: str) -> Unit:
    """The unit of a scale."""
    unit = scale.rpartition(" ")[0] or "tokens"
    return "money" if unit == "money" else "requests" if unit == "requests" else "tokens"


def zone_of_scale(scale: str) -> str:
    """The time zone of a scale."""
    return scale.rpartition(" ")[2]


def check_scale(name: str, kept: str, asked: str) -> None:
    """Raise ZoneConflict or UnitConflict unless both scales of a name are the same."""
    if kept == asked:
        return
    if unit_of_scale(kept) != unit_of_scale(asked):
        raise UnitConflict(name, unit_of_scale(kept), unit_of_scale(asked))
    raise ZoneConflict(name, zone_of_scale(kept), zone_of_scale(asked))
