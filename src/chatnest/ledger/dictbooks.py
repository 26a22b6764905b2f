"""DictBooks: books in dictionaries, bounded without forgetting tokens that are used or held."""

import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final, TypeVar

import msgspec

from chatnest._util.arguments import check_integer
from chatnest.identity.principals import everybody_like, is_anonymous
from chatnest.ledger import model
from chatnest.ledger.base import (
    Admitted,
    Charge,
    Hold,
    Limit,
    LimitState,
    Refused,
    Reservation,
    Settlement,
)
from chatnest.ledger.books import EVER, GRANTED, Counter, counter_key, is_part_of_lifetime
from chatnest.ledger.crossings import Crossings
from chatnest.ledger.days import day_of, days_between
from chatnest.ledger.holds import Holds
from chatnest.ledger.sliding import Sliding
from chatnest.ledger.usage import Refusals, UsageRow, Use, Used
from chatnest.ledger.usage_rows import UsageRows
from chatnest.ledger.watch import Crossing, Watch, WatchRow
from chatnest.ledger.window import ListWindow

__all__ = ["OTHER_ADDRESSES", "OTHER_PRINCIPALS", "DictBooks"]

_log = logging.getLogger("chatnest.ledger")

OTHER_ADDRESSES: Final = "addr:others"
"""The account that further addresses share when the books are full. No address has this name."""

OTHER_PRINCIPALS: Final = "\0others"
"""The account that further principals share when the books are full. No principal has a control
character.
"""

_LEAST_KEYS: Final = 10
_RESERVED: Final = 10
"""One key in ten is reserved for accounts that are not addresses."""

_LOOKS_FOR_ROOM: Final = 64
"""Maximum entries that one operation examines to make room."""

_HOUR: Final = 3_600_000
_KEPT: Final = 62 * 24 * _HOUR
"""Milliseconds for which days are kept that count in a window of several days."""
_WESTERNMOST: Final = 12 * _HOUR
"""Milliseconds by which a time zone is behind UTC at most."""

_FEW_DAYS: Final = 3
"""Maximum days that are looked up without an index of the days that an account has."""
_NO_DAYS: Final[Mapping[str, Counter]] = {}

_Entry = TypeVar("_Entry")


class _LookedUp(dict[str, _Entry]):
    """The entries that the running operation has looked up, and may have changed. An entry that is
    not ``stored`` is a new one of its ``kind``.
    """

    def __init__(self, stored: Mapping[str, _Entry], kind: Callable[[], _Entry]) -> None:
        super().__init__()
        self._stored = stored
        self._kind = kind

    def __missing__(self, key: str) -> _Entry:
        entry = self[key] = self._stored.get(key) or self._kind()
        return entry


