"""MemoryRunLog: runs in this process, for one worker."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from typing import Final

import msgspec

from chatnest.runs.base import (
    REFUSED,
    REFUSED_SECONDS,
    Batch,
    Claim,
    Page,
    RunEnd,
    RunSettings,
    Signals,
)
from chatnest.runs.entries import join_batches

__all__ = ["MemoryRunLog"]

_MOST_BYTES: Final = 64 << 20
"""Maximum bytes of all ended runs, overhead included. The oldest are removed first."""

_RUN_BYTES: Final = 850
"""Bytes of a run without its batches: its objects, its ids, its entries in three tables."""

_BATCH_BYTES: Final = 150
"""Bytes of a batch beside its data."""

_MOST_NOTES: Final = 100_000
"""Maximum notes. The oldest are removed first."""

_JOINED_BYTES: Final = 32_768
"""Maximum bytes of joined batches. Most of a short batch is overhead."""

_JOINED_AT_ONCE: Final = 64
"""Number of batches of a running run that are joined at once."""


class _Kept(msgspec.Struct):
    owner: str
    fingerprint: str
    key: str | None
    lives_until: float
    batches: list[Batch] = msgspec.field(default_factory=list)
    size: int = 0
    dropped: int = 0
    last: int = 0
    end: RunEnd | None = None
    ended_at: float = 0.0
    cancelled: bool = False
    read: bool = False
    joined: bool = False

    @property
    def taken(self) -> int:
        """The approximate bytes of the run in memory."""
        return _RUN_BYTES + len(self.owner) + len(self.batches) * _BATCH_BYTES + self.size

    def add(self, batch: Batch, max_bytes: int) -> None:
        if batch.first <= self.last:
            return
        if batch.first > self.last + 1:
            self.batches.clear()
            self.size, self.dropped = 0, batch.first - 1
        self.batches.append(batch)
        self.size += len(batch.data)
        self.last = batch.first + batch.count - 1
        while self.size > max_bytes:
            oldest = self.batches.pop(0)
            self.size -= len(oldest.data)
            self.dropped = oldest.first + oldest.count - 1
        if len(self.batches) % _JOINED_AT_ONCE == 0:
            self.join(_JOINED_AT_ONCE)

    def join(self, most: int) -> None:
        """Join the last ``most`` batches into fewer ones."""
        latest = self.batches[-most:]
        joined = _joined(latest)
        self.batches[-most:] = joined
        self.size += sum(len(b.data) for b in joined) - sum(len(b.data) for b in latest)


class MemoryRunLog:
    """Runs in this process. They are lost when it ends, and unknown to other workers.

    ``clock`` returns seconds.
    """

    poll_seconds: float = 0.1

    def __init__(
        self, settings: RunSettings | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings if settings is not None else RunSettings()
        self._clock = clock
        self._runs: dict[str, _Kept] = {}
        self._keys: dict[str, str] = {}
        self._ended: OrderedDict[str, None] = OrderedDict()
        """Ended runs, in the order of their ends."""
        self._ended_size = 0
        self._refused: OrderedDict[str, tuple[str, float]] = OrderedDict()
        """Runs that were dropped after a reader had joined: the owner, and when to forget it."""
        self._notes: OrderedDict[str, tuple[str, float]] = OrderedDict()
        """Notes, and when to forget them."""
        self._lock = threading.Lock()  # for threads; there is no await inside it

    def __repr__(self) -> str:
        return f"MemoryRunLog({len(self._runs)} runs)"

    async def claim(
        self, key: str | None, *, owner: str, fingerprint: str, run_id: str, lease: float
    ) -> Claim:
        with self._lock:
            self._prune()
            known = self._keys.get(key) if key is not None else None
            if known is not None:
                run = self._runs[known]
                run.joined = True
                return Claim(run_id=known, fingerprint=run.fingerprint, mine=known == run_id)
            self._runs[run_id] = _Kept(owner, fingerprint, key, self._clock() + lease)
            if key is not None:
                self._keys[key] = run_id
            return Claim(run_id=run_id, fingerprint=fingerprint, mine=True)

    async def append(self, batches: Mapping[str, Batch | None], *, lease: float) -> Collection[str]:
        with self._lock:
            until = self._clock() + lease
            for run_id, batch in batches.items():
                run = self._runs.get(run_id)
                if run is not None:
                    run.lives_until = until
                    if batch is not None:
                        run.add(batch, self._settings.max_bytes)
            return batches.keys() - self._runs.keys()

    async def signals(self, run_ids: Collection[str]) -> Mapping[str, Signals]:
        found: dict[str, Signals] = {}
        with self._lock:
            for run_id in run_ids:
                run = self._runs.get(run_id)
                if run is None:
                    found[run_id] = Signals(forgotten=True)
                elif run.cancelled or run.read:
                    found[run_id] = Signals(cancelled=run.cancelled, read=run.read)
                    run.read = False
        return found

    async def finish(self, run_id: str, end: RunEnd, batch: Batch | None = None) -> bool:
        with self._lock:
            run = self._runs.get(run_id)
            if run is not None and run.end is None:
                if batch is not None:
                    run.add(batch, self._settings.max_bytes)
                run.end, run.ended_at = end, self._clock()
                run.join(len(run.batches))
                self._ended_size += run.taken
                self._ended[run_id] = None
                self._prune()
            return run is not None

    async def drop(self, run_id: str) -> None:
        with self._lock:
            run = self._runs.get(run_id)
            if run is not None and run.joined:
                self._refused[run_id] = (run.owner, self._clock() + REFUSED_SECONDS)
            self._forget(run_id)

    async def read(self, run_id: str, after: int, *, owner: str) -> Page | None:
        with self._lock:
            self._prune()
            run = self._runs.get(run_id)
            if run is None and self._refused.get(run_id, ("", 0.0))[0] == owner:
                return Page(end=REFUSED)
            if run is None or run.owner != owner:
                return None
            run.read = True
            return Page(
                batches=tuple(b for b in run.batches if b.first + b.count - 1 > after),
                dropped=run.dropped,
                last=run.last,
                end=run.end,
                lost=run.end is None and self._clock() > run.lives_until,
            )

    async def cancel(self, run_id: str) -> None:
        with self._lock:
            run = self._runs.get(run_id)
            if run is not None:
                run.cancelled = True

    async def note(self, name: str, text: str, *, seconds: float) -> None:
        with self._lock:
            self._notes[name] = text, self._clock() + seconds
            self._notes.move_to_end(name)
            if len(self._notes) > _MOST_NOTES:
                self._notes.popitem(last=False)

    async def noted(self, name: str) -> str | None:
        with self._lock:
            text, until = self._notes.get(name, ("", 0.0))
            return text if until > self._clock() else None

    async def forget(self) -> None:
        """Remove expired runs, including runs without an end."""
        with self._lock:
            self._prune()
            since = self._clock() - self._settings.keep
            now = self._clock()
            for name in [name for name, (_, until) in self._notes.items() if until <= now]:
                del self._notes[name]
            running = [i for i, run in self._runs.items() if run.end is None]
            for run_id in running:
                if self._runs[run_id].lives_until <= since:
                    self._forget(run_id)

    async def aclose(self) -> None:
        """Do nothing: there are no files or connections."""

    def _prune(self) -> None:
        """Remove ended runs that are too old, or too many: the oldest ends first."""
        now = self._clock()
        while self._ended:
            oldest = next(iter(self._ended))
            young = self._runs[oldest].ended_at + self._settings.keep > now
            if young and self._ended_size <= _MOST_BYTES:
                break
            self._forget(oldest)
        while self._refused and next(iter(self._refused.values()))[1] <= now:
            self._refused.popitem(last=False)

    def _forget(self, run_id: str) -> None:
        run = self._runs.pop(run_id, None)
        if run is None:
            return
        if run.key is not None:
            del self._keys[run.key]
        if run.end is not None:
            del self._ended[run_id]
            self._ended_size -= run.taken


def _joined(batches: list[Batch]) -> list[Batch]:
    """The same events in fewer batches."""
    groups: list[list[Batch]] = []
    size = _JOINED_BYTES
    for batch in batches:
        if size + len(batch.data) > _JOINED_BYTES:
            groups.append([])
            size = 0
        groups[-1].append(batch)
        size += len(batch.data)
    return [
        Batch(
            first=group[0].first,
            count=sum(batch.count for batch in group),
            data=join_batches(batch.data for batch in group),
        )
        for group in groups
    ]
