"""RetryOnce: one more call to the model after a transient failure. No I/O."""

from collections.abc import Callable

from chatnest.errors import UpstreamError
from chatnest.turn import Turn

__all__ = ["RetryOnce"]


class RetryOnce:
    """At most one retry, only of transient failures, and only before any text has arrived (the
    caller ensures that).

    It waits for the upstream's Retry-After, up to ``longest`` seconds; a longer one is left to the
    client. A random time up to ``jitter`` seconds is added, so that requests that failed together
    are not repeated together.
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