class DictBooks(Holds):
    """Books in dictionaries: holds, counters and windows. Not thread-safe.

    A look-up stores nothing: counters without figures and windows without entries take no room.

    ``max_keys`` bounds the counters of days, and the windows of each kind. To make room, only
    entries that no longer count are dropped: counters of days that are in no window any more, and
    windows whose entries have all left. Days that count in a lifetime are added up instead. If
    that is not enough, new accounts share one account for each limit, with the limit of a single
    account: addresses once nine tenths of the keys are in use, others once all of them are.
    Counters of streams, which live as long as a hold, are never shared. ``max_keys`` also bounds
    the rows of the roll-up, as UsageRows describes.
    """

    def __init__(self, max_keys: int) -> None:
        check_integer("max_keys", max_keys, _LEAST_KEYS)
        super().__init__(max_keys)
        self._most = max_keys
        self._most_addresses = max_keys - max_keys // _RESERVED
        self._counters: OrderedDict[str, Counter] = OrderedDict()  # in the order of insertion
        self._windows: OrderedDict[str, ListWindow] = OrderedDict()
        self._slidings: OrderedDict[str, Sliding] = OrderedDict()
        self._long: set[str] = set()  # names with windows of several days
        self._ever: set[str] = set()  # names with a lifetime
        # The counters of names with several days, by name, account and day.
        self._days: dict[str, dict[str, dict[str, Counter]]] = {}
        self._zones: dict[str, str] = {}
        self.zone: Callable[[str], str | None] = self._zones.get
        self._read = _LookedUp(self._counters, Counter)
        self._slid = _LookedUp(self._windows, ListWindow)
        self._moved = _LookedUp(self._slidings, Sliding)
        self.counter: Callable[[str], Counter] = self._read.__getitem__
        self.window: Callable[[str], ListWindow] = self._slid.__getitem__
        self.sliding: Callable[[str], Sliding] = self._moved.__getitem__
        self.crossings: Crossings = Crossings(max_keys)
        self.watched: Callable[[str, str, str], WatchRow] = self.crossings.watched
        self.watches: Callable[[str, str], list[Watch]] = self.crossings.watches
        self.cross: Callable[[Crossing], None] = self.crossings.cross
        self._say_again = 0
        self._usage = UsageRows(max_keys)
        self.spend: Callable[[UsageRow, Use, int], None] = self._usage.spend
        self.refuse: Callable[[Mapping[tuple[str, str], int]], None] = self._usage.refuse
        self.refusals: Callable[[str], list[Refusals]] = self._usage.refusals
        self.own_usage: Callable[[str, str], list[Used]] = self._usage.of

    def __len__(self) -> int:
        return len(self._counters) + len(self._windows) + len(self._slidings)

    # ------------------------------------------------ operations

    def reserve(self, wish: Reservation, now: int) -> Admitted | Refused:
        limits = self._placed(wish.limits, now)
        if limits is not wish.limits:
            wish = msgspec.structs.replace(wish, limits=limits)
        answer = model.reserve(self, wish, now)
        self._keep()
        return answer

    def renew(self, hold: Hold, lease: int, now: int) -> None:
        model.renew(self, hold.id, lease, now)
        self._keep()

    def settle(self, hold: Hold, charge: Charge, now: int) -> Settlement:
        settlement = model.settle(self, hold, charge, now)
        self._keep()
        return settlement

    def release(self, wish: Reservation, now: int) -> None:
        model.release(self, wish, now)
        self._keep()

    def usage(self, limits: tuple[Limit, ...], now: int) -> tuple[LimitState, ...]:
        states = model.usage(self, self._placed(limits, now), now)
        self._keep()
        return states

    # ------------------------------------------------ entries that the rules read and write

    def keep_zone(self, name: str, zone: str) -> None:
        self._zones[name] = zone

    def sums(self, name: str, account: str, first: str, last: str, start: int) -> tuple[int, int]:
        used = held = 0
        if name not in self._days:
            keys = _keys_of_days(name, account, first, last)
            for key in keys:
                counter = self._counters.get(key) or self._read.get(key)
                if counter is not None and counter.ends > start:
                    used += counter.settled + counter.adjusted
                    held += counter.held
            if keys:
                return used, held
        for day, counter in self._days_of(name, account).items():
            if first <= day <= last and counter.ends > start:
                used += counter.settled + counter.adjusted
                held += counter.held
        return used, held

    def all_sums(self, name: str, account: str) -> tuple[int, int]:
        self.keep_ever(name)
        used = held = 0
        for counter in self._days_of(name, account).values():
            used += counter.settled + counter.adjusted
            held += counter.held
        return used, held

    def keep_ever(self, name: str) -> None:
        self._ever.add(name)

    def _days_of(self, name: str, account: str) -> Mapping[str, Counter]:
        """The counters of an account by their days, with those that the operation may add."""
        if name not in self._days:
            self._long.add(name)
            self._days[name] = {}
            for key, counter in self._counters.items():
                self._enter(key, counter, name)
        days: Mapping[str, Counter] = self._days[name].get(account, _NO_DAYS)
        for key in self._read:
            if (
                key.startswith(name)
                and key not in self._counters
                and is_part_of_lifetime(key, name, account)
            ):
                days = {**days, key.split(":", 2)[1]: self._read[key]}
        return days

    def _enter(self, key: str, counter: Counter, only: str = "") -> None:
        if not self._days or key.partition(":")[0] not in self._days:
            return
        name, day, account = key.split(":", 2)
        if (only in {"", name}) and day and day != GRANTED:
            self._days[name].setdefault(account, {})[day] = counter

    def _leave(self, key: str) -> None:
        name, day, account = key.split(":", 2)
        accounts = self._days.get(name, {})
        days = accounts.get(account)
        if days is not None:
            days.pop(day, None)
            if not days:
                del accounts[account]

    def _keep(self) -> None:
        """Store the entries that the operation has changed, except empty ones."""
        for key, counter in self._read.items():
            if counter.held or counter.settled or counter.adjusted:
                if key not in self._counters:
                    self._counters[key] = counter
                    if counter.ends:  # it is of a day, and not of streams
                        self._enter(key, counter)
            elif self._counters.pop(key, None) is not None and counter.ends:
                self._leave(key)
        self._read.clear()
        if self._slid:
            for key, window in self._slid.items():
                if window:
                    self._windows[key] = window
                else:
                    self._windows.pop(key, None)
            self._slid.clear()
        if self._moved:
            self._keep_slidings()

    def _keep_slidings(self) -> None:
        for key, sliding in self._moved.items():
            if sliding.buckets:
                self._slidings[key] = sliding
            else:
                self._slidings.pop(key, None)
        self._moved.clear()

    # ------------------------------------------------ room

    def _placed(self, limits: tuple[Limit, ...], now: int) -> tuple[Limit, ...]:
        """The limits, with a shared account in place of each account that has no room."""
        most = self._most_addresses
        if len(self._counters) < most and len(self._windows) < most and len(self._slidings) < most:
            return limits
        for limit in limits:
            if isinstance(limit.window, str) and limit.window != "day":
                self._long.add(limit.name)
        fullest = max(len(self._counters), len(self._windows), len(self._slidings))
        placed = tuple(
            limit
            if self._has_place(limit, now)
            else _shared(limit)  # with the limit of one account
            for limit in limits
        )
        if placed != limits and now >= self._say_again:
            self._say_again = now + _HOUR
            _log.warning(
                "the ledger in memory is full: %s of %s keys are used or held today. New accounts "
                "share one account for each limit. Use SQLiteLedger, or raise max_keys.",
                f"{fullest:,}",
                f"{self._most:,}",
            )
        return placed

    def _has_place(self, limit: Limit, now: int) -> bool:
        if limit.kind == "concurrency":
            return True
        table: Mapping[str, object] = self._counters
        if limit.kind == "rate":
            table = self._windows if limit.unit == "requests" else self._slidings
        if counter_key(limit, now) in table:
            return True
        room = self._most_addresses if _is_address(limit.account) else self._most
        if len(table) >= room:
            if table is self._windows:
                self._drop_windows(now)
            elif table is self._slidings:
                self._drop_slidings(now)
            else:
                self._drop_days(limit, now)
        return len(table) < room

    def _drop_windows(self, now: int) -> None:
        """Examine some windows, in turn, and drop those whose entries have all left."""
        windows = self._windows
        for _ in range(min(_LOOKS_FOR_ROOM, len(windows))):
            key, window = windows.popitem(last=False)
            if window[-1] + window.length > now:
                windows[key] = window

    def _drop_slidings(self, now: int) -> None:
        """The same for windows of amounts."""
        slidings = self._slidings
        for _ in range(min(_LOOKS_FOR_ROOM, len(slidings))):
            key, sliding = slidings.popitem(last=False)
            length = int(key.split(":", 2)[1]) * 1000
            if sliding.buckets[-1].last + length > now:
                slidings[key] = sliding

    def _drop_days(self, limit: Limit, now: int) -> None:
        """Drop some counters of days that no longer count. For this limit its time zone decides
        what is past; for other limits a day is past once it has ended in all time zones.
        """
        today = day_of(now, limit.timezone)
        oldest = min(today, day_of(now - _WESTERNMOST, "UTC"))
        long_ago = day_of(now - _KEPT, "UTC")
        counters = self._counters
        for _ in range(min(_LOOKS_FOR_ROOM, len(counters))):
            key, counter = counters.popitem(last=False)
            name, day, account = key.split(":", 2)
            first = today if name == limit.name else oldest
            if name in self._long:
                first = long_ago
            if counter.held or day >= first:  # the names that are not days come after them
                counters[key] = counter
                continue
            self._leave(key)
            if name in self._ever:
                self._add_up(counter, name, account)

    def _add_up(self, counter: Counter, name: str, account: str) -> None:
        """Add a day that is dropped to the sum of an account's earlier days."""
        total = self._counters.setdefault(key := f"{name}:{EVER}:{account}", Counter())
        self._enter(key, total)
        for figure in ("settled", "overrun", "expired", "adjusted"):
            setattr(total, figure, getattr(total, figure) + getattr(counter, figure))


@lru_cache(8_192)
def _keys_of_days(name: str, account: str, first: str, last: str) -> tuple[str, ...]:
    """The keys of the counters of some days; none if these are so many that an index is faster."""
    days = days_between(first, last)
    return tuple([f"{name}:{day}:{account}" for day in days]) if len(days) <= _FEW_DAYS else ()


def _is_address(account: str) -> bool:
    """Whether the account is a single address, and not the account that all addresses share."""
    return is_anonymous(account) and account != everybody_like(account)


def _shared(limit: Limit) -> Limit:
    account = OTHER_ADDRESSES if _is_address(limit.account) else OTHER_PRINCIPALS
    return msgspec.structs.replace(limit, account=account)
