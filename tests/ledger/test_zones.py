"""One time zone for each name of a budget: two would be two budgets at the same time."""

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest

from chatnest import ChatNestApp, DemoProvider
from chatnest.errors import ConfigurationError, ZoneConflict
from chatnest.ledger.base import Charge, Ledger
from chatnest.ledger.memory import MemoryLedger
from chatnest.ledger.redis import RedisLedger
from chatnest.ledger.sqlite import SQLiteLedger
from chatnest.policies import standard_policies
from tests.ledger.support import (
    MINUTE,
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

Changeable = SQLiteLedger | RedisLedger

EVENING = utc("2026-06-01T16:00")
"""In Tokyo it is the next day already."""


@pytest.fixture(params=["memory", "sqlite", "redis", "redis+cluster"])
async def ledger(
    request: pytest.FixtureRequest, anyio_backend: str, clock: Clock, path: Path
) -> AsyncIterator[Ledger]:
    clock.now = EVENING
    ledger: Ledger = MemoryLedger(clock=clock)
    if request.param == "sqlite":
        ledger = SQLiteLedger(path, clock=clock, synchronous="NORMAL")
    elif "redis" in request.param:
        server = "redis_cluster" if "cluster" in request.param else "redis_server"
        url = f"{request.param}://{request.getfixturevalue(server).address}"
        ledger = RedisLedger(url, prefix=uuid4().hex, timeout=10, clock=clock)
    yield ledger
    await ledger.aclose()


async def test_a_second_zone_is_no_second_budget(ledger: Ledger):
    await admit(ledger, wish(budget(1_000), tokens=1_000))

    other = wish(budget(1_000, zone="Asia/Tokyo"), streams(1), rate(1), tokens=1_000)
    with pytest.raises(ZoneConflict) as raised:
        await ledger.reserve(other)

    assert isinstance(raised.value, ConfigurationError)
    assert (raised.value.name, raised.value.kept, raised.value.asked) == (
        *("tokens", "UTC"),
        "Asia/Tokyo",
    )
    assert "chatnest ledger timezone tokens Asia/Tokyo" in str(raised.value)
    assert await balance(ledger, streams(1)) == (0, 0)
    assert await balance(ledger, rate(1)) == (0, 0)
    assert await balance(ledger, budget(1_000)) == (0, 1_000)
    await ledger.release(other)  # as a caller does that was not told what came of it


async def test_it_is_so_for_another_account_and_for_a_look(ledger: Ledger):
    await admit(ledger, wish(budget(1_000)))

    tokyo = budget(1_000, "bob", "Asia/Tokyo")
    with pytest.raises(ZoneConflict):
        await ledger.reserve(wish(tokyo))
    with pytest.raises(ZoneConflict):
        await ledger.usage((tokyo,))


async def test_names_have_zones_of_their_own(ledger: Ledger):
    await admit(ledger, wish(budget(1_000), budget(1_000, zone="Asia/Tokyo", name="team")))

    await admit(ledger, wish(budget(1_000)))
    await admit(ledger, wish(budget(1_000, zone="Asia/Tokyo", name="team")))


async def test_one_wish_with_two_zones_of_a_name_is_refused(ledger: Ledger):
    with pytest.raises(ZoneConflict):
        await ledger.reserve(wish(budget(1_000), budget(1_000, zone="Asia/Tokyo")))

    await admit(ledger, wish(budget(1_000, zone="Asia/Tokyo")))


async def test_neither_a_look_nor_a_refusal_settles_the_zone(ledger: Ledger):
    await ledger.usage((budget(1_000),))
    await refuse(ledger, wish(budget(10), tokens=20))

    await admit(ledger, wish(budget(1_000, zone="Asia/Tokyo")))


@pytest.fixture(params=["sqlite", "redis"])
async def tokyo(
    request: pytest.FixtureRequest, anyio_backend: str, path: Path, clock: Clock
) -> AsyncIterator[Changeable]:
    """Ann has used 700 of the day in UTC, which in Tokyo is the day before, and bob 10."""
    clock.now = EVENING
    ledger: Changeable = SQLiteLedger(path, clock=clock, synchronous="NORMAL")
    if request.param == "redis":
        url = request.getfixturevalue("redis_server").url
        ledger = RedisLedger(url, prefix=uuid4().hex, timeout=10, clock=clock)
    for account, tokens in (("ann", 700), ("bob", 10)):
        hold = (await admit(ledger, wish(budget(1_000, account)))).hold
        await ledger.settle(hold, Charge(tokens=tokens))
    yield ledger
    await ledger.aclose()


async def test_what_was_used_counts_after_a_change_of_zone(tokyo: Changeable):
    change = await tokyo.audit().change_zone("tokens", "Asia/Tokyo")

    assert (change.before, change.after) == ("UTC", "Asia/Tokyo")
    assert await balance(tokyo, budget(1_000, zone="Asia/Tokyo")) == (700, 0)
    assert await balance(tokyo, budget(1_000, "bob", "Asia/Tokyo")) == (10, 0)
    await refuse(tokyo, wish(budget(1_000, zone="Asia/Tokyo"), tokens=301))
    with pytest.raises(ZoneConflict):
        await tokyo.reserve(wish(budget(1_000)))
    assert (await tokyo.audit().verdict()).drifts == ()


async def test_a_change_and_back_gives_nothing(tokyo: Changeable):
    await tokyo.audit().change_zone("tokens", "Asia/Tokyo")
    hold = (await admit(tokyo, wish(budget(1_000, zone="Asia/Tokyo"), tokens=300))).hold
    await tokyo.settle(hold, Charge(tokens=300))

    await tokyo.audit().change_zone("tokens", "UTC")

    assert await balance(tokyo, budget(1_000)) == (1_000, 0)
    assert (await tokyo.audit().change_zone("tokens", "UTC")).before == "UTC"
    assert (await tokyo.audit().verdict()).drifts == ()


async def test_a_day_without_use_is_no_longer_in_another_zone(tokyo: Changeable, clock: Clock):
    clock.now = utc("2026-06-01T13:00")
    asked = wish(budget(1_000, "cid"))
    await admit(tokyo, asked)
    await tokyo.release(asked)  # this day would have ended at midnight of UTC
    await tokyo.audit().change_zone("tokens", "Asia/Tokyo")
    limit = budget(1_000, "cid", "Asia/Tokyo")
    hold = (await admit(tokyo, wish(limit, tokens=1_000))).hold
    await tokyo.settle(hold, Charge(tokens=1_000))
    await refuse(tokyo, wish(limit))

    clock.now = utc("2026-06-01T15:00")  # midnight of Tokyo

    assert await balance(tokyo, limit) == (0, 0)
    await admit(tokyo, wish(limit, tokens=1_000))


async def test_on_the_same_day_it_counts_as_well(tokyo: Changeable):
    await tokyo.audit().change_zone("tokens", "Europe/Berlin")

    assert await balance(tokyo, budget(1_000, zone="Europe/Berlin")) == (700, 0)


async def test_no_zone_is_changed_under_answers(tokyo: Changeable, clock: Clock):
    await admit(tokyo, wish(budget(1_000), tokens=200))

    with pytest.raises(ConfigurationError, match="Stop all workers"):
        await tokyo.audit().change_zone("tokens", "Asia/Tokyo")
    assert await balance(tokyo, budget(1_000)) == (700, 200)

    clock.now += MINUTE  # the lease has ended
    await tokyo.audit().change_zone("tokens", "Asia/Tokyo")
    assert await balance(tokyo, budget(1_000, zone="Asia/Tokyo")) == (900, 0)
    assert (await tokyo.audit().verdict()).drifts == ()


@pytest.mark.parametrize(("name", "zone"), [("tokens", "Mars"), ("tickets", "UTC")])
async def test_neither_name_nor_zone_may_be_unknown(tokyo: Changeable, name: str, zone: str):
    with pytest.raises(ConfigurationError):
        await tokyo.audit().change_zone(name, zone)


async def test_an_application_with_another_zone_does_not_start(tokyo: Changeable):
    app = ChatNestApp(
        provider=DemoProvider(),
        ledger=tokyo,
        policies=standard_policies(timezone="Asia/Tokyo"),
    )

    with pytest.raises(ZoneConflict):
        await app.start()

    await app.aclose()
