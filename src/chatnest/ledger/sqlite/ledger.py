"""SQLiteLedger: books in a file, for the workers of one machine, kept across restarts."""

import os
import sqlite3
import threading
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from time import monotonic
from typing import ClassVar, Final, Literal, TypeVar

import anyio
import anyio.to_thread

from chatnest.errors import ConfigurationError
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
from chatnest.ledger.sqlite.adopt import adopt
from chatnest.ledger.sqlite.audit import SQLiteAudit
from chatnest.ledger.sqlite.books import RowBooks
from chatnest.ledger.sqlite.file import BookFile
from chatnest.ledger.sqlite.survey import look
from chatnest.ledger.sqlite.writer import Writer
from chatnest.ledger.usage import Used
from chatnest.ledger.watch import Crossing
from chatnest.stores.survey import SQLiteSurvey

__all__ = ["SQLiteLedger"]

_T = TypeVar("_T")

_CLOSE_TIMEOUT: Final = 5.0
"""Seconds to wait for the writer's threads to end."""


def _wal_is_safe(version: tuple[int, ...]) -> bool:
    """Whether this version has the fix for the WAL-reset bug, with which several writers can
    corrupt a file: https://sqlite.org/wal.html.
    """
    return (
        version >= (3, 51, 3) or (3, 50, 7) <= version < (3, 51) or (3, 44, 6) <= version < (3, 45)
    )


