"""RateLimit header fields: the state of each limit, for clients that read them. No I/O.

draft-ietf-httpapi-ratelimit-headers-10: ``RateLimit-Policy`` has the quota (q) and window (w) of
each limit. ``RateLimit`` has the remaining quota (r), and the seconds until some of the used quota
is available again (t). The draft is not final, so only this file knows its syntax.
"""

from collections.abc import Iterable

from chatnest.ledger.base import LimitState
from chatnest.ledger.calendar import seconds_of

__all__ = ["rate_limit_fields", "seconds_until"]


def seconds_until(at: int, now: int) -> int:
    """Whole seconds from ``now`` to ``at`` (both in milliseconds), rounded up, at least 1."""
    return max(1, -(-(at - now) // 1000))


def rate_limit_fields(states: Iterable[LimitState], now: int) -> dict[str, str]:
    """The two fields. Numbers are integers. A limit without a window has neither w nor t. Hidden
    limits and shadow limits are left out, and so are limits of money, for which the draft has no
    unit.
    """
    policies, remaining = [], []
    for state in states:
        limit = state.limit
        if limit.hidden or limit.mode == "shadow" or limit.unit == "money":
            continue
        seconds = limit.window if isinstance(limit.window, int) else seconds_of(limit)
        window = "" if seconds is None else f";w={seconds}"
        reset = "" if state.resets_at is None else f";t={seconds_until(state.resets_at, now)}"
        policies.append(f'"{limit.name}";q={limit.amount}{window}')
        remaining.append(f'"{limit.name}";r={state.remaining}{reset}')
    if not policies:
        return {}
    return {"RateLimit-Policy": ", ".join(policies), "RateLimit": ", ".join(remaining)}
