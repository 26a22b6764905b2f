"""The scripts of RedisLedger, and the records that they leave."""

import json
import re

import msgspec
import pytest

from chatnest.ledger.base import Charge, Cost, Limit, Settlement
from chatnest.ledger.redis.lua import texts
from tests.ledger.conftest import MakeRedis
from tests.ledger.redis_support import limits_of
from tests.ledger.server import Server
from tests.ledger.support import (
    MINUTE,
    NOON,
    SECOND,
    Clock,
    admit,
    balance,
    budget,
    streams,
    wish,
)

pytestmark = [pytest.mark.anyio, pytest.mark.loops("asyncio")]


async def test_scripts_that_the_server_has_lost_are_sent_again(
    make_redis: MakeRedis, redis_server: Server
):
    ledger = make_redis()
    limits = limits_of("ann")
    first, second = wish(*limits), wish(*limits)

    with redis_server.client() as client:
        hold = (await admit(ledger, first)).hold
        client.script_flush()
        await admit(ledger, second)
        client.script_flush()
        await ledger.renew(hold, MINUTE)
        client.script_flush()
        assert await ledger.settle(hold, Charge(tokens=70)) == Settlement(tokens=70, first=True)
        client.script_flush()
        await ledger.release(second)
        client.script_flush()
        assert await balance(ledger, budget(5_000)) == (70, 0)


async def test_a_turn_leaves_a_record_without_content(
    make_redis: MakeRedis, clock: Clock, redis_server: Server
):
    ledger = make_redis(prefix="records", clock=clock)
    charge = Charge(
        tokens=70,
        input_tokens=50,
        output_tokens=20,
        source="provider",
        outcome="done",
        principal="ann",
        profile="balanced",
        model="a-model",
    )
    wishes = [wish(budget(1_000), streams(9), hold_id=f"hold-{n}") for n in range(3)]
    holds = [(await admit(ledger, each)).hold for each in wishes]
    clock.now += SECOND
    for _ in range(3):
        await ledger.settle(holds[0], charge)
    clock.now += MINUTE
    await ledger.settle(holds[1], charge)  # both had expired
    await ledger.release(wishes[2])

    with redis_server.client(decode_responses=True) as client:
        records = [fields for _, fields in client.xrange("records:{ann}:turns:2026-06-01")]
    assert records[0] == {
        "hold": "hold-0",
        "counted": "1",
        "admitted_at": str(NOON),
        "settled_at": str(NOON + SECOND),
        "held": "100",
        "held_money": "0",
        "tokens": "70",
        "money": "0",
        "facts": "{}",
        "input_tokens": "50",
        "output_tokens": "20",
        "source": "provider",
        "outcome": "done",
        "principal": "ann",
        "profile": "balanced",
        "model": "a-model",
        "lines": json.dumps([line.key for line in holds[0].lines], separators=(",", ":")),
    }
    assert [(r["hold"], r["outcome"], r["tokens"]) for r in records[1:]] == [
        ("hold-1", "expired", "100"),
        ("hold-2", "expired", "100"),
        ("hold-1", "done", "70"),
        ("hold-2", "released", "0"),
    ]


async def test_records_are_capped(make_redis: MakeRedis, clock: Clock, redis_server: Server):
    ledger = make_redis(prefix="capped", clock=clock, max_turns=10)
    for _ in range(500):
        hold = (await admit(ledger, wish(budget(10**6)))).hold
        await ledger.settle(hold, Charge(tokens=1))

    with redis_server.client() as client:
        assert 10 <= client.xlen("capped:{ann}:turns:2026-06-01") < 200


def test_amounts_leave_lua_by_one_format_alone():
    """Lua's own text of a number has 14 digits, which loses from $100,000 on."""
    found = []
    for name, text in texts().items():
        for number, line in enumerate(text.splitlines()):
            code = line.partition("--")[0]
            if re.search(r"tostring|cjson|%g|%f", code):
                found.append((name, number, line))
    assert found == []


async def test_figures_stay_exact_up_to_the_largest(make_redis: MakeRedis, clock: Clock):
    """Each amount of money in the books, in a hold and in an answer is what it was."""
    ledger = make_redis(clock=clock)
    most = 9 * 10**15
    limit = Limit(name="m", unit="money", account="ann", amount=most, window="month")
    for fixed in (10**14 + 1, 10**15 - 1, 10**15 - 3):
        reservation = msgspec.structs.replace(wish(limit), money=Cost(fixed, 0))
        hold = (await admit(ledger, reservation)).hold
        assert hold.money == fixed
        assert (await balance(ledger, limit))[1] == fixed
        await ledger.settle(hold, Charge(tokens=0, money=fixed))
        (found,) = await ledger.usage((limit,))
        assert found.held == 0
    assert found.used == 10**14 + 1 + 10**15 - 1 + 10**15 - 3
    (kept,) = [b for b in await ledger.audit().balances() if b.name == "m"]
    assert kept.settled == found.used
