"""RequestRate: a limit of requests per minute. No I/O."""

from collections.abc import Iterable
from functools import lru_cache

from chatnest._util.arguments import check_integer
from chatnest.ledger.base import Limit
from chatnest.turn import Turn

__all__ = ["RequestRate"]


class RequestRate:
    """At most ``requests_per_minute`` of the profile in any ``window`` seconds. The window slides,
    so a client cannot send twice the limit around the boundary of two fixed windows. Raises
    ConfigurationError unless ``window`` is an integer >= 1.
    """

    def __init__(self, *, window: int = 60) -> None:
        check_integer("window", window, 1)
        self.limit_names: tuple[str, ...] = ("requests",)
        self._window = window

    def limits(self, turn: Turn) -> Iterable[Limit]:
        return _limits(turn.principal, turn.profile.requests_per_minute, self._window)


@lru_cache(1_024)
def _limits(account: str, limit: int, window: int) -> tuple[Limit]:
    return (Limit(name="requests", unit="requests", account=account, amount=limit, window=window),)
