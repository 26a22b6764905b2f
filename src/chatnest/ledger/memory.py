"""MemoryLedger: books in this process, for one worker, lost with it."""

import heapq
import logging
import os
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable
from itertools import islice
from typing import Final

from chatnest.ledger import model
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
from chatnest.ledger.model import Counter, HoldRecord, HoldState
from chatnest.ledger.window import ListWindow

__all__ = ["DictBooks", "MemoryLedger"]

_log = logging.getLogger("chatnest.ledger")

_REMEMBERED: Final = 3_600_000
"""Milliseconds for which an ended hold is known, so that a repetition of its end does nothing."""


class MemoryLedger:
    """Limits that hold within one process and are forgotten when it ends.

    With more than one worker each would have a budget of its own: ``chatnest serve`` refuses
    that, and elsewhere it is warned of in the log. Usable from several threads and event loops.

    ``max_keys`` bounds the memory: beyond it, the counters that were not used for longest are
    forgotten, except those with a live hold. ``clock`` gives milliseconds since the epoch.
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
            self._books.prune()
            return model.reserve(self._books, reservation, self._clock())

    async def renew(self, hold: Hold, lease: int) -> None:
        with self._lock:
            model.renew(self._books, hold.id, lease, self._clock())

    async def settle(self, hold: Hold, charge: Charge) -> Settlement:
        with self._lock:
            return model.settle(self._books, hold, charge, self._clock())

    async def release(self, reservation: Reservation) -> None:
        with self._lock:
            model.release(self._books, reservation, self._clock())

    async def usage(self, limits: tuple[Limit, ...]) -> tuple[LimitState, ...]:
        with self._lock:
            self._books.prune()
            return model.usage(self._books, limits, self._clock())

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


class DictBooks:
    """Books in dictionaries. Not thread-safe.

    Keys beyond ``max_keys`` are forgotten, the least recently used first, except those that a live
    hold weighs on. An ended hold is known for an hour, and of these ``max_keys`` at most: the
    settled and released leave first, since only a repetition would ask for them, then those that
    expired, which a late settlement still corrects; of each kind the oldest first. A live hold is
    never dropped, so there may be more of them.
    """

    def __init__(self, max_keys: int = 100_000) -> None:
        self._max_keys = max_keys
        self._counters: OrderedDict[str, Counter] = OrderedDict()
        self._windows: OrderedDict[str, ListWindow] = OrderedDict()
        self._holds: dict[str, HoldRecord] = {}
        self._leases: list[tuple[int, str]] = []
        self._looks: dict[str, int] = {}  # when each live hold is looked at next
        self._given: list[HoldRecord] = []  # those that the operation before may have ended
        self._done: OrderedDict[str, HoldRecord] = OrderedDict()
        self._expired: OrderedDict[str, HoldRecord] = OrderedDict()

    def __len__(self) -> int:
        return len(self._counters) + len(self._windows)

    def counter(self, key: str) -> Counter:
        counter = self._counters.setdefault(key, Counter())
        self._counters.move_to_end(key)
        return counter

    def window(self, key: str) -> ListWindow:
        window = self._windows.setdefault(key, ListWindow())
        self._windows.move_to_end(key)
        return window

    def hold(self, hold_id: str) -> HoldRecord | None:
        record = self._holds.get(hold_id)
        if record is not None:
            self._given.append(record)
        return record

    def add(self, record: HoldRecord) -> None:
        hold_id = record.hold.id
        self._holds[hold_id] = record
        self._given.append(record)
        if hold_id not in self._looks or record.until < self._looks[hold_id]:
            self._look(hold_id, record.until)

    def due(self, now: int) -> list[HoldRecord]:
        self._file_what_ended()
        self._forget(now)
        due = []
        while self._leases and self._leases[0][0] <= now:
            at, hold_id = heapq.heappop(self._leases)
            if self._looks.get(hold_id) != at:
                continue  # it has ended, or its lease was shortened since
            record = self._holds[hold_id]
            if record.until > now:  # renewed since
                self._look(hold_id, record.until)
            else:
                del self._looks[hold_id]
                due.append(record)
        self._given.extend(due)
        return due

    def _look(self, hold_id: str, at: int) -> None:
        self._looks[hold_id] = at
        heapq.heappush(self._leases, (at, hold_id))
        if len(self._leases) > 2 * len(self._looks) + 100:  # most are of holds that have ended
            self._leases = [(at, hold_id) for hold_id, at in self._looks.items()]
            heapq.heapify(self._leases)

    def _file_what_ended(self) -> None:
        given, self._given = self._given, []
        for record in given:
            hold_id = record.hold.id
            if record.state is HoldState.RESERVED or self._holds.get(hold_id) is not record:
                continue
            self._looks.pop(hold_id, None)
            if record.state is HoldState.EXPIRED:
                self._expired.setdefault(hold_id, record)
            else:
                self._expired.pop(hold_id, None)
                self._done.setdefault(hold_id, record)

    def _forget(self, now: int) -> None:
        """Ended holds whose time is over, and those beyond the bound.

        In the order of their ends, which a clock that was set back does not disturb for long: the
        bound holds whatever it does.
        """
        for ended in (self._done, self._expired):
            while ended and next(iter(ended.values())).until + _REMEMBERED <= now:
                self._holds.pop(ended.popitem(last=False)[0], None)
        while len(self._done) + len(self._expired) > self._max_keys:
            self._holds.pop((self._done or self._expired).popitem(last=False)[0], None)

    def prune(self) -> None:
        """Keep within the bound, oldest use first; what a live hold weighs on stays."""
        for key in list(islice(self._windows, 2)):
            if not self._windows[key]:
                del self._windows[key]
        while len(self._windows) > self._max_keys:
            self._windows.popitem(last=False)
        spared = 0
        while len(self._counters) - spared > self._max_keys:
            key, counter = self._counters.popitem(last=False)
            if counter.held:
                self._counters[key] = counter
                spared += 1
