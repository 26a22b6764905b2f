"""RunWriter: a run on its way into the log, for readers elsewhere and those who come later."""

import logging
from typing import Final

import anyio

from chatnest.errors import ChatNestError, InternalError, LedgerUnavailable, RunCancelled
from chatnest.events import Done
from chatnest.runs.base import Batch, Claim, RunEnd, RunLog
from chatnest.runs.entries import write_batch
from chatnest.runs.known import LEASE
from chatnest.runs.run import Run
from chatnest.streams.generation import Generation
from chatnest.turn import Turn

__all__ = ["RunWriter"]

_log = logging.getLogger("chatnest.runs")

_BATCH_SECONDS: Final = 0.05


class RunWriter:
    """Writes ``run`` to the log while ``generation`` writes the answer."""

    def __init__(self, generation: Generation, run: Run, log: RunLog) -> None:
        self._generation = generation
        self._run = run
        self._run_log = log
        self._key = run.key
        self._written = 0  # the last event that is in the log
        self._unsure: Batch | None = None  # not acknowledged, so it may be there or not
        self._log_is_away = False

    async def write_down(self) -> None:
        """Keep the log up to date, in batches, and do what its signals say."""
        run = self._run
        while run.end is None:
            try:
                await self._append(self._run_log.poll_seconds)
            except LedgerUnavailable:
                if not self._log_is_away:
                    _log.warning("run %s: its log is away, others cannot follow it", run.run_id)
                self._log_is_away = True
            await anyio.sleep(_BATCH_SECONDS)

    async def close(self) -> None:
        """Record the end, or drop a run that has cost nothing and has no events."""
        run, turn = self._run, self._generation.turn
        failed = run.unstarted or self._generation.failed(
            self._generation.stopped or InternalError()
        )
        try:
            if not run.said and not turn.charged and not isinstance(run.end, Done):
                await self._run_log.drop(run.run_id)
                return
            run.conclude(failed)
            await self._append_all()
            while not await self._run_log.finish(run.run_id, _end(turn, failed.error)):
                await self._claim_again()
                await self._append_all()
        except LedgerUnavailable:
            _log.warning("run %s: its log is away, its end is not recorded", run.run_id)
        finally:
            if run.end is None:
                run.refuse(failed)

    async def _append_all(self) -> None:
        while self._written < self._run.last:
            await self._append(0)

    async def _append(self, wait: float) -> None:
        """Add what is new. A batch that was not acknowledged is repeated as it was."""
        run, batch = self._run, self._unsure
        if batch is None and (entries := await run.news(self._written, wait)):
            last = max(self._written, run.dropped) + len(entries)
            first = last - len(entries) + 1
            batch = self._unsure = Batch(first=first, count=len(entries), data=write_batch(entries))
        signals = await self._run_log.append(run.run_id, batch, lease=LEASE)
        self._log_is_away = False
        if signals.forgotten:
            await self._claim_again()
            return
        if batch is not None:
            self._written, self._unsure = batch.first + batch.count - 1, None
        if signals.read:
            run.read_elsewhere()
        if signals.cancelled:
            self._generation.stop(RunCancelled())

    async def _claim_again(self) -> None:
        """The log has lost the run, which nobody has cancelled: claim it again, and write down all
        that is kept here.

        A request that has claimed the key in the meantime keeps it. This run then goes on without
        the key, for those who have its id.
        """
        self._unsure, self._written = None, 0
        claim = await self._claim()
        if not claim.mine:
            self._key = None
            await self._claim()
        _log.warning("run %s: its log had lost it, and was given it again", self._run.run_id)

    async def _claim(self) -> Claim:
        run = self._run
        return await self._run_log.claim(
            self._key,
            owner=run.owner,
            fingerprint=run.fingerprint,
            run_id=run.run_id,
            lease=LEASE,
        )


def _end(turn: Turn, cause: ChatNestError) -> RunEnd:
    return RunEnd(outcome=turn.outcome or cause.code, charged=turn.charged, source=turn.source)
