"""A reply that is lost after its request was carried out has no second effect, nor a lost one."""

from collections.abc import AsyncIterator

import anyio
import pytest

from chatnest.errors import LedgerUnavailable
from chatnest.ledger.base import Admitted, Charge, Refused
from chatnest.ledger.redis import RedisLedger
from chatnest.testing import FaultProxy
from tests.ledger.conftest import MakeRedis
from tests.ledger.server import Server
from tests.ledger.support import admit, balance, budget, rate, streams, wish

pytestmark = [pytest.mark.anyio, pytest.mark.loops("asyncio")]

LIMITS = budget(1_000), streams(3), rate(5)
WISH = wish(*LIMITS, hold_id="one")


@pytest.fixture
async def proxy(redis_server: Server) -> AsyncIterator[FaultProxy]:
    async with FaultProxy("127.0.0.1", redis_server.port) as proxy:
        yield proxy


@pytest.fixture
async def ledger(proxy: FaultProxy, make_redis: MakeRedis) -> RedisLedger:
    ledger = make_redis(proxy.url())
    # Connected, and the server knows the scripts: the next reply lost is that of one.
    bob = wish(budget(1_000, "bob"))
    hold = (await admit(ledger, bob)).hold
    await ledger.renew(hold, 30_000)
    await ledger.settle(hold, Charge(tokens=1))
    await ledger.release(bob)
    await ledger.usage(LIMITS)
    return ledger


async def figures(ledger: RedisLedger) -> list[tuple[int, int]]:
    return [(state.used, state.held) for state in await ledger.usage(LIMITS)]


async def back(ledger: RedisLedger) -> None:
    """Wait until the breaker lets somebody through again."""
    with anyio.fail_after(10):
        while True:
            try:
                return await ledger.check()
            except LedgerUnavailable:
                await anyio.sleep(0.01)


async def test_reserve(proxy: FaultProxy, ledger: RedisLedger):
    proxy.lose_replies(to=b"EVALSHA")
    with pytest.raises(LedgerUnavailable):
        await ledger.reserve(WISH)
    await back(ledger)
    assert await figures(ledger) == [(0, 100), (0, 1), (1, 0)]

    again = await ledger.reserve(WISH)
    assert isinstance(again, Admitted)
    assert await figures(ledger) == [(0, 100), (0, 1), (1, 0)]

    await ledger.release(WISH)
    assert await figures(ledger) == [(0, 0), (0, 0), (1, 0)]


async def test_renew(proxy: FaultProxy, ledger: RedisLedger):
    hold = (await admit(ledger, WISH)).hold
    proxy.lose_replies(to=b"EVALSHA")
    with pytest.raises(LedgerUnavailable):
        await ledger.renew(hold, 30_000)
    await back(ledger)
    await ledger.renew(hold, 30_000)
    assert await figures(ledger) == [(0, 100), (0, 1), (1, 0)]


async def test_settle(proxy: FaultProxy, ledger: RedisLedger):
    hold = (await admit(ledger, WISH)).hold
    proxy.lose_replies(to=b"EVALSHA")
    with pytest.raises(LedgerUnavailable):
        await ledger.settle(hold, Charge(tokens=40))
    await back(ledger)
    assert await balance(ledger, LIMITS[0]) == (40, 0)

    again = await ledger.settle(hold, Charge(tokens=40))
    assert (again.tokens, again.first) == (40, False)
    assert await figures(ledger) == [(40, 0), (0, 0), (1, 0)]


async def test_release(proxy: FaultProxy, ledger: RedisLedger):
    await admit(ledger, WISH)
    proxy.lose_replies(to=b"EVALSHA")
    with pytest.raises(LedgerUnavailable):
        await ledger.release(WISH)
    await back(ledger)
    await ledger.release(WISH)
    assert await figures(ledger) == [(0, 0), (0, 0), (1, 0)]
    assert isinstance(await ledger.reserve(WISH), Refused)


async def test_usage(proxy: FaultProxy, ledger: RedisLedger):
    await admit(ledger, WISH)
    before = proxy.replies_lost
    proxy.lose_replies(to=b"EVALSHA")
    with pytest.raises(LedgerUnavailable):
        await ledger.usage(LIMITS)
    await back(ledger)
    assert proxy.replies_lost == before + 1
    assert await figures(ledger) == [(0, 100), (0, 1), (1, 0)]
