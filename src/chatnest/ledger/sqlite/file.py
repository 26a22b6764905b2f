"""BookFile: the ledger's file, with one connection to it and its upkeep."""

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
from chatnest.ledger.usage import KEPT_DAYS, first_day
from chatnest.stores.survey import StoreChanged
from chatnest.stores.wal import log_size, open_wal, without_waiting

__all__ = ["BookFile", "Operation"]

_log = logging.getLogger("chatnest.ledger")

Operation = Callable[[RowBooks], object]

_OVERWRITTEN: Final = "overwritten"
"""Replaces the word of a file that was found to be an older copy."""
_DAY: Final = 86_400_000

_PRUNED_AT_ONCE: Final = 512
"""Maximum rows of each table that one transaction forgets."""

_LARGE_LOG: Final = 4 * 1024 * 1024
"""Bytes above which the write-ahead log is written into the file, once no reader blocks that."""

_LAST_CHANGE: Final = (
    "(SELECT last.changed_at FROM windows AS last WHERE last.key = windows.key"
    " ORDER BY last.part DESC LIMIT 1)"
)
"""The last change of a whole window: while it is in use, its older parts are needed as well."""

_PRUNE: Final = tuple(
    f"DELETE FROM {table} WHERE rowid IN (SELECT rowid FROM {table} WHERE {old} LIMIT :most)"  # noqa: S608  # constants above
    for table, old in (
        ("windows", f"changed_at < :time AND {_LAST_CHANGE} < :time"),
        ("holds", "state IN (1, 2, 3) AND until < :time"),
        ("turns", "settled_at < :time"),
        ("buckets", "changed_at < :time"),
        ("adjustments", "at < :time AND day <> 'granted'"),
    )
)

_PRUNE_WATCHES: Final = (
    "DELETE FROM watches WHERE changed_at < :time AND period <> 'ever'",
    "DELETE FROM crossings WHERE at < :time",
)

_PRUNE_REFUSALS: Final = (
    "DELETE FROM refusals WHERE (hour, name) IN"
    " (SELECT hour, name FROM refusals WHERE hour < :day LIMIT :most)"
)
_PRUNE_USAGE: Final = (
    "DELETE FROM usage WHERE (day, principal, model, profile, outcome, groups) IN"
    " (SELECT day, principal, model, profile, outcome, groups FROM usage WHERE day < :day"
    " LIMIT :most)"
)

_OLD_COUNTERS: Final = """
SELECT name, account, day FROM counters
WHERE changed_at < :time AND held = 0 AND day NOT IN ('ever', 'granted') LIMIT :most
"""
_ADD_UP: Final = """
INSERT INTO counters
SELECT name, account, 'ever', settled, 0, overrun, expired, adjusted, 0, :now FROM counters
WHERE name = :name AND account = :account AND day = :day AND day <> ''
    AND name IN (SELECT name FROM zones WHERE ever)
ON CONFLICT (name, account, day) DO UPDATE SET settled = settled + excluded.settled,
    overrun = overrun + excluded.overrun, expired = expired + excluded.expired,
    adjusted = adjusted + excluded.adjusted, changed_at = excluded.changed_at
"""
"""Adds a counter to the sum of the days before it, where a lifetime is counted."""

_KEPT_DAYS: Final = 62
"""Days after its last change for which a counter is kept: it may be part of two months."""

_NEVER_WORKED: Final = {
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_READONLY,
}


