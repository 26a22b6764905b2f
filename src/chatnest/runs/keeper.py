"""LogKeeper: keeps the log of all runs of an event loop, with one operation for many of them."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from functools import partial
from typing import Final

import anyio
from anyio import CancelScope, WouldBlock
from anyio.abc import TaskGroup

from chatnest.errors import LedgerUnavailable
from chatnest.runs.known import LEASE, KnownRuns
from chatnest.runs.writer import RunWriter

__all__ = ["LogKeeper"]

_log = logging.getLogger("chatnest.runs")

_LIVE_SECONDS: Final = 0.05
"""Seconds between two looks for signals while a run is read at another worker."""

_AT_ONCE: Final = 100
"""Maximum runs of one append: other workers wait for its transaction."""


class LogKeeper:
    """Appends the events of runs to the log, renews their leases, and obeys the log's signals.

    One task looks after all runs. It belongs to the task group of one of them; when that run ends,
    or is cancelled, a task in the group of another run takes over.
    """

    def __init__(self, known: KnownRuns) -> None:
        self._known = known
        self._log = known.log
        self._writers: dict[str, RunWriter] = {}
        self._groups: dict[str, TaskGroup] = {}  # of the runs whose group may have the task
        self._task: tuple[str, CancelScope] | None = None  # by the id of its run
        self._look_at = 0.0
        self._is_unavailable = False

    @contextmanager
    def keeping(self, writer: RunWriter, tasks: TaskGroup) -> Iterator[None]:
        """Keep the log of a run within this block, perhaps by a task in ``tasks``."""
        run_id = writer.run.run_id
        self._writers[run_id] = writer
        self._groups[run_id] = tasks
        try:
            if self._task is None:
                self._start()
            yield
        finally:
            del self._writers[run_id]
            self._groups.pop(run_id, None)
            if self._task is not None and self._task[0] == run_id:
                self._task[1].cancel()
                self._start()

    def _start(self) -> None:
        """Start the task in the group of the oldest run."""
        self._task = None
        for run_id, tasks in self._groups.items():
            self._task = run_id, (scope := CancelScope())
            tasks.start_soon(self._look_after_all, run_id, scope)
            break

    async def _look_after_all(self, run_id: str, scope: CancelScope) -> None:
        try:
            with scope:
                now = anyio.current_time()
                if self._look_at < now:  # no run was kept until now
                    self._look_at = now + self._log.poll_seconds
                while True:
                    await anyio.sleep_until(self._look_at)
                    await self._look()
        finally:
            if self._task == (run_id, scope):  # its whole group was cancelled
                self._groups.pop(run_id, None)
                self._start()

    async def _look(self) -> None:
        now = anyio.current_time()
        self._look_at = now + self._log.poll_seconds
        try:
            await self._obey_signals()
            if any(writer.run.read_at(now) for writer in self._writers.values()):
                self._look_at = now + min(self._log.poll_seconds, _LIVE_SECONDS)
            await self._append_due(anyio.current_time())
        except LedgerUnavailable:
            if not self._is_unavailable:
                _log.warning(
                    "run log unavailable: runs=%d. Other workers cannot follow them.",
                    len(self._writers),
                )
            self._is_unavailable = True
        except Exception:  # noqa: BLE001  # a custom log may raise anything; answers continue
            if not self._is_unavailable:
                _log.exception("run log failed: runs=%d", len(self._writers))
            self._is_unavailable = True
        else:
            self._is_unavailable = False

    async def _obey_signals(self) -> None:
        found = await self._known.ask(partial(self._log.signals, list(self._writers)))
        forgotten: list[RunWriter] = []
        for run_id, signals in found.items():
            writer = self._writers.get(run_id)
            if writer is None:
                continue  # it has ended since
            if signals.forgotten:
                forgotten.append(writer)
            else:
                writer.obey(signals)
        await self._claim_again(forgotten)

    async def _append_due(self, now: float) -> None:
        due = [writer for writer in self._writers.values() if writer.is_due(now)]
        while due:
            some, due = due[:_AT_ONCE], due[_AT_ONCE:]
            await self._append(some)
            due += [writer for writer in some if self._is_kept(writer) and writer.has_more]

    async def _append(self, writers: Sequence[RunWriter]) -> None:
        """Append a batch of each run, except of those that are being closed."""
        async with AsyncExitStack() as stack:
            held = [writer for writer in writers if self._hold(writer, stack)]
            batches = {writer.run.run_id: writer.next_batch() for writer in held}
            if not batches:
                return
            unknown = await self._known.ask(partial(self._log.append, batches, lease=LEASE))
            now = anyio.current_time()
            for writer in held:
                if writer.run.run_id not in unknown:
                    writer.appended(batches[writer.run.run_id], now)
        await self._claim_again([w for w in held if w.run.run_id in unknown])

    async def _claim_again(self, writers: Sequence[RunWriter]) -> None:
        """Claim the runs that the log has lost. A later append writes their kept events again."""
        if not writers:
            return
        async with anyio.create_task_group() as tasks:
            for writer in writers:
                tasks.start_soon(self._claim_one_again, writer)

    async def _claim_one_again(self, writer: RunWriter) -> None:
        async with AsyncExitStack() as stack:
            if self._hold(writer, stack):
                with suppress(LedgerUnavailable):  # the next look finds it forgotten once more
                    await self._known.ask(writer.claim_again)

    def _is_kept(self, writer: RunWriter) -> bool:
        return self._writers.get(writer.run.run_id) is writer

    def _hold(self, writer: RunWriter, stack: AsyncExitStack) -> bool:
        """Take the lock of a run until ``stack`` ends, unless the run is being closed."""
        if not self._is_kept(writer):
            return False
        try:
            writer.lock.acquire_nowait()
        except WouldBlock:
            return False
        stack.callback(writer.lock.release)
        return True
