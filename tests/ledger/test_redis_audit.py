"""Audits of RedisLedger: records that are missing, and books that change while they are read."""

from typing import Any

import msgspec
import pytest

from chatnest.ledger.audit import Adjustment
from chatnest.ledger.base import Charge, Limit
from tests.ledger.conftest import MakeRedis
from tests.ledger.redis_support import watched
from tests.ledger.server import Server
from tests.ledger.support import Clock, admit, balance, budget, utc, wish

pytestmark = [pytest.mark.anyio, pytest.mark.loops("asyncio")]


def give(tokens: int, adjustment_id: str, account: str = "ann") -> Adjustment:
    return Adjustment(
        id=adjustment_id,
        account=account,
        name="tokens",
        day="2026-06-01",
        amount=tokens,
        reason="a test",
    )


async def test_records_that_were_dropped_leave_things_open(make_redis: MakeRedis, clock: Clock):
    ledger = make_redis(clock=clock, max_turns=10, keep_days=10)
    for _ in range(500):
        hold = (await admit(ledger, wish(budget(10**6)))).hold
        await ledger.settle(hold, Charge(tokens=1))

    verdict = await ledger.audit().verdict()
    assert verdict.drifts == ()
    dropped, differs, usage = verdict.unsure
    assert usage == "usage: the roll-up may differ because records are missing."
    assert "ann: records of 2026-06-01 are missing" in dropped
    assert "tokens:2026-06-01:ann: settled may differ" in differs


async def test_a_server_that_does_not_count_what_it_drops_has_as_many_as_fit(
    make_redis: MakeRedis, clock: Clock, monkeypatch: pytest.MonkeyPatch
):
    ledger = make_redis(clock=clock, max_turns=3, keep_days=10)
    audit = ledger.audit()
    reader = audit._reader
    ask = reader._ask

    async def ask_an_old_one(name: str, *args: Any) -> Any:
        answer = await ask(name, *args)
        if name == "page":
            streams = msgspec.msgpack.decode(answer[0])
            return [msgspec.msgpack.encode([[-1, *stream[1:]] for stream in streams])]
        return answer

    monkeypatch.setattr(reader, "_ask", ask_an_old_one)
    stream = "ann", "2026-06-01"
    for number, whole in ((2, True), (3, False)):
        await audit.adjust(give(-1, f"id-{number}"))
        await audit.adjust(give(-1, f"id-{number}-again"))
        assert (await reader.entries([stream]))[stream][1] is whole


async def test_what_changes_while_it_is_read_is_no_drift(
    make_redis: MakeRedis, clock: Clock, monkeypatch: pytest.MonkeyPatch
):
    ledger = make_redis(clock=clock, keep_days=10)
    audit = ledger.audit()
    limit = budget(10**6)
    await admit(ledger, wish(budget(10, "bob"), tokens=5))
    entries, times = audit._reader.entries, [0]

    async def meanwhile(streams: Any) -> Any:
        read = await entries(streams)
        if times[0]:
            times[0] -= 1
            hold = (await admit(ledger, wish(limit))).hold
            await ledger.settle(hold, Charge(tokens=5))
        return read

    monkeypatch.setattr(audit._reader, "entries", meanwhile)
    for busy, unsure in ((2, 0), (99, 2)):  # a counter, and a row of usage
        await audit.adjust(give(-1, f"id-{busy}"))
        times[0] = busy
        verdict = await audit.verdict()
        assert (verdict.drifts, len(verdict.unsure)) == ((), unsure), verdict
    assert "tokens:2026-06-01:ann: the counter changed during every reading" in verdict.unsure[0]


async def test_what_is_settled_again_after_its_end_was_forgotten_is_charged_again(
    make_redis: MakeRedis, clock: Clock, redis_server: Server
):
    ledger = make_redis(prefix="again", clock=clock, keep_days=10)
    hold = (await admit(ledger, wish(budget(1_000), hold_id="again"))).hold
    await ledger.settle(hold, Charge(tokens=70))
    with redis_server.client() as client:
        assert client.delete("again:{ann}:end:again") == 1
    await ledger.settle(hold, Charge(tokens=70))

    assert await balance(ledger, budget(1_000)) == (140, 0)
    assert (await ledger.audit().verdict()).drifts == ()
    assert [r.id async for r in ledger.audit().records(0)] == ["again", "again"]


