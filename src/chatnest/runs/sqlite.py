"""SQLiteRunLog: runs in a file, for several workers on one machine.

A file of its own: what models said does not belong into books that are kept for weeks.
"""

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import anyio.to_thread

from chatnest.errors import LedgerUnavailable
from chatnest.ledger.base import wall_clock
from chatnest.runs._sqlite_place import Place
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
from chatnest.stores.wal import STRICT, open_wal

__all__ = ["SQLiteRunLog"]

_T = TypeVar("_T")

_SCHEMA: Final = f"""
CREATE TABLE IF NOT EXISTS runs (
    id TEXT PRIMARY KEY NOT NULL,
    owner TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    key TEXT UNIQUE,
    lives_until INTEGER NOT NULL,
    size INTEGER NOT NULL DEFAULT 0,
    dropped INTEGER NOT NULL DEFAULT 0,
    last INTEGER NOT NULL DEFAULT 0,
    outcome TEXT,
    charged INTEGER,
    source TEXT,
    cancelled INTEGER NOT NULL DEFAULT 0,
    read INTEGER NOT NULL DEFAULT 0,
    forget_at INTEGER NOT NULL
) {STRICT};
CREATE INDEX IF NOT EXISTS runs_by_end ON runs (forget_at);
CREATE TABLE IF NOT EXISTS batches (
    run TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    first INTEGER NOT NULL,
    count INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (run, first)
) WITHOUT ROWID{STRICT and ", STRICT"};
"""

_VERSION: Final = 2
_RENEW: Final = f"""
DROP TABLE IF EXISTS batches;
DROP TABLE IF EXISTS runs;
DROP TABLE IF EXISTS attempts;
PRAGMA user_version = {_VERSION};
{_SCHEMA}"""
"""For a file that is new, or of another version: what it has would be forgotten within minutes."""

_FORGOTTEN_AT_ONCE: Final = 50
_TIDY_WAITS: Final = 20
"""Milliseconds for which truncating the WAL waits for readers. It is tried again every second."""

_NOT_A_DATABASE: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


