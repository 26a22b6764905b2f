"""RunWriter: one run on its way into the log, for readers that come later or to another worker."""

import logging
from typing import Final

import anyio

from chatnest.errors import ChatNestError, InternalError, LedgerUnavailable, RunCancelled
from chatnest.events import Done
from chatnest.runs.base import Batch, Claim, RunEnd, RunLog, Signals
from chatnest.runs.entries import write_batch
from chatnest.runs.known import LEASE
from chatnest.runs.run import Run
from chatnest.streams.generation import Generation
from chatnest.turn import Turn

__all__ = ["RunWriter"]

_log = logging.getLogger("chatnest.runs")

_APPEND_SECONDS: Final = 1.0
"""Seconds between two appends of a run that is not read at another worker."""

_AT_ONCE: Final = 1_000
"""Maximum events of one batch."""


class RunWriter:
    """Writes ``run`` to the log while ``generation`` writes the answer.

    The keeper appends what ``next_batch`` returns, and calls ``appended``. At the end, ``close``
    writes the rest. Both hold ``lock``, so that batches arrive in order.
    """

    def __init__(self, generation: Generation, run: Run, log: RunLog) -> None:
        self.run: Run = run
        self.lock: anyio.Lock = anyio.Lock()
        self._generation = generation
        self._run_log = log
        self._key = run.key
        self._written = 0  # the last event that is in the log
        self._unsure: Batch | None = None  # not acknowledged, so it may be there or not
        self._due_at = anyio.current_time() + _APPEND_SECONDS
        self.has_more: bool = False
        """Whether the last batch was full, so that more events may wait."""

    # ------------------------------------------------ for the keeper

    def is_due(self, now: float) -> bool:
        """Whether the log needs an append: a renewal of the lease, or events for a reader."""
        return now >= self._due_at or (self.run.last > self._written and self.run.read_at(now))

    def next_batch(self) -> Batch | None:
        """The next events, if any. A batch that was not acknowledged is repeated as it was."""
        run = self.run
        if self._unsure is None and (entries := run.since(self._written, _AT_ONCE)):
            first = max(self._written, run.dropped) + 1
            self._unsure = Batch(first=first, count=len(entries), data=write_batch(entries))
        return self._unsure

    def appended(self, batch: Batch | None, now: float) -> None:
        """The log has ``batch``, and has renewed the lease."""
        if batch is not None:
            self._written, self._unsure = batch.last, None
        self._due_at = now + _APPEND_SECONDS
        self.has_more = batch is not None and batch.count == _AT_ONCE

    def obey(self, signals: Signals) -> None:
        """Do what readers at other workers have signalled."""
        if signals.read:
            self.run.read_elsewhere()
        if signals.cancelled:
            self._generation.stop(RunCancelled())

    async def claim_again(self) -> None:
        """Claim a run that the log has lost, although nothing cancelled it. All events that are
        still kept here are then appended again.

        A request that has claimed the key since then keeps it. This run then goes on without the
        key, for clients that have its id.
        """
        claim = await self._claim()
        if not claim.mine:
            self._key = None
            await self._claim()
        self._unsure, self._written, self._due_at = None, 0, 0.0
        _log.warning("run log lost a run: run=%s. It was claimed again.", self.run.run_id)

    # ------------------------------------------------ the end

    async def close(self) -> None:
        """Record the end, or drop a run that failed without text and without cost."""
        async with self.lock:
            await self._close()

    async def _close(self) -> None:
        run, turn = self.run, self._generation.turn
        failed = run.unstarted or self._generation.failed(
            self._generation.stopped or InternalError()
        )
        try:
            if not run.said and not turn.charged and not isinstance(run.end, Done):
                await self._run_log.drop(run.run_id)
                return
            run.conclude(failed)
            end = _end(turn, failed.error)
            while not await self._run_log.finish(run.run_id, end, await self._last_batch()):
                await self.claim_again()
        except LedgerUnavailable:
            _log.warning("run log unavailable: run=%s. Its end is not recorded.", run.run_id)
        except Exception:  # noqa: BLE001  # a custom log may raise anything; answers continue
            _log.exception("run log failed: run=%s. Its end is not recorded.", run.run_id)
        finally:
            if run.end is None:
                run.refuse(failed)

    async def _last_batch(self) -> Batch | None:
        """The batch with the last event, unless the log has it. Appends those before it."""
        while (batch := self.next_batch()) is not None and batch.last < self.run.last:
            if await self._run_log.append({self.run.run_id: batch}, lease=LEASE):
                await self.claim_again()
            else:
                self.appended(batch, anyio.current_time())
        return batch

    async def _claim(self) -> Claim:
        run = self.run
        return await self._run_log.claim(
            self._key,
            owner=run.owner,
            fingerprint=run.fingerprint,
            run_id=run.run_id,
            lease=LEASE,
        )


def _end(turn: Turn, cause: ChatNestError) -> RunEnd:
    return RunEnd(outcome=turn.outcome or cause.code, charged=turn.charged, source=turn.source)
