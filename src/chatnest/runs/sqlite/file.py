"""RunFile: the file of a SQLiteRunLog, its tables, and the one connection to it."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from chatnest.runs.sqlite.place import Place
from chatnest.stores.wal import STRICT, open_wal

__all__ = ["RunFile"]

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
CREATE TABLE IF NOT EXISTS notes (
    name TEXT PRIMARY KEY NOT NULL,
    text TEXT NOT NULL,
    forget_at INTEGER NOT NULL
) {STRICT};
"""

_VERSION: Final = 2
_RENEW: Final = f"""
DROP TABLE IF EXISTS batches;
DROP TABLE IF EXISTS runs;
DROP TABLE IF EXISTS notes;
DROP TABLE IF EXISTS attempts;
PRAGMA user_version = {_VERSION};
{_SCHEMA}"""
"""For a new file, or one of another version: its runs would expire within minutes anyway."""

_FORGOTTEN_AT_ONCE: Final = 50
"""Maximum number of expired runs that one transaction removes."""

_FORGET_NOTES: Final = """
DELETE FROM notes WHERE rowid IN (SELECT rowid FROM notes WHERE forget_at <= ? LIMIT ?)
"""

_TIDY_WAITS: Final = 20
"""Milliseconds to wait for readers before truncating the WAL. The next attempt follows in 1 s."""

_NOT_A_DATABASE: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


class RunFile:
    """The file at ``path``, and a connection that is opened when it is needed.

    For one thread at a time. Any failure closes the connection; the next transaction opens it
    again, and starts a new file if the old one is not a database.
    """

    def __init__(self, path: Path, busy_timeout: float) -> None:
        self._path = path
        self._place = Place(path)
        self._busy_timeout = busy_timeout
        self._connection: sqlite3.Connection | None = None
        self._has_traces = True
        """Whether the WAL may still hold deleted rows, of this process or an earlier one."""

    @contextmanager
    def transaction(self, *, writes: bool = True) -> Iterator[sqlite3.Connection]:
        """Commit at the end of this block, or roll back if it raises. A transaction that only reads
        does not keep other processes waiting.
        """
        connection = self._opened()
        try:
            connection.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
            yield connection
            connection.execute("COMMIT")
        except BaseException as exc:
            self.close()
            if isinstance(exc, sqlite3.DatabaseError) and _is_no_database(exc):
                self._place.clear()
            raise

    def forget_some(self, rows: sqlite3.Connection, now: int) -> None:
        """Remove some of the runs that have expired by ``now``, within a transaction."""
        rows.execute(_FORGET_NOTES, (now, _FORGOTTEN_AT_ONCE))
        gone = rows.execute(
            "DELETE FROM runs WHERE rowid IN (SELECT rowid FROM runs WHERE forget_at <= ? LIMIT ?)",
            (now, _FORGOTTEN_AT_ONCE),
        ).rowcount
        self._has_traces |= gone > 0

    def tidy(self, now: int) -> None:
        """Remove all runs that have expired by ``now``, and what the WAL still holds of them."""
        if self._connection is None and not self._path.exists():
            return
        rows = self._opened()
        expired = "SELECT 1 FROM runs WHERE forget_at <= ?"
        try:
            while rows.execute(expired, (now,)).fetchone() is not None:
                with self.transaction() as rows:
                    self.forget_some(rows, now)
            if self._has_traces:
                # The WAL keeps the pages from before the deletion until they are overwritten. The
                # wait is short because other processes wait for our lock.
                rows.execute(f"PRAGMA busy_timeout = {_TIDY_WAITS}")
                busy, _, _ = rows.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                rows.execute(f"PRAGMA busy_timeout = {int(self._busy_timeout * 1000)}")
                self._has_traces = bool(busy)
        except sqlite3.Error:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection. The next transaction opens it again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _opened(self) -> sqlite3.Connection:
        """The connection to the file that is at the path now."""
        if self._connection is not None and not self._place.unchanged():
            self.close()
        if self._connection is None:
            self._connection = self._open()
            self._has_traces = True
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


def _is_no_database(exc: sqlite3.DatabaseError) -> bool:
    return getattr(exc, "sqlite_errorcode", 0) & 0xFF in _NOT_A_DATABASE


def _prepare(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA secure_delete = ON")  # deleted rows are overwritten with zeros
    # IMMEDIATE: a transaction that reads first cannot wait for the write lock afterwards.
    connection.execute("BEGIN IMMEDIATE")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    for statement in _SCHEMA.split(";") if version == _VERSION else _RENEW.split(";"):
        connection.execute(statement)
    connection.execute("COMMIT")
