"""What is a RedisLedger's own: its keys, its scripts, its addresses. Its failures are next door."""

import json
import random
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from chatnest.errors import ConfigurationError, LedgerUnavailable
from chatnest.ledger import _redis_client, model
from chatnest.ledger._redis_breaker import Breaker
from chatnest.ledger._redis_keys import Days
from chatnest.ledger.base import Admitted, Charge, Hold, Limit, Reservation, Settlement
from chatnest.ledger.redis import RedisLedger
from tests.ledger import worker
from tests.ledger.conftest import MakeRedis
from tests.ledger.server import Server, running
from tests.ledger.support import (
    DAY,
    HOUR,
    MINUTE,
    NOON,
    SECOND,
    Clock,
    admit,
    balance,
    budget,
    rate,
    refuse,
    streams,
    utc,
    wish,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def limits_of(who: str) -> tuple[Limit, ...]:
    return (rate(20, account=who), budget(5_000, account=who), streams(9, account=who))


async def live_a_little(ledger: RedisLedger, clock: Clock, seed: int) -> int:
    """Operations of every kind, and expiries, over accounts that share holds. Says how many."""
    dice = random.Random(seed)
    wishes: list[Reservation] = []
    holds: list[Hold] = []
    for step in range(150):
        clock.now += dice.choice([0, 0, SECOND, 11 * SECOND, HOUR])
        who = dice.choice(["ann", "bob", ""])
        limits = limits_of(who) if step % 10 else (rate(20, account=who),)
        match dice.randrange(7):
            case 0 | 1 | 2:
                wishes.append(wish(*limits, *limits_of("team"), lease=12 * SECOND))
                answer = await ledger.reserve(wishes[-1])
                if isinstance(answer, Admitted):
                    holds.append(answer.hold)
            case 3 if holds:
                await ledger.settle(dice.choice(holds), Charge(tokens=dice.randrange(150)))
            case 4 if wishes:
                await ledger.release(dice.choice(wishes))
            case 5 if holds:
                await ledger.renew(dice.choice(holds), 12 * SECOND)
            case _:
                await ledger.usage(limits)
    return len(wishes)


@contextmanager
def watched(server: Server) -> Iterator[Callable[[], list[list[str]]]]:
    """Gives the commands that the server has seen, those of scripts with ``lua`` in front."""
    with server.client() as client, server.client() as marker:
        marker.echo("here we go")
        connection = client.connection_pool.get_connection()
        connection.send_command("MONITOR")
        connection.read_response()

        def seen() -> list[list[str]]:
            marker.echo("that is all")
            commands: list[list[str]] = []
            while True:
                line = connection.read_response().decode("unicode-escape")
                words = re.findall(r'"((?:[^"\\]|\\.)*)"', line)
                if words == ["ECHO", "that is all"]:
                    return commands
                commands.append([*(["lua"] if " lua] " in line else []), *words])

        yield seen
        connection.disconnect()


# ---------------------------------------------------------------- keys


@pytest.mark.parametrize("seed", range(3))
async def test_every_key_ends_by_itself(
    make_redis: MakeRedis, clock: Clock, redis_server: Server, seed: int
):
    ledger = make_redis(prefix=f"ends-{seed}", clock=clock)
    await live_a_little(ledger, clock, seed)
    await ledger.check()

    with redis_server.client() as client:
        keys = list(client.scan_iter(f"ends-{seed}:*"))
        lives = {key: client.pttl(key) for key in keys}
    kinds = {key.decode().rpartition("}:")[2].partition(":")[0] for key in keys}
    assert kinds == {"counters", "holds", "due", "turns", "window", "end", "check"}
    assert all(0 < life <= 3 * DAY + HOUR for life in lives.values()), lives
    # A day's counters are kept for as long as was said, after its end.
    for key, life in lives.items():
        if key.endswith(b":counters") and b"%id:" not in key:
            assert life > model.day_end(clock.now, "UTC") - clock.now + 2 * DAY - HOUR - MINUTE


@pytest.mark.parametrize("seed", range(3))
async def test_scripts_touch_declared_keys_alone_and_each_operation_is_one_round_trip(
    make_redis: MakeRedis, clock: Clock, redis_server: Server, seed: int
):
    ledger = make_redis(clock=clock)
    await live_a_little(ledger, clock, 99)  # scripts are loaded, a connection stands

    with watched(redis_server) as seen:
        await live_a_little(ledger, clock, seed)
        commands = seen()
        reserved = [await ledger.reserve(wish(*limits_of("zoe"), tokens=900)) for _ in range(9)]
        admissions = seen()

    declared: list[str] = []
    touched = 0
    for command in commands:
        if command[0] == "lua":
            touched += 1
            assert command[1] == "TIME" or command[2] in declared, command
        else:
            assert command[0] == "EVALSHA"
            declared = command[3 : 3 + int(command[2])]
            tags = {key[key.index("{") : key.index("}")] for key in declared}
            assert all(tag in {"{ann", "{bob", "{%", "{team"} or "{%id:" in tag for tag in tags)
    assert touched > 500
    assert len({type(answer) for answer in reserved}) == 2
    assert [c[0] for c in admissions if c[0] != "lua"] == ["EVALSHA"] * 9


async def test_a_reservation_of_one_account_is_one_round_trip_in_a_cluster(
    make_redis: MakeRedis, redis_cluster: Server
):
    ledger = make_redis(f"redis+cluster://{redis_cluster.address}")
    await admit(ledger, wish(*limits_of("ann")))

    with watched(redis_cluster) as seen:
        await admit(ledger, wish(*limits_of("ann")))
        assert [c[0] for c in seen() if c[0] != "lua"] == ["EVALSHA"]
        await admit(ledger, wish(*limits_of("ann"), *limits_of("team")))
        assert [c[0] for c in seen() if c[0] != "lua"] == ["EVALSHA"] * 2


ODD = [
    "",
    "%",
    "{",
    "}",
    "{}",
    "}{",
    "a:b",
    "%7B",
    "2001:db8::1",
    "é 😀",
    "%id:x",
    "a\nb",
    "T=x S=y",
]


@pytest.mark.parametrize("scheme", ["redis", "redis+cluster"])
async def test_accounts_may_be_odd(
    make_redis: MakeRedis,
    clock: Clock,
    redis_server: Server,
    redis_cluster: Server,
    scheme: str,
):
    server = redis_cluster if "cluster" in scheme else redis_server
    ledger = make_redis(f"{scheme}://{server.address}", clock=clock)
    for number, account in enumerate(ODD, 1):
        limits = (budget(1_000, account, name="tökens"), streams(9, account, name="T"))
        for _ in range(2):
            hold = (await admit(ledger, wish(*limits, rate(9, account=account), tokens=200))).hold
            assert [line.key for line in hold.lines] == [
                model.counter_key(limit, clock.now) for limit in limits
            ]
        await ledger.settle(hold, Charge(tokens=number))
        clock.now += 31 * SECOND  # the other one expires

    for number, account in enumerate(ODD, 1):
        assert await balance(ledger, budget(1_000, account, name="tökens")) == (
            200 + number,
            0,
        )
        assert await balance(ledger, streams(9, account, name="T")) == (0, 0)


@pytest.mark.parametrize("prefix", ["", "{x}", "a b"])
def test_a_prefix_is_a_word(prefix: str):
    with pytest.raises(ConfigurationError, match="prefix"):
        RedisLedger("redis://localhost", prefix=prefix)


async def test_days_that_are_over_are_forgotten(
    make_redis: MakeRedis, clock: Clock, redis_server: Server
):
    ledger = make_redis(prefix="days", clock=clock)
    old = (await admit(ledger, wish(budget(1_000), lease=DAY))).hold
    for _ in range(10):
        hold = (await admit(ledger, wish(budget(1_000), streams(3)))).hold
        await ledger.settle(hold, Charge(tokens=10))
        await ledger.renew(old, DAY + MINUTE)
        clock.now += DAY

    with redis_server.client() as client:
        days = {field.decode() for field in client.hkeys("days:{ann}:counters")}
    # The last one is of the day before the clock's; the first has a hold that lives.
    kept = [f"tokens:2026-06-{day:02}" for day in (1, 8, 9, 10)]
    assert days == {*kept, "streams:"}
    await ledger.settle(old, Charge(tokens=70))
    clock.now = NOON
    assert await balance(ledger, budget(1_000)) == (80, 0)


async def test_leases_end_some_at_a_time(make_redis: MakeRedis, clock: Clock):
    ledger = make_redis(clock=clock)
    for _ in range(150):
        await admit(ledger, wish(budget(20_000), tokens=100))
    clock.now += MINUTE

    balances = [await balance(ledger, budget(20_000)) for _ in range(4)]

    assert balances == [(6_400, 8_600), (12_800, 2_200), (15_000, 0), (15_000, 0)]


async def test_a_window_leaves_some_at_a_time(make_redis: MakeRedis, clock: Clock):
    ledger = make_redis(clock=clock)
    async with anyio.create_task_group() as tasks:
        for _ in range(2_100):
            tasks.start_soon(admit, ledger, wish(rate(2_100)))
    clock.now += MINUTE

    # What has not been removed yet does not count.
    await refuse(ledger, wish(rate(0)))
    admitted = await admit(ledger, wish(rate(2_100)))
    assert [(s.used, s.resets_at) for s in admitted.states] == [(1, clock.now + MINUTE)]
    assert await balance(ledger, rate(2_100)) == (1, 0)


# ---------------------------------------------------------------- the server's clock


async def test_the_servers_clock_decides(make_redis: MakeRedis):
    ledger = make_redis()
    before = model.day_of(0, "UTC")
    admitted = await admit(ledger, wish(budget(1_000, zone="Asia/Kathmandu")))

    assert before < model.day_of(admitted.now, "UTC")
    assert admitted.hold.lines[0].key == model.counter_key(
        budget(1_000, zone="Asia/Kathmandu"), admitted.now
    )
    assert await balance(ledger, budget(1_000, zone="Asia/Kathmandu")) == (0, 100)


async def test_a_lease_ends_by_the_servers_clock(make_redis: MakeRedis):
    ledger = make_redis()
    await admit(ledger, wish(budget(1_000), streams(1), lease=50))
    await refuse(ledger, wish(streams(1)))

    with anyio.fail_after(10):
        while (await balance(ledger, streams(1)))[1]:
            await anyio.lowlevel.checkpoint()
    assert await balance(ledger, budget(1_000)) == (100, 0)


@pytest.mark.parametrize("off", [-400 * DAY, -2 * DAY, 2 * DAY, 400 * DAY])
async def test_a_worker_whose_clock_is_wrong_asks_a_second_time_once(
    make_redis: MakeRedis, redis_server: Server, off: int
):
    ledger = make_redis()
    await ledger.check()
    ledger._ahead = off

    with watched(redis_server) as seen:
        admitted = await admit(ledger, wish(budget(1_000)))
        await balance(ledger, budget(1_000))
        sent = [command[0] for command in seen() if command[0] != "lua"]
    assert len(sent) == 3 + sent.count("EVAL")
    assert abs(ledger._ahead) < 5 * SECOND
    assert await balance(ledger, budget(1_000)) == (0, 100)
    assert admitted.hold.lines[0].key == model.counter_key(budget(1_000), admitted.now)


async def test_a_clock_that_jumps_about_is_no_clock(
    make_redis: MakeRedis, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Days, "around", lambda *_: (0, 1, 2, "1970-01-01", "1970-01-02", "0"))

    with pytest.raises(LedgerUnavailable):
        await make_redis().usage((budget(1),))


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/Santiago", "Pacific/Apia"])
def test_the_days_around_are_those_of_the_rules(zone: str):
    days = Days(keep_days=2)
    dice = random.Random(zone)
    now = utc("2011-01-01T00:00")
    while now < utc("2013-01-01T00:00"):
        now += dice.choice([MINUTE, HOUR, 5 * HOUR, 30 * HOUR])
        start, middle, stop, first, second, oldest = days.around(zone, now)
        assert start + HOUR <= now < stop - HOUR
        assert model.day_end(start, zone) == middle
        assert model.day_end(middle, zone) == stop
        assert (first, second) == (model.day_of(start, zone), model.day_of(middle, zone))
        assert model.day_of(now, zone) == (first if now < middle else second)
        assert oldest < first


# ---------------------------------------------------------------- scripts


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
        "tokens": "70",
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


# ---------------------------------------------------------------- many at once


def start(mode: str, server: Server, count: int) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, worker.__file__, mode, server.url, str(count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def admitted_by(processes: "list[subprocess.Popen[str]]") -> int:
    told = [json.loads(process.communicate(timeout=60)[0]) for process in processes]
    assert all(process.returncode == 0 for process in processes)
    return sum(each["admitted"] for each in told)


def figures(server: Server) -> list[int]:
    """Settled, held, overrun, expired."""
    with server.client(decode_responses=True) as client:
        (counter,) = client.hgetall("chatnest:{all}:counters").values()
    return [int(figure) for figure in counter.split()]


def test_four_processes_never_hold_and_settle_more_than_there_is(tmp_path: Path):
    with running(tmp_path) as server:
        # Each looks at every admission's figures, which are of one moment.
        taken = admitted_by([start("settle", server, 300) for _ in range(4)])

        assert 0 < taken < 1_200
        assert figures(server) == [taken * worker.COST, 0, 0, 0]
    assert worker.BUDGET.limit - worker.HELD < taken * worker.COST <= worker.BUDGET.limit


def test_500_at_once_in_four_processes_get_what_there_is(tmp_path: Path):
    with running(tmp_path) as server:

        async def take_three() -> None:
            ledger = RedisLedger(server.url, timeout=10)
            for number in range(3):
                assert await worker.take(ledger, number)
            await ledger.aclose()

        anyio.run(take_three)
        workers = [start("burst", server, 125) for _ in range(4)]
        for process in workers:
            assert process.stdout
            assert "ready" in process.stdout.readline()
        for process in workers:
            assert process.stdin
            process.stdin.write("\n")
            process.stdin.flush()

        assert admitted_by(workers) == 37
        assert figures(server) == [0, worker.BUDGET.limit, 0, 0]


async def test_many_wait_for_few_connections(make_redis: MakeRedis, redis_server: Server):
    ledger = make_redis(max_connections=2)
    with redis_server.client() as client:
        before = len(client.client_list())
        answers: list[bool] = []

        async def ask() -> None:
            asked = wish(budget(3_700))
            answer = await ledger.reserve(asked)
            answers.append(isinstance(answer, Admitted))
            assert not isinstance(answer, Admitted) or answer.hold.id == asked.id

        async with anyio.create_task_group() as tasks:
            for _ in range(500):
                tasks.start_soon(ask)
        assert len(client.client_list()) <= before + 2
    assert (sum(answers), len(answers)) == (37, 500)


async def test_an_operation_that_is_cancelled_mixes_up_no_answers(make_redis: MakeRedis):
    ledger = make_redis(max_connections=3)
    dice = random.Random(1)
    limit = budget(10**6)
    asked = [wish(limit, tokens=number) for number in range(1, 200)]

    for reservation in asked:
        with anyio.move_on_after(dice.random() / 1000):
            await ledger.reserve(reservation)
        answer = await admit(ledger, reservation)
        assert (answer.hold.id, answer.hold.tokens) == (reservation.id, reservation.tokens)
    assert await balance(ledger, limit) == (0, sum(each.tokens for each in asked))


def test_two_event_loops_at_once(redis_server: Server):
    ledger = RedisLedger(redis_server.url, prefix="loops", timeout=10)
    admitted: list[bool] = []

    async def ask() -> None:
        answers = [await ledger.reserve(wish(budget(3_700))) for _ in range(50)]
        admitted.extend(isinstance(answer, Admitted) for answer in answers)
        await ledger.aclose()

    threads = [threading.Thread(target=anyio.run, args=(ask,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (sum(admitted), len(admitted)) == (37, 100)

    async def look() -> tuple[int, int]:
        try:
            return await balance(ledger, budget(3_700))
        finally:
            await ledger.aclose()

    assert anyio.run(look) == (0, 3_700)


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_on_trio_it_says_what_to_do(anyio_backend: str):
    ledger = RedisLedger("redis://localhost")

    with pytest.raises(ConfigurationError, match="SQLiteLedger on trio"):
        await ledger.check()
    await ledger.aclose()


# ---------------------------------------------------------------- a cluster


def slots(*accounts: str) -> list[str]:
    """Accounts in the order of their slots."""
    return sorted(accounts, key=_redis_client.slot_of)


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
        link = self.ledger._link()
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


# ---------------------------------------------------------------- addresses and settings


async def test_what_is_known_of_the_server(make_redis: MakeRedis):
    facts = await make_redis().facts()

    assert {"redis_version", "role", "aof_enabled", "maxmemory_policy"} <= set(facts)
    assert (facts["role"], facts["aof_enabled"], facts["cluster_enabled"]) == ("master", "0", "0")


async def test_a_password_is_used_and_never_shown(make_redis: MakeRedis, tmp_path: Path):
    with running(tmp_path, "--requirepass", "s3cret") as server:
        ledger = make_redis(f"redis://:s3cret@{server.address}/3")
        await ledger.check()
        wrong = make_redis(f"redis://:wr0ng@{server.address}?client_name=x")
        with pytest.raises(LedgerUnavailable) as caught:
            await wrong.check()

    assert repr(ledger) == f"RedisLedger('redis://{server.address}/3')"
    assert repr(wrong) == f"RedisLedger('redis://{server.address}')"
    seen: BaseException | None = caught.value
    while seen is not None:
        assert "wr0ng" not in repr(seen)
        seen = seen.__cause__
    await wrong.aclose()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://", "redis://"),
        ("redis://u:p@h:1/2?socket_keepalive=1", "redis://h:1/2"),
        ("rediss://h?ssl_cert_reqs=none", "rediss://h"),
        ("unix:///run/redis.sock?db=1", "unix:///run/redis.sock"),
        ("redis+sentinel://u:p@a:1,b/main/3", "redis+sentinel://a:1,b/main/3"),
        ("rediss+sentinel://[::1]:1/main", "rediss+sentinel://[::1]:1/main"),
        ("redis+cluster://u:p@a:1,b", "redis+cluster://a:1,b"),
        ("rediss+cluster://a", "rediss+cluster://a"),
        ("rediss://a?cluster=true", "rediss://a"),
    ],
)
def test_addresses(url: str, shown: str):
    ledger = RedisLedger(url)

    assert repr(ledger) == f"RedisLedger({shown!r})"
    assert ("cluster" in url) == (ledger._keys._slot_of is not None)


@pytest.mark.parametrize(
    "url",
    [
        *("", "localhost:6379", "http://h", "redis+x://h", "redis://h:port", "redis://u:p@h:99999"),
        *("redis+sentinel://h", "redis+sentinel://:1/main", "redis+cluster://", "unix+cluster://h"),
        *("redis+sentinel://h/main?cluster=true", "redis://h?cluster=yes", "redis://h?db=x"),
        *("redis://h?no_such_option=1", "redis+cluster://h?no_such_option=1", "redis://[::1"),
        "redis://u:p?x@h:port",
        *("redis+sentinel://h/main?no_such_option=1", "redis+cluster://h?db=1"),
    ],
)
def test_what_is_no_address(url: str):
    with pytest.raises(ConfigurationError) as caught:
        RedisLedger(url)

    assert "u:p" not in str(caught.value)


@pytest.mark.parametrize("setting", ["timeout", "keep_days", "remember", "max_connections"])
def test_settings_are_greater_than_nothing(setting: str):
    with pytest.raises(ConfigurationError):
        RedisLedger("redis://localhost", **{setting: 0})  # type: ignore[arg-type]


def test_without_the_extra_it_says_what_to_install():
    program = (
        "import sys; sys.modules['redis'] = None\n"
        "import chatnest; from chatnest.ledger.redis import RedisLedger\n"
        "try: RedisLedger('redis://localhost')\n"
        "except chatnest.ConfigurationError as exc: print(exc)"
    )
    told = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True
    )

    assert "pip install chatnest[redis]" in told.stdout


# ---------------------------------------------------------------- the breaker


def test_a_breaker_opens_once_and_its_pauses_vary():
    breaker = Breaker(
        first=0.05, interval=0.5, jitter=0.2, dice=iter([0.5, 0.0, 1.0, 0.5]).__next__
    )

    assert not breaker.is_open
    assert [breaker.open(), breaker.open(), breaker.is_open] == [True, False, True]
    assert [breaker.pause() for _ in range(3)] == pytest.approx([0.05, 0.4, 0.6])
    breaker.close()
    assert not breaker.is_open
    assert breaker.open()
    assert breaker.pause() == pytest.approx(0.05)
