"""Policies: limits, trimming, and what happens when the model fails. A file each."""

from chatnest.policies.anonymous import (
    AnonymousBudget,
    AnonymousLimit,
    NobodyAnonymous,
    check_anonymous,
)
from chatnest.policies.base import Policy
from chatnest.policies.budget import DailyBudget
from chatnest.policies.concurrency import ConcurrentStreams
from chatnest.policies.rate import RequestRate
from chatnest.policies.retry import RetryOnce
from chatnest.policies.trim import TrimHistory

__all__ = [
    "AnonymousBudget",
    "ConcurrentStreams",
    "DailyBudget",
    "NobodyAnonymous",
    "Policy",
    "RequestRate",
    "RetryOnce",
    "TrimHistory",
    "standard_policies",
]


def standard_policies(
    *, timezone: str = "UTC", anonymous_daily_token_limit: AnonymousLimit = None
) -> tuple[Policy, ...]:
    """What ChatNestApp uses when it is given no policies: rate, streams, trimming, budgets, retry.

    ``timezone`` (IANA name) says when a budget's day begins. ``anonymous_daily_token_limit`` is
    for all principals together that are addresses: a number of tokens, None for twenty times the
    ``daily_token_limit`` of the profile, ``"unlimited"`` for no such limit, and 0 to answer
    addresses with a 401. Put your own policies before or after:
    ``ChatNestApp(policies=[MyPolicy(), *standard_policies()])``. Raises ConfigurationError.
    """
    check_anonymous(anonymous_daily_token_limit)
    first: list[Policy] = [NobodyAnonymous()] if anonymous_daily_token_limit == 0 else []
    last: list[Policy] = []
    if anonymous_daily_token_limit is None or isinstance(anonymous_daily_token_limit, int):
        last = [AnonymousBudget(anonymous_daily_token_limit, timezone=timezone)]
    return (
        *first,
        RequestRate(),
        ConcurrentStreams(),
        TrimHistory(),
        DailyBudget(timezone=timezone),
        *last,
        RetryOnce(),
    )
