"""The ledger's file: its schema, and one connection to it."""

import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from chatnest.errors import ConfigurationError
from chatnest.ledger._sqlite_books import RowBooks
from chatnest.wal import STRICT, open_wal

__all__ = ["APPLICATION_ID", "SCHEMA_VERSION", "BookFile", "Operation"]

Operation = Callable[[RowBooks], object]

SCHEMA_VERSION: Final = 4
APPLICATION_ID: Final = 0x63686E74  # "chnt": what file(1) and we know our files by
_PRUNED_AT_ONCE: Final = 512

_ADJUSTMENTS: Final = f"""
CREATE TABLE adjustments (
    id TEXT NOT NULL,
    account TEXT NOT NULL,
    name TEXT NOT NULL,
    day TEXT NOT NULL,
    tokens INTEGER NOT NULL CHECK (tokens <> 0),
    reason TEXT NOT NULL CHECK (reason <> ''),
    at INTEGER NOT NULL,
    PRIMARY KEY (account, id)
) {STRICT};
CREATE INDEX adjustments_by_time ON adjustments (at);
"""

_WINDOWS: Final = f"""
CREATE TABLE windows (
    key TEXT NOT NULL,
    part INTEGER NOT NULL,
    number INTEGER NOT NULL,
    entries TEXT NOT NULL,
    gone INTEGER NOT NULL,
    oldest INTEGER NOT NULL,
    changed_at INTEGER NOT NULL,
    PRIMARY KEY (key, part)
) {STRICT};
CREATE INDEX windows_by_change ON windows (changed_at);
"""

_ZONES: Final = f"""
CREATE TABLE zones (
    name TEXT PRIMARY KEY NOT NULL,
    zone TEXT NOT NULL
) {STRICT};
"""

_IDENTITY: Final = f"""
CREATE TABLE books (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    word TEXT NOT NULL,
    generation INTEGER NOT NULL
) {STRICT};
INSERT INTO books VALUES (1, lower(hex(randomblob(8))), 0);
"""
"""Which books these are, and a number that only grows, by which an older copy is told."""

_SCHEMA: Final = f"""
CREATE TABLE counters (
    key TEXT PRIMARY KEY NOT NULL,
    settled INTEGER NOT NULL CHECK (settled >= 0),
    held INTEGER NOT NULL CHECK (held >= 0),
    overrun INTEGER NOT NULL CHECK (overrun BETWEEN 0 AND settled - expired),
    expired INTEGER NOT NULL CHECK (expired BETWEEN 0 AND settled),
    changed_at INTEGER NOT NULL,
    adjusted INTEGER NOT NULL DEFAULT 0
) {STRICT};
CREATE INDEX counters_by_change ON counters (changed_at);
CREATE TRIGGER settled_is_never_taken_back BEFORE UPDATE ON counters
WHEN NEW.settled - NEW.expired < OLD.settled - OLD.expired OR NEW.overrun < OLD.overrun
BEGIN SELECT RAISE(ABORT, 'settled tokens may only be lowered by correcting expired ones'); END;

CREATE TABLE holds (
    id TEXT PRIMARY KEY NOT NULL,
    state INTEGER NOT NULL CHECK (state BETWEEN 0 AND 3),
    until INTEGER NOT NULL,
    charged INTEGER NOT NULL
        CHECK (charged >= 0)
        CHECK (state IN (1, 3) OR charged = 0)
        CHECK (state <> 3 OR charged = tokens),
    tokens INTEGER NOT NULL CHECK (tokens >= 0),
    lines TEXT NOT NULL,
    admitted_at INTEGER NOT NULL
) {STRICT};
CREATE INDEX holds_by_end ON holds (state, until);
CREATE TRIGGER a_hold_ends_once BEFORE UPDATE ON holds
WHEN NEW.state <> OLD.state AND NOT (OLD.state = 0 OR (OLD.state = 3 AND NEW.state IN (1, 2)))
BEGIN SELECT RAISE(ABORT, 'this hold has ended'); END;

CREATE TABLE turns (
    hold TEXT PRIMARY KEY NOT NULL,
    admitted_at INTEGER,
    settled_at INTEGER NOT NULL,
    held INTEGER NOT NULL,
    tokens INTEGER NOT NULL CHECK (tokens >= 0),
    input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    source TEXT NOT NULL,
    outcome TEXT NOT NULL,
    principal TEXT NOT NULL,
    profile TEXT NOT NULL,
    model TEXT NOT NULL
) {STRICT};
CREATE INDEX turns_by_time ON turns (settled_at);
{_WINDOWS}
{_ADJUSTMENTS}
{_ZONES}
{_IDENTITY}
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
"""

_FROM_3: Final = f"""
{_ZONES}
{_IDENTITY}
PRAGMA user_version = {SCHEMA_VERSION};
"""

_FROM_2: Final = f"""
DROP INDEX windows_by_change;
ALTER TABLE windows RENAME TO windows_of_2;
{_WINDOWS}
INSERT INTO windows SELECT key, 0, 0, entries, 0, 0, changed_at FROM windows_of_2;
DROP TABLE windows_of_2;
{_FROM_3}
"""  # noqa: S608  # of texts of ours alone

_FROM: Final = {
    0: _SCHEMA,
    1: f"""
ALTER TABLE counters ADD COLUMN adjusted INTEGER NOT NULL DEFAULT 0;
{_ADJUSTMENTS}
{_FROM_2}
""",
    2: _FROM_2,
    3: _FROM_3,
}
"""What makes the tables of today, for each schema that a file may have."""

