"""The accounting rules: pure functions over books, an operation and a time. No I/O.

A hold is RESERVED, then SETTLED (charged its cost), RELEASED (not charged) or EXPIRED (charged in
full, because its worker did not renew the lease; a late settlement or release corrects the charge
exactly).
For every budget, whenever a request is admitted::

    settled + adjusted + held <= limit + overrun

``overrun`` is the tokens that providers reported beyond those held for them. ``adjusted`` is the
sum of corrections by operators, positive or negative; use never counts as less than 0. Every ledger
is tested against these functions with the same sequences of operations. The memory and SQLite
ledgers run these functions themselves, over different books.
"""

import enum
from typing import Final, Protocol

import msgspec

from chatnest.errors import ZoneConflict
from chatnest.ledger.base import (
    Admitted,
    Charge,
    Hold,
    Limit,
    LimitState,
    Line,
    Refused,
    Reservation,
    Settlement,
)
from chatnest.ledger.days import day_end, day_of
from chatnest.ledger.window import Window

__all__ = [
    "Books",
    "Counter",
    "HoldRecord",
    "HoldState",
    "expire",
    "release",
    "renew",
    "reserve",
    "settle",
    "usage",
]

RETRY_HELD: Final = 5_000
"""Milliseconds to wait for a running answer to end: an estimate, since its end is not known."""


class HoldState(enum.IntEnum):
    """The state of a hold."""

    RESERVED = 0
    SETTLED = 1
    RELEASED = 2
    EXPIRED = 3


class Counter(msgspec.Struct):
    """The figures of an account under one limit's name; for a budget, of one day.

    ``expired`` is the part of ``settled`` that was charged for expired holds. ``adjusted`` is
    signed, and separate, so that corrections do not change ``settled``.
    """

    settled: int = 0
    held: int = 0
    overrun: int = 0
    expired: int = 0
    adjusted: int = 0

    @property
    def used(self) -> int:
        """The figure that counts against a limit, in addition to ``held``."""
        return max(0, self.settled + self.adjusted)


class HoldRecord(msgspec.Struct, gc=False):
    """A hold and its state. ``until`` is the end of the lease while the hold is RESERVED, and the
    time at which it ended afterwards.
    """

    hold: Hold
    state: HoldState
    until: int
    charged: int = 0


class Books(Protocol):
    """The data that the rules read and write. Changes to the returned objects are stored."""

    def counter(self, key: str, /) -> Counter:
        """The counter of a key, with zeros if it is new."""

    def window(self, key: str, /) -> Window:
        """The sliding window of a key, empty if it is new."""

    def hold(self, hold_id: str) -> HoldRecord | None:
        """The hold of an id, live or ended, or None if it is not known."""

    def add(self, record: HoldRecord) -> None:
        """Store a new hold, or one whose lease was renewed."""

    def zone(self, name: str, /) -> str | None:
        """The time zone in which budgets of this name are counted, or None before the first one."""

    def keep_zone(self, name: str, zone: str) -> None:
        """Store the time zone of a budget's name."""

    def due(self, now: int) -> list[HoldRecord]:
        """The RESERVED holds whose lease has ended by ``now``."""


# ---------------------------------------------------------------- operations


def reserve(books: Books, wish: Reservation, now: int) -> Admitted | Refused:
    """Hold under all limits of ``wish``, or under none. Raises ZoneConflict."""
    zones = _zones(books, wish.limits)
    expire(books, now)
    known = books.hold(wish.id)
    if known is not None:
        if known.state is HoldState.RESERVED:
            return Admitted(hold=known.hold, states=usage(books, wish.limits, now), now=now)
        return Refused(state=None, retry_after=0, now=now)
    places = []
    granted = wish.tokens
    refusals = []
    for limit in wish.limits:
        key = counter_key(limit, now)
        state = _state(books, limit, key, now)
        places.append((key, state))
        left = limit.limit - state.used - state.held
        needed = 1
        if limit.kind == "budget":
            needed = wish.min_tokens
            granted = min(granted, left)
        if left < needed:
            refusals.append(_refusal(books, wish, state, key, now))
    if refusals:
        # After the longest wait, none of the other limits refuses either.
        return max(refusals, key=lambda refusal: refusal.retry_after)
    for name, zone in zones.items():
        books.keep_zone(name, zone)
    return _admit(books, wish, granted, places, now)


def renew(books: Books, hold_id: str, lease: int, now: int) -> None:
    """Renew the lease of a live hold. Does nothing for a hold that has ended."""
    expire(books, now)
    record = books.hold(hold_id)
    if record is not None and record.state is HoldState.RESERVED:
        record.until = now + lease
        books.add(record)


def settle(books: Books, hold: Hold, charge: Charge, now: int) -> Settlement:
    """Charge ``charge.tokens`` for a hold, once. A repetition returns the tokens charged first."""
    expire(books, now)
    record = books.hold(hold.id)
    if record is None:
        # The books lost the hold (a restart of memory, a failover), but the cost is real.
        record = HoldRecord(hold, HoldState.RESERVED, now)
        books.add(record)
        _weigh(books, hold, +1)
    if record.state in {HoldState.SETTLED, HoldState.RELEASED}:
        return Settlement(tokens=record.charged, first=False)
    _end(books, record, HoldState.SETTLED, charge.tokens, now)
    return Settlement(tokens=charge.tokens, first=True)


