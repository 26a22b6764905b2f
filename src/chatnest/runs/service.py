"""Runs: begin a run or join one, follow it, write it down, and cancel it."""

import logging
import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Final, TypeVar, assert_never

import anyio
from anyio import CancelScope, move_on_after
from anyio.abc import TaskGroup
from anyio.lowlevel import RunVar

from chatnest.answering import Answering
from chatnest.bounds import Bounds
from chatnest.errors import (
    ChatNestError,
    KeyReused,
    LedgerUnavailable,
    NotFound,
    ReplayUnavailable,
    RunCancelled,
    RunLost,
)
from chatnest.events import Delta, Done, Failed
from chatnest.incoming import IncomingChat
from chatnest.runs.base import Claim, Page, RunLog, RunSettings
from chatnest.runs.entries import Entry, read_batch
from chatnest.runs.key import fingerprint, hold_id, key_id
from chatnest.runs.run import Run
from chatnest.runs.writer import LEASE, RunWriter
from chatnest.streams.open_streams import OpenStreams
from chatnest.streams.stream import Stream
from chatnest.turn import Turn

__all__ = ["Runs"]

_log = logging.getLogger("chatnest.runs")
_T = TypeVar("_T")

_POLL_SECONDS: Final = 0.05
_CANCEL_SECONDS: Final = 10.0
_BACK_SECONDS: Final = 1.0
"""Seconds within which a living worker has claimed a run again that the log has lost."""

_CLAIMS: Final = 20
"""Of a key whose run was refused elsewhere in the same moment, one after the other."""


class _Refused(NotFound):
    """A run that others had joined was refused: it has said nothing, and its key is free."""


class _Unknown(NotFound):
    """The log does not know the run."""


