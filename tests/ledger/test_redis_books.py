"""A RedisLedger whose store is not the one any more that it counted in."""

import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import anyio
import pytest

from chatnest.errors import ConfigurationError, LedgerUnavailable, ZoneConflict
from chatnest.ledger.audit import ZoneChange
from chatnest.ledger.base import Charge, Reservation, Settlement
from chatnest.ledger.redis import RedisLedger
from chatnest.ledger.redis.mark import Mark, trouble
from chatnest.stores.reasons import reason_of
from chatnest.stores.redis import Script
from tests.ledger.conftest import MakeRedis
from tests.ledger.redis_support import limits_of
from tests.ledger.server import Server, running
from tests.ledger.support import MINUTE, Clock, admit, balance, budget, refuse, utc, wish

pytestmark = [pytest.mark.anyio, pytest.mark.loops("asyncio")]


LIMITS = limits_of("ann")


@pytest.fixture(params=["redis", "redis+cluster"])
def store(request: pytest.FixtureRequest) -> Iterator[Server]:
    """The worker's own server, emptied: a cluster takes two seconds to start."""
    name = "redis_cluster" if "cluster" in request.param else "redis_server"
    server: Server = request.getfixturevalue(name)
    flush(server)
    yield server
    flush(server)


@pytest.fixture
def make(make_redis: MakeRedis, store: Server) -> Callable[[], RedisLedger]:
    """Makes workers' ledgers of one store."""
    scheme = "redis+cluster" if "--cluster-enabled" in store.options else "redis"
    return lambda: make_redis(f"{scheme}://{store.address}", prefix="shop")


async def fails(operation: Callable[[], Awaitable[object]]) -> str:
    with pytest.raises(LedgerUnavailable) as caught:
        await operation()
    return reason_of(caught.value).found


def flush(store: Server) -> None:
    with store.client() as client:
        client.flushall()


async def every_operation_fails(ledger: RedisLedger) -> set[str]:
    hold = (wish(*LIMITS), Charge(tokens=70))
    return {
        await fails(lambda: ledger.reserve(hold[0])),
        await fails(lambda: ledger.usage(LIMITS)),
        await fails(lambda: ledger.release(hold[0])),
        await fails(ledger.check),
    }


async def test_an_emptied_store_admits_nothing_until_it_is_adopted(
    make: Callable[[], RedisLedger], store: Server, caplog: pytest.LogCaptureFixture
):
    ledger, idle = make(), make()
    spent = (await admit(ledger, wish(*LIMITS, tokens=4_950))).hold
    await ledger.settle(spent, Charge(tokens=4_950))
    hold = (await admit(ledger, wish(*LIMITS, tokens=50))).hold
    await idle.usage(LIMITS)
    flush(store)

    assert "gone" in await fails(lambda: ledger.reserve(wish(*LIMITS)))
    assert all("gone" in reason for reason in await every_operation_fails(ledger))
    assert "gone" in await fails(lambda: ledger.settle(hold, Charge(tokens=7)))
    assert "gone" in await fails(lambda: ledger.renew(hold, MINUTE))
    # Not for another one either, nor for one that starts now.
    for other in idle, make():
        assert "gone" in await fails(lambda: other.reserve(wish(*LIMITS)))  # noqa: B023
    logged = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert logged
    assert all("chatnest ledger adopt" in r.message for r in logged)

    assert "missing since" in await make().audit().adopt()

    await ledger.check()
    assert await ledger.settle(hold, Charge(tokens=7)) == Settlement(tokens=7, first=True)
    assert await ledger.settle(hold, Charge(tokens=7)) == Settlement(tokens=7, first=False)
    for each in ledger, idle, make():
        assert await balance(each, LIMITS[1]) == (7, 0)


async def test_without_the_mark_an_emptied_store_would_admit(
    make: Callable[[], RedisLedger], store: Server
):
    """The guard taken out."""
    ledger = make()
    await ledger.usage(LIMITS)
    for name in ("reserve", "zone"):
        text = ledger._server.scripts[name].text
        assert text.count("if mark ~= expected then") == 1
        ledger._server.scripts[name] = Script(
            text.replace("if mark ~= expected then", "if false then")
        )
    flush(store)

    await admit(ledger, wish(*LIMITS))


async def test_a_repeated_adoption_is_taken_over_too(
    make: Callable[[], RedisLedger], store: Server
):
    first, second = make(), make()
    await first.usage(LIMITS)
    await second.usage(LIMITS)
    flush(store)
    await make().audit().adopt()
    await first.usage(LIMITS)
    await make().audit().adopt()
    await make().audit().adopt()

    for each in first, second, make():
        assert await balance(each, LIMITS[1]) == (0, 0)


