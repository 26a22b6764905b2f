"""SQLiteRunLog: runs in a file, for several workers on one machine.

The runs have a file of their own: the ledger keeps its books for weeks, and the text of answers
should not stay in them.
"""

import os
import sqlite3
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import anyio.to_thread
import msgspec

from chatnest.errors import LedgerUnavailable
from chatnest.ledger.base import wall_clock
from chatnest.runs.base import Batch, Claim, Page, RunEnd, RunSettings, Signals
from chatnest.runs.sqlite.file import RunFile
from chatnest.runs.sqlite.rows import RunRows
from chatnest.stores.thread import StoreThread

__all__ = ["SQLiteRunLog"]

_T = TypeVar("_T")

_FAULTS_OF_ONE = sqlite3.IntegrityError, sqlite3.DataError, sqlite3.ProgrammingError
"""Faults of the values of one operation, and not of the file."""


class _Operation(msgspec.Struct, frozen=True):
    work: Callable[[RunRows], Any]
    writes: bool


class SQLiteRunLog:
    """Runs in the file ``path``, which only its owner may read. ``clock`` returns milliseconds.

    Each operation checks whether the file was deleted, replaced or damaged. If so, it creates a new
    file or goes on in the one it finds there, and running workers claim their runs again.
    """

    poll_seconds: float = 0.1

    def __init__(
        self,
        path: str | os.PathLike[str],
        settings: RunSettings | None = None,
        *,
        busy_timeout: float = 0.5,
        clock: Callable[[], int] = wall_clock,
    ) -> None:
        self._path = Path(path)
        self._file = RunFile(self._path, busy_timeout)
        self._settings = settings if settings is not None else RunSettings()
        self._clock = clock
        self._lock = threading.Lock()
        self._thread: StoreThread[_Operation] = StoreThread("chatnest-runs", self._transact)

    def __repr__(self) -> str:
        return f"SQLiteRunLog({str(self._path)!r})"

    async def claim(
        self, key: str | None, *, owner: str, fingerprint: str, run_id: str, lease: float
    ) -> Claim:
        def claim(rows: RunRows) -> Claim:
            self._file.forget_some(rows.connection, rows.now)
            return rows.claim(key, owner, fingerprint, run_id, int(lease * 1000))

        return await self._do(claim)

    async def append(self, batches: Mapping[str, Batch | None], *, lease: float) -> Collection[str]:
        def append(rows: RunRows) -> Collection[str]:
            until = int(lease * 1000)
            return [i for i, batch in batches.items() if not rows.append(i, batch, until)]

        return await self._do(append)

    async def signals(self, run_ids: Collection[str]) -> Mapping[str, Signals]:
        found = await self._do(lambda rows: rows.signals(run_ids), writes=False)
        if not any(signals.read for signals in found.values()):
            return found
        return await self._do(lambda rows: rows.take_signals(run_ids))

    async def finish(self, run_id: str, end: RunEnd, batch: Batch | None = None) -> bool:
        return await self._do(lambda rows: rows.finish(run_id, end, batch))

    async def drop(self, run_id: str) -> None:
        await self._do(lambda rows: rows.drop(run_id))

    async def read(self, run_id: str, after: int, *, owner: str) -> Page | None:
        return await self._do(lambda rows: rows.read(run_id, after, owner))

    async def cancel(self, run_id: str) -> None:
        await self._do(lambda rows: rows.cancel(run_id))

    async def note(self, name: str, text: str, *, seconds: float) -> None:
        await self._do(lambda rows: rows.note(name, text, int(seconds * 1000)))

    async def noted(self, name: str) -> str | None:
        return await self._do(lambda rows: rows.noted(name), writes=False)

    async def forget(self) -> None:
        """Remove expired runs, and what the WAL still holds of them. Creates no file."""
        await anyio.to_thread.run_sync(self._tidy)

    async def aclose(self) -> None:
        """Close the file. A later operation opens it again."""
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._close)

    async def _do(self, work: Callable[[RunRows], _T], *, writes: bool = True) -> _T:
        """Run ``work`` in the thread, in a transaction."""
        try:
            result: _T = await self._thread.run(_Operation(work, writes))
        except _FAULTS_OF_ONE as exc:
            raise LedgerUnavailable from exc
        return result

    # ------------------------------------------------ in threads

    def _transact(self, operations: Sequence[_Operation]) -> Sequence[Any]:
        """The results of operations, in one transaction: all or none."""
        writes = any(operation.writes for operation in operations)
        with (
            self._lock,
            _as_unavailable(),
            self._file.transaction(writes=writes) as connection,
        ):
            rows = RunRows(connection, self._clock(), self._settings)
            return [operation.work(rows) for operation in operations]

    def _tidy(self) -> None:
        with self._lock, _as_unavailable():
            self._file.tidy(self._clock())

    def _close(self) -> None:
        self._thread.end()
        with self._lock:
            self._file.close()


@contextmanager
def _as_unavailable() -> Iterator[None]:
    """Within this block, a fault of the file raises LedgerUnavailable."""
    try:
        yield
    except _FAULTS_OF_ONE:
        raise
    except (sqlite3.Error, OSError) as exc:
        raise LedgerUnavailable from exc