class BookFile:
    """The file, and one connection that is opened when it is needed. For one thread; with
    ``any_thread``, which is for reading, for one thread at a time.

    Any failure of the file closes the connection, and the next transaction opens a new one.
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
        self._keep = keep_days * _DAY
        self._connection: sqlite3.Connection | None = None
        self._ever_worked = False
        self._place = Place(path)
        self._wrote = False
        self._change = ""  # why the file is not the books, if it is not

    def transact(self, operations: Sequence[Operation]) -> list[object]:
        """Run operations in one transaction, all or none. Returns their results.

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
            # The write lock comes first, so that the time of the clock fits the figures read.
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
        """Check that the file is still the books, or use one that was adopted, and keep the
        write-ahead log small. Called about once a second. Raises StoreChanged.
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
        """Upkeep that can wait for the next time if another process has the lock."""
        with contextlib.suppress(sqlite3.OperationalError):
            if self._wrote:
                connection.execute("UPDATE books SET generation = generation + 1")
                self._place.raised()
                self._wrote = False
            if log_size(self._path) > _LARGE_LOG:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """Read the file as it is at one instant. Neither blocks writers nor waits for them."""
        connection = self._connection = self._connection or self._open()
        with self._undone_on_failure(connection):
            connection.execute("BEGIN")
            yield connection
            connection.execute("COMMIT")
        self._ever_worked = True

    def prune(self) -> bool:
        """Delete some rows that are older than ``keep_days``. Returns whether there may be more.
        Live holds, and counters with tokens held, stay.
        """
        connection = self._connection = self._connection or self._open()
        with self._undone_on_failure(connection):
            connection.execute("BEGIN IMMEDIATE")
            self._confirm(connection)
            old = {"time": self._clock() - self._keep, "most": _PRUNED_AT_ONCE}
            forgotten = [connection.execute(statement, old).rowcount for statement in _PRUNE]
            forgotten.append(self._prune_counters(connection))
            watched = {"time": old["time"] - _KEPT_DAYS * _DAY}  # a window, and settlements after
            for statement in _PRUNE_WATCHES:
                connection.execute(statement, watched)
            kept = {"day": first_day(self._clock(), KEPT_DAYS), "most": _PRUNED_AT_ONCE}
            forgotten.append(connection.execute(_PRUNE_USAGE, kept).rowcount)
            forgotten.append(connection.execute(_PRUNE_REFUSALS, kept).rowcount)
            connection.execute("COMMIT")
        return max(forgotten) >= _PRUNED_AT_ONCE

    def _prune_counters(self, connection: sqlite3.Connection) -> int:
        now = self._clock()
        kept = max(self._keep, _KEPT_DAYS * _DAY)
        old = {"time": now - kept, "most": _PRUNED_AT_ONCE}
        places = [
            {"name": name, "account": account, "day": day, "now": now}
            for name, account, day in connection.execute(_OLD_COUNTERS, old)
        ]
        connection.executemany(_ADD_UP, places)
        connection.executemany(
            "DELETE FROM counters WHERE name = :name AND account = :account AND day = :day", places
        )
        return len(places)

    def close(self) -> None:
        """Checkpoint, and close the file. The next transaction opens it again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):  # the next process to open it checkpoints
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
            # Other processes may not have seen the generation that the copy lacks. Changing its
            # word makes them reject it, too.
            with contextlib.suppress(sqlite3.OperationalError):
                connection.execute("UPDATE books SET word = ?", (_OVERWRITTEN,))
                connection.execute("COMMIT")
            raise

    @contextlib.contextmanager
    def _noticed(self) -> Iterator[None]:
        """Log once that the file is not the books, and once that it is again."""
        try:
            yield
        except StoreChanged as exc:
            if str(exc) != self._change:
                self._change = str(exc)
                _log.error("%s: no request is admitted: %s", self._path, exc)
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
        """Raise ConfigurationError for a file that cannot be used and never was."""
        try:
            yield
        except sqlite3.DatabaseError as exc:
            code = getattr(exc, "sqlite_errorcode", 0) & 0xFF  # 0 where it is Python's own
            if code in _NEVER_WORKED and not self._ever_worked:
                raise ConfigurationError(self._reason(code)) from exc
            raise

    def _reason(self, code: int) -> str:
        where = f"path: expected a file for the ledger, got {self._path!r}, "
        if code == sqlite3.SQLITE_NOTADB:
            return where + "which is not a SQLite database. Choose another path."
        if code == sqlite3.SQLITE_CANTOPEN and not Path(self._path).parent.is_dir():
            return where + "in a directory that does not exist. Create it first."
        return where + (
            "which cannot be opened. Let this user read and write the file and its directory."
        )


def _logical_size(connection: sqlite3.Connection) -> int:
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (bytes_each,) = connection.execute("PRAGMA page_size").fetchone()
    return int(pages * bytes_each)
