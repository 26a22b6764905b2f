"""SQLiteLedger: books in a file, for the workers of one machine, kept over restarts."""

import contextlib
import os
import queue
import sqlite3
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from typing import Any, ClassVar, Final, Generic, Literal, TypeVar

import anyio
import anyio.lowlevel
import anyio.to_thread

from chatnest.errors import ConfigurationError, LedgerUnavailable
from chatnest.ledger import model
from chatnest.ledger._sqlite_audit import SQLiteAudit
from chatnest.ledger._sqlite_books import RowBooks
from chatnest.ledger._sqlite_file import BookFile
from chatnest.ledger._sqlite_survey import look
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
from chatnest.ledger.survey import SQLiteSurvey

__all__ = ["SQLiteLedger"]

_T = TypeVar("_T")

_GROUP: Final = 128
"""Operations that share one commit, at most."""

_PRUNE_EVERY: Final = 256
"""Operations after which something old is forgotten."""

_CLOSE_TIMEOUT: Final = 5.0


def _wal_is_safe(version: tuple[int, ...]) -> bool:
    """Whether the WAL-reset bug, by which several writers can corrupt a file, is mended:
    https://sqlite.org/wal.html.
    """
    return (
        version >= (3, 51, 3) or (3, 50, 7) <= version < (3, 51) or (3, 44, 6) <= version < (3, 45)
    )


