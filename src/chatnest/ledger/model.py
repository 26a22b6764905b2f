"""The accounting rules: pure functions over books, an operation and a time. No I/O.

A hold is RESERVED, then SETTLED (charged its cost), RELEASED (not charged) or EXPIRED (charged in
full, because its worker did not renew the lease; a late settlement or release corrects the charge
exactly).
For every limit of the calendar, in its unit, whenever a request is admitted::

    settled + adjusted + held <= amount + grants + overrun

``overrun`` is what was charged beyond what was held for it. ``adjusted`` is the sum of corrections
by operators, positive or negative; use never counts as less than 0. A hold belongs to the day of
its admission, in which it is settled as well. Every ledger is tested against these functions with
the same sequences of operations. The memory and SQLite ledgers run these functions themselves, over
different books.
"""

from typing import Final

import msgspec

from chatnest.errors import UnitConflict, ZoneConflict
from chatnest.ledger.audit import Adjustment, check_total
from chatnest.ledger.base import (
    Admitted,
    Charge,
    Cost,
    Hold,
    LimitState,
    Line,
    Refused,
    Reservation,
    Settlement,
    amounts_of,
)
from chatnest.ledger.books import (
    GRANTED,
    Books,
    HoldRecord,
    HoldState,
    counter_key,
    scale_of,
    set_end,
    unit_of_scale,
    zone_of_scale,
)
from chatnest.ledger.days import day_end
from chatnest.ledger.limit import Limit, Unit
from chatnest.ledger.standing import longest, refusal_of, state_of
from chatnest.ledger.usage import expired_row, expired_use, row_of, use_of
from chatnest.ledger.watch import Watch
from chatnest.ledger.watching import look_at, watch_of

__all__ = [
    "EXACT",
    "check_scale",
    "correct",
    "expire",
    "release",
    "renew",
    "reserve",
    "settle",
    "usage",
]

EXACT: Final = 2**53 - 1
"""Maximum figure of a counter, so that every store counts exactly. A settlement beyond it is not
refused, since it would be tried again without end: the figure stays there.
"""

_NOTHING: Final = Charge(tokens=0)


# ---------------------------------------------------------------- operations


def reserve(books: Books, wish: Reservation, now: int) -> Admitted | Refused:
    """Hold under all limits of ``wish``, or under none. Raises ZoneConflict or UnitConflict."""
    scales = _scales(books, wish.limits)
    expire(books, now)
    known = books.hold(wish.id)
    if known is not None:
        if known.state is HoldState.RESERVED:
            return Admitted(hold=known.hold, states=usage(books, wish.limits, now), now=now)
        return Refused(state=None, retry_after=0, now=now)
    states = [state_of(books, limit, now) for limit in wish.limits]
    costs = wish.costs()
    output = _grant(wish, costs, states)
    refusals = []
    over = []
    for state in states:
        limit, cost = state.limit, costs[state.limit.unit]
        least = output if isinstance(limit.window, int) else wish.min_output
        needed = cost.fixed + cost.per_output * least
        # A cost of 0 fits everywhere, also for an account in debt.
        if not needed or state.used + state.held + needed <= limit.amount + state.granted:
            continue
        if limit.mode == "shadow":
            over.append(limit.name)
        else:
            refusals.append(refusal_of(books, state, needed, now))
    if refusals:
        return longest(refusals)
    for name, scale in scales.items():
        books.keep_zone(name, scale)
    for limit in wish.limits:
        if limit.window == "lifetime":
            books.keep_ever(limit.name)
    hold, held = _admit(books, wish, output, states, now)
    return Admitted(hold=hold, states=held, now=now, over=tuple(over))


def renew(books: Books, hold_id: str, lease: int, now: int) -> None:
    """Renew the lease of a live hold. Does nothing for a hold that has ended."""
    expire(books, now)
    record = books.hold(hold_id)
    if record is not None and record.state is HoldState.RESERVED:
        record.until = now + lease
        books.add(record)


