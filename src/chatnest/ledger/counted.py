"""Counted: where limits are counted at a time, worked out once a day and not at each request. No
I/O.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from chatnest.ledger.books import check_scale, counter_key, scale_of
from chatnest.ledger.calendar import Span, span_of_window
from chatnest.ledger.days import day_end
from chatnest.ledger.limit import Limit
from chatnest.ledger.watch import Watch
from chatnest.ledger.watching import watch_of

__all__ = ["Counted", "CountedLimits", "counted_at"]

_MOST_KEPT: Final = 4_096
"""Maximum tuples of limits whose places are kept for their next request."""

_ALWAYS: Final = 2**62


class Counted(msgspec.Struct, frozen=True, gc=False):
    """A limit, and where it is counted until ``until``.

    ``key`` is that of its counter or window. ``length`` is that of a sliding window in
    milliseconds, or 0. A limit of the calendar has a ``scale``, and ``ends`` is the end of its day.
    ``span`` is its window, and ``watch`` what a hold keeps of it.
    """

    limit: Limit
    key: str
    is_enforced: bool
    length: int = 0
    until: int = _ALWAYS
    scale: str = ""
    ends: int = 0
    span: Span | None = None
    watch: Watch | None = None


class CountedLimits(msgspec.Struct, frozen=True, gc=False):
    """Some limits in their order, from ``since`` until ``until``, the scales of their names, and
    the names with a lifetime.
    """

    limits: tuple[Counted, ...]
    since: int
    until: int
    scales: Mapping[str, str]
    lifetimes: tuple[str, ...]


_known: Final[dict[tuple[Limit, ...], CountedLimits]] = {}


def counted_at(limits: tuple[Limit, ...], now: int) -> CountedLimits:
    """Where limits are counted at ``now``. Raises ZoneConflict or UnitConflict if two of one name
    have another time zone or unit.
    """
    known = _known.get(limits)
    if known is None or not known.since <= now < known.until:
        known = _work_out(limits, now)
        if len(_known) >= _MOST_KEPT:
            _known.clear()
        _known[limits] = known
    return known


def _work_out(limits: tuple[Limit, ...], now: int) -> CountedLimits:
    scales: dict[str, str] = {}
    found = tuple([_counted(limit, now) for limit in limits])
    for each in found:
        if each.scale:
            name = each.limit.name
            check_scale(name, scales.setdefault(name, each.scale), each.scale)
    until = min([_ALWAYS, *[each.until for each in found]])
    lifetimes = tuple([limit.name for limit in limits if limit.window == "lifetime"])
    return CountedLimits(found, now if until < _ALWAYS else 0, until, scales, lifetimes)


def _counted(limit: Limit, now: int) -> Counted:
    key, is_enforced = counter_key(limit, now), limit.mode == "enforce"
    if not isinstance(limit.window, str):
        return Counted(limit, key, is_enforced, limit.length)
    ends = day_end(now, limit.timezone)
    return Counted(
        limit,
        key,
        is_enforced,
        until=ends,
        scale=scale_of(limit),
        ends=ends,
        span=None if limit.window == "lifetime" else span_of_window(limit, now),
        watch=watch_of(limit, now) if limit.warn_at else None,
    )