class SQLiteLedger:
    """Limits that hold for all processes that use one file, and across restarts.

    ``path`` is a file on a local disk, in a directory that exists. ``clock`` returns milliseconds
    since the epoch. With ``synchronous`` FULL, every operation that returned survives a loss of
    power; with NORMAL the last ones may be undone by it, but not by the end of a process.
    ``busy_timeout``, in seconds, is how long an operation waits for other processes before it
    raises LedgerUnavailable. Figures, ended holds and turns are forgotten after ``keep_days``; the
    window of a rate must not be longer.

    The first operation raises ConfigurationError for a path that cannot be used. Usable from
    several threads and event loops. One thread writes; operations that wait for it share a commit.
    """

    wal_is_safe: ClassVar[bool] = _wal_is_safe(sqlite3.sqlite_version_info)
    """Whether several processes can safely write one file with this version of SQLite."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        clock: Callable[[], int] = wall_clock,
        synchronous: Literal["FULL", "NORMAL"] = "FULL",
        busy_timeout: float = 0.5,
        keep_days: int = 35,
    ) -> None:
        self.path: str = os.fspath(path)
        if self.path in {"", ":memory:"}:
            raise ConfigurationError(
                f"path: expected a file, got {self.path!r}. Use MemoryLedger to count in memory."
            )
        if synchronous not in {"FULL", "NORMAL"}:
            raise ConfigurationError(
                f"synchronous: expected FULL or NORMAL, got {synchronous!r}. Leave it out for FULL."
            )
        self._file = partial(
            BookFile,
            self.path,
            clock=clock,
            synchronous=synchronous,
            busy_timeout=busy_timeout,
            keep_days=keep_days,
        )
        self.busy_timeout: float = busy_timeout
        self._clock = clock
        self._keep = keep_days * 86_400_000
        self._lock = threading.Lock()
        self._writer: Writer | None = None
        self._finalizer: weakref.finalize[[], SQLiteLedger]
        self._ending: list[threading.Thread] = []
        if hasattr(os, "register_at_fork"):
            self._guard_forks()

    def __repr__(self) -> str:
        return f"SQLiteLedger({self.path!r})"

    async def reserve(self, reservation: Reservation) -> Admitted | Refused:
        return await self._run(lambda books: model.reserve(books, reservation, books.now))

    async def renew(self, hold: Hold, lease: int) -> None:
        await self._run(lambda books: model.renew(books, hold.id, lease, books.now))

    async def settle(self, hold: Hold, charge: Charge) -> Settlement:
        return await self._run(lambda books: _settle(books, hold, charge))

    async def release(self, reservation: Reservation) -> None:
        await self._run(lambda books: model.release(books, reservation, books.now))

    async def usage(self, limits: tuple[Limit, ...]) -> tuple[LimitState, ...]:
        return await self._run(lambda books: model.usage(books, limits, books.now))

    async def next_crossing(self) -> Crossing | None:
        return await self._run(RowBooks.next_crossing)

    async def end_crossing(self, crossing: Crossing, state: str) -> None:
        await self._run(lambda books: books.end_crossing(crossing, state))

    async def own_usage(self, principal: str, since: str) -> list[Used]:
        return await self._run(lambda books: books.own_usage(principal, since))

    async def count_refusals(self, counts: Mapping[tuple[str, str], int]) -> None:
        await self._run(lambda books: books.count_refusals(counts))

    async def keep_currency(self, currency: str) -> None:
        await self._run(lambda books: books.keep_currency(currency))

    def now(self) -> int:
        """The time of this machine's clock."""
        return self._clock()

    async def check(self) -> None:
        """Write to the file without changing its contents."""
        await self._run(RowBooks.touch)

    async def survey(self) -> SQLiteSurvey:
        """Examine the file and its directory. Creates and changes nothing."""
        look_at = partial(look, busy_timeout=self.busy_timeout, wal_is_safe=self.wal_is_safe)
        return await anyio.to_thread.run_sync(look_at, self.path)

    def audit(self) -> SQLiteAudit:
        """The same books, for an audit."""
        file = partial(self._file, any_thread=True)
        adopted = partial(adopt, self.path, self.busy_timeout)
        return SQLiteAudit(file, self._run, self._clock, self._keep, adopted)

    async def aclose(self) -> None:
        """Finish waiting operations, for at most 5 s, and close the file and its thread.

        A later operation opens it again.
        """
        with self._lock:
            threads = self._stop()
        if threads:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(_join, threads)

    async def _run(self, operation: Callable[[RowBooks], _T]) -> _T:
        with self._lock:
            completion = (self._usable_writer() or self._start()).put(operation)
        return await completion.wait()

    def _usable_writer(self) -> Writer | None:
        """The writer, or None if there is none or the interpreter's exit has stopped it."""
        return self._writer if self._writer is not None and self._finalizer.alive else None

    def _start(self) -> Writer:
        self._writer = writer = Writer(self._file())
        # The thread of a ledger that was not closed ends with the ledger.
        self._finalizer = weakref.finalize(self, writer.stop)
        return writer

    def _stop(self) -> list[threading.Thread]:
        """Stop the writer. Returns all threads that have not ended yet, including those that
        another task is closing.
        """
        writer, self._writer = self._writer, None
        if writer is not None:
            # detach(): after a fork, the finalizer's lock may be held by a thread that is gone.
            self._finalizer.detach()
            writer.stop()
            self._ending.append(writer.thread)
        self._ending = [thread for thread in self._ending if thread.is_alive()]
        return self._ending.copy()

    def _guard_forks(self) -> None:
        """Close the file before a fork, so that parent and child each open it for themselves. This
        includes a file that another thread is about to open.

        A child that inherits an open file treats its parent's locks as its own, even on a
        connection that it opens itself, and loses its writes:
        https://sqlite.org/howtocorrupt.html, section 2.6.
        """
        before, after = weakref.WeakMethod(self._before_fork), weakref.WeakMethod(self._after_fork)
        os.register_at_fork(
            before=lambda: _call(before),
            after_in_parent=lambda: _call(after),
            after_in_child=lambda: _call(after),
        )

    def _before_fork(self) -> None:
        self._lock.acquire()
        _join(self._stop())

    def _after_fork(self) -> None:
        self._lock.release()


def _settle(books: RowBooks, hold: Hold, charge: Charge) -> Settlement:
    admitted = books.hold(hold.id) is not None
    settlement = model.settle(books, hold, charge, books.now)
    if settlement.first:
        books.note_turn(hold, charge, admitted=admitted)
    return settlement


def _join(threads: list[threading.Thread]) -> None:
    give_up = monotonic() + _CLOSE_TIMEOUT
    for thread in threads:
        thread.join(max(0, give_up - monotonic()))


def _call(method: "weakref.WeakMethod[Callable[[], None]]") -> None:
    alive = method()
    if alive is not None:
        alive()
