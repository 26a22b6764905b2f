"""Waits of the tests, which never sleep for a fixed time."""

import time
from collections.abc import Callable

__all__ = ["PATIENCE", "wait_for"]

PATIENCE = 60.0
"""Seconds for what takes milliseconds, on a machine that does much else."""


def wait_for(condition: Callable[[], object], patience: float = PATIENCE) -> float:
    """Wait until it holds. Seconds that it took."""
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < patience
        time.sleep(0.005)
    return time.monotonic() - begun
