"""Breaker: after a failure, operations fail at once until a probe succeeds. No I/O."""

import random
from collections.abc import Callable

__all__ = ["Breaker"]


class Breaker:
    """A circuit breaker. Its owner makes the probes while it is open.

    The first probe comes early, since most failures are short; the others come every ``interval``
    seconds. ``jitter`` is the share by which a pause varies, so that many processes do not probe at
    the same time.
    """

    def __init__(
        self,
        *,
        first: float = 0.05,
        interval: float = 0.5,
        jitter: float = 0.2,
        dice: Callable[[], float] = random.random,
    ) -> None:
        self.is_open: bool = False
        self._first = first
        self._interval = interval
        self._jitter = jitter
        self._dice = dice
        self._probes = 0

    def open(self) -> bool:
        """Record a failure. Returns whether this failure opened the breaker."""
        opened, self.is_open = not self.is_open, True
        if opened:
            self._probes = 0
        return opened

    def close(self) -> None:
        """Record a success."""
        self.is_open = False

    def pause(self) -> float:
        """Seconds until the next probe."""
        base = self._interval if self._probes else self._first
        self._probes += 1
        return base * (1 + self._jitter * (2 * self._dice() - 1))
