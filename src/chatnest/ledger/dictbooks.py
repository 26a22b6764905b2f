"""DictBooks: books in dictionaries, bounded without forgetting tokens that are used or held."""

import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
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
from chatnest.ledger.days import day_of
from chatnest.ledger.holds import Holds
from chatnest.ledger.model import Counter, counter_key
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
_WESTERNMOST: Final = 12 * _HOUR
"""Milliseconds by which a time zone is behind UTC at most."""

_NOTHING: Final = Counter()
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

    ``max_keys`` bounds the counters of budgets, and the windows. To make room, only entries that no
    longer count are dropped: counters of past days, and windows whose entries have all left. If
    that is not enough, new accounts share one account for each limit, with the limit of a single
    account: addresses once nine tenths of the keys are in use, others once all of them are.
    Counters of streams, which live as long as a hold, are never shared.
    """

    def __init__(self, max_keys: int) -> None:
        check_integer("max_keys", max_keys, _LEAST_KEYS)
        super().__init__(max_keys)
        self._most = max_keys
        self._most_addresses = max_keys - max_keys // _RESERVED
        self._counters: OrderedDict[str, Counter] = OrderedDict()  # in the order of insertion
        self._windows: OrderedDict[str, ListWindow] = OrderedDict()
        self._zones: dict[str, str] = {}
        self.zone: Callable[[str], str | None] = self._zones.get
        self._read = _LookedUp(self._counters, Counter)
        self._slid = _LookedUp(self._windows, ListWindow)
        self.counter: Callable[[str], Counter] = self._read.__getitem__
        self.window: Callable[[str], ListWindow] = self._slid.__getitem__
        self._say_again = 0

    def __len__(self) -> int:
        return len(self._counters) + len(self._windows)

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

    def _keep(self) -> None:
        """Store the entries that the operation has changed, except empty ones."""
        for key, counter in self._read.items():
            if counter != _NOTHING:
                self._counters[key] = counter
            else:
                self._counters.pop(key, None)
        for key, window in self._slid.items():
            if window:
                self._windows[key] = window
            else:
                self._windows.pop(key, None)
        self._read.clear()
        self._slid.clear()

    # ------------------------------------------------ room

    def _placed(self, limits: tuple[Limit, ...], now: int) -> tuple[Limit, ...]:
        """The limits, with a shared account in place of each account that has no room."""
        if max(len(self._counters), len(self._windows)) < self._most_addresses:
            return limits
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
                f"{len(self._counters):,}",
                f"{self._most:,}",
            )
        return placed

    def _has_place(self, limit: Limit, now: int) -> bool:
        if limit.kind == "concurrency":
            return True
        table = self._windows if limit.kind == "rate" else self._counters
        if counter_key(limit, now) in table:
            return True
        room = self._most_addresses if _is_address(limit.account) else self._most
        if len(table) >= room:
            if limit.kind == "rate":
                self._drop_windows(now)
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

    def _drop_days(self, limit: Limit, now: int) -> None:
        """Drop some counters of past days. For this limit its time zone decides; for other limits a
        day is past once it has ended in all time zones.
        """
        today = day_of(now, limit.timezone)
        oldest = min(today, day_of(now - _WESTERNMOST, "UTC"))
        counters = self._counters
        for _ in range(min(_LOOKS_FOR_ROOM, len(counters))):
            key, counter = counters.popitem(last=False)
            name, day, _account = key.split(":", 2)
            if counter.held or day >= (today if name == limit.name else oldest):
                counters[key] = counter


def _is_address(account: str) -> bool:
    """Whether the account is a single address, and not the account that all addresses share."""
    return is_anonymous(account) and account != everybody_like(account)


def _shared(limit: Limit) -> Limit:
    account = OTHER_ADDRESSES if _is_address(limit.account) else OTHER_PRINCIPALS
    return msgspec.structs.replace(limit, account=account)
