"""Runs: begin a run or join one, follow it, write it down, and cancel it."""

import logging
import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Final, TypeVar

import anyio
from anyio import CancelScope, move_on_after
from anyio.abc import TaskGroup
from anyio.lowlevel import RunVar

from chatnest.bounds import Bounds
from chatnest.draining import OpenStreams
from chatnest.errors import (
    ChatNestError,
    InternalError,
    InvalidRequest,
    KeyReused,
    LedgerUnavailable,
    NotFound,
    ReplayUnavailable,
    RunCancelled,
    RunLost,
)
from chatnest.events import Delta, Done, Failed
from chatnest.request import ChatRequest
from chatnest.runs.base import Batch, Claim, Page, RunEnd, RunLog, RunSettings
from chatnest.runs.entries import Entry, read_batch, write_batch
from chatnest.runs.key import fingerprint, hold_id, key_id
from chatnest.runs.run import Run
from chatnest.streaming import Stream
from chatnest.turn import Turn

__all__ = ["RunWriter", "Runs", "WriteRun"]

_log = logging.getLogger("chatnest.runs")
_T = TypeVar("_T")

_LEASE: Final = 6.0
"""Seconds without a word after which a worker counts as dead."""

_BATCH_SECONDS: Final = 0.05
_POLL_SECONDS: Final = 0.05
_CANCEL_SECONDS: Final = 10.0
_CLAIMS: Final = 20
"""Of a key whose run was refused elsewhere in the same moment, one after the other."""


class RunWriter:
    """What writes a run: to ``stream``, under the hold ``hold_id``. Who writes sets ``turn``."""

    def __init__(self, hold_id: str, stream: Stream) -> None:
        self.hold_id = hold_id
        self.stream = stream
        self.turn: Turn | None = None
        self.failure: ChatNestError | None = None
        self.written = 0
        """The last event that is in the log."""
        self.log_is_away = False

    @property
    def cause(self) -> ChatNestError:
        """Why it has no last event, where it has none."""
        return self.failure or self.stream.stopped or InternalError()


WriteRun = Callable[[RunWriter], Awaitable[Done]]


