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

from chatnest.ledger.audit import Adjustment, check_total
from chatnest.ledger.base import (
    Admitted,
    Charge,
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
    check_scale,
    set_end,
)
from chatnest.ledger.counted import Counted, CountedLimits, counted_at
from chatnest.ledger.limit import Limit, Unit
from chatnest.ledger.standing import Standing, longest, refusal_of, standing_of, state_of
from chatnest.ledger.usage import expired_row, expired_use, row_of, use_of
from chatnest.ledger.watch import Watch
from chatnest.ledger.watching import look_at

__all__ = [
    "EXACT",
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

_Found = tuple[Counted, Standing]
"""A limit, with its figures."""


# ---------------------------------------------------------------- operations


def reserve(books: Books, wish: Reservation, now: int) -> Admitted | Refused:
    """Hold under all limits of ``wish``, or under none. Raises ZoneConflict or UnitConflict."""
    counted = counted_at(wish.limits, now)
    scales = _new_scales(books, counted)
    expire(books, now)
    known = books.hold(wish.id)
    if known is not None:
        if known.state is HoldState.RESERVED:
            return Admitted(hold=known.hold, states=usage(books, wish.limits, now), now=now)
        return Refused(state=None, retry_after=0, now=now)
    output = max(wish.output, wish.min_output)
    amounts = _amounts(wish, output)
    found, fits = _stand(books, counted.limits, amounts, now)
    over: list[str] = []
    if not fits:
        output = _grant(wish, found)
        amounts = _amounts(wish, output)
        over, refused = _refuse(books, wish, output, found, now)
        if refused is not None:
            return refused
    for name, scale in scales.items():
        books.keep_zone(name, scale)
    for name in counted.lifetimes:
        books.keep_ever(name)
    hold, states = _admit(books, wish, output, amounts, found, now)
    return Admitted(hold=hold, states=states, now=now, over=tuple(over))


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
    counted = counted_at(limits, now)
    _new_scales(books, counted)
    expire(books, now)
    return tuple([state_of(each.limit, *standing_of(books, each, now)) for each in counted.limits])


# ---------------------------------------------------------------- their parts


def _new_scales(books: Books, limits: CountedLimits) -> dict[str, str]:
    """The scale of each name that the books do not know yet.

    A name has one zone for all accounts, so that an account has one current day, and with it one
    budget; and one unit, so that its counters can be added up. Raises ZoneConflict or UnitConflict
    for a limit with another one, before anything is changed.
    """
    new: dict[str, str] = {}
    for name, scale in limits.scales.items():
        kept = books.zone(name)
        if not kept:
            new[name] = scale
        elif kept != scale:
            check_scale(name, kept, scale)
    return new


def _amounts(wish: Reservation, output: int) -> dict[Unit, int]:
    """The amount of each unit that a wish holds for an output."""
    money = wish.money
    return amounts_of(wish.input_tokens + output, money.fixed + money.per_output * output)


def _stand(
    books: Books, limits: tuple[Counted, ...], amounts: dict[Unit, int], now: int
) -> tuple[list[_Found], bool]:
    """The figures of all limits, and whether these amounts fit under each: then no limit grants
    less, and none refuses.
    """
    found, fits = [], True
    for counted in limits:
        standing = used, held, _, granted = standing_of(books, counted, now)
        found.append((counted, standing))
        limit = counted.limit
        if used + held + amounts[limit.unit] > limit.amount + granted:
            fits = False
    return found, fits


def _grant(wish: Reservation, found: list[_Found]) -> int:
    """The output that all limits leave for a wish, at least its minimum. Present use lowers it
    under a limit of the calendar. Under a sliding window only the limit's whole amount does, since
    a request that has to wait fits later.
    """
    costs, output = wish.costs(), wish.output
    for counted, (used, held, _, granted) in found:
        cost = costs[counted.limit.unit]
        if cost.per_output and counted.is_enforced:
            left = counted.limit.amount + granted
            if not counted.length:
                left -= used + held
            output = min(output, (left - cost.fixed) // cost.per_output)
    return max(output, wish.min_output)


def _refuse(
    books: Books, wish: Reservation, output: int, found: list[_Found], now: int
) -> tuple[list[str], Refused | None]:
    """The names of the shadow limits that would refuse a wish, and the refusal by the others."""
    costs = wish.costs()
    refusals = []
    over = []
    for counted, standing in found:
        limit = counted.limit
        used, held, _, granted = standing
        cost = costs[limit.unit]
        needed = cost.fixed + cost.per_output * (output if counted.length else wish.min_output)
        # A cost of 0 fits everywhere, also for an account in debt.
        if not needed or used + held + needed <= limit.amount + granted:
            continue
        if counted.is_enforced:
            refusals.append(refusal_of(books, counted, standing, needed, now))
        else:
            over.append(limit.name)
    return over, longest(refusals) if refusals else None


def _admit(  # noqa: PLR0917  # the parts of one step
    books: Books,
    wish: Reservation,
    output: int,
    amounts: dict[Unit, int],
    found: list[_Found],
    now: int,
) -> tuple[Hold, tuple[LimitState, ...]]:
    """Hold the amounts of an output under all limits. Returns their states with it."""
    lines: dict[str, Line] = {}
    watched: dict[Watch, None] = {}
    windows = set()
    states = []
    # If two limits of a wish share a counter or a window, the request counts once.
    for counted, (used, was_held, resets_at, granted) in found:
        limit, key, length = counted.limit, counted.key, counted.length
        amount = amounts[limit.unit]
        leaves = resets_at
        if length:
            if key not in windows:
                windows.add(key)
                if limit.unit == "requests":
                    books.window(key).append(now)
                else:
                    serial = books.sliding(key).add(amount, length, now)
                    lines[key] = Line(key, limit.unit, serial)
            after, held = used + amount, was_held
            if leaves is None:
                leaves = now + length
        else:
            if key not in lines:
                lines[key] = Line(key, limit.unit)
                counter, ends = books.counter(key), counted.ends
                if counter.ends != ends and (counter.ends < ends or counter.is_empty):
                    counter.ends = ends
                counter.held += amount
            if counted.watch is not None:
                watched[counted.watch] = None
            after, held = used, was_held + amount
        states.append(
            LimitState(limit=limit, used=after, held=held, resets_at=leaves, granted=granted)
        )
    hold = Hold(
        id=wish.id,
        tokens=amounts["tokens"],
        money=amounts["money"],
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