class SQLiteRunLog:
    """Runs in the file ``path``, which only its owner may read. ``clock`` gives milliseconds.

    A file that was deleted, replaced or damaged is noticed by the next operation, which begins a
    new one or goes on in the one that is there. Runs that are being written are claimed again.
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
        self._place = Place(self._path)
        self._settings = settings if settings is not None else RunSettings()
        self._busy_timeout = busy_timeout
        self._clock = clock
        self._connection: sqlite3.Connection | None = None
        self._lock = threading.Lock()
        self._traces = True
        """Whether the WAL may still hold what was deleted, by this process or one before it."""

    def __repr__(self) -> str:
        return f"SQLiteRunLog({str(self._path)!r})"

    async def claim(
        self, key: str | None, *, owner: str, fingerprint: str, run_id: str, lease: float
    ) -> Claim:
        return await self._do(partial(self._claim, key, owner, fingerprint, run_id, lease))

    async def append(self, run_id: str, batch: Batch | None, *, lease: float) -> Signals:
        return await self._do(partial(self._append, run_id, batch, int(lease * 1000)))

    async def finish(self, run_id: str, end: RunEnd) -> bool:
        return await self._do(partial(self._finish, run_id, end))

    async def drop(self, run_id: str) -> None:
        await self._do(partial(self._drop, run_id))

    async def read(self, run_id: str, after: int, *, owner: str) -> Page | None:
        return await self._do(partial(self._read, run_id, after, owner))

    async def cancel(self, run_id: str) -> None:
        await self._do(
            lambda rows: rows.execute("UPDATE runs SET cancelled = 1 WHERE id = ?", (run_id,))
        )

    async def forget(self) -> None:
        """Remove runs whose time has come, and what the WAL has kept of them. A file that nobody
        has made yet is not made for this.
        """
        await self._in_thread(self._tidy)

    async def aclose(self) -> None:
        """Let go of the file. A later operation opens it again."""
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._close)

    # ------------------------------------------------ in a thread

    @property
    def _keep(self) -> int:
        return int(self._settings.keep * 1000)

    async def _do(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        def in_thread() -> _T:
            with self._transaction() as rows:
                return work(rows)

        return await self._in_thread(in_thread)

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        def locked() -> _T:
            with self._lock:
                return work()

        try:
            return await anyio.to_thread.run_sync(locked)
        except (sqlite3.Error, OSError) as exc:
            raise LedgerUnavailable from exc

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        connection = self._opened()
        try:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")
        except BaseException as exc:
            self._close()
            if isinstance(exc, sqlite3.DatabaseError) and _is_no_database(exc):
                self._place.clear()
            raise

    def _opened(self) -> sqlite3.Connection:
        """The connection to the file that is there now."""
        if self._connection is not None and not self._place.unchanged():
            self._close()
        if self._connection is None:
            self._connection = self._open()
            self._traces = True
        return self._connection

    def _open(self) -> sqlite3.Connection:
        with self._place.making():
            try:
                return self._open_wal()
            except sqlite3.DatabaseError as exc:
                if not _is_no_database(exc):
                    raise
            self._place.clear()
        with self._place.making():
            return self._open_wal()

    def _open_wal(self) -> sqlite3.Connection:
        return open_wal(
            self._path,
            _prepare,
            synchronous="NORMAL",
            busy_timeout=self._busy_timeout,
            any_thread=True,
        )

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    # ------------------------------------------------ operations

    def _claim(  # noqa: PLR0917  # as claim() has them by name
        self,
        key: str | None,
        owner: str,
        fingerprint: str,
        run_id: str,
        lease: float,
        rows: sqlite3.Connection,
    ) -> Claim:
        now = self._clock()
        self._forget(rows, now)
        if known := rows.execute(
            "SELECT id, fingerprint FROM runs WHERE key = ?", (key,)
        ).fetchone():
            return Claim(run_id=known[0], fingerprint=known[1], mine=known[0] == run_id)
        until = now + int(lease * 1000)
        rows.execute("DELETE FROM runs WHERE id = ?", (run_id,))
        rows.execute(
            "INSERT INTO runs (id, owner, fingerprint, key, lives_until, forget_at)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (run_id, owner, fingerprint, key, until, until + self._keep),
        )
        return Claim(run_id=run_id, fingerprint=fingerprint, mine=True)

    def _append(
        self, run_id: str, batch: Batch | None, lease: int, rows: sqlite3.Connection
    ) -> Signals:
        run = rows.execute(
            "SELECT cancelled, read, lives_until, size, dropped, last FROM runs"
            " WHERE id = ? AND outcome IS NOT ?",
            (run_id, REFUSED.outcome),
        ).fetchone()
        if run is None:
            return Signals(forgotten=True)
        cancelled, read, lives_until, size, dropped, last = run
        until = self._clock() + lease
        if batch is not None:
            if batch.first > last + 1:
                rows.execute("DELETE FROM batches WHERE run = ?", (run_id,))
                size, dropped = 0, batch.first - 1
            rows.execute(
                "INSERT OR REPLACE INTO batches VALUES (?, ?, ?, ?)",
                (run_id, batch.first, batch.count, batch.data),
            )
            size, dropped = self._trim(rows, run_id, size + len(batch.data), dropped)
            rows.execute(
                "UPDATE runs SET last = ?, size = ?, dropped = ?, lives_until = ?, forget_at = ?,"
                " read = 0 WHERE id = ?",
                (batch.first + batch.count - 1, size, dropped, until, until + self._keep, run_id),
            )
        elif read or until - lives_until > lease // 3:
            rows.execute(
                "UPDATE runs SET lives_until = ?, forget_at = ?, read = 0 WHERE id = ?",
                (until, until + self._keep, run_id),
            )
        return Signals(cancelled=bool(cancelled), read=bool(read))

    def _trim(
        self, rows: sqlite3.Connection, run_id: str, size: int, dropped: int
    ) -> tuple[int, int]:
        while size > self._settings.max_bytes:
            first, count, length = rows.execute(
                "SELECT first, count, length(data) FROM batches WHERE run = ? ORDER BY first"
                " LIMIT 1",
                (run_id,),
            ).fetchone()
            rows.execute("DELETE FROM batches WHERE run = ? AND first = ?", (run_id, first))
            size, dropped = size - length, first + count - 1
        return size, dropped

    def _finish(self, run_id: str, end: RunEnd, rows: sqlite3.Connection) -> bool:
        rows.execute(
            "UPDATE runs SET outcome = ?, charged = ?, source = ?, forget_at = ?"
            " WHERE id = ? AND outcome IS NULL",
            (end.outcome, end.charged, end.source, self._clock() + self._keep, run_id),
        )
        return rows.execute("SELECT 1 FROM runs WHERE id = ?", (run_id,)).fetchone() is not None

    def _drop(self, run_id: str, rows: sqlite3.Connection) -> None:
        rows.execute("DELETE FROM batches WHERE run = ?", (run_id,))
        rows.execute(
            "UPDATE runs SET key = NULL, outcome = ?, charged = 0, source = ?, size = 0,"
            " dropped = 0, last = 0, forget_at = ? WHERE id = ?",
            (REFUSED.outcome, REFUSED.source, self._clock() + int(REFUSED_SECONDS * 1000), run_id),
        )

    def _read(self, run_id: str, after: int, owner: str, rows: sqlite3.Connection) -> Page | None:
        run = rows.execute(
            "SELECT lives_until, dropped, last, outcome, charged, source, read, forget_at"
            " FROM runs WHERE id = ? AND owner = ?",
            (run_id, owner),
        ).fetchone()
        now = self._clock()
        if run is None or run[-1] <= now:
            return None
        lives_until, dropped, last, outcome, charged, source, read, _ = run
        if outcome is None and not read:
            rows.execute("UPDATE runs SET read = 1 WHERE id = ?", (run_id,))
        batches = rows.execute(
            "SELECT first, count, data FROM batches WHERE run = ? AND first + count > ? + 1"
            " ORDER BY first",
            (run_id, min(after, 1 << 53)),
        )
        return Page(
            batches=tuple(Batch(first=f, count=c, data=bytes(data)) for f, c, data in batches),
            dropped=dropped,
            last=last,
            end=None
            if outcome is None
            else RunEnd(outcome=outcome, charged=charged, source=source),
            lost=outcome is None and lives_until < now,
        )

    def _forget(self, rows: sqlite3.Connection, now: int) -> int:
        """Remove some runs whose time has come. Returns how many."""
        gone = rows.execute(
            "DELETE FROM runs WHERE rowid IN (SELECT rowid FROM runs WHERE forget_at <= ? LIMIT ?)",
            (now, _FORGOTTEN_AT_ONCE),
        ).rowcount
        self._traces |= gone > 0
        return gone

    def _tidy(self) -> None:
        if self._connection is None and not self._path.exists():
            return
        rows, now = self._opened(), self._clock()
        due = "SELECT 1 FROM runs WHERE forget_at <= ?"
        try:
            while rows.execute(due, (now,)).fetchone() is not None:
                with self._transaction() as rows:
                    self._forget(rows, now)
            if self._traces:  # the pages as they were before, until they are written over
                rows.execute(f"PRAGMA busy_timeout = {_TIDY_WAITS}")  # others wait for our lock
                busy, _, _ = rows.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                rows.execute(f"PRAGMA busy_timeout = {int(self._busy_timeout * 1000)}")
                self._traces = bool(busy)
        except sqlite3.Error:
            self._close()
            raise


def _is_no_database(exc: sqlite3.DatabaseError) -> bool:
    return getattr(exc, "sqlite_errorcode", 0) & 0xFF in _NOT_A_DATABASE


def _prepare(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA secure_delete = ON")  # what is deleted is overwritten
    # Who read first could not wait for others to have written.
    connection.execute("BEGIN IMMEDIATE")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    for statement in _SCHEMA.split(";") if version == _VERSION else _RENEW.split(";"):
        connection.execute(statement)
    connection.execute("COMMIT")