class Runs:
    """The runs of an application. Those that are written on this event loop are followed directly,
    all others by their log.
    """

    def __init__(
        self, log: RunLog, settings: RunSettings, bounds: Bounds, streams: OpenStreams, lease: float
    ) -> None:
        self.log = log
        self.settings = settings
        self._bounds = bounds
        self._streams = streams
        self._renew_seconds = lease / 3
        self._here: RunVar[dict[str, Run]] = RunVar(f"chatnest_runs_{id(self)}")

    # ------------------------------------------------ a request

    async def answer(
        self,
        stream: Stream,
        hosts: TaskGroup,
        write: WriteRun,
        *,
        principal: str,
        key: str | None,
        request: ChatRequest,
        run_id: str,
        realm: str,
    ) -> Done:
        """Begin a run in ``hosts``, or join the one of ``key``, and follow it to its end.

        ``realm`` tells chats apart that share a store. Raises KeyReused for a key of another
        request, and whatever ended the run.
        """
        linger = self._linger(key, request)
        place = None if key is None else key_id(realm, principal, key)
        print_ = fingerprint(request)
        claim_one = partial(
            self.log.claim, place, owner=principal, fingerprint=print_, run_id=run_id, lease=_LEASE
        )
        for _ in range(_CLAIMS):
            claim = await self._claim(claim_one, run_id)
            if claim.fingerprint != print_:
                raise KeyReused
            stream.headers["ChatNest-Run-Id"] = claim.run_id
            if claim.mine:
                run = Run(claim.run_id, linger=linger, max_bytes=self.settings.max_bytes)
                self._local()[claim.run_id] = run
                name = run_id if place is None else hold_id(place, run_id)
                hosts.start_soon(self._host, run, name, write)
            else:
                stream.headers["Idempotency-Replayed"] = "true"
            try:
                return await self.follow(claim.run_id, stream, principal=principal, after=0)
            except NotFound:  # it was refused elsewhere, so the key is free
                if claim.mine:
                    raise
            await anyio.sleep(_POLL_SECONDS)
        raise LedgerUnavailable

    async def _claim(self, claim_one: Callable[[], Awaitable[Claim]], run_id: str) -> Claim:
        """Whatever keeps the answer from coming, no key leads to a run that nobody writes."""
        try:
            return await self._asked(claim_one)
        except BaseException:
            with CancelScope(shield=True), suppress(LedgerUnavailable):
                await self._asked(partial(self.log.drop, run_id))
            raise

    def _linger(self, key: str | None, request: ChatRequest) -> float:
        if request.linger is None:
            return self.settings.linger if key is not None else 0.0
        if key is None:
            raise InvalidRequest("linger: needs an Idempotency-Key, by which to come back.")
        return min(request.linger, self.settings.max_linger)

    async def owned(self, run_id: str, principal: str, after: int) -> Page:
        """What is known of a run. Raises NotFound for somebody else's, and for none."""
        page = await self._asked(partial(self.log.read, run_id, after, owner=principal))
        if page is None:
            raise NotFound
        return page

    async def follow(self, run_id: str, stream: Stream, *, principal: str, after: int) -> Done:
        """Write a run's events after a number to a stream of its owner's, until it has ended.
        Raises what it ended by, ReplayUnavailable, RunLost, or NotFound.
        """
        stream.call_model()
        run = self._local().get(run_id)
        if run is not None:
            return await _follow_here(run, stream, after)
        while True:
            page = await self.owned(run_id, principal, after)
            if after < page.dropped:
                raise ReplayUnavailable
            for batch in page.batches:
                entries = read_batch(batch.data)[max(0, after + 1 - batch.first) :]
                if (done := await _hand_on(entries, stream, after)) is not None:
                    return done
                after += len(entries)
            if page.end is not None and after >= page.last:
                return await self._last(run_id, stream, principal, page.last)
            if page.lost:
                raise RunLost
            await stream.put([])
            await anyio.sleep(_POLL_SECONDS)

    async def _last(self, run_id: str, stream: Stream, principal: str, number: int) -> Done:
        """The last event once more, for a reader who has seen it: the stream needs an end."""
        page = await self.owned(run_id, principal, number - 1)
        entries = read_batch(page.batches[-1].data) if page.batches else []
        if (done := await _hand_on(entries[-1:], stream, number - 1)) is None:
            raise RunLost
        return done

    async def cancel(self, run_id: str, principal: str) -> dict[str, object]:
        """End a run, and say what came of it: a receipt. Raises NotFound."""
        page = await self.owned(run_id, principal, after=1 << 62)
        was_running = page.end is None and not page.lost
        if was_running:
            run = self._local().get(run_id)
            if run is not None and run.stream is not None:
                run.stream.stop(RunCancelled())
            else:
                await self._asked(partial(self.log.cancel, run_id))
            with move_on_after(_CANCEL_SECONDS):
                while page.end is None and not page.lost:
                    await anyio.sleep(_POLL_SECONDS / 5)
                    page = await self.owned(run_id, principal, after=1 << 62)
        receipt: dict[str, object] = {"run_id": run_id, "was_running": was_running}
        if page.end is not None:
            end = page.end
            receipt |= {"outcome": end.outcome, "charged": end.charged, "source": end.source}
        else:
            receipt |= {"outcome": "run_lost" if page.lost else "running"}
        return receipt

    async def _asked(self, operation: Callable[[], Awaitable[_T]]) -> _T:
        try:
            with anyio.fail_after(self._bounds.ledger_seconds):
                return await operation()
        except TimeoutError:
            raise LedgerUnavailable from None

    def _local(self) -> dict[str, Run]:
        try:
            return self._here.get()
        except LookupError:
            runs: dict[str, Run] = {}
            self._here.set(runs)
            return runs

    # ------------------------------------------------ a run

    async def _host(self, run: Run, hold: str, write: WriteRun) -> None:
        """Write a run, whoever reads it, and its log."""
        stream = run.stream = Stream(
            {"type": "http"},
            run.receive,
            run.send,
            wire=run,
            bounds=self._bounds,
            ping_seconds=math.inf,
            renew_seconds=self._renew_seconds,
            request_id=run.run_id,
        )
        writer = RunWriter(hold, stream)

        async def answer(_: Stream) -> Done:
            try:
                return await write(writer)
            except ChatNestError as exc:
                writer.failure = exc
                raise

        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._write_down, run, writer)
                async with self._streams.holding(stream):
                    await stream.run(answer)
                tasks.cancel_scope.cancel()
        finally:
            with move_on_after(self._bounds.settle_seconds, shield=True):
                await self._close(run, writer)
            self._local().pop(run.run_id, None)

    async def _close(self, run: Run, writer: RunWriter) -> None:
        turn, cause = writer.turn, writer.cause
        try:
            if not run.said and (turn is None or not turn.charged):
                await self.log.drop(run.run_id)
                return
            run.ensure_end(cause)
            await self._append(run, writer, 0)
            await self.log.finish(run.run_id, _end(turn, cause))
        except LedgerUnavailable:
            _log.warning("run %s: its log is away, its end is not recorded", run.run_id)
        finally:
            if run.end is None:
                run.refuse(cause)

    async def _write_down(self, run: Run, writer: RunWriter) -> None:
        """Keep the log up to date, in batches, and do what its signals say."""
        while run.end is None:
            try:
                await self._append(run, writer, self.log.poll_seconds)
            except LedgerUnavailable:
                if not writer.log_is_away:
                    _log.warning("run %s: its log is away, others cannot follow it", run.run_id)
                writer.log_is_away = True
            await anyio.sleep(_BATCH_SECONDS)

    async def _append(self, run: Run, writer: RunWriter, wait: float) -> None:
        entries = await run.news(writer.written, wait)
        batch = None
        if entries:
            last = max(writer.written, run.dropped) + len(entries)
            first = last - len(entries) + 1
            batch = Batch(first=first, count=len(entries), data=write_batch(entries))
        signals = await self.log.append(run.run_id, batch, lease=_LEASE)
        writer.log_is_away = False
        if batch is not None:
            writer.written = batch.first + batch.count - 1
        if signals.read:
            run.read_elsewhere()
        if signals.cancelled:
            writer.stream.stop(RunCancelled())


