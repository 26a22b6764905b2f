"""The ledger's file: one connection to it, and what is done with all of it."""

import contextlib
import logging
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from chatnest.errors import ConfigurationError
from chatnest.ledger.sqlite.books import RowBooks
from chatnest.ledger.sqlite.place import Overwritten, Place
from chatnest.ledger.sqlite.schema import check_schema, prepare
from chatnest.stores.survey import StoreChanged
from chatnest.stores.wal import log_size, open_wal, without_waiting

__all__ = ["BookFile", "Operation"]

_log = logging.getLogger("chatnest.ledger")

Operation = Callable[[RowBooks], object]

_OVERWRITTEN: Final = "overwritten"
"""In place of the word of a file that was found to be an older copy."""
_PRUNED_AT_ONCE: Final = 512
_LARGE_LOG: Final = 4 * 1024 * 1024
"""Bytes of a write-ahead log that is written into the file as soon as no reader is in the way."""

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
    time with ``any_thread``, which is for reading.

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
        self._place = Place(path)
        self._wrote = False
        self._change = ""  # why the file is not the books

    def transact(self, operations: Sequence[Operation]) -> list[object]:
        """Run operations in one transaction, and give their answers; all of them, or none.

        Raises StoreChanged if the file at the path is not the one that this process counted in.
        """
        if self._connection is not None:
            with contextlib.suppress(StoreChanged):  # another file may have been adopted since
                return self._transact(operations)
        return self._transact(operations)

    def _transact(self, operations: Sequence[Operation]) -> list[object]:
        with self._noticed():
            connection = self._connection = self._connection or self._open()
        with self._noticed(), self._explained(), self._undone_on_failure(connection):
            # Nobody else writes from here on, so that times and figures belong together.
            connection.execute("BEGIN IMMEDIATE")
            self._confirm(connection)
            before = connection.total_changes
            books = RowBooks(connection, self._clock())
            answers = [operation(books) for operation in operations]
            books.write()
            connection.execute("COMMIT")
        self._ever_worked = True
        self._wrote |= connection.total_changes != before
        return answers

    def tend(self) -> None:
        """Once a second or so: notice a file that is not the books, or one that was adopted, and
        keep the write-ahead log small. Raises StoreChanged.
        """
        if not self._ever_worked:
            return
        with self._noticed():
            connection = self._connection = self._connection or self._open()
        with self._noticed(), self._undone_on_failure(connection):
            connection.execute("BEGIN")
            self._confirm(connection)
            connection.execute("COMMIT")
        if self._wrote or log_size(self._path) > _LARGE_LOG:
            with without_waiting(connection, self._busy_timeout):
                self._keep_up(connection)

    def _keep_up(self, connection: sqlite3.Connection) -> None:
        """What can as well be done the next time, where somebody is in the way."""
        with contextlib.suppress(sqlite3.OperationalError):
            if self._wrote:
                connection.execute("UPDATE books SET generation = generation + 1")
                self._place.raised()
                self._wrote = False
            if log_size(self._path) > _LARGE_LOG:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """All of the file as it is at one instant. Who writes is not in the way, nor waits."""
        connection = self._connection = self._connection or self._open()
        with self._undone_on_failure(connection):
            connection.execute("BEGIN")
            yield connection
            connection.execute("COMMIT")
        self._ever_worked = True

    def prune(self) -> bool:
        """Forget some of what is older than it is kept for, and say whether there may be more.
        What is live stays.
        """
        connection = self._connection = self._connection or self._open()
        with self._undone_on_failure(connection):
            connection.execute("BEGIN IMMEDIATE")
            self._confirm(connection)
            old = {"time": self._clock() - self._keep, "most": _PRUNED_AT_ONCE}
            forgotten = [connection.execute(statement, old).rowcount for statement in _PRUNE]
            connection.execute("COMMIT")
        return max(forgotten) >= _PRUNED_AT_ONCE

    def close(self) -> None:
        """Checkpoint, and let go of the file. The next transaction opens it again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):  # then the next to open it does it
                if not self._change:
                    connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
            connection.close()
        self._place.leave()

    def _confirm(self, connection: sqlite3.Connection) -> None:
        check_schema(connection, self._path)
        word, generation = connection.execute("SELECT word, generation FROM books").fetchone()
        try:
            self._place.confirm(word, generation, partial(_logical_size, connection))
        except Overwritten:
            # A process that has not seen what the copy lacks cannot tell. This word tells it.
            with contextlib.suppress(sqlite3.OperationalError):
                connection.execute("UPDATE books SET word = ?", (_OVERWRITTEN,))
                connection.execute("COMMIT")
            raise

    @contextlib.contextmanager
    def _noticed(self) -> Iterator[None]:
        """Log that the file is not the books, and that it is again; each once."""
        try:
            yield
        except StoreChanged as exc:
            if str(exc) != self._change:
                self._change = str(exc)
                _log.error("%s: nothing is admitted: %s", self._path, exc)
            raise
        if self._change and self._connection is not None:
            _log.warning("%s: the ledger's file is in use again", self._path)
            self._change = ""

    @contextlib.contextmanager
    def _undone_on_failure(self, connection: sqlite3.Connection) -> Iterator[None]:
        try:
            yield
        except BaseException as exc:
            with contextlib.suppress(sqlite3.Error):
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            if isinstance(exc, sqlite3.Error | StoreChanged) or connection.in_transaction:
                self._connection = None
                connection.close()
            raise

    def _open(self) -> sqlite3.Connection:
        with self._explained():
            if self._any_thread:
                self._place.look()
            else:
                self._place.enter(self._busy_timeout)
            connection = open_wal(
                self._path,
                lambda connection: prepare(connection, self._path),
                synchronous=self._synchronous,
                busy_timeout=self._busy_timeout,
                any_thread=self._any_thread,
            )
            self._place.opened()
            return connection

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


def _logical_size(connection: sqlite3.Connection) -> int:
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (bytes_each,) = connection.execute("PRAGMA page_size").fetchone()
    return int(pages * bytes_each)
