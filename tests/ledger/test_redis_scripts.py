"""The scripts of RedisLedger, and the records that they leave."""

import json

import pytest

from chatnest.ledger.base import Charge, Settlement
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
