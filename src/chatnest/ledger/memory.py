"""MemoryLedger: books in this process, for one worker, lost with it."""

import logging
import os
import sys
import threading
from collections.abc import Callable

from chatnest.ledger.base import (
    Admitted,
    Charge,
    Hold,
    Limit,
    LimitState,
    Refused,
    Reservation,
    Settlement,
    wall_clock,
)
from chatnest.ledger.dictbooks import DictBooks

__all__ = ["MemoryLedger"]

_log = logging.getLogger("chatnest.ledger")


class MemoryLedger:
    """Limits that hold within one process and are forgotten when it ends.

    With more than one worker each would have a budget of its own: ``chatnest serve`` refuses
    that, and elsewhere it is warned of in the log. Usable from several threads and event loops.

    ``max_keys`` bounds the memory, as `DictBooks` describes: nothing that is spent or held in a
    running day or window is dropped for it. ``clock`` gives milliseconds since the epoch.
    """

    def __init__(self, *, clock: Callable[[], int] = wall_clock, max_keys: int = 100_000) -> None:
        self._clock = clock
        self._books = DictBooks(max_keys)
        self._lock = threading.Lock()  # for threads; there is no await inside it
        _warn_if_one_of_several()

    def __repr__(self) -> str:
        return f"MemoryLedger({len(self._books)} keys)"

    async def reserve(self, reservation: Reservation) -> Admitted | Refused:
        with self._lock:
            return self._books.reserve(reservation, self._clock())

    async def renew(self, hold: Hold, lease: int) -> None:
        with self._lock:
            self._books.renew(hold, lease, self._clock())

    async def settle(self, hold: Hold, charge: Charge) -> Settlement:
        with self._lock:
            return self._books.settle(hold, charge, self._clock())

    async def release(self, reservation: Reservation) -> None:
        with self._lock:
            self._books.release(reservation, self._clock())

    async def usage(self, limits: tuple[Limit, ...]) -> tuple[LimitState, ...]:
        with self._lock:
            return self._books.usage(limits, self._clock())

    def now(self) -> int:
        """By this process's clock."""
        return self._clock()

    async def check(self) -> None:
        """Memory is always there."""

    async def aclose(self) -> None:
        """Nothing to let go of; the figures stay, for a host that starts again."""


def _warn_if_one_of_several() -> None:
    """Servers start workers with multiprocessing, or say how many there are."""
    multiprocessing = sys.modules.get("multiprocessing.process")
    is_child = multiprocessing is not None and multiprocessing.parent_process() is not None
    workers = os.environ.get("WEB_CONCURRENCY", "1")
    if is_child or (workers.isdecimal() and int(workers) > 1):
        _log.warning(
            "MemoryLedger counts in this process alone: if it is one of several workers, each "
            "allows every limit once more; use chatnest.ledger.sqlite.SQLiteLedger"
        )
