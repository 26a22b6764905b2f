"""Policies: who may do how much, and what happens when the model fails. A file each."""

from chatnest.policies.base import Policy
from chatnest.policies.budget import DailyBudget
from chatnest.policies.concurrency import ConcurrentStreams
from chatnest.policies.rate import RequestRate
from chatnest.policies.retry import RetryOnce
from chatnest.policies.trim import TrimHistory

__all__ = [
    "ConcurrentStreams",
    "DailyBudget",
    "Policy",
    "RequestRate",
    "RetryOnce",
    "TrimHistory",
    "standard_policies",
]


def standard_policies(*, timezone: str = "UTC") -> tuple[Policy, ...]:
    """What ChatNestApp uses when it is given no policies: rate, streams, trimming, budget, retry.

    ``timezone`` (IANA name) says when a budget's day begins. Put your own before or after:
    ``ChatNestApp(policies=[MyPolicy(), *standard_policies()])``.
    """
    return (
        RequestRate(),
        ConcurrentStreams(),
        TrimHistory(),
        DailyBudget(timezone=timezone),
        RetryOnce(),
    )
