"""ChatNestApp: an LLM chat as a raw ASGI callable. Read from the top, it is the whole flow.

How it starts and ends is in lifetime.py.
"""

import logging
import math
import re
from collections.abc import Awaitable, Iterable, Sequence
from functools import partial
from os import PathLike
from typing import Final

import anyio
from anyio import fail_after, move_on_after
from anyio.abc import TaskGroup
from starlette.types import Receive, Scope, Send

from chatnest._util.arguments import check_kinds, check_parts, check_positive
from chatnest._util.identifiers import new_request_id
from chatnest.accounting.accounts import LEASE, Accounts
from chatnest.accounting.local_books import WhenAway
from chatnest.answering import Answering
from chatnest.asgi.heads import check_head, query_value
from chatnest.asgi.http import (
    TAKEN,
    bounded,
    is_gone,
    local_path,
    read_json_body,
    respond_json,
    respond_nothing,
    respond_problem,
)
from chatnest.asgi.upgrades import closing, warn_of_server
from chatnest.bounds import Bounds
from chatnest.errors import (
    ChatNestError,
    ClientGone,
    ConfigurationError,
    InternalError,
    InvalidRequest,
    LedgerUnavailable,
    MethodNotAllowed,
    NotFound,
    Overloaded,
)
from chatnest.events import Done
from chatnest.identity.access import Access, AllowedProfiles
from chatnest.identity.principals import Identify, UserOrAddress
from chatnest.ledger.base import Ledger
from chatnest.ledger.memory import MemoryLedger
from chatnest.lifespan import Lifetime
from chatnest.lookups import LookUps
from chatnest.policies import Policy, standard_policies
from chatnest.policies.base import PolicyChain
from chatnest.profiles import DEFAULT_PROFILES, HARD_CAPS, HardCaps, Profile, check_profiles
from chatnest.providers import OpenAIProvider, Provider
from chatnest.request import ChatMessage, ChatRequest, parse_request, profile_name
from chatnest.runs import RunLog, RunSettings
from chatnest.runs.key import idempotency_key, last_event_id
from chatnest.runs.place import beside
from chatnest.runs.service import Runs, RunWriter
from chatnest.streams.intake import Intake
from chatnest.streams.open_streams import OpenStreams
from chatnest.streams.stream import Stream
from chatnest.turn import Turn
from chatnest.wire import NativeWire
from chatnest.wire.limits import limits_document

__all__ = ["RUN", "ChatNestApp"]

_log = logging.getLogger("chatnest.app")

RUN: Final = re.compile(r"/runs/([0-9a-f]{32})/?\Z")
"""The end of a run's path."""

_SECONDS: Final = re.compile(r"[0-9]{1,4}(\.[0-9]{1,3})?")
_GONE_SECONDS: Final = 1.0
"""For a server to tell of a disconnect that the kernel knows of already."""
_LEAST_PING: Final = 0.2
"""Seconds: a ping is cheaper than a token, of which there are more."""


