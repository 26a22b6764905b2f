"""Writer: the thread that reads and writes a ledger's file, for all tasks and event loops."""

import contextlib
import queue
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final, Generic, TypeVar

import anyio
from anyio.lowlevel import EventLoopToken, current_token

from chatnest._util.loops import call_soon
from chatnest.errors import LedgerUnavailable
from chatnest.ledger.sqlite.books import RowBooks
from chatnest.ledger.sqlite.file import BookFile
from chatnest.stores.survey import StoreChanged

__all__ = ["Completion", "Writer"]

_T = TypeVar("_T")

_GROUP: Final = 128
"""Maximum operations that share one commit."""

_PRUNE_EVERY: Final = 256
"""Operations after which old rows are deleted."""

_PRUNE_SECONDS: Final = 60.0
"""Seconds after which old rows are deleted, even without operations."""

_TEND_SECONDS: Final = 0.5
"""Seconds between checks of the file."""


class Completion(Generic[_T]):
    """An operation, and the task that waits for its result on its own event loop."""

    __slots__ = ("_done", "answer", "failure", "home", "operation")

    def __init__(self, operation: Callable[[RowBooks], _T]) -> None:
        self.operation: Callable[[RowBooks], _T] = operation
        self.home: EventLoopToken = current_token()
        self.answer: Any = None
        self.failure: Exception | None = None
        self._done = anyio.Event()

    async def wait(self) -> _T:
        """The operation's result. Raises LedgerUnavailable for a fault of the file."""
        await self._done.wait()
        failure = self.failure
        if failure is not None:
            if _is_fault_of_file(failure):
                raise LedgerUnavailable from failure
            raise failure
        answer: _T = self.answer
        return answer

    def wake(self) -> None:
        """Wake the task. To be called on its own event loop."""
        self._done.set()


class Writer:
    """Runs operations in its thread. Operations that begin in one iteration of an event loop reach
    the thread together, and all that wait there share a commit.
    """

    def __init__(self, file: BookFile) -> None:
        self._file = file
        self._lock = threading.RLock()  # a finalizer may run anywhere
        self._begun: dict[object, list[Completion[Any]]] = {}  # by event loop
        self._queue: queue.SimpleQueue[list[Completion[Any]] | None] = queue.SimpleQueue()
        self._waiting: deque[Completion[Any]] = deque()
        self._stopped = False
        self._unpruned = _PRUNE_EVERY
        self._tend_at = time.monotonic() + _TEND_SECONDS
        self._prune_at = time.monotonic() + _PRUNE_SECONDS
        self.thread: threading.Thread = threading.Thread(
            target=self._loop, name="chatnest-ledger", daemon=True
        )
        self.thread.start()

    def put(self, operation: Callable[[RowBooks], _T]) -> Completion[_T]:
        """Run the operation in the thread, unless the writer was stopped."""
        completion = Completion(operation)
        with self._lock:
            begun = self._begun.get(completion.home.native_token)
            if begun is not None:
                begun.append(completion)
                return completion
            self._begun[completion.home.native_token] = [completion]
        call_soon(completion.home, self._hand_over)
        return completion

    def stop(self) -> None:
        """End the thread after all earlier operations."""
        with self._lock:
            self._hand_over()
            self._queue.put(None)

    def _hand_over(self) -> None:
        """Hand over the operations of all event loops, since one of these may have ended."""
        with self._lock:
            begun, self._begun = self._begun, {}
            for completions in begun.values():
                self._queue.put(completions)

    # ------------------------------------------------ in the thread

    def _loop(self) -> None:
        while self._wait():
            self._commit([self._waiting.popleft() for _ in range(min(_GROUP, len(self._waiting)))])
        self._file.close()

    def _wait(self) -> bool:
        """Wait for operations. Returns False at the end."""
        self._tend()
        while not self._waiting and not self._stopped:
            with contextlib.suppress(queue.Empty):
                self._take(self._queue.get(timeout=max(0, self._tend_at - time.monotonic())))
            self._tend()
        self._take_all()
        return bool(self._waiting)

    def _take_all(self) -> None:
        with contextlib.suppress(queue.Empty):
            while not self._stopped:
                self._take(self._queue.get_nowait())

    def _take(self, completions: list[Completion[Any]] | None) -> None:
        if completions is None:  # stop() sends it last
            self._stopped = True
        else:
            self._waiting += completions

    def _commit(self, group: list[Completion[Any]]) -> None:
        attempts = deque([group])
        while attempts:
            attempt = attempts.popleft()
            try:
                answers = self._file.transact([completion.operation for completion in attempt])
            except Exception as exc:  # noqa: BLE001  # the waiting tasks get it
                if _is_fault_of_file(exc):
                    # Operations in the queue have waited as long for the lock. They fail as well,
                    # instead of waiting a second time.
                    self._take_all()
                    attempt += [completion for others in attempts for completion in others]
                    _fail([*attempt, *self._waiting], exc)
                    self._waiting.clear()
                    return
                if len(attempt) == 1:
                    _fail(attempt, exc)
                else:
                    attempts.extend([completion] for completion in attempt)
            else:
                for completion, answer in zip(attempt, answers, strict=True):
                    completion.answer = answer
                _wake_all(attempt)
                self._prune_now_and_then(len(attempt))

    def _tend(self) -> None:
        """Check the file when it is time, even without operations."""
        now = time.monotonic()
        if now < self._tend_at:
            return
        with contextlib.suppress(Exception):  # the next operation reports it
            self._file.tend()
            if now >= self._prune_at:
                more = self._file.prune()
                self._prune_at = now + (0 if more else _PRUNE_SECONDS)
        self._tend_at = time.monotonic() + _TEND_SECONDS

    def _prune_now_and_then(self, operations: int) -> None:
        self._unpruned += operations
        if self._unpruned >= _PRUNE_EVERY:
            self._unpruned = 0
            with contextlib.suppress(Exception):  # the next operation reports it
                self._file.prune()


def _is_fault_of_file(failure: Exception) -> bool:
    """Whether it is a fault of the file, and not of the values of one operation."""
    return isinstance(failure, StoreChanged | sqlite3.Error) and not isinstance(
        failure, sqlite3.IntegrityError | sqlite3.DataError | sqlite3.ProgrammingError
    )


def _fail(completions: Iterable[Completion[Any]], failure: Exception) -> None:
    for completion in completions:
        completion.failure = failure
    _wake_all(completions)


def _wake_all(completions: Iterable[Completion[Any]]) -> None:
    """Wake the waiting tasks, those of each event loop in one iteration."""
    by_loop: dict[object, list[Completion[Any]]] = {}
    for completion in completions:
        by_loop.setdefault(completion.home.native_token, []).append(completion)
    for group in by_loop.values():
        with contextlib.suppress(RuntimeError):  # the loop is closed, and its tasks have ended
            call_soon(group[0].home, _wake, group)


def _wake(completions: Iterable[Completion[Any]]) -> None:
    for completion in completions:
        completion.wake()