class Runs:
    """The runs of an application. Those that are written on this event loop are followed directly,
    all others by their log. ``realm`` tells chats apart that share a log, and ``lease`` is how
    long a hold lives, in seconds.
    """

    def __init__(
        self,
        log: RunLog,
        settings: RunSettings,
        bounds: Bounds,
        streams: OpenStreams,
        answering: Answering,
        *,
        realm: str,
        lease: float,
    ) -> None:
        self.log = log
        self.settings = settings
        self._answering = answering
        self._realm = realm
        self._bounds = bounds
        self._streams = streams
        self._renew_seconds = lease / 3
        self._here: RunVar[dict[str, Run]] = RunVar(f"chatnest_runs_{id(self)}")

    # ------------------------------------------------ a request

    async def answer(self, chat: IncomingChat, stream: Stream, *, hosts: TaskGroup) -> Done:
        """Begin a run in ``hosts``, or join the one of the chat's key, and follow it to its end.

        Raises KeyReused for a key of another request, and whatever ended the run.
        """
        await stream.check_client()
        principal, run_id = chat.identity.principal, chat.id
        place = None if chat.key is None else key_id(self._realm, principal, chat.key)
        print_ = fingerprint(chat.request)
        claim_one = partial(
            self.log.claim, place, owner=principal, fingerprint=print_, run_id=run_id, lease=LEASE
        )
        for _ in range(_CLAIMS):
            claim = await self._claim(claim_one, run_id)
            if claim.fingerprint != print_:
                raise KeyReused
            stream.headers["ChatNest-Run-Id"] = claim.run_id
            if claim.mine:
                run = Run(
                    run_id,
                    owner=principal,
                    key=place,
                    fingerprint=print_,
                    linger=self._linger(chat),
                    max_bytes=self.settings.max_bytes,
                )
                self._local()[claim.run_id] = run
                turn = chat.turn(run_id if place is None else hold_id(place, run_id))
                hosts.start_soon(self._host, run, turn, stream.headers)
            else:
                stream.headers["Idempotency-Replayed"] = "true"
            try:
                return await self.follow(claim.run_id, stream, principal=principal, after=0)
            except _Refused:  # elsewhere, so the key is free
                await anyio.sleep(_POLL_SECONDS)
            except _Unknown:  # its worker claims the key again, unless it is dead
                await anyio.sleep(_BACK_SECONDS)
        raise LedgerUnavailable

    async def _claim(self, claim_one: Callable[[], Awaitable[Claim]], run_id: str) -> Claim:
        """Whatever keeps the answer from coming, no key leads to a run that nobody writes."""
        try:
            return await self._asked(claim_one)
        except BaseException:
            with CancelScope(shield=True), suppress(LedgerUnavailable):
                await self._asked(partial(self.log.drop, run_id))
            raise

    def _linger(self, chat: IncomingChat) -> float:
        if chat.key is None:
            return 0.0
        if chat.request.linger is None:
            return self.settings.linger
        return min(chat.request.linger, self.settings.max_linger)

    async def owned(self, run_id: str, principal: str, after: int) -> Page:
        """What is known of a run. Raises NotFound for somebody else's, and for none."""
        page = await self._page(run_id, principal, after)
        if page is None or page.refused:
            raise NotFound
        return page

    async def _page(self, run_id: str, principal: str, after: int) -> Page | None:
        """What the log knows of a run; of one that is written here, at least that it exists."""
        page = await self._asked(partial(self.log.read, run_id, after, owner=principal))
        if page is None and (run := self._local().get(run_id)) and run.owner == principal:
            return Page(dropped=run.dropped, last=run.last)
        return page

    async def follow(self, run_id: str, stream: Stream, *, principal: str, after: int) -> Done:
        """Write a run's events after a number to a stream of its owner's, until it has ended.
        Raises what it ended by, ReplayUnavailable, RunLost, or NotFound where there is no such run.

        A run that the log has lost is not over: its worker claims it again, if it lives.
        """
        stream.call_model()
        run = self._local().get(run_id)
        if run is not None:
            return await _follow_here(run, stream, after)
        lost_at: float | None = None
        while True:
            page = await self._page(run_id, principal, after)
            if page is None and lost_at is None:
                raise _Unknown
            if page is not None:
                seen = await _hand_on_page(page, stream, after)
                if isinstance(seen, Done):
                    return seen
                after = seen
                if page.end is not None and after >= page.last:
                    return await self._last(run_id, stream, principal, page.last)
            lost_at = _lost_at(page, lost_at)
            if anyio.current_time() >= lost_at:
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
                    page = await self._ending(run_id, principal, page)
        receipt: dict[str, object] = {"run_id": run_id, "was_running": was_running}
        if page.end is not None:
            end = page.end
            receipt |= {"outcome": end.outcome, "charged": end.charged, "source": end.source}
        else:
            receipt |= {"outcome": "run_lost" if page.lost else "running"}
        return receipt

    async def _ending(self, run_id: str, principal: str, page: Page) -> Page:
        """What has become of a run that was cancelled. A log that has lost the run has lost the
        wish as well.
        """
        found = await self._page(run_id, principal, 1 << 62)
        if found is None:
            await self._asked(partial(self.log.cancel, run_id))
        return found if found is not None else page

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

    async def _host(self, run: Run, turn: Turn, headers: dict[str, str]) -> None:
        """Write a run, whoever reads it, and its log. ``headers`` are those of its first reader,
        who is shown what is left.
        """
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
        stream.headers = headers
        writer = RunWriter(turn, stream, run, self.log)

        async def answer(stream: Stream) -> Done:
            try:
                return await self._answering.answer(turn, stream)
            except ChatNestError as exc:
                writer.failure = exc
                raise

        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(writer.write_down)
                async with self._streams.holding(stream):
                    await stream.run(answer)
                tasks.cancel_scope.cancel()
        finally:
            with move_on_after(self._bounds.settle_seconds, shield=True):
                await writer.close()
            self._local().pop(run.run_id, None)


async def _hand_on_page(page: Page, stream: Stream, after: int) -> Done | int:
    """Write what a page has after a number, and give the number of the last event that was written,
    or Done.
    """
    if page.refused:
        raise _Refused
    if after < page.dropped:
        raise ReplayUnavailable
    for batch in page.batches:
        entries = read_batch(batch.data)[max(0, after + 1 - batch.first) :]
        if (done := await _hand_on(entries, stream, after)) is not None:
            return done
        after += len(entries)
    return after


def _lost_at(page: Page | None, lost_at: float | None) -> float:
    """When a run is lost whose worker is not heard of, unless it is heard of until then. What seems
    to be its death may be the log's loss or absence, of which it cannot know before the reader.
    """
    if page is not None and not page.lost:
        return math.inf
    patience = LEASE if page is None else _BACK_SECONDS
    return min(math.inf if lost_at is None else lost_at, anyio.current_time() + patience)


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
    deltas: list[Delta] = []
    last: Done | Failed | None = None
    for entry in entries:
        match entry:
            case Delta():
                deltas.append(entry)
            case Done() | Failed():
                last = entry
            case _:
                assert_never(entry)
    if deltas or isinstance(last, Done):
        await stream.start()
    if deltas:
        await stream.put(deltas)
    if isinstance(last, Failed):
        last.error.of_run = True
        raise last.error
    return last if isinstance(last, Done) else None
