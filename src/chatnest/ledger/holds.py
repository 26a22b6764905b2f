"""Holds: live and ended holds of books in memory, and the ends of their leases. No I/O."""

import heapq
from collections import OrderedDict
from typing import Final

from chatnest.ledger.books import HoldRecord, HoldState

__all__ = ["Holds"]

_NEVER: Final = 2**62
_REMEMBERED: Final = 3_600_000
"""Milliseconds for which an ended hold is known, so that ending it again does nothing."""


class Holds:
    """Hold records by id. Not thread-safe.

    An ended hold is known for an hour. At most ``most`` ended holds are known: settled and released
    holds are dropped first, since only a repetition needs them, then expired holds, which a late
    settlement still corrects; both oldest first. Live holds are never dropped and not bounded.
    """

    def __init__(self, most: int) -> None:
        self._most_ended = most
        self._records: dict[str, HoldRecord] = {}
        self._leases: list[tuple[int, str]] = []
        self._looks: dict[str, int] = {}  # when each live hold is examined next
        self._given: list[HoldRecord] = []  # holds that the last operation may have ended
        self._done: OrderedDict[str, HoldRecord] = OrderedDict()
        self._expired: OrderedDict[str, HoldRecord] = OrderedDict()
        self._forget_at = 0  # when the oldest ended hold is dropped, or earlier

    def hold(self, hold_id: str) -> HoldRecord | None:
        record = self._records.get(hold_id)
        if record is not None:
            self._given.append(record)
        return record

    def add(self, record: HoldRecord) -> None:
        hold_id = record.hold.id
        self._records[hold_id] = record
        self._given.append(record)
        if hold_id not in self._looks or record.until < self._looks[hold_id]:
            self._look(hold_id, record.until)

    def due(self, now: int) -> list[HoldRecord]:
        self._file_what_ended()
        if now >= self._forget_at or len(self._done) + len(self._expired) > self._most_ended:
            self._forget(now)
        due = []
        while self._leases and self._leases[0][0] <= now:
            at, hold_id = heapq.heappop(self._leases)
            if self._looks.get(hold_id) != at:
                continue  # the hold has ended, or its lease was shortened since
            record = self._records[hold_id]
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
        if len(self._leases) > 2 * len(self._looks) + 100:  # most belong to holds that have ended
            self._leases = [(at, hold_id) for hold_id, at in self._looks.items()]
            heapq.heapify(self._leases)

    def _file_what_ended(self) -> None:
        given, self._given = self._given, []
        for record in given:
            hold_id = record.hold.id
            if record.state is HoldState.RESERVED or self._records.get(hold_id) is not record:
                continue
            self._looks.pop(hold_id, None)
            if record.state is HoldState.EXPIRED:
                self._expired.setdefault(hold_id, record)
            else:
                if self._expired.pop(hold_id, None) is not None:
                    self._forget_at = 0
                self._done.setdefault(hold_id, record)
            self._forget_at = min(self._forget_at, record.until + _REMEMBERED)

    def _forget(self, now: int) -> None:
        """Drop ended holds after their time, and ended holds beyond the bound, in the order of
        their ends. A clock that is set back may disturb that order, but never exceeds the bound.
        """
        for ended in (self._done, self._expired):
            while ended and next(iter(ended.values())).until + _REMEMBERED <= now:
                self._records.pop(ended.popitem(last=False)[0], None)
        while len(self._done) + len(self._expired) > self._most_ended:
            self._records.pop((self._done or self._expired).popitem(last=False)[0], None)
        first = [next(iter(ended.values())) for ended in (self._done, self._expired) if ended]
        self._forget_at = min([record.until + _REMEMBERED for record in first], default=_NEVER)
