"""Who is refused costs little: no counting for a used-up rate, and none for ever for anybody."""

from collections.abc import Sequence
from typing import Any

import anyio
import msgspec
import pytest

from chatnest import ChatNestApp, Message
from chatnest.testing import Answer, Conversation, FakeUpstream, ManualClock
from tests.streams.support import Books, answer_to, ask, profile, serving

pytestmark = pytest.mark.anyio

HANG = 30.0


async def test_a_known_refusal_is_given_before_anything_is_counted(upstream: FakeUpstream):
    books = Books()
    tiny = profile(name="balanced", requests_per_minute=1)
    async with serving(upstream, ledger=books, profiles=[tiny]) as app:
        assert (await answer_to(app, ask())).status == 200
        first = await answer_to(app, ask())

        class Untouchable:
            def __getattr__(self, name: str) -> object:
                raise AssertionError(f"{name} was asked for")

        app.provider.counter, real = Untouchable(), app.provider.counter  # type: ignore[assignment, misc]
        reserve, books.reserve = books.reserve, None  # type: ignore[assignment, method-assign]
        try:
            again = await answer_to(app, ask("x" * 100_000))
        finally:
            app.provider.counter = real  # type: ignore[misc]
            books.reserve = reserve  # type: ignore[method-assign]

    for refused in first, again:
        assert (refused.status, refused.problem()["code"]) == (429, "rate_limited")


RATE = 4
LARGE = ask("word " * 4_000)
"""4,000 tokens are twice as many as a request may have, and have to be counted to know it."""


class Counter:
    """Counts as ``app``'s own did, and how often; ``gate`` keeps it waiting."""

    def __init__(self, app: ChatNestApp, gate: anyio.Event | None = None) -> None:
        self.times = 0
        self._gate = gate
        self._real = app.provider.counter
        msgspec.structs.force_setattr(app.models.default, "counter", self)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    async def count_messages(self, messages: Sequence[Message]) -> list[int]:
        self.times += any(len(message.text) > 8_192 for message in messages)
        if self._gate is not None:
            await self._gate.wait()
        return await self._real.count_messages(messages)


def few(**fields: Any) -> dict[str, Any]:
    """Options of an application with few requests a minute."""
    fields = {"requests_per_minute": RATE, **fields}
    return {"profiles": [profile(name="balanced", **fields)]}


async def codes(app: ChatNestApp, body: dict[str, Any], count: int) -> list[str]:
    """What so many requests are refused for; nothing for those that are not."""
    answers = [await answer_to(app, body) for _ in range(count)]
    return ["" if c.status == 200 else c.problem()["code"] for c in answers]


async def test_large_requests_are_counted_in_vain_no_more_often_than_the_rate(upstream):
    upstream.default = Answer.text("Hi")
    clock = ManualClock()
    books = Books(clock=clock)
    async with serving(upstream, ledger=books, **few()) as app:
        counter = Counter(app)
        assert await codes(app, LARGE, RATE) == ["request_too_large"] * RATE
        assert await codes(app, LARGE, 50) == ["rate_limited"] * 50
        refused = await answer_to(app, LARGE)
        assert counter.times == RATE
        # The ledger knows nothing of it, and short requests are as welcome as ever.
        assert await codes(app, ask(), RATE) == [""] * RATE
        clock.advance(seconds=60)
        assert await codes(app, ask(), RATE) == [""] * RATE
        assert len(books.charges) == 2 * RATE
    assert refused.status == 429
    assert refused.headers["retry-after"] == str(60 // RATE)
    assert refused.headers["ratelimit"] == f'"requests";r=0;t={60 // RATE}'


async def test_who_waits_as_long_as_they_were_told_is_counted_again(upstream):
    clock = ManualClock()
    async with serving(upstream, ledger=Books(clock=clock), **few()) as app:
        await codes(app, LARGE, RATE)
        for _ in range(3):
            clock.advance(seconds=60 / RATE)
            assert await codes(app, LARGE, 2) == ["request_too_large", "rate_limited"]


async def test_so_are_those_that_the_budget_refuses(upstream):
    options = few(max_tokens_per_request=12_000, daily_token_limit=1_000)
    async with serving(upstream, **options) as app:
        found = await codes(app, LARGE, RATE + 1)
    assert found == ["budget_exhausted"] * RATE + ["rate_limited"]


async def test_so_are_many_at_once_and_those_that_nobody_waits_for(upstream):
    async with serving(upstream, **few()) as app:
        counter, leave = Counter(app, anyio.Event()), anyio.Event()

        async def ask_and_leave() -> None:
            async with Conversation(app, json=LARGE):
                await leave.wait()

        async with anyio.create_task_group() as tasks:
            for _ in range(50):
                tasks.start_soon(ask_and_leave)
            with anyio.fail_after(HANG):
                while counter.times < RATE:
                    await anyio.wait_all_tasks_blocked()
            await anyio.wait_all_tasks_blocked()
            leave.set()
        assert await codes(app, LARGE, 1) == ["rate_limited"]
        assert counter.times == RATE


async def test_large_requests_that_are_admitted_count_in_the_ledger_alone(upstream):
    upstream.default = Answer.text("Hi")
    clock = ManualClock()
    options = few(max_tokens_per_request=12_000)
    async with serving(upstream, ledger=Books(clock=clock), **options) as app:
        for _ in range(3):
            assert await codes(app, LARGE, RATE) == [""] * RATE
            clock.advance(seconds=60)
        assert len(app._accounts._throttle) == 0
