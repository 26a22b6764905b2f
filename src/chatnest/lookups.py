"""LookUps: a rate limit for GET and DELETE requests, by principal and worker. No I/O."""

from collections.abc import Callable
from time import monotonic
from typing import Final

from chatnest.errors import LimitExceeded

__all__ = ["LookUps"]

_MINUTE: Final = 60.0
_MOST: Final = 10_000
"""Maximum principals in the table."""


class LookUps:
    """Allows ``per_minute`` GET and DELETE requests of a principal per minute (GCRA).

    For each principal we store one time, at which its bucket is empty again. An entry whose time
    has passed has no effect, so a full table drops such entries first. Then it drops the earliest
    times: a flood of new addresses cannot push out a principal that asks too often.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = monotonic) -> None:
        self._per_minute = per_minute
        self._interval = _MINUTE / per_minute
        self._clock = clock
        self._empty_at: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._empty_at)

    def count(self, principal: str) -> None:
        """Count one request. Raises LimitExceeded, and then counts nothing."""
        now = self._clock()
        empty_at = max(self._empty_at.get(principal, now), now) + self._interval
        if empty_at - now > _MINUTE + self._interval / 2:
            raise LimitExceeded(
                "look_ups",
                unit="look-ups",
                window=int(_MINUTE),
                wait=empty_at - now - _MINUTE,
                amount=self._per_minute,
            )
        self._empty_at[principal] = empty_at
        if len(self._empty_at) > _MOST:
            self._make_room(now)

    def _make_room(self, now: float) -> None:
        """Drop at least a quarter of the entries, so that the next time is far off."""
        later = sorted(at for at in self._empty_at.values() if at > now)
        most = _MOST * 3 // 4
        keep_from = later[-most] if len(later) > most else now
        self._empty_at = {name: at for name, at in self._empty_at.items() if at > keep_from}
