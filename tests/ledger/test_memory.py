"""What only MemoryLedger has: a bound on what it remembers."""

import gc
from typing import Any

import pytest

from chatnest.errors import ConfigurationError
from chatnest.ledger.base import Charge, Hold, Limit, Settlement
from chatnest.ledger.books import HoldRecord, HoldState
from chatnest.ledger.holds import Holds
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


def limits_of(account: str) -> tuple[Limit, ...]:
    return rate(99, account=account), streams(9, account=account), budget(1_000, account=account)


async def spend(ledger: MemoryLedger, account: str, tokens: int = 100) -> Hold:
    hold = (await admit(ledger, wish(*limits_of(account), tokens=tokens))).hold
    await ledger.settle(hold, Charge(tokens=tokens))
    return hold


async def used(ledger: MemoryLedger, account: str) -> int:
    return (await balance(ledger, budget(1_000, account=account)))[0]


async def test_a_look_up_and_what_is_refused_take_no_room(clock: Clock):
    ledger = MemoryLedger(clock=clock, max_keys=10)
    await spend(ledger, "ann", 900)
    live = (
        await admit(ledger, wish(streams(1, account="eve"), budget(5, account="eve"), tokens=5))
    ).hold
    for number in range(1_000):
        account = f"addr:{number}"
        await ledger.usage(limits_of(account))
        await refuse(ledger, wish(*limits_of(account), tokens=1_001))
        await refuse(ledger, wish(rate(0, account=account)))
        unknown = Hold(id=f"{number}", tokens=0, lines=())
        await ledger.renew(unknown, MINUTE)
        await ledger.release(wish(*limits_of(account), hold_id=f"none-{number}"))

    assert repr(ledger) == "MemoryLedger(4 keys)"
    assert await used(ledger, "ann") == 900
    assert await balance(ledger, budget(5, account="eve")) == (0, 5)
    await ledger.settle(live, Charge(tokens=0))
    assert repr(ledger) == "MemoryLedger(2 keys)"  # nothing is spent, nothing is streamed


async def test_nothing_spent_is_forgotten_and_addresses_beyond_the_room_share_one_account(
    clock: Clock, caplog: pytest.LogCaptureFixture
):
    ledger = MemoryLedger(clock=clock, max_keys=20)
    for number in range(18):
        await spend(ledger, f"addr:{number}")
    for number in range(18, 23):
        await spend(ledger, f"addr:{number}")

    assert {await used(ledger, f"addr:{number}") for number in range(18)} == {100}
    assert await used(ledger, "addr:18") == await used(ledger, "addr:never here") == 500
    assert await balance(ledger, rate(99, account="addr:22")) == (5, 0)
    refused = await refuse(ledger, wish(*limits_of("addr:99"), tokens=501))
    assert refused.state is not None
    assert refused.state.limit.kind == "budget"
    (record,) = caplog.records
    assert record.getMessage() == (
        "the ledger in memory is full: 18 of 20 keys are used or held today. New accounts "
        "share one account for each limit. Use SQLiteLedger, or raise max_keys."
    )
    # Each of them may still have streams of its own.
    for account in ("addr:50", "addr:51"):
        await admit(
            ledger, wish(streams(1, account=account), budget(1_000, account=account), tokens=1)
        )


async def test_a_tenth_of_the_room_is_kept_for_those_who_are_known(clock: Clock):
    ledger = MemoryLedger(clock=clock, max_keys=30)
    for number in range(50):
        await spend(ledger, f"addr:{number}", 10)

    await spend(ledger, "user:ann", 700)
    await spend(ledger, "addr:all", 300)  # what all addresses have spent, under a limit of all
    assert await used(ledger, "user:ann") == 700
    assert await used(ledger, "addr:all") == 300

    await spend(ledger, "user:bob", 200)  # the room is full
    await spend(ledger, "user:eve", 300)
    assert await used(ledger, "user:ann") == 700
    assert await used(ledger, "user:bob") == await used(ledger, "user:eve") == 500
    assert await used(ledger, "addr:49") == 230


async def test_a_hold_on_the_shared_account_is_settled_there_when_there_is_room_again(clock: Clock):
    ledger = MemoryLedger(clock=clock, max_keys=10)
    live = [
        (await admit(ledger, wish(budget(1_000, account=f"addr:{number}"), lease=HOUR))).hold
        for number in range(12)
    ]
    assert await balance(ledger, budget(1_000, account="addr:11")) == (0, 300)

    for hold in live[:8]:  # and they cost nothing, so that there is room
        await ledger.settle(hold, Charge(tokens=0))
    for hold in live[8:]:
        await ledger.settle(hold, Charge(tokens=70))

    books = ledger._books
    assert sum(counter.settled for counter in books._counters.values()) == 4 * 70
    assert all(counter.held == 0 for counter in books._counters.values())