@pytest.mark.parametrize("values", [1, 3, 9])
async def test_more_keys_and_entries_than_one_page(
    make_redis: MakeRedis, clock: Clock, monkeypatch: pytest.MonkeyPatch, values: int
):
    monkeypatch.setattr("chatnest.ledger.redis.reader._VALUES", values)
    monkeypatch.setattr("chatnest.ledger.redis.reader._ENTRIES", values)
    monkeypatch.setattr("chatnest.ledger.redis.reader._KEYS", 3)
    monkeypatch.setattr("chatnest.stores.redis.link._SCANNED", 2)
    ledger = make_redis(clock=clock, keep_days=10)
    audit = ledger.audit()
    for number in range(7):
        await audit.adjust(give(-1, f"id-{number}"))
        await audit.adjust(give(-1, "one", f"user-{number}"))
    assert len([record async for record in audit.records(0)]) == 14
    assert len(await audit.balances()) == 8
    assert (await audit.verdict()).drifts == ()


async def test_a_counter_of_an_older_chatnest_is_read_and_gets_its_end(
    make_redis: MakeRedis, clock: Clock, redis_server: Server
):
    ledger = make_redis(prefix="four", clock=clock)
    place = "four:{ann}:counters", "tokens:2026-06-01"
    with redis_server.client(decode_responses=True) as client:
        ends = utc("2026-06-02T00:00")
        client.hset(*place, "70 0 0 0")
        hold = (await admit(ledger, wish(budget(1_000)))).hold
        assert client.hget(*place) == f"70 100 0 0 0 {ends}"
        await ledger.audit().adjust(give(-50, "once"))
        assert client.hget(*place) == f"70 100 0 0 -50 {ends}"
        await ledger.settle(hold, Charge(tokens=10))
        assert client.hget(*place) == f"80 0 0 0 -50 {ends}"
        client.hset("four:{ann}:counters", "tokens:2026-05-31", "7 0 0 0")
        month = Limit(
            name="tokens", unit="tokens", account="ann", amount=1_000, window="month", starts=31
        )
        assert await balance(ledger, month) == (37, 0)
        assert await balance(ledger, budget(1_000)) == (30, 0)
        left = [client.pttl(key) for key in client.scan_iter("four:{ann}:*")]
    assert min(left) > 0


async def test_a_grant_and_its_record_are_known_for_as_long_as_the_grant_counts(
    make_redis: MakeRedis, redis_server: Server
):
    ledger = make_redis(prefix="granted")
    grant = msgspec.structs.replace(give(20, "invoice-17"), day="granted")
    assert [(await ledger.audit().adjust(grant)).first for _ in range(2)] == [True, False]
    with redis_server.client(decode_responses=True) as client:
        assert client.ttl("granted:{ann}:adjust:invoice-17") == -1
        assert client.ttl("granted:{ann}:counters") == -1
        for key in client.scan_iter("granted:*"):  # a year later
            if client.ttl(key) >= 0:
                client.delete(key)

    verdict = await ledger.audit().verdict()
    assert (verdict.checked, verdict.drifts, verdict.old) == (1, (), 0)
    assert [record.id async for record in ledger.audit().records(0)] == ["invoice-17"]
    assert not (await ledger.audit().adjust(grant)).first


async def test_records_of_grants_are_not_dropped_for_others(make_redis: MakeRedis):
    ledger = make_redis(max_turns=10)
    for number in range(300):
        grant = msgspec.structs.replace(give(1, f"invoice-{number}"), day="granted")
        await ledger.audit().adjust(grant)

    verdict = await ledger.audit().verdict()
    assert (verdict.drifts, verdict.unsure) == ((), ())


async def test_accounts_and_their_records_are_read_many_at_a_time(
    make_redis: MakeRedis, redis_server: Server
):
    ledger = make_redis()
    holds = [(await admit(ledger, wish(budget(1_000, f"user-{n}")))).hold for n in range(100)]
    for hold in holds[::2]:
        await ledger.settle(hold, Charge(tokens=7))

    with watched(redis_server) as seen:
        verdict = await ledger.audit().verdict()
        scripts = [command for command in seen() if command[0] == "EVALSHA"]

    assert (verdict.checked, verdict.drifts) == (100, ())
    # Each account was read twice, and each stream once.
    assert len(scripts) < 10
