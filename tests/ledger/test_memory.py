"""What only MemoryLedger has: a bound on what it remembers."""

import gc

import pytest

from chatnest.ledger.base import Charge, Settlement
from chatnest.ledger.memory import MemoryLedger
from tests.ledger.support import (
    HOUR,
    MINUTE,
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

pytestmark = pytest.mark.anyio


async def test_what_was_not_used_for_longest_is_forgotten(clock: Clock):
    ledger = MemoryLedger(clock=clock, max_keys=10)
    for number in range(50):
        limits = (rate(9, account=f"{number}"), budget(1_000, account=f"{number}"))
        hold = (await admit(ledger, wish(*limits))).hold
        await ledger.settle(hold, Charge(tokens=100))

    assert repr(ledger) == "MemoryLedger(22 keys)"
    assert await balance(ledger, budget(1_000, account="49")) == (100, 0)
    assert await balance(ledger, rate(9, account="49")) == (1, 0)
    assert await balance(ledger, budget(1_000, account="0")) == (0, 0)
    assert await balance(ledger, rate(9, account="0")) == (0, 0)


async def test_what_a_live_hold_weighs_on_is_not(clock: Clock):
    ledger = MemoryLedger(clock=clock, max_keys=3)
    for number in range(20):
        await admit(ledger, wish(streams(1, account=f"{number}")))

    for number in range(20):
        await refuse(ledger, wish(streams(1, account=f"{number}")))


async def test_windows_that_are_empty_again_are_dropped(clock: Clock):
    ledger = MemoryLedger(clock=clock)
    await admit(ledger, wish(rate(1)))
    clock.now += MINUTE
    await ledger.usage((rate(1),))

    await admit(ledger, wish(streams(1)))

    assert repr(ledger) == "MemoryLedger(1 keys)"


async def test_a_late_settlement_of_a_forgotten_counter_gives_no_credit(clock: Clock):
    ledger = MemoryLedger(clock=clock, max_keys=1)
    limit = budget(1_000)
    hold = (await admit(ledger, wish(limit, tokens=900))).hold
    clock.now += MINUTE
    for _ in range(3):  # it expires, and its counter is pushed out
        await admit(ledger, wish(streams(9, account="other")))
        clock.now += SECOND
    assert await balance(ledger, limit) == (0, 0)

    await ledger.settle(hold, Charge(tokens=50))

    assert await balance(ledger, limit) == (50, 0)


@pytest.mark.parametrize(("later", "first"), [(HOUR - 1, False), (HOUR, True)])
async def test_an_ended_hold_is_known_for_an_hour(clock: Clock, later: int, first: bool):
    ledger = MemoryLedger(clock=clock)
    hold = (await admit(ledger, wish(budget(1_000)))).hold
    await ledger.settle(hold, Charge(tokens=10))
    clock.now += MINUTE
    await ledger.check()
    await ledger.usage(())

    clock.now += later - MINUTE
    answer = await ledger.settle(hold, Charge(tokens=20))
    assert answer == Settlement(tokens=20 if first else 10, first=first)


async def test_a_stream_that_is_renewed_for_long_takes_no_more_room(clock: Clock):
    ledger = MemoryLedger(clock=clock)
    hold = (await admit(ledger, wish(budget(1_000)))).hold
    for _ in range(500):
        clock.now += 10 * SECOND
        await ledger.renew(hold, 30 * SECOND)

    assert len(ledger._books._leases) == 1
    await ledger.settle(hold, Charge(tokens=1))
    clock.now += 2 * HOUR
    for _ in range(2):
        await ledger.usage(())
        clock.now += 2 * HOUR
    assert not ledger._books._leases
    assert not ledger._books._holds
    assert not ledger._books._looks


async def test_holds_that_have_ended_are_little_work_for_the_garbage_collector(clock: Clock):
    """Which stops everything while it looks at them."""
    ledger = MemoryLedger(clock=clock)
    limits = (budget(1_000_000), streams(9))
    gc.collect()
    before = len(gc.get_objects())
    for _ in range(2_000):
        hold = (await admit(ledger, wish(*limits))).hold
        await ledger.settle(hold, Charge(tokens=1))
    gc.collect()
    assert len(gc.get_objects()) - before < 0.1 * 2_000
