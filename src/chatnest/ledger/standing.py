"""Standing: how much of a limit is used and held, and how long a request has to wait. No I/O."""

from typing import Final

from chatnest.ledger.base import LimitState, Refused
from chatnest.ledger.books import GRANTED, Books, counter_key
from chatnest.ledger.calendar import span_of_window
from chatnest.ledger.limit import Limit

__all__ = ["RETRY_HELD", "longest", "refusal_of", "state_of"]

RETRY_HELD: Final = 5_000
"""Milliseconds to wait for a running answer to end: an estimate, since its end is not known."""


def state_of(books: Books, limit: Limit, now: int) -> LimitState:
    """The state of a limit at ``now``."""
    used = held = granted = 0
    resets_at = None
    window = limit.window
    if isinstance(window, int):
        key = counter_key(limit, now)
        if limit.unit == "requests":
            times = books.window(key)
            times.slide(window * 1000, now)
            used = len(times)
            resets_at = times[0] + window * 1000 if used else None
        else:
            sliding = books.sliding(key)
            sliding.slide(window * 1000, now)
            used, resets_at = sliding.weight, sliding.resets_at(window * 1000)
    elif window is None:
        held = books.counter(counter_key(limit, now)).held
    elif window == "lifetime":
        used, held = books.all_sums(limit.name, limit.account)
        granted = books.counter(f"{limit.name}:{GRANTED}:{limit.account}").adjusted
    else:
        span = span_of_window(limit, now)
        used, held = books.sums(limit.name, limit.account, span.first, span.last, span.start)
        resets_at = span.end
    return LimitState(
        limit=limit, used=max(0, used), held=held, resets_at=resets_at, granted=granted
    )


def refusal_of(books: Books, state: LimitState, needed: int, now: int) -> Refused:
    """The refusal by a limit under which ``needed`` does not fit."""
    limit = state.limit
    most = limit.amount + state.granted
    wait: int | None
    by_held = False
    if needed > most or (limit.window == "lifetime" and state.used + needed > most):
        wait = None
    elif isinstance(limit.window, int):
        wait = _free_at(books, state, needed, now) - now
    elif state.used + needed > most and state.resets_at is not None:
        wait = state.resets_at - now
    else:
        wait, by_held = RETRY_HELD, True
        if state.resets_at is not None:
            wait = min(wait, state.resets_at - now)
    return Refused(state=state, retry_after=wait, now=now, by_held=by_held)


def _free_at(books: Books, state: LimitState, needed: int, now: int) -> int:
    """The time at which a sliding window has room for an amount, without other requests."""
    limit = state.limit
    key = counter_key(limit, now)
    if limit.unit == "requests":
        times = books.window(key)
        return times[len(times) - limit.amount] + limit.length
    return books.sliding(key).free_at(state.used + needed - limit.amount, limit.length)


def longest(refusals: list[Refused]) -> Refused:
    """The refusal with the longest wait: after it, none of the other limits refuses either. A
    refusal without a wait comes first.
    """
    for refused in refusals:
        if refused.retry_after is None:
            return refused
    return max(refusals, key=lambda refused: refused.retry_after or 0)
