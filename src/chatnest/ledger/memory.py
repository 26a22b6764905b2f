"""MemoryLedger: books in this process, for one worker. They are lost when it ends."""

import logging
import os
import sys
import threading
from collections.abc import Callable, Mapping

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
from chatnest.ledger.usage import Refusals, Used, check_currency
from chatnest.ledger.watch import Crossing

__all__ = ["MemoryLedger"]

_log = logging.getLogger("chatnest.ledger")


class MemoryLedger:
    """Limits that hold within one process and are forgotten when it ends.

    Each of several workers would have budgets of its own: ``chatnest serve`` refuses to start
    then, and elsewhere a warning is logged. Usable from several threads and event loops.

    ``max_keys`` bounds the memory, as `DictBooks` describes. Tokens and requests that are used or
    held in a current day or window are never dropped. ``clock`` returns milliseconds since the
    epoch.
    """

    def __init__(self, *, clock: Callable[[], int] = wall_clock, max_keys: int = 100_000) -> None:
        self._clock = clock
        self._books = DictBooks(max_keys)
        self._currency = ""
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

    async def next_crossing(self) -> Crossing | None:
        with self._lock:
            return self._books.crossings.next(self._clock())

    async def end_crossing(self, crossing: Crossing, state: str) -> None:
        with self._lock:
            self._books.crossings.end(crossing, state)

    async def own_usage(self, principal: str, since: str) -> list[Used]:
        with self._lock:
            return self._books.own_usage(principal, since)

    async def count_refusals(self, counts: Mapping[tuple[str, str], int]) -> None:
        with self._lock:
            self._books.refuse(counts)

    async def refusals(self, since: str) -> list[Refusals]:
        """The refusals by limits from the day ``since`` on, by hour and limit."""
        with self._lock:
            return self._books.refusals(since)

    async def keep_currency(self, currency: str) -> None:
        with self._lock:
            check_currency(self._currency, currency)
            self._currency = currency

    def now(self) -> int:
        """The time of this process's clock."""
        return self._clock()

    async def check(self) -> None:
        """Do nothing: memory is always available."""

    async def aclose(self) -> None:
        """Do nothing: the figures stay, for a host that starts again."""


def _warn_if_one_of_several() -> None:
    """Log a warning if this process seems to be one of several workers: a child of multiprocessing,
    or with WEB_CONCURRENCY above 1.
    """
    multiprocessing = sys.modules.get("multiprocessing.process")
    is_child = multiprocessing is not None and multiprocessing.parent_process() is not None
    workers = os.environ.get("WEB_CONCURRENCY", "1")
    if is_child or (workers.isdecimal() and int(workers) > 1):
        _log.warning(
            "MemoryLedger counts in this process only: with several workers, each of them allows "
            "every limit again. Use chatnest.ledger.sqlite.SQLiteLedger"
        )
