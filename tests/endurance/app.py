"""The application of these tests: nothing limits it, a phase can be held, and one can look inside.

What a client asks for is the phase that it will leave in; the fake upstream sees the same word.
"""

import os
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio

from chatnest import (
    Bounds,
    ChatNestApp,
    HardCaps,
    MemoryLedger,
    OpenAIProvider,
    Profile,
)
from chatnest.asgi.http import header, respond_json
from chatnest.ledger.base import Ledger, Limit
from chatnest.ledger.sqlite import SQLiteLedger
from chatnest.policies import standard_policies
from chatnest.streams.response import Response
from chatnest.testing import LeakProbe

USER = "ann"
OUTPUT = 100_000_000
LIMITS = (
    Limit(name="tokens", unit="tokens", window="day", account=USER, amount=1),
    Limit(name="streams", unit="streams", account=USER, amount=1),
)
ROOMY = Profile(
    name="roomy",
    max_output_tokens=OUTPUT,
    min_output_tokens=1,
    max_messages=4,
    temperature=0.5,
    daily_token_limit=100_000_000_000_000,
    max_tokens_per_request=OUTPUT + 10_000,
    requests_per_minute=100_000_000,
    max_concurrent_streams=100_000,
)
CAPS = HardCaps(
    requests_per_minute=None,
    daily_token_limit=None,
    max_output_tokens=None,
    max_tokens_per_request=None,
)


class Phases:
    """A policy that holds who asks for it, in admission or before a retry."""

    def __init__(self) -> None:
        self.entered: Counter[str] = Counter()

    async def prepare(self, turn: Any) -> None:
        if turn.request.messages[-1].text == "admission":
            self.entered["admission"] += 1
            await anyio.sleep_forever()

    def classify(self, turn: Any, failure: Any, attempt: int) -> float | None:
        if turn.request.messages[-1].text == "retry":
            self.entered["retry"] += 1
            return 20.0
        return None


class Model(OpenAIProvider):
    """The fake upstream; for ``connect`` an address that takes no connection any more."""

    def __init__(self, phases: Phases, **options: Any) -> None:
        super().__init__(**options)
        self._phases = phases
        hole = os.environ.get("ENDURANCE_HOLE")
        self._hole = OpenAIProvider(base_url=hole, api_key="k") if hole else None

    @asynccontextmanager
    async def open(self, call: Any) -> AsyncIterator[Any]:
        provider: Any = super()
        if self._hole is not None and call.request.messages[-1].text == "connect":
            self._phases.entered["connect"] += 1
            provider = self._hole
        async with provider.open(call) as events:
            yield events

    async def aclose(self) -> None:
        await super().aclose()
        if self._hole is not None:
            await self._hole.aclose()


class Inside:
    """The chat, whose ends are noted by the ``X-Id`` of their requests, and two looks inside."""

    def __init__(self, chat: ChatNestApp, phases: Phases) -> None:
        self.chat = chat
        self.phases = phases
        self.probe = LeakProbe(chats=[chat], ledger=chat.ledger, limits=LIMITS)
        self.ended: dict[str, float] = {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.chat(scope, receive, send)
        elif scope["path"] == "/inside":
            await respond_json(scope, send, self.look())
        elif scope["path"] == "/leaks":
            snapshot = await self.probe.measure()
            leaks = {"counts": snapshot.counts, "names": snapshot.names}
            await respond_json(scope, send, leaks)
        else:
            await self._chat(scope, receive, send)

    async def _chat(self, scope: Any, receive: Any, send: Any) -> None:
        async def hold_pings(message: Any) -> None:
            if message.get("body", b"").startswith(b"event: ping"):
                self.phases.entered["ping"] += 1
                await anyio.sleep_forever()
            await send(message)

        own = header(scope, b"x-id")
        try:
            await self.chat(scope, receive, hold_pings if own.startswith("ping") else send)
        finally:
            if own:
                self.ended[own] = time.monotonic()

    def look(self) -> dict[str, Any]:
        """Where requests are. The times of ends are given once."""
        ended, self.ended = self.ended, {}
        streams, now = self.chat._streams, time.monotonic()
        audiences = [stream._audience for stream in streams._streams]
        since = [each._sending_since for each in audiences if isinstance(each, Response)]
        return {
            "entered": self.phases.entered,
            "ended": ended,
            "bodies": len(streams._bodies),
            "blocked": sum(at is not None and now - at > 0.02 for at in since),
        }


def create_app() -> Inside:
    """What a server serves, by ENDURANCE_* in its environment."""
    environ = os.environ
    phases = Phases()
    books = environ.get("ENDURANCE_BOOKS")
    ledger: Ledger = SQLiteLedger(books) if books else MemoryLedger()
    chat = ChatNestApp(
        provider=Model(phases, base_url=environ["ENDURANCE_UPSTREAM"], api_key="k"),
        profiles=[ROOMY],
        default_profile="roomy",
        hard_caps=CAPS,
        policies=[phases, *standard_policies()],
        ledger=ledger,
        identify=lambda scope: USER,
        drain_at_signal=float(drain) if (drain := environ.get("ENDURANCE_DRAIN")) else None,
        ping_interval=float(environ.get("ENDURANCE_PING", "15")),
        bounds=Bounds(
            send_seconds=float(environ.get("ENDURANCE_SEND", "30")),
            stream_seconds=float(environ.get("ENDURANCE_STREAM", "300")),
            ledger_seconds=10,
            lag_seconds=60,
        ),
    )
    return Inside(chat, phases)