async def test_other_books_are_not_taken_for_these(make: Callable[[], RedisLedger], store: Server):
    ledger = make()
    await ledger.usage(LIMITS)
    flush(store)
    await make().usage(LIMITS)  # nobody had seen that they were gone

    assert "not the books" in await fails(lambda: ledger.reserve(wish(*LIMITS)))
    await make().audit().adopt()
    await admit(ledger, wish(*LIMITS))


async def test_books_that_come_back_are_used_again(
    make_redis: MakeRedis, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """A failover to an empty server, and back."""
    with ExitStack() as stack:
        folders = tmp_path / "old", tmp_path / "new"
        for folder in folders:
            folder.mkdir()
        old, new = (stack.enter_context(running(folder)) for folder in folders)
        ledger = make_redis(old.url, prefix="shop")
        hold = (await admit(ledger, wish(*LIMITS))).hold
        elsewhere = make_redis(new.url, prefix="shop")
        one, other = ledger._server, elsewhere._server
        one._links, other._links = other._links, one._links
        one._make_link, other._make_link = other._make_link, one._make_link

        assert "gone" in await fails(lambda: ledger.settle(hold, Charge(tokens=7)))
        assert "gone" in await fails(lambda: make_redis(new.url, prefix="shop").check())
        one._links, other._links = other._links, one._links
        one._make_link, other._make_link = other._make_link, one._make_link

        assert (await ledger.settle(hold, Charge(tokens=7))).first
        assert "the books are available again" in caplog.text


async def test_books_without_a_mark_are_taken_over_where_they_are_first_seen(
    make: Callable[[], RedisLedger], store: Server
):
    hold = (await admit(make(), wish(*LIMITS))).hold
    with store.client() as client:
        for key in [*client.scan_iter("shop:*:mark"), *client.scan_iter("shop:*:slots")]:
            client.delete(key)

    newer = make()
    assert await balance(newer, LIMITS[1]) == (0, 100)
    await newer.settle(hold, Charge(tokens=7))


async def test_a_newer_layout_is_refused(make: Callable[[], RedisLedger], store: Server):
    ledger = make()
    await admit(ledger, wish(*LIMITS))
    with store.client() as client:
        for key in client.scan_iter("shop:*:mark"):
            client.set(key, "2 something else")

    for each in ledger, make():
        assert "layout" in await fails(lambda: each.reserve(wish(*LIMITS)))  # noqa: B023
        assert "layout" in await fails(each.audit().adopt)
        assert "layout" in await fails(lambda: each.audit().balances())  # noqa: B023


async def test_scripts_of_others_go_on(make: Callable[[], RedisLedger], store: Server):
    ledger = make()
    await ledger.usage(LIMITS)
    flush(store)
    await fails(lambda: ledger.usage(LIMITS))

    assert await ledger.script("return redis.call('INCR', KEYS[1])", ["shop:{run}:x"], []) == 1


async def test_a_look_begins_no_books(make: Callable[[], RedisLedger], store: Server):
    survey = await make().survey()
    assert (survey.unwritable, survey.unscripted) == (None, None)
    with store.client() as client:
        assert not list(client.scan_iter("shop:*:mark"))


async def test_a_slot_that_has_lost_its_keys_stops_its_accounts_alone(
    make_redis: MakeRedis, redis_cluster: Server
):
    """As a shard does whose failover led to an empty replica."""
    prefix = uuid4().hex
    ledger = make_redis(f"redis+cluster://{redis_cluster.address}", prefix=prefix)
    for account in "ann", "bob":
        await admit(ledger, wish(budget(100, account=account)))
    with redis_cluster.client() as client:
        client.delete(ledger._keys.of_mark("ann"))

    for each in ledger, make_redis(f"redis+cluster://{redis_cluster.address}", prefix=prefix):
        assert "gone" in await fails(lambda: each.usage(limits_of("ann")))  # noqa: B023
        await each.usage(limits_of("bob"))
        assert "gone" in await fails(each.check)
    await ledger.audit().adopt()
    await ledger.usage(limits_of("ann"))
    await ledger.check()


async def test_a_cluster_that_lost_its_first_mark_begins_no_other_books(
    make_redis: MakeRedis, redis_cluster: Server
):
    url, prefix = f"redis+cluster://{redis_cluster.address}", uuid4().hex
    ledger = make_redis(url, prefix=prefix)
    await ledger.usage(limits_of("ann"))
    with redis_cluster.client() as client:
        client.delete(ledger._keys.mark, f"{prefix}:{{%books}}:slots")

    assert "gone" in await fails(make_redis(url, prefix=prefix).check)
    assert "gone" in await fails(lambda: ledger.usage(limits_of("zoe")))
    await ledger.audit().adopt()
    await make_redis(url, prefix=prefix).usage(limits_of("ann"))


KNOWN = Mark("one", adopted_at=100)


@pytest.mark.parametrize(
    ("known", "found", "taken"),
    [
        (None, Mark("one"), True),
        (None, None, False),
        (None, Mark("lost", 100, "one"), False),
        (KNOWN, KNOWN, True),
        (KNOWN, None, False),
        (KNOWN, Mark("lost", 600, "one"), False),
        (KNOWN, Mark("two"), False),  # begun elsewhere
        (KNOWN, Mark("two", 400), False),  # adopted before this worker last saw its own
        (KNOWN, Mark("two", 400, "one"), True),  # it follows, by a clock that is behind
        (KNOWN, Mark("two", 600), True),
        (KNOWN, Mark("three", 600, "two"), True),
        (KNOWN, Mark("two", 600, "one", schema=2), False),
    ],
)
def test_which_marks_are_taken_over(known: Mark | None, found: Mark | None, taken: bool):
    assert (trouble(known, found, seen_at=500) is None) == taken


@pytest.mark.parametrize("mark", [KNOWN, Mark("two", 5, "one"), Mark("lost", 5, "one")])
def test_a_mark_is_read_as_it_is_written(mark: Mark):
    assert Mark.read(str(mark)) == mark


# ---------------------------------------------------------------- zones


async def test_a_zone_that_was_changed_is_known_to_all_at_once(
    make_redis: MakeRedis, store: Server, clock: Clock
):
    clock.now = utc("2026-06-01T16:00")  # in Tokyo it is the next day
    scheme = "redis+cluster" if "--cluster-enabled" in store.options else "redis"
    first, second = (
        make_redis(f"{scheme}://{store.address}", clock=clock, prefix="z") for _ in "ab"
    )
    tokyo = budget(1_000, zone="Asia/Tokyo")
    hold = (await admit(first, wish(budget(1_000), tokens=900))).hold
    await admit(second, wish(budget(1_000, "bob")))
    with pytest.raises(ConfigurationError, match="without holds"):
        await second.audit().change_zone("tokens", "Asia/Tokyo")
    await first.settle(hold, Charge(tokens=800))
    clock.now += MINUTE  # the other one expires

    change = await second.audit().change_zone("tokens", "Asia/Tokyo")

    assert change == ZoneChange(name="tokens", before="UTC", after="Asia/Tokyo")
    with pytest.raises(ZoneConflict):
        await first.reserve(wish(budget(1_000)))
    await refuse(first, wish(tokyo, tokens=201, min_tokens=201))
    assert await balance(second, tokyo) == (800, 0)
    assert await balance(first, budget(1_000, "bob", "Asia/Tokyo")) == (100, 0)
    assert (await first.audit().verdict()).drifts == ()
    again = await second.audit().change_zone("tokens", "Asia/Tokyo")
    assert again.before == "Asia/Tokyo"


@pytest.mark.parametrize(("name", "zone"), [("other", "UTC"), ("tokens", "Asia/Nowhere")])
async def test_only_what_there_is_can_be_changed(
    make_redis: MakeRedis, clock: Clock, name: str, zone: str
):
    ledger = make_redis(clock=clock)
    await admit(ledger, wish(budget(1_000)))

    with pytest.raises(ConfigurationError):
        await ledger.audit().change_zone(name, zone)


async def test_of_two_zones_that_are_first_at_the_same_time_one_is_kept(
    make_redis: MakeRedis, redis_server: Server, clock: Clock
):
    clock.now = utc("2026-06-01T16:00")
    wishes = [
        wish(budget(100, f"user-{number}", zone))
        for number, zone in enumerate(("UTC", "Asia/Tokyo") * 5)
    ]
    ledgers = [make_redis(clock=clock, prefix="first") for _ in wishes]
    admitted, conflicts = list[str](), list[str]()

    async def reserve(ledger: RedisLedger, each: Reservation) -> None:
        zone = each.limits[0].timezone
        try:
            await admit(ledger, each)
            admitted.append(zone)
        except ZoneConflict:
            conflicts.append(zone)

    async with anyio.create_task_group() as tasks:
        for ledger, each in zip(ledgers, wishes, strict=True):
            tasks.start_soon(reserve, ledger, each)

    assert (len(set(admitted)), len(admitted), len(conflicts)) == (1, 5, 5)
    assert not set(admitted) & set(conflicts)
    holds = await ledgers[0].audit().holds()
    assert len(holds) == 5
    assert len({line.key.rsplit(":", 1)[0] for hold in holds for line in hold.lines}) == 1