def release(books: Books, wish: Reservation, now: int) -> None:
    """Undo a reservation, and refuse it if it arrives later.

    The upstream call was not made, so an expired hold is not charged either.
    """
    expire(books, now)
    record = books.hold(wish.id)
    if record is None:
        hold = Hold(id=wish.id, tokens=0, lines=())
        books.add(HoldRecord(hold, HoldState.RELEASED, now))
    elif record.state is not HoldState.SETTLED:
        _end(books, record, HoldState.RELEASED, 0, now)


def expire(books: Books, now: int) -> None:
    """Charge expired holds in full: their workers may have crashed after spending the tokens."""
    for record in books.due(now):
        _end(books, record, HoldState.EXPIRED, record.hold.tokens, now)


def usage(books: Books, limits: tuple[Limit, ...], now: int) -> tuple[LimitState, ...]:
    """The states of limits. Raises ZoneConflict."""
    _zones(books, limits)
    expire(books, now)
    return tuple(_state(books, limit, counter_key(limit, now), now) for limit in limits)


# ---------------------------------------------------------------- their parts


def _zones(books: Books, limits: tuple[Limit, ...]) -> dict[str, str]:
    """The zone of each budget's name that the books do not know yet.

    A name has one zone for all accounts, so that an account has one current day, and with it one
    budget. Raises ZoneConflict for a limit with another zone, before anything is changed.
    """
    new: dict[str, str] = {}
    for limit in limits:
        if limit.kind == "budget":
            kept = books.zone(limit.name)
            if kept is None:
                kept = new.setdefault(limit.name, limit.timezone)
            if kept != limit.timezone:
                raise ZoneConflict(limit.name, kept, limit.timezone)
    return new


def _admit(
    books: Books, wish: Reservation, granted: int, places: list[tuple[str, LimitState]], now: int
) -> Admitted:
    lines: dict[str, Line] = {}
    windows = set()
    states = []
    # If two limits of a wish share a counter or a window, the request counts once.
    for key, before in places:
        limit, used, held, resets_at = before.limit, before.used, before.held, before.resets_at
        if limit.kind == "rate":
            if key not in windows:
                windows.add(key)
                books.window(key).append(now)
            used += 1
            if resets_at is None:
                resets_at = now + limit.window * 1000
        elif limit.kind == "budget":
            lines[key] = Line(key, "tokens")
            held += granted
        else:
            lines[key] = Line(key, "streams")
            held += 1
        states.append(LimitState(limit=limit, used=used, held=held, resets_at=resets_at))
    hold = Hold(id=wish.id, tokens=granted, lines=tuple(lines.values()))
    books.add(HoldRecord(hold, HoldState.RESERVED, now + wish.lease))
    _weigh(books, hold, +1)
    return Admitted(hold=hold, states=tuple(states), now=now)


def _refusal(books: Books, wish: Reservation, state: LimitState, key: str, now: int) -> Refused:
    limit = state.limit
    if limit.kind == "rate":
        if limit.limit < 1:  # no wait helps
            return Refused(state=state, retry_after=limit.window * 1000, now=now)
        # Once this entry has left the window, the window has room for one more.
        window = books.window(key)
        wait = window[len(window) - limit.limit] + limit.window * 1000 - now
        return Refused(state=state, retry_after=wait, now=now)
    if limit.kind == "budget" and state.used + wish.min_tokens > limit.limit:
        wait = (state.resets_at or now) - now
        return Refused(state=state, retry_after=wait, now=now)
    return Refused(state=state, retry_after=RETRY_HELD, now=now, by_held=True)


def _end(books: Books, record: HoldRecord, state: HoldState, charge: int, now: int) -> None:
    held = record.hold.tokens if record.state is HoldState.RESERVED else 0
    over = max(0, charge - record.hold.tokens)
    for line in record.hold.lines:
        counter = books.counter(line.key)
        if line.unit == "streams":
            counter.held -= record.state is HoldState.RESERVED
        else:
            counter.held -= held
            if record.state is HoldState.EXPIRED:
                # Never below 0: the books may have lost the counter but not the hold.
                counter.settled = max(0, counter.settled - record.charged)
                counter.expired = max(0, counter.expired - record.charged)
            counter.settled += charge
            counter.overrun += over
            if state is HoldState.EXPIRED:
                counter.expired += charge
    record.state, record.charged, record.until = state, charge, now


def _weigh(books: Books, hold: Hold, sign: int) -> None:
    for line in hold.lines:
        books.counter(line.key).held += sign * (hold.tokens if line.unit == "tokens" else 1)


def _state(books: Books, limit: Limit, key: str, now: int) -> LimitState:
    if limit.kind == "rate":
        window, length = books.window(key), limit.window * 1000
        window.slide(length, now)
        used = len(window)
        resets_at = window[0] + length if used else None
        return LimitState(limit=limit, used=used, held=0, resets_at=resets_at)
    counter = books.counter(key)
    resets_at = day_end(now, limit.timezone) if limit.kind == "budget" else None
    return LimitState(limit=limit, used=counter.used, held=counter.held, resets_at=resets_at)


def counter_key(limit: Limit, now: int) -> str:
    """The key of a limit's counter or window. A budget has a counter for each day."""
    if limit.kind == "budget":
        return f"{limit.name}:{day_of(now, limit.timezone)}:{limit.account}"
    if limit.kind == "rate":  # a short window has too few entries for a long one
        return f"{limit.name}:{limit.window}:{limit.account}"
    return f"{limit.name}::{limit.account}"
