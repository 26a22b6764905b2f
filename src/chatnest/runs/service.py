"""Runs: begin a run or join one, follow it, generate it, and cancel it."""

from functools import partial
from typing import Final

import anyio
import msgspec
from anyio import move_on_after
from anyio.abc import TaskGroup
from anyio.lowlevel import RunVar

from chatnest.answering import Answering
from chatnest.bounds import ResolvedBounds
from chatnest.errors import ChatNestError, KeyReused, LedgerUnavailable, RunCancelled
from chatnest.events import LastEvent
from chatnest.incoming import IncomingChat
from chatnest.runs.base import Page, RunLog, RunSettings
from chatnest.runs.keeper import LogKeeper
from chatnest.runs.key import fingerprint, hold_id, key_id, next_key, note_name
from chatnest.runs.known import HostedRun, KnownRuns
from chatnest.runs.log_reading import (
    BACK_SECONDS,
    POLL_SECONDS,
    RunRefused,
    RunUnknown,
    follow_log,
)
from chatnest.runs.reader import Reader
from chatnest.runs.run import Run
from chatnest.runs.writer import RunWriter
from chatnest.streams.generation import Generation
from chatnest.streams.open_streams import OpenStreams
from chatnest.streams.response import Response
from chatnest.telemetry.observers import Observers

__all__ = ["Runs"]

_CANCEL_SECONDS: Final = 10.0
"""Maximum seconds that a cancellation waits for the end of the run."""

_noted: Final = msgspec.json.Decoder(tuple[str, str])

_CLAIMS: Final = 20
"""How often to try to claim a key whose run another worker keeps refusing."""