_LAST_CHANGE: Final = (
    "(SELECT last.changed_at FROM windows AS last WHERE last.key = windows.key"
    " ORDER BY last.part DESC LIMIT 1)"
)
"""Of a window: while it is in use, it counts what is in all of its parts, however old they are."""

_PRUNE: Final = tuple(
    f"DELETE FROM {table} WHERE rowid IN (SELECT rowid FROM {table} WHERE {old} LIMIT :most)"  # noqa: S608  # as above
    for table, old in (
        ("counters", "changed_at < :time AND held = 0"),
        ("windows", f"changed_at < :time AND {_LAST_CHANGE} < :time"),
        ("holds", "state IN (1, 2, 3) AND until < :time"),
        ("turns", "settled_at < :time"),
        ("adjustments", "at < :time"),
    )
)

_NEVER_WORKED: Final = {
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_READONLY,
}


class BookFile:
    """The file and one connection to it, opened when it is needed. For one thread, or one at a
    time with ``any_thread``.

    After any failure of the file the connection is closed, and the next transaction opens a new
    one.
    """

    def __init__(
        self,
        path: str,
        *,
        clock: Callable[[], int],
        synchronous: str,
        busy_timeout: float,
        keep_days: int,
        any_thread: bool = False,
    ) -> None:
        self._path = path
        self._any_thread = any_thread
        self._clock = clock
        self._synchronous = synchronous
        self._busy_timeout = busy_timeout
        self._keep = keep_days * 86_400_000
        self._connection: sqlite3.Connection | None = None
        self._ever_worked = False

    def transact(self, operations: Sequence[Operation]) -> list[object]:
        """Run operations in one transaction, and give their answers; all of them, or none."""
        connection = self._connection = self._connection or self._open()
        with self._explained(), self._undone_on_failure(connection):
            # Nobody else writes from here on, so that times and figures belong together.
            connection.execute("BEGIN IMMEDIATE")
            books = RowBooks(connection, self._clock())
            answers = [operation(books) for operation in operations]
            books.write()
            connection.execute("COMMIT")
        self._ever_worked = True
        return answers

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """All of the file as it is at one instant. Who writes is not in the way, nor waits."""
        connection = self._connection = self._connection or self._open()
        with self._undone_on_failure(connection):
            connection.execute("BEGIN")
            yield connection
            connection.execute("COMMIT")
        self._ever_worked = True

    def prune(self) -> None:
        """Forget some of what is older than it is kept for. What is live stays."""
        connection = self._connection = self._connection or self._open()
        with self._undone_on_failure(connection):
            connection.execute("BEGIN IMMEDIATE")
            for statement in _PRUNE:
                old = {"time": self._clock() - self._keep, "most": _PRUNED_AT_ONCE}
                connection.execute(statement, old)
            connection.execute("COMMIT")

    def close(self) -> None:
        """Checkpoint, and let go of the file. The next transaction opens it again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):  # then the next to open it does it
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
            connection.close()

    @contextlib.contextmanager
    def _undone_on_failure(self, connection: sqlite3.Connection) -> Iterator[None]:
        try:
            yield
        except BaseException as exc:
            with contextlib.suppress(sqlite3.Error):
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            if isinstance(exc, sqlite3.Error) or connection.in_transaction:
                self._connection = None
                connection.close()
            raise

    def _open(self) -> sqlite3.Connection:
        with self._explained():
            return open_wal(
                self._path,
                self._prepare,
                synchronous=self._synchronous,
                busy_timeout=self._busy_timeout,
                any_thread=self._any_thread,
            )

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """What cannot work, and never has, is a fault of the configuration."""
        try:
            yield
        except sqlite3.DatabaseError as exc:
            code = getattr(exc, "sqlite_errorcode", 0) & 0xFF  # 0 where it is Python's own
            if code in _NEVER_WORKED and not self._ever_worked:
                raise ConfigurationError(self._reason(code)) from exc
            raise

    def _reason(self, code: int) -> str:
        where = f"The ledger's file {self._path!r} cannot be used: "
        if code == sqlite3.SQLITE_NOTADB:
            return where + "it is no SQLite database. Choose another path."
        if code == sqlite3.SQLITE_CANTOPEN and not Path(self._path).parent.is_dir():
            return where + "its directory does not exist. Create it first."
        return where + "this process may not read and write it and its directory."

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Create the tables in a new file, and add what an older one lacks; refuse a file that is
        not ours, or newer than we are.
        """
        if self._version(connection) == SCHEMA_VERSION:
            return
        connection.execute("BEGIN IMMEDIATE")
        version = self._version(connection)  # another process may have done it, meanwhile
        for statement in _statements(_FROM.get(version, "")):
            connection.execute(statement)
        connection.execute("COMMIT")

    def _version(self, connection: sqlite3.Connection) -> int:
        version: int
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if application != APPLICATION_ID and (version or application or tables):
            raise ConfigurationError(
                f"The file {self._path!r} belongs to another program. Give the ledger its own."
            )
        if version > SCHEMA_VERSION:
            raise ConfigurationError(
                f"The ledger's file {self._path!r} was written by a newer chatnest (schema "
                f"{version}; this one reads up to {SCHEMA_VERSION}). Update chatnest."
            )
        return version


def _statements(script: str) -> Iterator[str]:
    """One at a time, since sqlite3's executescript would commit first."""
    statement = ""
    for line in script.splitlines():
        statement += line + "\n"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
