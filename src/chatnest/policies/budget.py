"""DailyBudget: a limit of tokens per day. No I/O."""

from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from chatnest.ledger.base import Limit
from chatnest.ledger.limit import MOST
from chatnest.policies.zone import check_zone
from chatnest.turn import Turn

__all__ = ["DailyBudget"]

_NAME: Final = "tokens"


class DailyBudget:
    """At most ``daily_token_limit`` of the profile in a calendar day of ``timezone`` (IANA name).

    The worst case is reserved before the model is called, and replaced by the real cost afterwards.
    Raises ConfigurationError for an unknown time zone.
    """

    def __init__(self, *, timezone: str = "UTC") -> None:
        check_zone(timezone)
        self._timezone = timezone
        self.limit_names: tuple[str, ...] = (_NAME,)
        self.zones: dict[str, str] = {_NAME: timezone}

    def limits(self, turn: Turn) -> Iterable[Limit]:
        return _limits(turn.principal, min(turn.daily_token_limit, MOST), self._timezone)


@lru_cache(1_024)
def _limits(account: str, limit: int, timezone: str) -> tuple[Limit]:
    return (
        Limit(
            name=_NAME,
            unit="tokens",
            window="day",
            account=account,
            amount=limit,
            timezone=timezone,
        ),
    )
