"""MemoryRunLog: runs in this process, for a single worker."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import msgspec

from chatnest.runs.base import Batch, Claim, Page, RunEnd, RunSettings, Signals

__all__ = ["MemoryRunLog"]

_MOST_BYTES: Final = 64 << 20
"""Of all runs that have ended; beyond it the oldest are forgotten."""


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


class MemoryRunLog:
    """Runs in this process. They are gone with it, and unknown to other workers.

    ``clock`` gives seconds.
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
        """Those that have ended, by their end."""
        self._ended_size = 0
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
                return Claim(run_id=known, fingerprint=run.fingerprint, mine=False)
            self._runs[run_id] = _Kept(owner, fingerprint, key, self._clock() + lease)
            if key is not None:
                self._keys[key] = run_id
            return Claim(run_id=run_id, fingerprint=fingerprint, mine=True)

    async def append(self, run_id: str, batch: Batch | None, *, lease: float) -> Signals:
        with self._lock:
            run = self._runs.get(run_id)
            if run is None:
                return Signals(cancelled=True)
            run.lives_until = self._clock() + lease
            if batch is not None:
                if batch.first > run.last + 1:
                    run.batches.clear()
                    run.size, run.dropped = 0, batch.first - 1
                run.batches.append(batch)
                run.size += len(batch.data)
                run.last = batch.first + batch.count - 1
                while run.size > self._settings.max_bytes:
                    oldest = run.batches.pop(0)
                    run.size -= len(oldest.data)
                    run.dropped = oldest.first + oldest.count - 1
            signals = Signals(cancelled=run.cancelled, read=run.read)
            run.read = False
            return signals

    async def finish(self, run_id: str, end: RunEnd) -> None:
        with self._lock:
            run = self._runs.get(run_id)
            if run is not None and run.end is None:
                run.end, run.ended_at = end, self._clock()
                self._ended_size += run.size
                self._ended[run_id] = None

    async def drop(self, run_id: str) -> None:
        with self._lock:
            self._forget(run_id)

    async def read(self, run_id: str, after: int, *, owner: str) -> Page | None:
        with self._lock:
            self._prune()
            run = self._runs.get(run_id)
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

    async def aclose(self) -> None:
        """Nothing to let go of."""

    def _prune(self) -> None:
        """Forget what is too old, or too much: the oldest ends first."""
        now = self._clock()
        while self._ended:
            oldest = next(iter(self._ended))
            young = self._runs[oldest].ended_at + self._settings.keep > now
            if young and self._ended_size <= _MOST_BYTES:
                break
            self._forget(oldest)

    def _forget(self, run_id: str) -> None:
        run = self._runs.pop(run_id, None)
        if run is None:
            return
        if run.key is not None:
            del self._keys[run.key]
        if run.end is not None:
            del self._ended[run_id]
            self._ended_size -= run.size
