"""RetryOnce: one more attempt at the model, where that is safe and soon. No I/O."""

from collections.abc import Callable

from chatnest.errors import UpstreamError
from chatnest.turn import Turn

__all__ = ["RetryOnce"]


class RetryOnce:
    """At most one retry, only of failures that pass by themselves, and only before the stream
    has any text (the caller sees to that).

    A Retry-After up to ``longest`` seconds is waited for, a longer one is the client's to wait
    for. Without one it waits a random time up to ``jitter`` seconds, so that a thousand requests
    that failed together do not come back together.
    """

    def __init__(
        self,
        *,
        longest: float = 2.0,
        jitter: float = 0.5,
        rng: Callable[[], float] | None = None,
    ) -> None:
        self._longest = longest
        self._jitter = jitter
        self._random = rng or _random()

    def classify(self, turn: Turn, failure: UpstreamError, attempt: int) -> float | None:  # noqa: ARG002  # the hook's signature
        if attempt > 1 or not failure.transient:
            return None
        wait = failure.retry_after or 0.0
        if wait > self._longest:
            return None
        return wait + self._random() * self._jitter


def _random() -> Callable[[], float]:
    from random import random  # noqa: PLC0415  # importing chatnest stays quick

    return random
