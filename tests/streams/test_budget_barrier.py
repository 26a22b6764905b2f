"""Promise A: many requests at once against a budget for few, and never a token too many."""

import anyio
import pytest

from chatnest import Bounds, MemoryLedger
from chatnest.ledger.base import Limit
from chatnest.ledger.sqlite import SQLiteLedger
from chatnest.policies import DailyBudget
from chatnest.testing import Answer, Conversation
from tests.streams.support import CLIENT, answer_to, ask, input_tokens, profile, serving

pytestmark = pytest.mark.anyio

REQUESTS, ADMITTED, OUTPUT = 200, 10, 100


@pytest.fixture(params=["memory", "sqlite"])
def ledger(request, tmp_path):
    if request.param == "memory":
        return MemoryLedger()
    return SQLiteLedger(tmp_path / "books.db", busy_timeout=5)


class Watched:
    """A ledger, and how its budget stood after each operation."""

    def __init__(self, ledger, budget):
        self._ledger = ledger
        self._limit = Limit(
            name="tokens", unit="tokens", window="day", account=CLIENT, amount=budget
        )
        self.budget = budget
        self.most = 0

    def now(self):
        return self._ledger.now()

    def __getattr__(self, name):
        async def operation(*values):
            answer = await getattr(self._ledger, name)(*values)
            if name in {"reserve", "settle"}:
                used, held = await self.figures()
                assert used + held <= self.budget
                self.most = max(self.most, used + held)
            return answer

        return operation

    async def figures(self):
        state = (await self._ledger.usage((self._limit,)))[0]
        return state.used, state.held


@pytest.fixture
async def setting(upstream, ledger):
    """A budget for exactly ten requests, with their input and their whole output."""
    probe = profile(max_output_tokens=OUTPUT, min_output_tokens=OUTPUT)
    async with serving(upstream, profiles=[probe], default_profile="own") as app:
        each = await input_tokens(app) + OUTPUT
    own = profile(
        max_output_tokens=OUTPUT, min_output_tokens=OUTPUT, daily_token_limit=ADMITTED * each
    )
    watched = Watched(ledger, ADMITTED * each)
    async with serving(
        upstream,
        ledger=watched,
        profiles=[own],
        default_profile="own",
        policies=[DailyBudget()],
        bounds=Bounds(ledger_seconds=10, lag_seconds=20, early_start_seconds=0.1),
    ) as app:
        yield app, watched, each


async def test_exactly_as_many_get_in_as_there_is_budget_for(upstream, setting):
    app, ledger, each = setting
    upstream.default = Answer.stall(0)  # nobody ends before everybody has asked
    refused = []

    async def one():
        async with Conversation(app, json=ask(), timeout=30) as c:
            await c.started()
            if c.status == 429:
                refused.append(c.problem() if c.is_complete else None)
            else:
                admitted.append(c)
            if len(admitted) + len(refused) == REQUESTS:
                everybody.set()
            await everybody.wait()
            await upstream.until(lambda u: len(u.requests) >= ADMITTED)  # streams start early
            upstream.release()
            await c.read_all()
            if c.status == 429:
                assert c.problem()["code"] == "budget_exhausted"
                assert c.problem()["retryable"] is True
                assert int(c.headers["retry-after"]) == 5

    admitted: list[Conversation] = []
    everybody = anyio.Event()
    async with anyio.create_task_group() as group:
        for _ in range(REQUESTS):
            group.start_soon(one)

    assert (len(admitted), len(refused)) == (ADMITTED, REQUESTS - ADMITTED)
    assert all(c.received.endswith(b"event: done\ndata: \n\n") for c in admitted)
    assert len(upstream.requests) == ADMITTED
    assert ledger.most == ledger.budget == ADMITTED * each
    # Each of them cost 12 in truth, and what was held beyond that is there again.
    assert await ledger.figures() == (ADMITTED * 12, 0)

    left = (ledger.budget - ADMITTED * 12) // each
    upstream.default = Answer(usage=(each - OUTPUT, OUTPUT))  # as much as it may be
    statuses = [(await answer_to(app, ask())).status for _ in range(left + 2)]
    assert statuses == [200] * left + [429, 429]
    assert ledger.most <= ledger.budget


async def test_a_budget_used_up_says_when_the_day_ends(upstream, setting):
    app, ledger, each = setting
    upstream.default = Answer(usage=(each - OUTPUT, OUTPUT))
    statuses = [(await answer_to(app, ask())).status for _ in range(ADMITTED)]
    c = await answer_to(app, ask())
    assert statuses == [200] * ADMITTED
    assert (c.status, c.problem()["code"]) == (429, "budget_exhausted")
    assert 1 <= int(c.headers["retry-after"]) <= 86_400
    assert await ledger.figures() == (ledger.budget, 0)
    # A request that was refused is not charged, and other people have budgets of their own.
    other = await answer_to(app, ask(), client=("198.51.100.7", 1))
    assert other.status == 200
