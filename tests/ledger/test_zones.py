"""One time zone for each name of a budget: two would be two budgets at the same time."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chatnest.errors import ConfigurationError, ZoneConflict
from chatnest.ledger.base import Ledger
from chatnest.ledger.memory import MemoryLedger
from chatnest.ledger.sqlite import SQLiteLedger
from tests.ledger.support import Clock, admit, balance, budget, rate, refuse, streams, utc, wish

pytestmark = pytest.mark.anyio

EVENING = utc("2026-06-01T16:00")
"""In Tokyo it is the next day already."""


@pytest.fixture(params=["memory", "sqlite"])
async def ledger(request: pytest.FixtureRequest, clock: Clock, path: Path) -> AsyncIterator[Ledger]:
    clock.now = EVENING
    ledger: Ledger = MemoryLedger(clock=clock)
    if request.param == "sqlite":
        ledger = SQLiteLedger(path, clock=clock, synchronous="NORMAL")
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
