"""Policies: limits, trimming and retries, in a file each."""

from collections.abc import Sequence

from chatnest.policies.anonymous import (
    AnonymousBudget,
    AnonymousLimit,
    NobodyAnonymous,
    check_anonymous,
)
from chatnest.policies.base import Policy
from chatnest.policies.budget import DailyBudget
from chatnest.policies.concurrency import ConcurrentStreams
from chatnest.policies.limits import LimitRule, LimitRules
from chatnest.policies.rate import RequestRate
from chatnest.policies.retry import RetryOnce
from chatnest.policies.trim import TrimHistory

__all__ = [
    "AnonymousBudget",
    "ConcurrentStreams",
    "DailyBudget",
    "LimitRule",
    "LimitRules",
    "NobodyAnonymous",
    "Policy",
    "RequestRate",
    "RetryOnce",
    "TrimHistory",
    "standard_policies",
]


def standard_policies(
    *,
    timezone: str = "UTC",
    anonymous_daily_token_limit: AnonymousLimit = None,
    limits: Sequence[LimitRule] = (),
) -> tuple[Policy, ...]:
    """The default policies of ChatNestApp: rate, streams, trimming, budgets and retry.

    A budget's day begins at midnight in ``timezone`` (IANA name). ``anonymous_daily_token_limit``
    applies to all anonymous principals (addresses) together: a number of tokens, None for twenty
    times the ``daily_token_limit`` of the profile, ``"unlimited"`` for no limit, and 0 to answer
    them with a 401. ``limits`` are more limits, such as money of a month for a team. Put your own
    policies before or after: ``ChatNestApp(policies=[MyPolicy(), *standard_policies()])``. Raises
    ConfigurationError.
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
        *([LimitRules(limits)] if limits else []),
        RetryOnce(),
    )
