"""What these tests share: a chat in front of a fake upstream, its books, its frames."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel

from chatnest import BALANCED, Bounds, ChatNestApp, Limit, MemoryLedger, OpenAIProvider, Profile
from chatnest.errors import LedgerUnavailable
from chatnest.ledger.base import (
    Admitted,
    Charge,
    Hold,
    LimitState,
    Refused,
    Reservation,
    Settlement,
)
from chatnest.policies import (
    ConcurrentStreams,
    DailyBudget,
    Policy,
    RequestRate,
    RetryOnce,
    TrimHistory,
)
from chatnest.testing import Conversation, FakeUpstream, parse_events

KEY = "sk-secret-of-the-operator"
CLIENT = "addr:127.0.0.1"
PATIENCE = 60.0
"""Seconds for what takes milliseconds where nothing else runs."""
START = b"event: start\ndata: \n\n"
PING = b"event: ping\ndata: \n\n"
DONE = b"event: done\ndata: \n\n"


def token(text: str) -> bytes:
    return b'event: token\ndata: "%b"\n\n' % text.encode()


def ask(content: str = "Hi", **fields: Any) -> dict[str, Any]:
    """The body of a request."""
    return {"messages": [{"role": "user", "content": content}], **fields}


def policies() -> list[Policy]:
    """The standard ones, with a retry that does not dawdle."""
    return [
        RequestRate(),
        ConcurrentStreams(),
        TrimHistory(),
        DailyBudget(),
        RetryOnce(jitter=0),
    ]


class Books(MemoryLedger):
    """A ledger in memory that remembers what was done to it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.reservations: list[Reservation] = []
        self.charges: list[Charge] = []
        self.releases: list[Reservation] = []
        self.repeated = 0

    async def reserve(self, reservation: Reservation) -> Admitted | Refused:
        answer = await super().reserve(reservation)
        self.reservations.append(reservation)
        return answer

    async def settle(self, hold: Hold, charge: Charge) -> Settlement:
        settlement = await super().settle(hold, charge)
        if settlement.first:
            self.charges.append(charge)
        else:
            self.repeated += 1
        return settlement

    async def release(self, reservation: Reservation) -> None:
        await super().release(reservation)
        self.releases.append(reservation)

    @property
    def charge(self) -> Charge:
        """The one charge that there was."""
        assert len(self.charges) == 1
        assert not self.repeated
        return self.charges[0]

    async def used(self, account: str = CLIENT) -> int:
        """Tokens charged today."""
        tokens, _ = await self._states(account)
        return tokens.used

    async def held(self, account: str = CLIENT) -> tuple[int, int]:
        """Tokens held, and streams."""
        tokens, streams = await self._states(account)
        return tokens.held, streams.held

    async def _states(self, account: str) -> tuple[LimitState, LimitState]:
        tokens, streams = await self.usage(
            (
                Limit(name="tokens", unit="tokens", window="day", account=account, amount=1),
                Limit(name="streams", unit="streams", account=account, amount=1),
            )
        )
        return tokens, streams


class AwayBooks(Books):
    """Books that take no settlement while they are ``away``."""

    away = True

    async def settle(self, hold: Hold, charge: Charge) -> Settlement:
        if self.away:
            raise LedgerUnavailable
        return await super().settle(hold, charge)


@asynccontextmanager
async def serving(upstream: FakeUpstream | None, **options: Any) -> AsyncIterator[ChatNestApp]:
    """A chat in front of ``upstream``, closed at the end. Of files and servers it is patient."""
    options.setdefault("ledger", Books())
    options.setdefault("bounds", Bounds(ledger_seconds=PATIENCE, lag_seconds=PATIENCE))
    options.setdefault("policies", policies())
    options.setdefault("charge_unanswered", True)  # the fake is a local server
    if upstream is not None:
        options.setdefault("provider", OpenAIProvider(base_url=upstream.base_url, api_key=KEY))
    app = ChatNestApp(**options)
    try:
        yield app
    finally:
        await app.aclose()


async def answer_to(app: ChatNestApp, body: dict[str, Any] | None, **options: Any) -> Conversation:
    """One whole conversation, read to its end."""
    if body is not None:
        options["json"] = body
    async with Conversation(app, **options) as c:
        await c.read_all()
        await c.finished()
    return c


async def get_limits(app: ChatNestApp, **options: Any) -> dict[str, Any]:
    """What GET limits says, its limits by name."""
    async with Conversation(app, method="GET", path="/api/chat/limits", **options) as c:
        await c.read_all()
    assert c.status == 200, c.received
    document = c.problem()
    return document | {limit["name"]: limit for limit in document["limits"]}


def kinds(body: bytes) -> list[str]:
    """The events of a stream, pings left out."""
    return [event.event for event in parse_events(body) if event.event != "ping"]


def text(body: bytes) -> str:
    """The answer in a stream."""
    return "".join(json.loads(e.data) for e in parse_events(body) if e.event == "token")


def error(body: bytes) -> dict[str, Any]:
    """The ``error`` event that a stream ends with."""
    events = parse_events(body)
    assert [event.event for event in events if event.event in {"done", "error"}] == ["error"]
    assert events[-1].event == "error"
    data: dict[str, Any] = json.loads(events[-1].data)
    return data


async def input_tokens(app: ChatNestApp, content: str = "Hi") -> int:
    """What a request of one message weighs, by the formula: 3 a message, its role, 3 a request."""
    return 3 + 1 + await app.provider.counter.count(content) + 3


async def delivered(app: ChatNestApp, body: bytes) -> int:
    """What a stream that broke off costs: its input, what arrived, and the margin."""
    output = await app.provider.counter.count(text(body))
    return await input_tokens(app) + output + max(8, output // 20)


def profile(**fields: Any) -> Profile:
    """A profile of its own name, as balanced but for ``fields``."""
    shipped = {name: getattr(BALANCED, name) for name in BALANCED.__struct_fields__}
    return Profile(**{**shipped, "name": "own", **fields})


class Pulse:
    """Counts how much is done between two turns of the event loop that others have."""

    def __init__(self) -> None:
        self.done = 0
        self.most = 0

    def work(self, amount: int = 1) -> None:
        self.done += amount
        self.most = max(self.most, self.done)

    async def beat(self) -> None:
        while True:
            self.done = 0
            await anyio.lowlevel.checkpoint()


def tasks() -> set[int]:
    """The tasks of this event loop."""
    return {task.id for task in anyio.get_running_tasks()}
