"""Effort: how often a worker counts large requests of somebody's that come to nothing. No I/O."""

import math
from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from chatnest.ledger.base import Limit, LimitState, Refused

__all__ = ["Effort"]

_MOST: Final = 10_000


class Effort:
    """Large requests under each rate, in this worker: as many as the rate allows at once, and one
    more as often as it allows them on average. Those that are admitted the ledger counts; the
    others, which it refuses or which are too large for it, would keep a core busy for nothing, as
    often as somebody likes.

    Of each rate one time is kept: when all effort is forgiven (the virtual scheduling of the
    generic cell rate algorithm, ITU-T I.371). Times are the ledger's, in milliseconds. Beyond
    10,000 limits the oldest is forgotten.
    """

    def __init__(self) -> None:
        self._forgiven: OrderedDict[Limit, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._forgiven)

    def begin(self, limits: Iterable[Limit], now: int) -> Refused | None:
        """Note one more under all of these rates, or give the first that has had too many."""
        taken = {}
        for limit in limits:
            if limit.kind == "rate" and limit.limit > 0:
                window, step = limit.window * 1000, _step(limit)
                # A clock that was set back locks nobody out for longer than a window.
                begins = min(max(self._forgiven.get(limit, now), now), now + window)
                if limit in self._forgiven:
                    self._forgiven[limit] = begins
                wait = math.ceil(begins + step - window - now)
                if wait > 0:
                    return _refused(limit, wait, now)
                taken[limit] = begins + step
        self._forgiven.update(taken)
        while len(self._forgiven) > _MOST:
            self._forgiven.popitem(last=False)
        return None

    def undo(self, limits: Iterable[Limit], now: int) -> None:
        """Forget one of them: it was admitted."""
        for limit in limits:
            if limit in self._forgiven:
                self._forgiven[limit] -= _step(limit)
                if self._forgiven[limit] <= now:
                    del self._forgiven[limit]


def _step(limit: Limit) -> float:
    return limit.window * 1000 / limit.limit


def _refused(limit: Limit, wait: int, now: int) -> Refused:
    state = LimitState(limit=limit, used=limit.limit, held=0, resets_at=now + wait)
    return Refused(state=state, retry_after=wait, now=now)
