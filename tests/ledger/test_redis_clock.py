"""RedisLedger goes by the server's clock."""

import random

import anyio
import anyio.lowlevel
import pytest

from chatnest.errors import LedgerUnavailable
from chatnest.ledger.books import counter_key
from chatnest.ledger.days import day_end, day_of
from chatnest.ledger.redis.keys import Days, Today
from tests.ledger.conftest import MakeRedis
from tests.ledger.redis_support import watched
from tests.ledger.server import PATIENCE, Server
from tests.ledger.support import (
    DAY,
    HOUR,
    MINUTE,
    admit,
    balance,
    budget,
    refuse,
    streams,
    utc,
    wish,
)

pytestmark = [pytest.mark.anyio, pytest.mark.loops("asyncio")]


async def test_the_servers_clock_decides(make_redis: MakeRedis):
    ledger = make_redis()
    before = day_of(0, "UTC")
    admitted = await admit(ledger, wish(budget(1_000, zone="Asia/Kathmandu")))

    assert before < day_of(admitted.now, "UTC")
    assert admitted.hold.lines[0].key == counter_key(
        budget(1_000, zone="Asia/Kathmandu"), admitted.now
    )
    assert await balance(ledger, budget(1_000, zone="Asia/Kathmandu")) == (0, 100)


async def test_a_lease_ends_by_the_servers_clock(make_redis: MakeRedis):
    ledger = make_redis()
    hold = (await admit(ledger, wish(budget(1_000), streams(1), lease=DAY))).hold
    await refuse(ledger, wish(streams(1)))
    await ledger.renew(hold, 50)

    with anyio.fail_after(PATIENCE):
        while (await balance(ledger, streams(1)))[1]:
            await anyio.lowlevel.checkpoint()
    assert await balance(ledger, budget(1_000)) == (100, 0)


@pytest.mark.parametrize("off", [-400 * DAY, -2 * DAY, 2 * DAY, 400 * DAY])
async def test_a_worker_whose_clock_is_wrong_asks_a_second_time_once(
    make_redis: MakeRedis, redis_server: Server, off: int
):
    ledger = make_redis()
    await ledger.check()
    ledger._steps._ahead = off

    with watched(redis_server) as seen:
        admitted = await admit(ledger, wish(budget(1_000)))
        await balance(ledger, budget(1_000))
        sent = [command[0] for command in seen() if command[0] != "lua"]
    assert len(sent) == 5 + sent.count("EVAL")  # two of them for the zone of a new budget
    assert abs(ledger._steps._ahead) < HOUR
    assert await balance(ledger, budget(1_000)) == (0, 100)
    assert admitted.hold.lines[0].key == counter_key(budget(1_000), admitted.now)


async def test_a_clock_that_jumps_about_is_no_clock(
    make_redis: MakeRedis, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Days, "today", lambda *_: Today("1970-01-01", 1, 0, "0", "0"))

    with pytest.raises(LedgerUnavailable):
        await make_redis().usage((budget(1),))


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/Santiago", "Pacific/Apia"])
def test_the_days_are_those_of_the_rules(zone: str):
    days = Days(keep_days=2)
    dice = random.Random(zone)
    now = utc("2011-01-01T00:00")
    while now < utc("2013-01-01T00:00"):
        now += dice.choice([MINUTE, HOUR, 5 * HOUR, 30 * HOUR])
        today = days.today(zone, now)
        assert today.start <= now < today.end == day_end(now, zone)
        assert day_end(today.start - 1, zone) == today.start
        assert today.name == day_of(now, zone)
        assert today.long_ago < today.oldest < today.name