async def test_days_that_are_over_make_room(clock: Clock):
    ledger = MemoryLedger(clock=clock, max_keys=1_000)
    clock.now += 11 * HOUR + 59 * MINUTE
    held = (await admit(ledger, wish(*limits_of("addr:held"), lease=HOUR))).hold
    for number in range(890):
        await spend(ledger, f"addr:{number}")
    clock.now += 2 * MINUTE  # midnight

    for number in range(2_000, 2_800):
        await spend(ledger, f"addr:{number}")

    assert {await used(ledger, f"addr:{number}") for number in range(2_000, 2_800)} == {100}
    assert len(ledger._books._counters) <= 901
    await ledger.settle(held, Charge(tokens=50))
    (yesterday,) = (c for k, c in ledger._books._counters.items() if k.endswith(":addr:held"))
    assert (yesterday.settled, yesterday.held) == (50, 0)


async def test_a_day_of_another_limit_is_kept_until_it_is_over_everywhere(clock: Clock):
    ledger = MemoryLedger(clock=clock, max_keys=10)
    far_west = budget(1_000, account="ann", zone="Etc/GMT+12", name="west")
    await ledger.settle((await admit(ledger, wish(far_west))).hold, Charge(tokens=100))
    clock.now += 12 * HOUR + MINUTE
    for number in range(30):
        await spend(ledger, f"addr:{number}", 10)
    assert await balance(ledger, far_west) == (100, 0)


async def test_windows_that_are_empty_again_are_dropped(clock: Clock):
    ledger = MemoryLedger(clock=clock)
    await admit(ledger, wish(rate(1)))
    clock.now += MINUTE
    await ledger.usage((rate(1),))

    await admit(ledger, wish(streams(1)))

    assert repr(ledger) == "MemoryLedger(1 keys)"


async def test_running_windows_are_never_dropped(clock: Clock):
    ledger = MemoryLedger(clock=clock, max_keys=20)
    slow = rate(1, window=3_600, account="user:slow", name="slow")
    await admit(ledger, wish(slow))
    for number in range(17):
        await admit(ledger, wish(rate(1, account=f"addr:{number}")))
    for _ in range(2):
        for number in range(17):
            await refuse(ledger, wish(rate(1, account=f"addr:{number}")))
        clock.now += 20 * SECOND
    await admit(ledger, wish(rate(1, account="addr:17")))
    await refuse(ledger, wish(rate(1, account="addr:18")))  # the shared window

    clock.now += MINUTE
    for number in range(30, 40):
        await admit(ledger, wish(rate(1, account=f"addr:{number}")))
    await refuse(ledger, wish(slow))


async def test_a_late_settlement_of_a_forgotten_counter_gives_no_credit(clock: Clock):
    ledger = MemoryLedger(clock=clock)
    limit = budget(1_000)
    hold = (await admit(ledger, wish(limit, tokens=900))).hold
    clock.now += MINUTE
    await ledger.usage(())  # it expires
    ledger._books._counters.clear()

    await ledger.settle(hold, Charge(tokens=50))

    assert await balance(ledger, limit) == (50, 0)


@pytest.mark.parametrize("most", [0, -1, 9, True, 1e3, "100", None])
def test_room_for_hardly_anybody_is_refused(most: Any):
    with pytest.raises(ConfigurationError, match=r"^max_keys: expected an integer >= 10, got "):
        MemoryLedger(max_keys=most)


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

    holds = ledger._books
    assert len(holds._leases) == 1
    await ledger.settle(hold, Charge(tokens=1))
    clock.now += 2 * HOUR
    for _ in range(2):
        await ledger.usage(())
        clock.now += 2 * HOUR
    assert not holds._leases
    assert not holds._records
    assert not holds._looks


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


def test_an_expired_hold_is_forgotten_although_a_later_one_was_before_it():
    holds = Holds(100)
    first, second = (
        HoldRecord(Hold(id=name, tokens=0, lines=()), HoldState.EXPIRED, until)
        for name, until in (("first", 2 * HOUR), ("second", HOUR))  # the clock was set back
    )
    holds.add(first)
    holds.add(second)
    holds.due(2 * HOUR)
    assert holds.hold("first") is first
    first.state = HoldState.SETTLED
    holds.due(2 * HOUR)
    assert holds.hold("second") is None