def settle(books: Books, hold: Hold, charge: Charge, now: int) -> Settlement:
    """Charge a hold its cost, once. A repetition returns what was charged first."""
    expire(books, now)
    record = books.hold(hold.id)
    if record is None:
        # The books lost the hold (a restart of memory, a failover), but the cost is real. A bucket
        # of its serial may be another one.
        lines = tuple([line for line in hold.lines if line.serial < 0])
        hold = msgspec.structs.replace(hold, lines=lines)
        record = HoldRecord(hold, HoldState.RESERVED, now)
        books.add(record)
        _weigh(books, hold)
    if record.state in {HoldState.SETTLED, HoldState.RELEASED}:
        return Settlement(tokens=record.charged, money=record.charged_money, first=False)
    _end(books, record, HoldState.SETTLED, charge, now)
    if record.hold.watched:
        look_at(books, record.hold.watched, now)
    return Settlement(tokens=charge.tokens, money=charge.money, first=True)


def release(books: Books, wish: Reservation, now: int) -> None:
    """Undo a reservation, and refuse it if it arrives later.

    The upstream call was not made, so an expired hold is not charged either.
    """
    expire(books, now)
    record = books.hold(wish.id)
    if record is None:
        hold = Hold(id=wish.id, tokens=0, lines=())
        books.add(HoldRecord(hold, HoldState.RELEASED, now))
    elif record.state in {HoldState.RESERVED, HoldState.EXPIRED}:
        _end(books, record, HoldState.RELEASED, _NOTHING, now)
        if record.hold.watched:
            look_at(books, record.hold.watched, now)


def correct(books: Books, adjustment: Adjustment, now: int) -> None:
    """Correct a counter by hand. Raises ConfigurationError for an amount that is too large."""
    expire(books, now)
    counter = books.counter(adjustment.key)
    check_total(adjustment, counter.adjusted)
    if adjustment.day == GRANTED:
        counter.ends += 1  # how many there are
    elif counter.is_empty:
        set_end(books, adjustment.key, counter)
    counter.adjusted += adjustment.amount
    look_at(books, books.watches(adjustment.name, adjustment.account), now)


def expire(books: Books, now: int) -> None:
    """Charge expired holds in full: their workers may have crashed after spending the tokens."""
    ended = books.due(now)
    for record in ended:
        _end(books, record, HoldState.EXPIRED, record.hold, now)
    for record in ended:
        if record.hold.watched:
            look_at(books, record.hold.watched, now)


def usage(books: Books, limits: tuple[Limit, ...], now: int) -> tuple[LimitState, ...]:
    """The states of limits. Raises ZoneConflict or UnitConflict."""
    _scales(books, limits)
    expire(books, now)
    return tuple([state_of(books, limit, now) for limit in limits])


# ---------------------------------------------------------------- their parts


def _scales(books: Books, limits: tuple[Limit, ...]) -> dict[str, str]:
    """The scale of each name that the books do not know yet.

    A name has one zone for all accounts, so that an account has one current day, and with it one
    budget; and one unit, so that its counters can be added up. Raises ZoneConflict or UnitConflict
    for a limit with another one, before anything is changed.
    """
    new: dict[str, str] = {}
    for limit in limits:
        if isinstance(limit.window, str):
            kept = books.zone(limit.name)
            if kept != limit.timezone or limit.unit != "tokens":
                scale = scale_of(limit)
                check_scale(limit.name, kept or new.setdefault(limit.name, scale), scale)
    return new


def check_scale(name: str, kept: str, asked: str) -> None:
    """Raise ZoneConflict or UnitConflict unless both scales of a name are the same."""
    if kept == asked:
        return
    if unit_of_scale(kept) != unit_of_scale(asked):
        raise UnitConflict(name, unit_of_scale(kept), unit_of_scale(asked))
    raise ZoneConflict(name, zone_of_scale(kept), zone_of_scale(asked))


