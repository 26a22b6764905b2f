"""Threads: runs work that would block the event loop, on one thread for each core."""

import os
from collections.abc import Callable
from typing import Final, TypeVar, TypeVarTuple

from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar

__all__ = ["in_thread"]

_T = TypeVar("_T")
_Args = TypeVarTuple("_Args")

# Separate from anyio's default limiter: this work keeps a core busy, and must not take the threads
# that wait for files and databases.
_limiters: Final = RunVar[CapacityLimiter]("chatnest._util.threads.limiter")


async def in_thread(work: Callable[[*_Args], _T], *args: *_Args) -> _T:
    """The result of ``work``. A cancellation does not stop the thread, so work has no effects."""
    limiter = _limiters.get(None)
    if limiter is None:
        limiter = CapacityLimiter(os.cpu_count() or 1)
        _limiters.set(limiter)
    return await to_thread.run_sync(work, *args, abandon_on_cancel=True, limiter=limiter)
