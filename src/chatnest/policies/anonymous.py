"""AnonymousBudget and NobodyAnonymous: limits of all addresses together. No I/O."""

from collections.abc import Iterable
from functools import lru_cache
from typing import Final, Literal

from chatnest._util.arguments import check_integer
from chatnest.errors import ConfigurationError, Unauthenticated
from chatnest.identity.principals import everybody_like, is_anonymous
from chatnest.ledger.base import Limit
from chatnest.ledger.limit import MOST
from chatnest.policies.zone import check_zone
from chatnest.turn import Turn

__all__ = ["AnonymousBudget", "AnonymousLimit", "NobodyAnonymous", "check_anonymous"]

AnonymousLimit = int | Literal["unlimited"] | None
"""Tokens a day; None is twenty times the ``daily_token_limit`` of the profile."""

_NAME: Final = "anonymous-tokens"

_FULL_DAYS: Final = 20
"""Visitors that may use their whole daily limit before all addresses are refused."""


def check_anonymous(limit: object) -> None:
    """Raise ConfigurationError unless ``limit`` is an integer >= 0, "unlimited" or None."""
    if limit is None or limit == "unlimited":
        return
    if isinstance(limit, str):
        raise ConfigurationError(
            f'anonymous_daily_token_limit: expected an integer >= 0 or "unlimited", got {limit!r}.'
        )
    check_integer("anonymous_daily_token_limit", limit, 0)


class AnonymousBudget:
    """At most ``limit`` tokens per calendar day of ``timezone`` for all addresses together. None is
    twenty times the daily limit of the request's profile. Clients do not see the figures, and a
    warning is logged once four fifths are used.

    Raises ConfigurationError for an unknown time zone.
    """

    def __init__(self, limit: int | None = None, *, timezone: str = "UTC") -> None:
        check_anonymous(limit)
        check_zone(timezone)
        self._limit = limit
        self._timezone = timezone
        self.limit_names: tuple[str, ...] = (_NAME,)
        self.zones: dict[str, str] = {_NAME: timezone}

    def limits(self, turn: Turn) -> Iterable[Limit]:
        limit = turn.profile.daily_token_limit * _FULL_DAYS if self._limit is None else self._limit
        return _limits(turn.principal, min(limit, MOST), self._timezone)


@lru_cache(1_024)
def _limits(principal: str, limit: int, timezone: str) -> tuple[Limit, ...]:
    if not is_anonymous(principal):
        return ()
    account = everybody_like(principal)
    return (
        Limit(
            name=_NAME,
            unit="tokens",
            window="day",
            account=account,
            amount=limit,
            timezone=timezone,
            hidden=True,
        ),
    )


class NobodyAnonymous:
    """Answers anonymous principals (addresses) with a 401."""

    async def prepare(self, turn: Turn) -> None:
        if is_anonymous(turn.principal):
            raise Unauthenticated
