"""StoreThread: a thread in which a store runs the operations of all tasks and event loops."""

import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, Final, Generic, TypeVar

import anyio
from anyio.lowlevel import EventLoopToken, current_token

from chatnest._util.loops import call_soon
from chatnest.errors import LedgerUnavailable

__all__ = ["StoreThread"]

_Operation = TypeVar("_Operation")

_GROUP: Final = 128
"""Maximum operations that run together."""

_IDLE_SECONDS: Final = 10.0
"""Seconds without an operation after which the thread ends. The next operation starts it again."""


class _Job(Generic[_Operation]):
    """An operation, and the task that waits for its result on its own event loop."""

    __slots__ = ("done", "failure", "home", "operation", "result")

    def __init__(self, operation: _Operation) -> None:
        self.operation: _Operation = operation
        self.home: EventLoopToken = current_token()
        self.done = anyio.Event()
        self.result: Any = None
        self.failure: Exception | None = None


class StoreThread(Generic[_Operation]):
    """Runs operations in their order. All that wait for the thread run together, in one call of
    ``run_all``, which returns their results: for a database, in one transaction.

    If ``run_all`` raises LedgerUnavailable, all of them fail. After any other exception, which may
    be due to one of them, each runs alone.
    """

    def __init__(self, name: str, run_all: Callable[[Sequence[_Operation]], Sequence[Any]]) -> None:
        self._name = name
        self._run_all = run_all
        self._lock = threading.Lock()
        self._jobs: SimpleQueue[_Job[_Operation] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    async def run(self, operation: _Operation) -> Any:
        """The result of an operation, or its exception. It runs even if its task is cancelled."""
        job = _Job(operation)
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                # After a fork, the child has the object of a thread, and the parent's jobs.
                self._jobs = SimpleQueue()
                self._thread = threading.Thread(target=self._loop, name=self._name, daemon=True)
                self._thread.start()
            self._jobs.put(job)
        await job.done.wait()
        failure = job.failure
        if isinstance(failure, LedgerUnavailable):
            raise LedgerUnavailable from failure.__cause__  # tasks must not share an exception
        if failure is not None:
            raise failure
        return job.result

    def end(self) -> None:
        """Run what waits, and end the thread. A later operation starts it again."""
        with self._lock:
            thread = self._thread
            self._jobs.put(None)
        if thread is not None:
            thread.join()

    # ------------------------------------------------ in the thread

    def _loop(self) -> None:
        while jobs := self._next():
            self._run_together(jobs)
            _wake_all(jobs)

    def _next(self) -> list[_Job[_Operation]]:
        """Wait for jobs. Returns those that wait, or none if the thread has to end."""
        jobs: list[_Job[_Operation]] = []
        with suppress(Empty):
            job = self._jobs.get(timeout=_IDLE_SECONDS)
            while job is not None:
                jobs.append(job)
                if len(jobs) == _GROUP:
                    return jobs
                job = self._jobs.get_nowait()
            if jobs:
                self._jobs.put(None)  # the end comes after them
        if jobs:
            return jobs
        with self._lock:
            if self._jobs.empty():
                self._thread = None
                return []
        return self._next()  # a job came at the last moment

    def _run_together(self, jobs: Sequence[_Job[_Operation]]) -> None:
        try:
            results = self._run_all([job.operation for job in jobs])
        except Exception as exc:  # noqa: BLE001  # the waiting tasks get it
            if len(jobs) > 1 and not isinstance(exc, LedgerUnavailable):
                for job in jobs:
                    self._run_together([job])
                return
            for job in jobs:
                job.failure = exc
        else:
            for job, result in zip(jobs, results, strict=True):
                job.result = result


def _wake_all(jobs: Iterable[_Job[Any]]) -> None:
    """Wake the waiting tasks, those of each event loop in one iteration."""
    by_loop: dict[object, list[_Job[Any]]] = {}
    for job in jobs:
        by_loop.setdefault(job.home.native_token, []).append(job)
    for group in by_loop.values():
        with suppress(RuntimeError):  # the loop is closed, and its tasks have ended
            call_soon(group[0].home, _wake, group)


def _wake(jobs: Iterable[_Job[Any]]) -> None:
    for job in jobs:
        job.done.set()
