"""Throttle: how often a worker counts large requests that are refused afterwards. No I/O."""

import math
from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from chatnest.ledger.base import Limit, LimitState, Refused

__all__ = ["Throttle"]

_MOST: Final = 10_000
"""Maximum limits in the table."""


class Throttle:
    """Limits large requests that are then refused. Counting their tokens keeps a core busy, but the
    ledger counts only admitted requests, so a client could repeat them without limit. Each worker
    allows as many of them as the request rate allows requests.

    For each rate we store one timestamp, at which its bucket is empty again (GCRA, the virtual
    scheduling of ITU-T I.371). Times are the ledger's, in milliseconds. Beyond 10,000 limits the
    oldest entry is dropped.
    """

    def __init__(self) -> None:
        self._empty_at: OrderedDict[Limit, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._empty_at)

    def begin(self, limits: Iterable[Limit], now: int) -> Refused | None:
        """Count one request under all request rates among ``limits``. If one of them is full, count
        nothing, and return its refusal.
        """
        taken = {}
        for limit in limits:
            if limit.kind == "rate" and limit.unit == "requests" and limit.amount > 0:
                window, step = limit.length, _step(limit)
                # If the clock was set back, a client waits at most one window.
                begins = min(max(self._empty_at.get(limit, now), now), now + window)
                if limit in self._empty_at:
                    self._empty_at[limit] = begins
                wait = math.ceil(begins + step - window - now)
                if wait > 0:
                    return _refused(limit, wait, now)
                taken[limit] = begins + step
        self._empty_at.update(taken)
        while len(self._empty_at) > _MOST:
            self._empty_at.popitem(last=False)
        return None

    def undo(self, limits: Iterable[Limit], now: int) -> None:
        """Do not count a request that was admitted after all."""
        for limit in limits:
            if limit in self._empty_at:
                self._empty_at[limit] -= _step(limit)
                if self._empty_at[limit] <= now:
                    del self._empty_at[limit]


def _step(limit: Limit) -> float:
    return limit.length / limit.amount


def _refused(limit: Limit, wait: int, now: int) -> Refused:
    state = LimitState(limit=limit, used=limit.amount, held=0, resets_at=now + wait)
    return Refused(state=state, retry_after=wait, now=now)
