"""ConcurrentStreams: a limit of answers at the same time. No I/O."""

from collections.abc import Iterable
from functools import lru_cache

from chatnest.ledger.base import Limit
from chatnest.turn import Turn

__all__ = ["ConcurrentStreams"]


class ConcurrentStreams:
    """At most ``max_concurrent_streams`` of the profile for one principal. The reservation in the
    ledger is the slot, so the slot of a worker that died is free when the lease ends.
    """

    limit_names: tuple[str, ...] = ("streams",)

    def limits(self, turn: Turn) -> Iterable[Limit]:
        return _limits(turn.principal, turn.profile.max_concurrent_streams)


@lru_cache(1_024)
def _limits(account: str, limit: int) -> tuple[Limit]:
    return (Limit(name="streams", unit="streams", account=account, amount=limit),)
