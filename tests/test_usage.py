"""What an application says and counts of usage: ``GET P/usage``, refusals, and one currency."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from chatnest import ChatNestApp, ConfigurationError, DemoProvider, MemoryLedger, Model
from chatnest.accounting.refusal_counts import RefusalCounts
from chatnest.bounds import Bounds
from chatnest.errors import LedgerUnavailable
from chatnest.identity.base import Identity
from chatnest.ledger.base import Ledger
from chatnest.ledger.memory import MemoryLedger as Memory
from chatnest.ledger.usage import Refusals
from chatnest.middleware import ChatNestMiddleware
from chatnest.policies import RequestRate
from chatnest.testing import Conversation
from tests.ledger.support import DAY, HOUR, NOON, Clock

pytestmark = pytest.mark.anyio

ASK = {"messages": [{"role": "user", "content": "Tell me about otters, please."}]}
PRICE = {"input": "1.00", "output": "4.00"}


def who(scope: Any) -> Identity | None:
    name = dict(scope["headers"]).get(b"x-user")
    return None if name is None else Identity(name.decode(), groups={"team": "acme"})


def chat(ledger: Ledger, **options: Any) -> ChatNestApp:
    models = {"small": Model(provider=DemoProvider(pace=0), prices=PRICE)}
    return ChatNestApp(models=models, ledger=ledger, identify=who, **options)


async def call(app: Any, path: str, name: str = "ann", method: str = "GET") -> Any:
    headers = {"x-user": name, "content-type": "application/json"}
    body: Any = {"json": ASK} if method == "POST" else {}
    async with Conversation(app, path=path, method=method, headers=headers, **body) as c:
        await c.finished()
    return c


async def test_a_caller_sees_its_own_use_by_day_and_model():
    clock = Clock()
    app = chat(MemoryLedger(clock=clock))
    for _ in range(2):
        await call(app, "/api/chat", method="POST")
    await call(app, "/api/chat", "bob", method="POST")
    clock.now += 29 * DAY

    found = await call(app, "/api/chat/usage")
    assert found.status == 200
    assert found.headers["content-type"] == "application/json"
    document = json.loads(found.received)
    (row,) = document.pop("usage")
    assert document == {"since": "2026-06-01", "currency": "USD"}
    tokens = 2 * [row["input_tokens"] // 2, row["output_tokens"] // 2]
    money = f"0.{sum(tokens[::2]) * 1_000 + sum(tokens[1::2]) * 4_000:09d}".rstrip("0")
    assert row == {
        "day": "2026-06-01",
        "model": "small",
        "turns": 2,
        "tokens": row["input_tokens"] + row["output_tokens"],
        "input_tokens": sum(tokens[::2]),
        "cached_tokens": 0,
        "cache_written_tokens": 0,
        "output_tokens": sum(tokens[1::2]),
        "reasoning_tokens": 0,
        "money": money,
        "estimated": row["estimated"],
    }
    clock.now += DAY
    assert json.loads((await call(app, "/api/chat/usage")).received)["usage"] == []


async def test_what_else_is_said_at_that_path():
    class Books(MemoryLedger):
        async def own_usage(self, principal, since):
            raise LedgerUnavailable

    app = chat(MemoryLedger())
    assert (await call(app, "/api/chat/usage", method="DELETE")).status == 405
    async with Conversation(app, path="/usage", method="GET") as c:  # no identity
        await c.finished()
    assert c.status == 401
    assert (await call(chat(Books()), "/usage")).status == 503
    few = chat(MemoryLedger(), bounds=Bounds(look_ups_per_minute=2))
    paths = ("/usage", "/limits", "/usage")  # one bound for both
    assert [(await call(few, path)).status for path in paths] == [200, 200, 429]

    async def inner(scope, receive, send):
        raise AssertionError(scope["path"])

    under = ChatNestMiddleware(inner, chat=chat(MemoryLedger()), path="/api/chat")
    assert (await call(under, "/api/chat/usage")).status == 200


def test_a_middleware_is_not_at_the_path_of_usage():
    app: Any = object()
    with pytest.raises(ConfigurationError, match="'/usage'"):
        ChatNestMiddleware(app, path="/usage")


async def test_a_ledger_without_usage_has_no_such_path():
    class Old:
        """A ledger of before."""

        def __init__(self) -> None:
            inner = MemoryLedger()
            for name in ("reserve", "renew", "settle", "release", "usage", "now", "check"):
                setattr(self, name, getattr(inner, name))
            self.aclose = inner.aclose

    app = chat(Old(), policies=[RequestRate()])  # type: ignore[arg-type]
    assert (await call(app, "/", method="POST")).status == 200
    assert (await call(app, "/usage")).status == 404
    await app.aclose()


# ---------------------------------------------------------------- refusals


async def test_refusals_are_counted_also_those_that_a_worker_knows():
    class Books(MemoryLedger):
        asked = 0

        async def reserve(self, reservation):
            self.asked += 1
            return await super().reserve(reservation)

    clock = Clock()
    books = Books(clock=clock)
    app = chat(books)
    statuses = [(await call(app, "/", method="POST")).status for _ in range(40)]
    refused = statuses.count(429)
    assert refused > 0
    assert books.asked < 40  # the worker knew

    assert await books.refusals("2026-06-01") == []
    await app.aclose()
    assert await books.refusals("2026-06-01") == [Refusals("2026-06-01T12", "requests", refused)]


async def test_counts_wait_for_a_ledger_that_is_away():
    class Books(Memory):
        away = True

        async def count_refusals(self, counts: Mapping[tuple[str, str], int]) -> None:
            if self.away:
                raise LedgerUnavailable
            await super().count_refusals(counts)

    books = Books()
    counts = RefusalCounts(books, 1)
    counts.count("tokens", NOON)
    await counts.flush()
    counts.count("tokens", NOON + HOUR)
    counts.count("tokens", NOON)
    await counts.flush_if_due()  # not yet
    assert len(counts) == 2
    books.away = False
    for _ in range(2):
        await counts.flush()
    assert await books.refusals("") == [
        Refusals("2026-06-01T12", "tokens", 2),
        Refusals("2026-06-01T13", "tokens", 1),
    ]
    for number in range(2_100):
        counts.count(f"limit-{number}", NOON)
    assert len(counts) == 2_001


# ---------------------------------------------------------------- one currency


@pytest.mark.parametrize("starts", [True, False])
async def test_a_chat_with_prices_in_another_currency_does_not_run(starts: bool):
    books = MemoryLedger()
    first = chat(books, currency="EUR")
    assert (await call(first, "/", method="POST")).status == 200
    second = chat(books)
    if starts:
        with pytest.raises(ConfigurationError, match="expected EUR"):
            await second.start()
    assert (await call(second, "/", method="POST")).status == 500
    without = ChatNestApp(provider=DemoProvider(pace=0), ledger=books)
    await without.start()  # it counts no money
    assert (await call(without, "/", method="POST")).status == 200
