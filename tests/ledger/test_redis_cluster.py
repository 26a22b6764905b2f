"""A RedisLedger in a cluster, whose holds take a step for each slot."""

from typing import Any

import pytest

from chatnest.errors import LedgerUnavailable
from chatnest.ledger.base import Charge, Settlement
from chatnest.ledger.redis import RedisLedger
from chatnest.stores import redis as redis_client
from tests.ledger.conftest import MakeRedis
from tests.ledger.redis_support import limits_of
from tests.ledger.server import Server
from tests.ledger.support import (
    MINUTE,
    Clock,
    admit,
    budget,
    rate,
    refuse,
    wish,
)

pytestmark = [pytest.mark.anyio, pytest.mark.loops("asyncio")]


def slots(*accounts: str) -> list[str]:
    """Accounts in the order of their slots."""
    return sorted(accounts, key=redis_client.slot_of)


@pytest.fixture
def two(make_redis: MakeRedis, redis_cluster: Server, clock: Clock) -> "TwoSlots":
    return TwoSlots(make_redis(f"redis+cluster://{redis_cluster.address}", clock=clock))


class TwoSlots:
    """A ledger in a cluster, and a wish over two slots, whose second step can fail."""

    def __init__(self, ledger: RedisLedger) -> None:
        self.ledger = ledger
        self.first, self.second = slots("ann", "team")
        self.limits = (*limits_of(self.first), *limits_of(self.second))

    def break_step(self, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
        link = self.ledger._server.link()
        run = link.run
        steps = iter(range(1, 99))

        async def breaks(*arguments: Any) -> Any:
            if next(steps) == number:
                raise LedgerUnavailable
            return await run(*arguments)

        monkeypatch.setattr(link, "run", breaks)

    async def figures(self) -> list[tuple[int, int]]:
        return [(s.used, s.held) for s in await self.ledger.usage(self.limits)]


@pytest.mark.parametrize("step", [1, 2])
async def test_a_reservation_that_failed_half_way_is_released(
    two: TwoSlots, monkeypatch: pytest.MonkeyPatch, step: int
):
    reservation = wish(*two.limits)
    await admit(two.ledger, wish(budget(1_000, account="zoe")))
    await two.figures()  # the first steps on a slot, and with a name, are preceded by others
    with monkeypatch.context() as broken:
        two.break_step(step, broken)
        with pytest.raises(LedgerUnavailable):
            await two.ledger.reserve(reservation)

    await two.ledger.release(reservation)

    used = [0] if step == 1 else [1]  # a rate, as after any release
    assert await two.figures() == [(used[0], 0), (0, 0), (0, 0), (0, 0), (0, 0), (0, 0)]
    assert (await refuse(two.ledger, reservation)).state is None


async def test_a_settlement_that_failed_half_way_is_finished(
    two: TwoSlots, monkeypatch: pytest.MonkeyPatch
):
    hold = (await admit(two.ledger, wish(*two.limits))).hold
    with monkeypatch.context() as broken:
        two.break_step(2, broken)
        with pytest.raises(LedgerUnavailable):
            await two.ledger.settle(hold, Charge(tokens=70))

    for first in (True, False):
        assert await two.ledger.settle(hold, Charge(tokens=70)) == Settlement(
            tokens=70, first=first
        )
    assert await two.figures() == [(1, 0), (70, 0), (0, 0)] * 2


async def test_a_step_that_grants_less_lowers_those_before_it(two: TwoSlots, clock: Clock):
    await admit(two.ledger, wish(budget(5_000, account=two.second), tokens=4_700))

    hold = (await admit(two.ledger, wish(*two.limits, tokens=1_000, min_tokens=100))).hold

    assert hold.tokens == 300
    assert [held for _, held in await two.figures()] == [0, 300, 1, 0, 5_000, 1]
    clock.now += MINUTE
    assert [used for used, _ in await two.figures()] == [0, 300, 0, 0, 5_000, 0]


async def test_what_a_later_step_refused_may_be_asked_again(two: TwoSlots):
    reservation = wish(*two.limits, tokens=1_000)
    other = wish(budget(5_000, account=two.second), tokens=4_700)
    await admit(two.ledger, other)

    for _ in range(3):
        refused = await refuse(two.ledger, reservation)
        assert refused.state
        assert refused.state.limit.account == two.second
    assert await two.figures() == [(0, 0), (0, 0), (0, 0), (0, 0), (0, 4_700), (0, 0)]
    await two.ledger.release(other)
    await admit(two.ledger, reservation)


async def test_limits_of_rates_alone_are_known_by_their_hold(two: TwoSlots):
    reservation = wish(rate(2, account=two.first), rate(2, account=two.second))

    admitted = [await admit(two.ledger, reservation) for _ in range(3)]

    assert admitted[0].hold.lines == ()
    assert [s.used for s in admitted[-1].states] == [1, 1]
    assert await two.ledger.settle(admitted[0].hold, Charge(tokens=0)) == Settlement(
        tokens=0, first=True
    )
    assert (await refuse(two.ledger, reservation)).state is None
    # It was admitted once, and that counts.
    states = await two.ledger.usage(reservation.limits)
    assert [state.used for state in states] == [1, 1]


async def test_what_is_known_of_the_cluster(two: TwoSlots):
    await two.ledger.check()
    facts = await two.ledger.facts()

    assert (facts["cluster_enabled"], facts["role"]) == ("1", "master")