def _grant(wish: Reservation, costs: dict[Unit, Cost], states: list[LimitState]) -> int:
    """The output that all limits leave for a wish, at least its minimum. Present use lowers it
    under a limit of the calendar. Under a sliding window only the limit's whole amount does, since
    a request that has to wait fits later.
    """
    output = wish.output
    for state in states:
        limit = state.limit
        cost = costs[limit.unit]
        if cost.per_output and limit.mode == "enforce":
            left = limit.amount + state.granted
            if not isinstance(limit.window, int):
                left -= state.used + state.held
            output = min(output, (left - cost.fixed) // cost.per_output)
    return max(output, wish.min_output)


def _admit(
    books: Books, wish: Reservation, output: int, before: list[LimitState], now: int
) -> tuple[Hold, tuple[LimitState, ...]]:
    tokens = wish.input_tokens + output
    money = wish.money.fixed + wish.money.per_output * output
    amounts = amounts_of(tokens, money)
    lines: dict[str, Line] = {}
    watched: dict[Watch, None] = {}
    windows = set()
    states = []
    # If two limits of a wish share a counter or a window, the request counts once.
    for state in before:
        limit, used, held, resets_at = state.limit, state.used, state.held, state.resets_at
        key = counter_key(limit, now)
        amount, window = amounts[limit.unit], limit.window
        if isinstance(window, int):
            if key not in windows:
                windows.add(key)
                if limit.unit == "requests":
                    books.window(key).append(now)
                else:
                    serial = books.sliding(key).add(amount, window * 1000, now)
                    lines[key] = Line(key, limit.unit, serial)
            used += amount
            if resets_at is None:
                resets_at = now + window * 1000
        else:
            if key not in lines:
                lines[key] = Line(key, limit.unit)
                counter = books.counter(key)
                if window is not None:
                    ends = day_end(now, limit.timezone)
                    counter.ends = ends if counter.is_empty else max(counter.ends, ends)
                counter.held += amount
            if limit.warn_at:
                watched[watch_of(limit, now)] = None
            held += amount
        states.append(
            LimitState(
                limit=limit, used=used, held=held, resets_at=resets_at, granted=state.granted
            )
        )
    hold = Hold(
        id=wish.id,
        tokens=tokens,
        money=money,
        output=output,
        lines=tuple(lines.values()),
        watched=tuple(watched),
    )
    books.add(HoldRecord(hold, HoldState.RESERVED, now + wish.lease))
    return hold, tuple(states)


def _weigh(books: Books, hold: Hold) -> None:
    """Count a hold on its counters."""
    amounts = amounts_of(hold.tokens, hold.money)
    for line in hold.lines:
        if line.serial < 0:
            counter = books.counter(line.key)
            if counter.is_empty and line.unit != "streams":
                set_end(books, line.key, counter)
            counter.held += amounts[line.unit]


def _end(books: Books, record: HoldRecord, state: HoldState, cost: Hold | Charge, now: int) -> None:
    """End a hold, or correct the end of an expired one: charge it the amounts of ``cost``."""
    hold, was_expired = record.hold, record.state is HoldState.EXPIRED
    amounts = amounts_of(hold.tokens, hold.money)
    charges = amounts_of(cost.tokens, cost.money)
    for line in hold.lines:
        held = amounts[line.unit]
        charge = 0 if state is HoldState.RELEASED else charges[line.unit]
        if line.serial >= 0:
            books.sliding(line.key).correct(line.serial, charge - held)
            continue
        counter = books.counter(line.key)
        if not was_expired:
            counter.held -= held
        if line.unit == "streams":
            continue
        if not counter.ends:  # it was lost
            set_end(books, line.key, counter)
        if was_expired:  # it was charged in full
            # Never below 0: the books may have lost the counter but not the hold.
            counter.settled = max(0, counter.settled - held)
            counter.expired = max(0, counter.expired - held)
        charge = min(charge, EXACT - counter.settled)
        counter.settled += charge
        counter.overrun += max(0, charge - held)
        if state is HoldState.EXPIRED:
            counter.expired += charge
    _roll_up(books, record, state, cost, now)
    record.state, record.until = state, now
    record.charged, record.charged_money = cost.tokens, cost.money


def _roll_up(
    books: Books, record: HoldRecord, state: HoldState, cost: Hold | Charge, now: int
) -> None:
    """Count the end of a hold in the roll-up, in place of an earlier one."""
    if record.state is HoldState.EXPIRED:
        books.spend(expired_row(record.until), expired_use(record.hold), -1)
    if isinstance(cost, Hold):
        books.spend(expired_row(now), expired_use(cost), 1)
    elif state is HoldState.SETTLED:
        books.spend(row_of(cost, now), use_of(cost), 1)
