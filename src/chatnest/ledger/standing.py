"""Standing: how much of a limit is used and held, and how long a request has to wait. No I/O."""

from typing import Final

from chatnest.ledger.base import LimitState, Refused
from chatnest.ledger.books import GRANTED, Books
from chatnest.ledger.counted import Counted
from chatnest.ledger.limit import Limit

__all__ = ["RETRY_HELD", "Standing", "longest", "refusal_of", "standing_of", "state_of"]

RETRY_HELD: Final = 5_000
"""Milliseconds to wait for a running answer to end: an estimate, since its end is not known."""


Standing = tuple[int, int, int | None, int]
"""The ``used``, ``held``, ``resets_at`` and ``granted`` of a LimitState."""


def state_of(limit: Limit, used: int, held: int, resets_at: int | None, granted: int) -> LimitState:
    """The state of a limit that has these figures."""
    return LimitState(limit=limit, used=used, held=held, resets_at=resets_at, granted=granted)


def standing_of(books: Books, counted: Counted, now: int) -> Standing:
    """The figures of a limit at ``now``."""
    limit, length = counted.limit, counted.length
    if length:
        if limit.unit == "requests":
            times = books.window(counted.key)
            times.slide(length, now)
            used = len(times)
            return used, 0, times[0] + length if used else None, 0
        sliding = books.sliding(counted.key)
        sliding.slide(length, now)
        return sliding.weight, 0, sliding.resets_at(length), 0
    if not counted.scale:
        return 0, books.counter(counted.key).held, None, 0
    span, granted, resets_at = counted.span, 0, None
    if span is None:
        used, held = books.all_sums(limit.name, limit.account)
        granted = books.counter(f"{limit.name}:{GRANTED}:{limit.account}").adjusted
    else:
        used, held = books.sums(limit.name, limit.account, span.first, span.last, span.start)
        resets_at = span.end
    return max(0, used), held, resets_at, granted


def refusal_of(
    books: Books, counted: Counted, standing: Standing, needed: int, now: int
) -> Refused:
    """The refusal by a limit under which ``needed`` does not fit."""
    limit = counted.limit
    used, _, resets_at, granted = standing
    most = limit.amount + granted
    wait: int | None
    by_held = False
    if needed > most or (limit.window == "lifetime" and used + needed > most):
        wait = None
    elif counted.length:
        wait = _free_at(books, counted, used + needed - limit.amount) - now
    elif used + needed > most and resets_at is not None:
        wait = resets_at - now
    else:
        wait, by_held = RETRY_HELD, True
        if resets_at is not None:
            wait = min(wait, resets_at - now)
    state = state_of(limit, *standing)
    return Refused(state=state, retry_after=wait, now=now, by_held=by_held)


def _free_at(books: Books, counted: Counted, excess: int) -> int:
    """The time at which ``excess`` has left a sliding window, without other requests."""
    if counted.limit.unit == "requests":
        return books.window(counted.key)[excess - 1] + counted.length
    return books.sliding(counted.key).free_at(excess, counted.length)


def longest(refusals: list[Refused]) -> Refused:
    """The refusal with the longest wait: after it, none of the other limits refuses either. A
    refusal without a wait comes first.
    """
    for refused in refusals:
        if refused.retry_after is None:
            return refused
    return max(refusals, key=lambda refused: refused.retry_after or 0)
