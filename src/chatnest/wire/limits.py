"""The limits of a user, as the JSON of ``GET <path>/limits``. No I/O."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from chatnest.amounts import amount_text
from chatnest.ledger.base import LimitState, wall_clock
from chatnest.ledger.calendar import seconds_of
from chatnest.profiles import Profile
from chatnest.wire.ratelimit import seconds_until

__all__ = ["limits_document"]


def limits_document(
    profile: Profile,
    allowed: Sequence[str],
    states: Sequence[LimitState],
    *,
    plan: str | None = None,
    currency: str = "USD",
) -> dict[str, Any]:
    """The limits of one principal under one profile, its plan, and the profiles it may use."""
    now = wall_clock()
    return {
        **({} if plan is None else {"plan": plan}),
        "profile": profile.name,
        "profiles": list(allowed),
        "max_tokens_per_request": profile.max_tokens_per_request,
        "max_output_tokens": profile.max_output_tokens,
        "limits": [_limit(state, now, currency) for state in states],
    }


def _limit(state: LimitState, now: int, currency: str) -> dict[str, Any]:
    limit, at = state.limit, state.resets_at
    return {
        "name": limit.name,
        "unit": limit.unit,
        **({"currency": currency} if limit.unit == "money" else {}),
        "limit": _quantity(limit.unit, limit.amount + state.granted),
        "used": _quantity(limit.unit, state.used),
        "held": _quantity(limit.unit, state.held),
        "remaining": _quantity(limit.unit, state.remaining),
        "window": seconds_of(limit),
        "resets_at": None if at is None else _timestamp(at),
        "reset_after": None if at is None else seconds_until(at, now),
    }


def _quantity(unit: str, amount: int) -> int | str:
    """A number, or for money its amount as text, so that no reader loses digits."""
    return amount_text(amount) if unit == "money" else amount


def _timestamp(at: int) -> str:
    """The time in the form of RFC 3339, in UTC, to the second."""
    return datetime.fromtimestamp(at // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