class Runs:
    """The runs of an application. A run is a generation with any number of readers, each a
    response. Runs of this event loop are followed directly, all others by their log. ``realm``
    separates chats that share a log.
    """

    def __init__(
        self,
        log: RunLog,
        settings: RunSettings,
        bounds: ResolvedBounds,
        streams: OpenStreams,
        answering: Answering,
        *,
        observers: Observers,
        realm: str,
    ) -> None:
        self.settings = settings
        self._known = KnownRuns(log, bounds.ledger_seconds)
        self._keepers: RunVar[LogKeeper] = RunVar(f"chatnest_log_keeper_{id(self)}")
        self._answering = answering
        self._observers = observers
        self._realm = realm
        self._bounds = bounds
        self._streams = streams

    async def serve(self, chat: IncomingChat, response: Response) -> None:
        """Begin a run for ``chat``, or join the run of its key, and follow it to its end. The run
        may outlive its first response.
        """
        async with anyio.create_task_group() as hosts:
            reader = Reader(
                response,
                partial(self._begin_or_join, chat, response, hosts),
                self._bounds,
                request_id=chat.id,
            )
            await self._streams.run(reader, response)

    async def resume(self, run_id: str, owner: str, after: int, response: Response) -> None:
        """Follow a run to its end, from the first event after number ``after``."""
        reader = Reader(
            response,
            partial(self._follow, run_id, owner),
            self._bounds,
            request_id=run_id,
            position=after,
        )
        await self._streams.run(reader, response)

    async def latest(self, owner: str, conversation: str) -> tuple[str, str] | None:
        """The id of the latest run of a conversation, and its note, or None if there is none. Only
        runs that continue without a reader are noted.
        """
        name = note_name(self._realm, owner, conversation)
        text = await self._known.ask(partial(self._known.log.noted, name))
        return None if text is None else _noted.decode(text)

    async def owned(self, run_id: str, owner: str, after: int) -> Page:
        """The page of a run. Raises NotFound if there is none, or if the run is not ``owner``'s."""
        return await self._known.owned(run_id, owner, after)

    async def cancel(self, run_id: str, owner: str) -> dict[str, object]:
        """End a run, and return a receipt with its outcome. Raises NotFound."""
        known = self._known
        page = await known.owned(run_id, owner, after=1 << 62)
        was_running = page.end is None and not page.lost
        if was_running:
            hosted = known.here.get(run_id)
            if hosted is not None:
                hosted.generation.stop(RunCancelled())
            else:
                await known.ask(partial(known.log.cancel, run_id))
            with move_on_after(_CANCEL_SECONDS):
                while page.end is None and not page.lost:
                    await anyio.sleep(POLL_SECONDS / 5)
                    page = await known.page_of_cancelled(run_id, owner, page)
        receipt: dict[str, object] = {"run_id": run_id, "was_running": was_running}
        if page.end is not None:
            end = page.end
            receipt |= {"outcome": end.outcome, "charged": end.charged, "source": end.source}
        else:
            receipt |= {"outcome": "run_lost" if page.lost else "running"}
        return receipt

    # ------------------------------------------------ readers

    async def _begin_or_join(
        self, chat: IncomingChat, response: Response, hosts: TaskGroup, reader: Reader
    ) -> LastEvent:
        """Begin or join a run, and follow it to its end. Raises KeyReused if the key belongs to
        another request, or the error that ended the run.
        """
        await reader.check_client()
        key = None if chat.key is None else key_id(self._realm, chat.identity.principal, chat.key)
        print_ = fingerprint(chat.request)
        claims = 0
        while claims < _CLAIMS:
            try:
                claim = await self._known.claim(
                    key, owner=chat.identity.principal, fingerprint=print_, run_id=chat.id
                )
                if claim.fingerprint != print_:
                    raise KeyReused(of_format=chat.has_key_of_format)
                if key is not None and not (claim.mine or chat.replays):
                    owner = chat.identity.principal
                    if await self._known.has_ended(claim.run_id, owner):
                        key = next_key(key, claim.run_id)
                        continue
            except ChatNestError as exc:
                self._report_refusal(chat, exc)
                raise
            claims += 1
            response.add_headers({"ChatNest-Run-Id": claim.run_id})
            if claim.mine:
                await self._note(chat)
                run = self._begin(chat, key, print_, hosts)
                response.expect_start()
                return await reader.follow(run, first=True)
            response.join_run(claim.run_id)
            response.add_headers({"Idempotency-Replayed": "true"})
            try:
                return await self._follow(claim.run_id, chat.identity.principal, reader)
            except RunRefused:  # by another worker, so the key is free
                await anyio.sleep(POLL_SECONDS)
            except RunUnknown:  # its worker claims the key again, unless it is dead
                await anyio.sleep(BACK_SECONDS)
        unclaimed = LedgerUnavailable()
        self._report_refusal(chat, unclaimed)
        raise unclaimed

    async def _note(self, chat: IncomingChat) -> None:
        """Note the run of a conversation for readers that resume it."""
        request = chat.request
        linger = self._linger(chat)
        note = request.submission.note
        if note is None or request.conversation is None or linger <= 0:
            return
        name = note_name(self._realm, chat.identity.principal, request.conversation)
        text = msgspec.json.encode((chat.id, note)).decode()
        seconds = self._bounds.stream_seconds + linger
        await self._known.ask(partial(self._known.log.note, name, text, seconds=seconds))

    def _report_refusal(self, chat: IncomingChat, error: ChatNestError) -> None:
        self._observers.refused(
            chat.id,
            error,
            principal=chat.identity.principal,
            groups=chat.identity.groups,
            plan=chat.identity.plan,
            profile=chat.profile.name,
            model=chat.model.name,
        )

    async def _follow(self, run_id: str, owner: str, reader: Reader) -> LastEvent:
        reader.output.expect_start()
        hosted = self._known.here.get(run_id)
        if hosted is not None:
            return await reader.follow(hosted.run)
        return await follow_log(self._known, run_id, owner, reader)

    # ------------------------------------------------ the host

    def _begin(self, chat: IncomingChat, key: str | None, print_: str, hosts: TaskGroup) -> Run:
        """Start the generation of a run whose key is claimed."""
        run = Run(
            chat.id,
            owner=chat.identity.principal,
            key=key,
            fingerprint=print_,
            linger=self._linger(chat),
            max_bytes=self.settings.max_bytes,
        )
        turn = chat.turn(chat.id if key is None else hold_id(key, chat.id))
        generation = Generation(turn, run, self._answering.answer, self._bounds, (chat.model,))
        self._known.here[run.run_id] = HostedRun(run, generation)
        hosts.start_soon(self._host, run, generation, hosts)
        return run

    async def _host(self, run: Run, generation: Generation, hosts: TaskGroup) -> None:
        """Generate a run, and keep its log."""
        writer = RunWriter(generation, run, self._known.log)
        try:
            with self._keeper().keeping(writer, hosts):
                await self._streams.run(generation, run)
        finally:
            with move_on_after(self._bounds.settle_seconds, shield=True):
                await writer.close()
            self._known.here.pop(run.run_id, None)

    def _keeper(self) -> LogKeeper:
        """The keeper of this event loop."""
        try:
            return self._keepers.get()
        except LookupError:
            keeper = LogKeeper(self._known)
            self._keepers.set(keeper)
            return keeper

    def _linger(self, chat: IncomingChat) -> float:
        if chat.key is None and chat.request.submission.note is None:
            return 0.0  # no client could resume it
        if chat.request.linger is None:
            return self.settings.linger
        return min(chat.request.linger, self.settings.max_linger)