class ChatNestApp(Lifetime):
    """An LLM chat behind your own endpoint: ``POST`` streams an answer, ``GET .../limits`` says
    what is left. The same object is a route, a mounted application or an application of its own.

    Every argument has a default: OpenAI with the key from the environment, the three profiles of
    chat-nest, the standard policies, a ledger in memory for a single worker, and as principal the
    user whom the framework has authenticated, else the client's address.

    ``allowed_profiles`` says which profiles a principal may use; by default the default profile
    and those that are nowhere above it.
    ``system_prompt`` opens every conversation; a client's own follows it only with
    ``allow_client_system_prompt``. ``usage_event`` sends the cost before ``done`` to everybody.
    ``charge_unanswered`` charges the input of a call that the model took and never answered; by
    default it does, but for a local server that took too long: it may have been loading the model.
    ``when_away`` says what may be admitted while the ledger is away: by default nothing that is
    under a budget. ``runs`` and ``run_log`` are about answers that can be picked up again, which
    by default are kept where the ledger is. ``drain_at_signal``: seconds that running answers have
    from SIGTERM on, for servers that would wait for them. ``ping_interval`` is in seconds. Raises
    ConfigurationError for what cannot work.
    """

    def __init__(
        self,
        *,
        provider: Provider | None = None,
        profiles: Iterable[Profile] = DEFAULT_PROFILES,
        hard_caps: HardCaps = HARD_CAPS,
        default_profile: str = "balanced",
        allowed_profiles: AllowedProfiles | None = None,
        policies: Sequence[Policy] | None = None,
        ledger: Ledger | None = None,
        identify: Identify | None = None,
        system_prompt: str = "",
        allow_client_system_prompt: bool = False,
        usage_event: bool = False,
        charge_unanswered: bool | None = None,
        when_away: WhenAway | None = None,
        ping_interval: float = 15.0,
        bounds: Bounds | None = None,
        runs: RunSettings | None = None,
        run_log: RunLog | None = None,
        drain_at_signal: float | None = None,
    ) -> None:
        check_positive(ping_interval=ping_interval)
        check_kinds(
            hard_caps=(hard_caps, HardCaps),
            bounds=(bounds, Bounds),
            runs=(runs, RunSettings),
            when_away=(when_away, WhenAway),
        )
        self.profiles: dict[str, Profile] = check_profiles(profiles, hard_caps)
        self._access = Access(
            identify=identify if identify is not None else UserOrAddress(),
            profiles=self.profiles,
            default=default_profile,
            allowed=allowed_profiles,
        )
        check_parts(provider=provider, ledger=ledger, identify=identify)
        ledger = ledger if ledger is not None else MemoryLedger()
        provider = provider if provider is not None else OpenAIProvider()
        is_local = getattr(provider, "is_local", False)
        bounds = (bounds if bounds is not None else Bounds()).resolved(local=is_local)
        settings = runs if runs is not None else RunSettings()
        log = run_log if run_log is not None else beside(ledger, settings)
        self._policies = PolicyChain(standard_policies() if policies is None else policies)
        super().__init__(
            provider=provider,
            ledger=ledger,
            accounts=Accounts(
                ledger,
                bounds,
                charge_unanswered=charge_unanswered is not False,
                charge_timeouts=charge_unanswered is True or not is_local,
                when_away=when_away,
            ),
            streams=OpenStreams(bounds.settle_seconds),
            run_log=log,
            bounds=bounds,
            drain_at_signal=drain_at_signal,
            budgets=self._policies.budgets,
        )
        self._answering = Answering(self.provider, self._policies, self._accounts, bounds)
        self._system = (ChatMessage("system", system_prompt),) if system_prompt else ()
        self._allow_client_system_prompt = allow_client_system_prompt
        self._usage_event = usage_event
        self._ping_seconds = ping_interval
        self._knows_server = False
        self._realm = f"{self.provider.model}\0{system_prompt}"
        self.intake: Intake = Intake(
            bounds.lag_seconds, bounds.streams, partial(len, self._streams)
        )
        self._look_ups = LookUps(bounds.look_ups_per_minute)
        self._runs = Runs(log, settings, bounds, self._streams, LEASE / 1_000)

    @staticmethod
    def from_config(path: str | PathLike[str]) -> "ChatNestApp":
        """Load the TOML file at ``path`` and the environment, and build the chat that ``chatnest
        serve --config`` would serve. Raises ConfigurationError.
        """
        # config/ imports this module: it builds what is defined here.
        from chatnest.config.build import load_chat  # noqa: PLC0415

        return load_chat(path)

    def __repr__(self) -> str:
        return f"ChatNestApp(provider={self.provider!r}, ledger={self.ledger!r})"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application: http, and lifespan where it runs alone."""
        if scope["type"] == "http":
            if not self._knows_server:
                self._knows_server = True
                warn_of_server(scope)
            await self._http(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self.serve_lifespan(receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})

    # ------------------------------------------------ one request

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = new_request_id()
        head = dict(reversed(scope["headers"]))  # the first value of each field
        if b"upgrade" in head:
            send = closing(send)
        try:
            check_head(scope)
            served = self._routed(scope, receive, send, request_id, head)
            del head  # it need not live as long as a stream
            await served
        except ClientGone:
            pass
        except Exception as exc:  # noqa: BLE001  # of a hook of the operator's: the log has it all
            error: ChatNestError = InternalError()
            if isinstance(exc, ChatNestError) and not isinstance(exc, ConfigurationError):
                error = exc
            else:
                _log.exception("request %s failed", request_id)
            await respond_problem(scope, self._bounded(send), error, request_id)

    def _bounded(self, send: Send) -> Send:
        return bounded(send, self._bounds.send_seconds)

    def _routed(
        self, scope: Scope, receive: Receive, send: Send, request_id: str, head: dict[bytes, bytes]
    ) -> Awaitable[None]:
        path = local_path(scope).rstrip("/")  # Litestar ends the path of a mount with one
        if path.endswith("/limits"):
            return self._show_limits(scope, self._bounded(send))
        if run := RUN.search(path):
            return self._one_run(scope, receive, send, run[1])
        if path.startswith("/runs/"):  # where this is mounted, and the path is all ours
            raise NotFound
        if scope["method"] == "POST":
            return self._chat(scope, receive, send, request_id, head)
        raise MethodNotAllowed("POST")

    async def _chat(
        self, scope: Scope, receive: Receive, send: Send, request_id: str, head: dict[bytes, bytes]
    ) -> None:
        """The body first, alone; then one stream, which watches for the client's leaving."""
        intake, is_whole = (scope.get("extensions") or {}).get(TAKEN, (None, False))
        if intake is not self.intake and not self.intake.take():
            raise Overloaded
        del intake
        try:
            with self._streams.receiving(self._bounds.body_seconds):
                # In a list, since the body need not live as long as the stream.
                unread = [
                    await read_json_body(head, receive, max_bytes=self._bounds.body_bytes),
                ]
            if is_gone(scope):
                await _wait_until_gone(receive)
            key = idempotency_key(scope) if b"idempotency-key" in head else None
            del head
            wire = NativeWire(request_id=request_id, usage_event=self._usage_event)
            stream = self._stream(scope, receive, send, wire, request_id)
        except BaseException:
            if is_whole:
                self.intake.place(counted=True)(False)  # by position
            raise
        stream.called = self.intake.place(counted=is_whole)
        try:
            if key is None and not self._runs.settings.resumable:
                async with self._streams.holding(stream):
                    await stream.run(
                        partial(self._answering.answer, partial(self._begin, scope, unread, wire))
                    )
                return
            await self._chat_in_run(scope, unread, wire, stream, key)
        finally:
            if stream.called is not None:
                stream.leave_place()

    async def _chat_in_run(
        self, scope: Scope, unread: list[bytes], wire: NativeWire, stream: Stream, key: str | None
    ) -> None:
        """A run may outlive the stream of its first reader."""
        async with anyio.create_task_group() as hosts, self._streams.holding(stream):
            write = partial(self._write_in_run, scope, unread, wire, hosts=hosts, key=key)
            await stream.run(write)

    async def _begin(self, scope: Scope, unread: list[bytes], wire: NativeWire) -> Turn:
        principal = await self._access.principal(scope)
        request = parse_request(unread.pop())
        wire.usage_event |= request.usage_event
        if request.linger is not None:
            raise InvalidRequest("linger: needs an Idempotency-Key, by which to come back.")
        return await self._turn(wire.request_id, principal, request)

    async def _write_in_run(
        self,
        scope: Scope,
        unread: list[bytes],
        wire: NativeWire,
        stream: Stream,
        *,
        hosts: TaskGroup,
        key: str | None,
    ) -> Done:
        principal = await self._access.principal(scope)
        request = parse_request(unread.pop())
        wire.usage_event |= request.usage_event
        wire.next_id = 1
        await stream.check_client()
        return await self._runs.answer(
            stream,
            hosts,
            partial(self._write_run, stream, principal, request),
            principal=principal,
            key=key,
            request=request,
            run_id=wire.request_id,
            realm=self._realm,
        )

    def _stream(
        self, scope: Scope, receive: Receive, send: Send, wire: NativeWire, request_id: str
    ) -> Stream:
        ping_seconds = self._ping_seconds
        if scope.get("query_string"):
            ping_seconds = min(ping_seconds, _ping_seconds(scope))
        return Stream(
            scope,
            receive,
            send,
            wire=wire,
            bounds=self._bounds,
            ping_seconds=ping_seconds,
            renew_seconds=LEASE / 3_000,
            request_id=request_id,
        )

    async def _turn(self, turn_id: str, principal: str, request: ChatRequest) -> Turn:
        system = self._system
        if request.system_prompt and self._allow_client_system_prompt:
            system = (*system, self._client_system(request.system_prompt))
        return Turn(
            turn_id=turn_id,
            principal=principal,
            request=request,
            profile=await self._access.profile(principal, request.profile),
            model=self.provider.model,
            counter=self.provider.counter,
            system=system,
        )

    def _client_system(self, prompt: str) -> ChatMessage:
        most = self._bounds.client_system_prompt_bytes
        if len(prompt.encode()) > most:
            raise InvalidRequest(f"systemPrompt: must be at most {most:,} bytes.")
        return ChatMessage("system", prompt)

    # ------------------------------------------------ one run

    async def _write_run(
        self, first: Stream, principal: str, request: ChatRequest, run: RunWriter
    ) -> Done:
        async def begin() -> Turn:
            run.turn = await self._turn(run.hold_id, principal, request)
            return run.turn

        run.stream.headers = first.headers  # what is left is told to the first reader
        return await self._answering.answer(begin, run.stream)

    async def _one_run(self, scope: Scope, receive: Receive, send: Send, run_id: str) -> None:
        """``GET`` continues a run after the last event that was seen, ``DELETE`` ends it."""
        method = scope["method"]
        if method not in {"GET", "DELETE"}:
            raise MethodNotAllowed("GET", "DELETE")
        principal = await self._access.principal(scope)
        self._look_ups.count(principal)
        if method == "DELETE":
            receipt = await self._runs.cancel(run_id, principal)
            await respond_json(scope, self._bounded(send), receipt)
            return
        self._streams.check()
        self.intake.check_room()
        after = last_event_id(scope)
        page = await self._runs.owned(run_id, principal, after)
        if page.end is not None and after >= page.last:
            await respond_nothing(self._bounded(send))
            return
        wire = NativeWire(request_id=run_id, usage_event=self._usage_event)
        wire.next_id = after + 1
        stream = self._stream(scope, receive, send, wire, run_id)
        stream.headers = {"ChatNest-Run-Id": run_id}
        async with self._streams.holding(stream):
            await stream.run(partial(self._runs.follow, run_id, principal=principal, after=after))

    # ------------------------------------------------ what is left

    async def _show_limits(self, scope: Scope, send: Send) -> None:
        if scope["method"] not in {"GET", "HEAD"}:
            raise MethodNotAllowed("GET", "HEAD")
        principal = await self._access.principal(scope)
        self._look_ups.count(principal)
        asked = query_value(scope, "profile")
        name = None if asked is None else profile_name(asked)
        turn = await self._turn("", principal, ChatRequest(messages=(), profile=name))
        try:
            with fail_after(self._bounds.ledger_seconds):
                states = await self.ledger.usage(self._policies.shown_limits(turn))
        except TimeoutError:
            raise LedgerUnavailable from None
        allowed = await self._access.allowed(principal)
        await respond_json(scope, send, limits_document(turn.profile, allowed, states))


async def _wait_until_gone(receive: Receive) -> None:
    """Let the server come to it, in an instant, and raise ClientGone. It would take an application
    that returns before for one that forgot to answer.
    """
    with move_on_after(_GONE_SECONDS):
        while (await receive())["type"] != "http.disconnect":
            pass
    raise ClientGone


def _ping_seconds(scope: Scope) -> float:
    """How often the client asks for a ping, by ``?ping=SECONDS``. Raises InvalidRequest."""
    value = query_value(scope, "ping")
    if value is None:
        return math.inf
    if not _SECONDS.fullmatch(value) or float(value) < _LEAST_PING:
        raise InvalidRequest(f"ping: must be a number of seconds, at least {_LEAST_PING:g}.")
    return float(value)
