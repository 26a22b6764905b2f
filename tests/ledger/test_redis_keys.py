"""The keys of RedisLedger: what is in them, and that they end."""

import anyio
import anyio.lowlevel
import pytest

from chatnest.errors import ConfigurationError
from chatnest.ledger import days
from chatnest.ledger.base import Charge
from chatnest.ledger.books import counter_key
from chatnest.ledger.redis import RedisLedger
from tests.ledger.conftest import MakeRedis
from tests.ledger.redis_support import limits_of, live_a_little, watched
from tests.ledger.server import Server
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
    wish,
)

pytestmark = [pytest.mark.anyio, pytest.mark.loops("asyncio")]


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
    a_day = {"counters", "holds", "due", "turns", "window", "end", "check"}
    assert kinds == a_day | {"usage", "mark", "zones"}
    for kind in "mark", "zones":
        assert lives.pop(f"ends-{seed}:{{%books}}:{kind}".encode()) == -1
    for key in [key for key in lives if b":usage:" in key]:
        assert 400 * DAY - MINUTE < lives.pop(key) <= 400 * DAY + HOUR
    assert all(0 < life <= 3 * DAY + HOUR for life in lives.values()), lives
    # A day's counters are kept for as long as was said, after its end.
    for key, life in lives.items():
        if key.endswith(b":counters") and b"%id:" not in key:
            assert life > days.day_end(clock.now, "UTC") - clock.now + 2 * DAY - HOUR - MINUTE


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
            assert all(
                tag in {"{ann", "{bob", "{%", "{team", "{%books"} or "{%id:" in tag for tag in tags
            )
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
        await admit(ledger, wish(*limits_of("team")))
        seen()
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
                counter_key(limit, clock.now) for limit in limits
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
