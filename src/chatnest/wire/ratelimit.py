"""RateLimit header fields: how limits stand, for clients that read them. No I/O.

draft-ietf-httpapi-ratelimit-headers-10: ``RateLimit-Policy`` names quota (q) and window (w) of
each limit, ``RateLimit`` what remains (r) and in how many seconds some of it comes back (t). The
draft is not final, so its syntax lives in this file alone.
"""

from collections.abc import Iterable

from chatnest.ledger.base import LimitState

__all__ = ["rate_limit_fields", "seconds_until"]


def seconds_until(at: int, now: int) -> int:
    """Whole seconds from ``now`` to ``at`` (both in milliseconds), rounded up, at least 1."""
    return max(1, -(-(at - now) // 1000))


def rate_limit_fields(states: Iterable[LimitState], now: int) -> dict[str, str]:
    """The two fields; numbers are integers, a limit without a window has no w and no t. A hidden
    limit is in neither of them.
    """
    policies, remaining = [], []
    for state in states:
        limit = state.limit
        if limit.hidden:
            continue
        window = "" if limit.kind == "concurrency" else f";w={limit.window}"
        reset = "" if state.resets_at is None else f";t={seconds_until(state.resets_at, now)}"
        policies.append(f'"{limit.name}";q={limit.limit}{window}')
        remaining.append(f'"{limit.name}";r={state.remaining}{reset}')
    if not policies:
        return {}
    return {"RateLimit-Policy": ", ".join(policies), "RateLimit": ", ".join(remaining)}