class SQLiteLedger:
    """Limits that hold for all processes that use one file, and over restarts.

    ``path`` is a file in a directory that exists, on a local disk. ``clock`` gives milliseconds
    since the epoch. ``synchronous``: with FULL, an answer that was given survives a loss of
    power; with NORMAL the last ones may be undone by it, not by the end of a process.
    ``busy_timeout`` is in seconds: how long an operation waits for other processes before it
    raises LedgerUnavailable. Figures, ended holds and turns are forgotten after ``keep_days``;
    no window of a rate may be longer than that.

    Raises ConfigurationError, at the first operation, for a path that cannot be used. Usable
    from several threads and event loops. One thread writes; what waits for it shares a commit.
    """

    wal_is_safe: ClassVar[bool] = _wal_is_safe(sqlite3.sqlite_version_info)
    """Whether this SQLite lets several processes write one file without a known danger to it."""

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
            raise ConfigurationError("SQLiteLedger needs a file. Use MemoryLedger for memory.")
        if synchronous not in {"FULL", "NORMAL"}:
            raise ConfigurationError("SQLiteLedger's synchronous is either FULL or NORMAL.")
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
        self._writer: _Writer | None = None
        self._guarded = False

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

    def now(self) -> int:
        """By this machine's clock."""
        return self._clock()

    async def check(self) -> None:
        """Take the file's write lock, and give it back."""
        await self._run(lambda _: None)

    async def survey(self) -> SQLiteSurvey:
        """What there is to say about the file and its place. Makes and changes nothing."""
        look_at = partial(look, busy_timeout=self.busy_timeout, wal_is_safe=self.wal_is_safe)
        return await anyio.to_thread.run_sync(look_at, self.path)

    def audit(self) -> SQLiteAudit:
        """The same books, for those who look after them."""
        file = partial(self._file, any_thread=True)
        return SQLiteAudit(file, self._run, self._clock, self._keep)

    async def aclose(self) -> None:
        """Finish what waits, for at most 5 s, and let go of the file and the thread.

        A later operation opens it again.
        """
        with self._lock:
            thread = self._stop()
        if thread is not None:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(thread.join, _CLOSE_TIMEOUT)

    async def _run(self, operation: Callable[[RowBooks], _T]) -> _T:
        completion = _Completion(operation)
        with self._lock:
            writer = self._writer or self._start()
            writer.put(completion)
        return await completion.wait()

    def _start(self) -> "_Writer":
        self._writer = writer = _Writer(self._file())
        # A ledger that nobody closed takes its thread with it.
        weakref.finalize(self, writer.put, None)
        if not self._guarded and hasattr(os, "register_at_fork"):
            self._guarded = True
            self._guard_forks()
        return writer

    def _stop(self) -> threading.Thread | None:
        writer, self._writer = self._writer, None
        if writer is None:
            return None
        writer.put(None)
        return writer.thread

    def _guard_forks(self) -> None:
        """Close the file before a fork, so that parent and child each open it for themselves.

        A child that inherits an open file takes its parent's locks for its own, even on a
        connection which it opens itself, and loses what it writes:
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
        thread = self._stop()
        if thread is not None:
            thread.join(_CLOSE_TIMEOUT)

    def _after_fork(self) -> None:
        self._lock.release()


def _settle(books: RowBooks, hold: Hold, charge: Charge) -> Settlement:
    admitted = books.hold(hold.id) is not None
    settlement = model.settle(books, hold, charge, books.now)
    if settlement.first:
        books.note_turn(hold, charge, admitted=admitted)
    return settlement


def _call(method: "weakref.WeakMethod[Callable[[], None]]") -> None:
    alive = method()
    if alive is not None:
        alive()


def _is_fault_of_file(failure: Exception) -> bool:
    """Or else of the values of one operation."""
    return isinstance(failure, sqlite3.Error) and not isinstance(
        failure, sqlite3.IntegrityError | sqlite3.DataError | sqlite3.ProgrammingError
    )


class _Completion(Generic[_T]):
    """An operation, and the task that waits for what comes of it on its own event loop."""

    def __init__(self, operation: Callable[[RowBooks], _T]) -> None:
        self.operation = operation
        self._done = anyio.Event()
        loop: Any = anyio.lowlevel.current_token().native_token
        # asyncio's event loop, or trio's token
        self._call = getattr(loop, "call_soon_threadsafe", None) or loop.run_sync_soon
        self._answer: Any = None
        self._failure: Exception | None = None

    async def wait(self) -> _T:
        await self._done.wait()
        failure = self._failure
        if failure is not None:
            if _is_fault_of_file(failure):
                raise LedgerUnavailable from failure
            raise failure
        answer: _T = self._answer
        return answer

    def answer(self, answer: object) -> None:
        self._answer = answer
        self._tell()

    def fail(self, failure: Exception) -> None:
        self._failure = failure
        self._tell()

    def _tell(self) -> None:
        with contextlib.suppress(RuntimeError):  # that loop is closed: nobody waits any more
            self._call(self._done.set)


class _Writer:
    """The one thread that reads and writes the file, until it is given None."""

    def __init__(self, file: BookFile) -> None:
        self._file = file
        self._queue: queue.SimpleQueue[_Completion[Any] | None] = queue.SimpleQueue()
        self._unpruned = _PRUNE_EVERY
        self.thread = threading.Thread(target=self._loop, name="chatnest-ledger", daemon=True)
        self.thread.start()

    def put(self, completion: "_Completion[Any] | None") -> None:
        self._queue.put(completion)

    def _loop(self) -> None:
        while group := self._next_group():
            self._commit(group)
        self._file.close()

    def _next_group(self) -> "list[_Completion[Any]]":
        """Wait for one operation, and take what waits behind it; empty at the end."""
        first = self._queue.get()
        return [] if first is None else [first, *self._waiting(_GROUP - 1)]

    def _waiting(self, most: int) -> "Iterator[_Completion[Any]]":
        for _ in range(min(most, self._queue.qsize())):
            completion = self._queue.get()
            if completion is None:
                self._queue.put(None)  # nothing comes after it
                return
            yield completion

    def _commit(self, group: "list[_Completion[Any]]") -> None:
        attempts = deque([group])
        while attempts:
            attempt = attempts.popleft()
            try:
                answers = self._file.transact([completion.operation for completion in attempt])
            except Exception as exc:  # noqa: BLE001  # it goes to whoever waits for it
                if _is_fault_of_file(exc):
                    # Those behind have waited as long as for a lock: they wait no second time.
                    attempts.append(list(self._waiting(self._queue.qsize())))
                    for completion in chain(attempt, *attempts):
                        completion.fail(exc)
                    return
                if len(attempt) == 1:
                    attempt[0].fail(exc)
                else:
                    attempts.extend([completion] for completion in attempt)
            else:
                for completion, answer in zip(attempt, answers, strict=True):
                    completion.answer(answer)
                self._prune_now_and_then(len(attempt))

    def _prune_now_and_then(self, operations: int) -> None:
        self._unpruned += operations
        if self._unpruned >= _PRUNE_EVERY:
            self._unpruned = 0
            with contextlib.suppress(Exception):  # the next operation will tell
                self._file.prune()