def _end(turn: Turn | None, cause: ChatNestError) -> RunEnd:
    if turn is None:
        return RunEnd(outcome=cause.code, charged=0, source="none")
    return RunEnd(outcome=turn.outcome or cause.code, charged=turn.charged, source=turn.source)


async def _follow_here(run: Run, stream: Stream, after: int) -> Done:
    with run.reading():
        await run.begun()
        if after < run.dropped:
            raise ReplayUnavailable  # before anything is said
        if run.started:
            await stream.start()
        while True:
            entries = await run.after(after)
            if not entries and run.end is not None:  # all of it was seen before
                entries, after = [run.end], run.last - 1
            if (done := await _hand_on(entries, stream, after)) is not None:
                return done
            after += len(entries)
            if not entries:
                await stream.put([])


async def _hand_on(entries: list[Entry], stream: Stream, after: int) -> Done | None:
    """Write the entries after a number, and give Done if that is the last of them. Raises what it
    failed by.
    """
    stream.number(after + 1)
    deltas = [entry for entry in entries if isinstance(entry, Delta)]
    last = entries[-1] if entries else None
    if deltas or isinstance(last, Done):
        await stream.start()
    if deltas:
        await stream.put(deltas)
    if isinstance(last, Failed):
        last.error.of_run = True
        raise last.error
    return last if isinstance(last, Done) else None
