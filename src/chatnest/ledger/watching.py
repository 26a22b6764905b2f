"""Watching: the windows that a hold watches, and the thresholds crossed when it ends. No I/O."""

from collections.abc import Iterable
from datetime import date, timedelta
from functools import lru_cache

from chatnest.ledger.books import GRANTED, Books
from chatnest.ledger.calendar import Span, span_of_window
from chatnest.ledger.limit import Limit
from chatnest.ledger.watch import EVER, Crossing, Watch

__all__ = ["look_at", "watch_of"]

_FIRST_DAY, _LAST_DAY = "0", "~"
"""Texts before and after all days."""


def watch_of(limit: Limit, now: int) -> Watch:
    """The watch of a limit with ``warn_at``, for the window that contains ``now``."""
    if limit.window == "lifetime":
        return _watch(limit, Span(0, 0, _FIRST_DAY, _LAST_DAY))
    return _watch(limit, span_of_window(limit, now))


@lru_cache(4_096)
def _watch(limit: Limit, span: Span) -> Watch:
    """Cached, since the holds of a window share it."""
    last = span.last
    if limit.window != "lifetime":
        last = (date.fromisoformat(last) - timedelta(days=1)).isoformat()
    return Watch(
        name=limit.name,
        account=limit.account,
        period=_period(limit, span),
        first=span.first,
        last=last,
        start=span.start,
        unit=limit.unit,
        amount=limit.amount,
        thresholds=limit.warn_at,
    )


def _period(limit: Limit, span: Span) -> str:
    if limit.window == "lifetime":
        return EVER
    first = date.fromisoformat(span.first) + timedelta(days=1)
    if limit.window == "week":
        return f"{first}/P7D"
    if limit.window == "month":
        return f"{first}/P1M" if limit.starts != 1 else f"{first:%Y-%m}"
    return first.isoformat()


def look_at(books: Books, watched: Iterable[Watch], now: int) -> None:
    """Store each threshold that is reached for the first time in its window."""
    for watch in watched:
        most, grants, period = watch.amount, 0, watch.period
        if watch.period == EVER:
            used, _ = books.all_sums(watch.name, watch.account)
            granted = books.counter(f"{watch.name}:{GRANTED}:{watch.account}")
            most, grants = most + granted.adjusted, granted.ends
            period = f"{EVER}#{grants}"
        else:
            place = watch.name, watch.account, watch.first, watch.last, watch.start
            used, _ = books.sums(*place)
        row = books.watched(watch.name, watch.account, watch.period)
        if row.grants != grants:
            row.grants, row.mark = grants, 0
        row.watch = watch
        for threshold in watch.thresholds:
            if threshold > row.mark and used > 0 and used * 1000 >= threshold * most:
                row.mark = threshold
                books.cross(
                    Crossing(
                        limit=watch.name,
                        account=watch.account,
                        window=period,
                        threshold=threshold,
                        unit=watch.unit,
                        used=used,
                        amount=most,
                        at=now,
                    )
                )
