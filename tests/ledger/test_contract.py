"""What every ledger does. One body, every ledger, asyncio and trio."""

import random
from typing import Any

import anyio
import msgspec
import pytest

from chatnest.errors import UnitConflict
from chatnest.ledger.base import (
    Admitted,
    Charge,
    Cost,
    Hold,
    Ledger,
    Limit,
    Line,
    Refused,
    Reservation,
    Settlement,
)
from tests.ledger.support import (
    DAY,
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
    utc,
    wish,
)

pytestmark = pytest.mark.anyio


# ---------------------------------------------------------------- admission


async def test_an_admitted_wish_is_held_on_every_limit(ledger: Ledger, clock: Clock):
    limits = (rate(3), budget(1_000), streams(2))

    admitted = await admit(ledger, wish(*limits, tokens=400, hold_id="h"))

    assert admitted.hold == Hold(
        id="h",
        tokens=400,
        output=400,
        lines=(Line("tokens:2026-06-01:ann", "tokens"), Line("streams::ann", "streams")),
    )
    assert admitted.now == clock.now
    assert [(s.limit, s.used, s.held, s.remaining) for s in admitted.states] == [
        (limits[0], 1, 0, 2),
        (limits[1], 0, 400, 600),
        (limits[2], 0, 1, 1),
    ]
    assert [s.resets_at for s in admitted.states] == [
        clock.now + MINUTE,
        utc("2026-06-02T00:00"),
        None,
    ]
    assert await ledger.usage(limits) == admitted.states


async def test_settling_replaces_what_was_held_by_what_it_cost(ledger: Ledger):
    limits = (budget(1_000), streams(2))
    hold = (await admit(ledger, wish(*limits, tokens=400))).hold

    assert await ledger.settle(hold, Charge(tokens=250)) == Settlement(tokens=250, first=True)

    assert await balance(ledger, limits[0]) == (250, 0)
    assert await balance(ledger, limits[1]) == (0, 0)


async def test_a_released_wish_costs_nothing(ledger: Ledger):
    limits = (budget(1_000), streams(2))
    reservation = wish(*limits)
    await admit(ledger, reservation)

    await ledger.release(reservation)

    assert await balance(ledger, limits[0]) == (0, 0)
    assert await balance(ledger, limits[1]) == (0, 0)


async def test_exactly_as_many_as_there_is_room_for(ledger: Ledger):
    limit = budget(1_000)
    answers = [await ledger.reserve(wish(limit, tokens=100)) for _ in range(30)]

    assert sum(not isinstance(answer, Refused) for answer in answers) == 10
    assert await balance(ledger, limit) == (0, 1_000)


async def test_a_budget_with_less_left_grants_less_down_to_the_minimum(ledger: Ledger):
    mine, ours = budget(1_000), budget(1_500, account="team")
    await admit(ledger, wish(mine, ours, tokens=700))

    assert (await admit(ledger, wish(mine, ours, tokens=700, min_tokens=300))).hold.tokens == 300
    refused = await refuse(ledger, wish(mine, ours, tokens=700, min_tokens=1))
    assert refused.state is not None
    assert refused.state.limit == mine
    # The smallest of several budgets decides.
    other = budget(1_000, account="bob")
    assert (await admit(ledger, wish(other, ours, tokens=700, min_tokens=300))).hold.tokens == 500


@pytest.mark.parametrize(
    "full",
    [
        rate(1, account="full"),
        budget(50, account="full"),
        streams(0, account="full"),
    ],
    ids=lambda limit: limit.kind,
)
@pytest.mark.parametrize("place", [0, 2, 4])
async def test_a_refusal_consumes_nothing_anywhere(ledger: Ledger, full: Limit, place: int):
    if full.kind == "rate":
        await admit(ledger, wish(full))
    roomy = [rate(9), budget(900), streams(9), budget(2_000, account="team")]
    limits = (*roomy[:place], full, *roomy[place:])
    before = await ledger.usage(limits)

    for _ in range(5):
        refused = await refuse(ledger, wish(*limits))
        assert refused.state is not None
        assert refused.state.limit == full

    assert await ledger.usage(limits) == before


async def test_what_two_limits_count_in_one_place_counts_once(ledger: Ledger):
    # As when a client lowers the operator's limit.
    limits = (rate(9), rate(5), budget(1_000), budget(500), streams(4), streams(2))

    hold = (await admit(ledger, wish(*limits, tokens=900, min_tokens=100))).hold

    assert hold.tokens == 500
    states = await ledger.usage(limits)
    assert [s.used + s.held for s in states] == [1, 1, 500, 500, 1, 1]
    await ledger.settle(hold, Charge(tokens=200))
    assert await balance(ledger, budget(1_000)) == (200, 0)


async def test_accounts_do_not_touch_each_other(ledger: Ledger):
    await admit(ledger, wish(budget(100), tokens=100))

    await admit(ledger, wish(budget(100, account="bob"), tokens=100))
    await admit(ledger, wish(budget(100, name="other"), tokens=100))


async def test_a_change_of_size_opens_no_second_budget(ledger: Ledger):
    hold = (await admit(ledger, wish(budget(1_000), tokens=600))).hold
    await ledger.settle(hold, Charge(tokens=600))

    refused = await refuse(ledger, wish(budget(500), tokens=10))
    assert refused.state is not None
    assert refused.state.remaining == 0
    assert (
        await admit(ledger, wish(budget(2_000), tokens=2_000, min_tokens=1))
    ).hold.tokens == 1_400


async def test_a_smaller_rate_or_number_of_streams_is_obeyed_at_once(ledger: Ledger, clock: Clock):
    for _ in range(5):
        await admit(ledger, wish(rate(5), streams(5)))
        clock.now += SECOND

    assert (await refuse(ledger, wish(streams(2)))).by_held
    refused = await refuse(ledger, wish(rate(2)))
    clock.now += (refused.retry_after or 0) - 1
    await refuse(ledger, wish(rate(2)))
    clock.now += 1
    await admit(ledger, wish(rate(2)))


# ---------------------------------------------------------------- how long to wait


async def test_who_waits_for_the_rate_gets_in(ledger: Ledger, clock: Clock):
    limit = rate(2, window=10)
    await admit(ledger, wish(limit))
    clock.now += 3 * SECOND
    await admit(ledger, wish(limit))

    refused = await refuse(ledger, wish(limit))
    assert refused.retry_after == 7 * SECOND
    clock.now += (refused.retry_after or 0) - 1
    assert (await refuse(ledger, wish(limit))).retry_after == 1
    clock.now += 1
    await admit(ledger, wish(limit))
    assert (await refuse(ledger, wish(limit))).retry_after == 3 * SECOND


async def test_who_waits_for_a_new_day_gets_in(ledger: Ledger, clock: Clock):
    limit = budget(100, zone="Asia/Kathmandu")
    hold = (await admit(ledger, wish(limit))).hold
    await ledger.settle(hold, Charge(tokens=100))

    refused = await refuse(ledger, wish(limit))
    assert not refused.by_held
    clock.now += (refused.retry_after or 0) - 1
    assert (await refuse(ledger, wish(limit))).retry_after == 1
    clock.now += 1
    await admit(ledger, wish(limit))


async def test_who_waits_for_several_limits_gets_in(ledger: Ledger, clock: Clock):
    fast, slow, daily = rate(1, window=10), rate(2, window=60, name="burst"), budget(200)
    for _ in range(2):
        hold = (await admit(ledger, wish(fast, slow, daily))).hold
        await ledger.settle(hold, Charge(tokens=90))
        clock.now += 11 * SECOND
    clock.now -= 11 * SECOND

    # Both rates refuse, and the slower one says how long.
    refused = await refuse(ledger, wish(fast, slow, tokens=20))
    assert refused.state is not None
    assert (refused.state.limit, refused.retry_after) == (slow, 49 * SECOND)
    # The budget too.
    refused = await refuse(ledger, wish(fast, slow, daily, tokens=100))
    assert refused.state is not None
    assert refused.state.limit == daily
    clock.now += refused.retry_after or 0
    await admit(ledger, wish(fast, slow, daily, tokens=100))


async def test_running_answers_in_the_way_are_told_from_used_up_tokens(ledger: Ledger):
    limit = budget(100)
    hold = (await admit(ledger, wish(limit, tokens=60))).hold

    refused = await refuse(ledger, wish(limit, tokens=60))
    assert refused.by_held
    assert refused.retry_after is not None
    assert 0 < refused.retry_after < MINUTE
    await ledger.settle(hold, Charge(tokens=60))
    assert not (await refuse(ledger, wish(limit, tokens=60))).by_held


async def test_asking_again_and_again_locks_nobody_out(ledger: Ledger, clock: Clock):
    limit = rate(1, window=10)
    await admit(ledger, wish(limit))

    for _ in range(9):
        clock.now += SECOND
        await refuse(ledger, wish(limit))
    clock.now += SECOND
    await admit(ledger, wish(limit))


@pytest.mark.parametrize("limit", [rate(0), streams(0), budget(0)], ids=lambda limit: limit.kind)
async def test_a_limit_of_nothing_refuses(ledger: Ledger, limit: Limit):
    refused = await refuse(ledger, wish(limit))

    assert refused.state is not None
    assert refused.retry_after is None  # no wait helps


@pytest.mark.parametrize("seed", range(3))
async def test_no_window_ever_sees_more_than_its_rate(ledger: Ledger, clock: Clock, seed: int):
    dice = random.Random(seed)
    allowed, window = dice.choice([(1, 2), (3, 5), (7, 10)])
    limit = rate(allowed, window)
    admissions: list[int] = []

    for _ in range(250):
        clock.now += dice.choice([0, 0, 1, 40, 300, 999, 1_000, 2_500])
        recent = [time for time in admissions if time > clock.now - window * SECOND]
        answer = await ledger.reserve(wish(limit))
        # Never more; and never fewer, since it refuses only when the window is full.
        assert isinstance(answer, Refused) == (len(recent) >= allowed)
        if not isinstance(answer, Refused):
            admissions.append(clock.now)

    for start in admissions:
        assert sum(start <= time < start + window * SECOND for time in admissions) <= allowed


# ---------------------------------------------------------------- again and again


@pytest.mark.parametrize("times", range(1, 6))
async def test_every_operation_can_be_repeated(ledger: Ledger, clock: Clock, times: int):
    limits = (rate(10), budget(1_000), streams(5))
    settled, released = wish(*limits, tokens=300), wish(*limits, tokens=200)

    admissions = [await admit(ledger, settled) for _ in range(times)]
    assert all(admitted == admissions[0] for admitted in admissions)
    for _ in range(times):
        await admit(ledger, released)
        await ledger.renew(admissions[0].hold, 30 * SECOND)
    states = await ledger.usage(limits)
    assert [(s.used, s.held) for s in states] == [(2, 0), (0, 500), (0, 2)]

    settlements = [
        await ledger.settle(admissions[0].hold, Charge(tokens=120 + i)) for i in range(times)
    ]
    assert settlements == [Settlement(tokens=120, first=i == 0) for i in range(times)]
    for _ in range(times):
        await ledger.release(released)
        await ledger.release(settled)  # too late: it was settled
        await ledger.renew(admissions[0].hold, 30 * SECOND)
        assert await ledger.settle(
            Hold(id=released.id, tokens=200, lines=admissions[0].hold.lines), Charge(tokens=9)
        ) == Settlement(tokens=0, first=False)
    clock.now += HOUR // 2
    states = await ledger.usage(limits)
    assert [(s.used, s.held) for s in states] == [(0, 0), (120, 0), (0, 0)]


async def test_an_ended_wish_is_never_admitted_again(ledger: Ledger, clock: Clock):
    limit = budget(1_000)
    wishes = [wish(limit) for _ in range(3)]
    holds = [(await admit(ledger, each)).hold for each in wishes]
    await ledger.settle(holds[0], Charge(tokens=1))
    await ledger.release(wishes[1])
    clock.now += MINUTE  # the third expires

    for each in wishes:
        assert await refuse(ledger, each) == Refused(state=None, retry_after=0, now=clock.now)


async def test_a_release_that_overtakes_its_reservation_stops_it(ledger: Ledger):
    limits = (rate(1), budget(1_000))
    reservation = wish(*limits)

    await ledger.release(reservation)

    assert (await refuse(ledger, reservation)).state is None
    assert [(s.used, s.held) for s in await ledger.usage(limits)] == [(0, 0), (0, 0)]


# ---------------------------------------------------------------- what it cost


async def test_more_than_was_held_is_charged_and_recorded_as_overrun(ledger: Ledger):
    limit = budget(1_000)
    hold = (await admit(ledger, wish(limit, tokens=900))).hold

    await ledger.settle(hold, Charge(tokens=1_300))

    assert await balance(ledger, limit) == (1_300, 0)
    assert (await refuse(ledger, wish(limit, tokens=1))).retry_after == 12 * HOUR
    # A limit that was raised by less than the overrun has nothing left either.
    await refuse(ledger, wish(budget(1_200), tokens=1))


async def test_a_hold_that_nobody_renews_is_charged_in_full(ledger: Ledger, clock: Clock):
    limits = (budget(1_000), streams(1))
    await admit(ledger, wish(*limits, tokens=700))

    clock.now += 30 * SECOND - 1
    await refuse(ledger, wish(streams(1)))
    clock.now += 1
    assert [(s.used, s.held) for s in await ledger.usage(limits)] == [(700, 0), (0, 0)]
    await admit(ledger, wish(streams(1)))


async def test_a_renewed_hold_lives_on(ledger: Ledger, clock: Clock):
    limit = budget(1_000)
    hold = (await admit(ledger, wish(limit))).hold
    for _ in range(20):
        clock.now += 10 * SECOND
        await ledger.renew(hold, 30 * SECOND)

    clock.now += 30 * SECOND - 1
    assert await balance(ledger, limit) == (0, 100)
    clock.now += 1
    assert await balance(ledger, limit) == (100, 0)
    await ledger.renew(hold, 30 * SECOND)  # too late
    assert await balance(ledger, limit) == (100, 0)


async def test_a_lease_can_be_shortened(ledger: Ledger, clock: Clock):
    limit = budget(1_000)
    hold = (await admit(ledger, wish(limit, lease=HOUR))).hold

    await ledger.renew(hold, SECOND)

    clock.now += SECOND
    assert await balance(ledger, limit) == (100, 0)


@pytest.mark.parametrize("cost", [0, 30, 100, 170])
async def test_a_settlement_after_expiry_corrects_exactly(ledger: Ledger, clock: Clock, cost: int):
    limits = (budget(1_000), budget(5_000, account="team"), streams(1))
    hold = (await admit(ledger, wish(*limits))).hold
    clock.now += 10 * MINUTE
    assert [s.used for s in await ledger.usage(limits)] == [100, 100, 0]

    for first in (True, False):
        assert await ledger.settle(hold, Charge(tokens=cost)) == Settlement(
            tokens=cost, first=first
        )

    states = await ledger.usage(limits)
    assert [(s.used, s.held) for s in states] == [(cost, 0), (cost, 0), (0, 0)]


async def test_a_release_after_expiry_gives_everything_back(ledger: Ledger, clock: Clock):
    # Its answer was lost, and the ledger stayed away for longer than the lease.
    limit = budget(1_000)
    reservation = wish(limit)
    hold = (await admit(ledger, reservation)).hold
    clock.now += 10 * MINUTE
    assert await balance(ledger, limit) == (100, 0)

    await ledger.release(reservation)
    await ledger.release(reservation)

    assert await balance(ledger, limit) == (0, 0)
    assert await ledger.settle(hold, Charge(tokens=50)) == Settlement(tokens=0, first=False)


async def test_a_hold_that_the_books_forgot_is_charged_all_the_same(ledger: Ledger):
    limits = (budget(1_000), streams(1))
    lines = (Line("tokens:2026-06-01:ann", "tokens"), Line("streams::ann", "streams"))
    hold = Hold(id="from before", tokens=100, lines=lines)

    for first in (True, False):
        assert await ledger.settle(hold, Charge(tokens=70)) == Settlement(tokens=70, first=first)

    assert [(s.used, s.held) for s in await ledger.usage(limits)] == [(70, 0), (0, 0)]


# ---------------------------------------------------------------- days and clocks


@pytest.mark.parametrize(
    ("zone", "start", "end"),
    [
        pytest.param("UTC", "2026-06-01T00:00", "2026-06-02T00:00", id="utc"),
        pytest.param("Europe/Berlin", "2026-03-28T23:00", "2026-03-29T22:00", id="23-hours"),
        pytest.param("Europe/Berlin", "2026-10-24T22:00", "2026-10-25T23:00", id="25-hours"),
        pytest.param("America/New_York", "2026-03-08T05:00", "2026-03-09T04:00", id="us-23"),
        pytest.param("America/New_York", "2026-11-01T04:00", "2026-11-02T05:00", id="us-25"),
        pytest.param("Asia/Kathmandu", "2026-05-31T18:15", "2026-06-01T18:15", id="quarter"),
        # Clocks go from 23:59 to 01:00: the day has no midnight.
        pytest.param("America/Santiago", "2024-09-08T04:00", "2024-09-09T03:00", id="begins-at-1"),
        pytest.param("Africa/Cairo", "2024-04-25T22:00", "2024-04-26T21:00", id="no-midnight"),
        # Clocks go from 23:59 back to 23:00: that hour comes twice.
        pytest.param("America/Santiago", "2024-04-06T03:00", "2024-04-07T04:00", id="two-elevens"),
        # The international date line: 30 December never was.
        pytest.param("Pacific/Apia", "2011-12-29T10:00", "2011-12-30T10:00", id="before-a-gap"),
    ],
)
async def test_a_day_is_as_long_as_its_zone_says(
    ledger: Ledger, clock: Clock, zone: str, start: str, end: str
):
    limit = budget(100, zone=zone)

    async def spend() -> None:
        admitted = await admit(ledger, wish(limit))
        await ledger.settle(admitted.hold, Charge(tokens=100))

    clock.now = utc(start) - 1
    await spend()
    assert (await refuse(ledger, wish(limit))).retry_after == 1
    clock.now = utc(start)
    await spend()
    assert (await refuse(ledger, wish(limit))).retry_after == utc(end) - utc(start)
    clock.now = utc(end) - 1
    refused = await refuse(ledger, wish(limit))
    assert refused.retry_after == 1
    assert refused.state is not None
    assert refused.state.resets_at == utc(end)
    clock.now = utc(end)
    await spend()


async def test_a_stream_over_midnight_stays_on_its_day(ledger: Ledger, clock: Clock):
    limit = budget(100)
    clock.now = utc("2026-06-01T23:59") + 59 * SECOND
    hold = (await admit(ledger, wish(limit))).hold

    clock.now = utc("2026-06-02T00:00") + SECOND
    await ledger.renew(hold, 30 * SECOND)
    assert await balance(ledger, limit) == (0, 0)
    await ledger.settle(hold, Charge(tokens=80))
    assert await balance(ledger, limit) == (0, 0)
    await admit(ledger, wish(limit))

    clock.now = utc("2026-06-01T23:59")
    assert await balance(ledger, limit) == (80, 100)  # with what is held on the day ahead


@pytest.mark.parametrize("step", [HOUR, DAY, 365 * DAY], ids=["hour", "day", "year"])
async def test_a_clock_set_back_locks_nobody_out(ledger: Ledger, clock: Clock, step: int):
    limits = (rate(2, window=60), budget(1_000), streams(5))
    spent = (await admit(ledger, wish(*limits, tokens=600))).hold
    await ledger.settle(spent, Charge(tokens=600))
    running = (await admit(ledger, wish(*limits, tokens=300))).hold
    noon = clock.now

    clock.now -= step
    refused = await refuse(ledger, wish(limits[0]))
    assert refused.retry_after == MINUTE
    clock.now += MINUTE
    await admit(ledger, wish(limits[0]))
    # The running stream goes on, and is charged to the day on which it began.
    await ledger.renew(running, 30 * SECOND)
    await ledger.settle(running, Charge(tokens=200))
    assert await balance(ledger, limits[2]) == (0, 0)
    clock.now = noon
    assert await balance(ledger, limits[1]) == (800, 0)


async def test_a_lease_renewed_after_the_clock_was_set_back_ends(ledger: Ledger, clock: Clock):
    limit = streams(1)
    hold = (await admit(ledger, wish(limit))).hold

    clock.now -= DAY
    await ledger.renew(hold, 30 * SECOND)

    clock.now += 30 * SECOND
    await admit(ledger, wish(limit))


async def test_a_clock_set_forward_ends_leases_and_settlements_mend_it(
    ledger: Ledger, clock: Clock
):
    limit = budget(1_000)
    hold = (await admit(ledger, wish(limit))).hold
    clock.now += HOUR
    assert await balance(ledger, limit) == (100, 0)

    await ledger.settle(hold, Charge(tokens=10))

    assert await balance(ledger, limit) == (10, 0)


async def test_check_and_close_and_go_on(ledger: Ledger):
    limit = budget(1_000)
    await ledger.check()
    hold = (await admit(ledger, wish(limit))).hold
    await ledger.aclose()
    await ledger.aclose()

    await ledger.settle(hold, Charge(tokens=10))
    assert await balance(ledger, limit) == (10, 0)
    assert repr(ledger)


# ---------------------------------------------------------------- units and windows


def money(amount: int, window: Any = "day", account: str = "ann", **more: Any) -> Limit:
    name = more.pop("name", f"money-{account}")
    return Limit(name=name, unit="money", account=account, amount=amount, window=window, **more)


def dear(*limits: Limit, fixed: int = 100, per: int = 2, **given: Any) -> Reservation:
    """A request with this cost, for 50 tokens of output unless it is said."""
    return msgspec.structs.replace(wish(*limits, **{"tokens": 50, **given}), money=Cost(fixed, per))


async def spend(ledger: Ledger, reservation: Reservation, **cost: Any) -> None:
    hold = (await admit(ledger, reservation)).hold
    await ledger.settle(hold, Charge(**{"tokens": 0, **cost}))


async def test_what_is_left_of_each_unit_lowers_the_output(ledger: Ledger):
    limits = (money(200), budget(1_000), money(10**6, "month", "team"))

    admitted = await admit(ledger, dear(*limits, min_tokens=10))

    # 100 are left for the output, and a token of it costs 2; it fits the tokens.
    assert (admitted.hold.output, admitted.hold.tokens, admitted.hold.money) == (50, 50, 200)
    assert [(s.used, s.held) for s in admitted.states] == [(0, 200), (0, 50), (0, 200)]
    refused = await refuse(ledger, dear(*limits, min_tokens=0))
    assert refused.state is not None
    assert (refused.state.limit, refused.by_held) == (limits[0], True)
    settlement = await ledger.settle(admitted.hold, Charge(tokens=7, money=61))
    assert settlement == Settlement(tokens=7, money=61, first=True)
    lower = await admit(ledger, dear(*limits, fixed=39, tokens=100, min_tokens=1))
    assert (lower.hold.output, lower.hold.money) == (50, 139)


@pytest.mark.parametrize(
    ("window", "starts", "inside", "after"),
    [
        ("week", 1, "2026-06-07T23:59", "2026-06-08T00:00"),
        ("week", 7, "2026-06-06T23:59", "2026-06-07T00:00"),
        ("month", 1, "2026-06-30T23:59", "2026-07-01T00:00"),
        ("month", 31, "2026-06-29T23:59", "2026-06-30T00:00"),
        ("month", 15, "2026-06-14T23:59", "2026-06-15T00:00"),
    ],
)
async def test_a_window_of_days_ends_where_it_says(  # noqa: PLR0917  # a table
    ledger: Ledger, clock: Clock, window: str, starts: int, inside: str, after: str
):
    limit = money(300, window, starts=starts)
    await spend(ledger, dear(limit), money=250)

    clock.now = utc(inside)
    refused = await refuse(ledger, dear(limit))
    assert refused.retry_after == utc(after) - clock.now
    clock.now = utc(after)
    await admit(ledger, dear(limit))


async def test_a_month_that_becomes_a_day_or_a_week_loses_nothing(ledger: Ledger, clock: Clock):
    for day in ("2026-06-01T12:00", "2026-06-09T12:00", "2026-06-10T12:00"):
        clock.now = utc(day)
        await spend(ledger, dear(money(10**6, "month")), money=100)

    used = [await balance(ledger, money(10**6, w)) for w in ("day", "week", "month", "lifetime")]

    assert used == [(100, 0), (200, 0), (300, 0), (300, 0)]
    late = (await admit(ledger, dear(money(10**6, "month"), lease=DAY))).hold
    clock.now = utc("2026-06-11T00:00")
    await ledger.settle(late, Charge(tokens=0, money=40))  # on the tenth
    assert await balance(ledger, money(10**6, "month")) == (340, 0)
    assert await balance(ledger, money(10**6, "day")) == (0, 0)


async def test_tokens_a_minute_refuse_with_the_wait_and_lower_nothing(ledger: Ledger, clock: Clock):
    limit = Limit(name="tpm", unit="tokens", account="ann", amount=1_000, window=60)
    await spend(ledger, wish(limit, tokens=600), tokens=100)
    clock.now += 10 * SECOND
    await admit(ledger, wish(limit, tokens=500))

    assert await balance(ledger, limit) == (600, 0)
    refused = await refuse(ledger, wish(limit, tokens=450, min_tokens=1))
    assert refused.retry_after == 50 * SECOND
    clock.now += 50 * SECOND - 1
    await refuse(ledger, wish(limit, tokens=450, min_tokens=1))
    clock.now += 1
    assert (await admit(ledger, wish(limit, tokens=450, min_tokens=1))).hold.output == 450
    assert (await refuse(ledger, wish(limit, tokens=2_000, min_tokens=1_001))).retry_after is None


async def test_what_costs_nothing_fits_under_a_limit_that_is_used_up(ledger: Ledger):
    limit = money(100)
    await spend(ledger, dear(limit, fixed=100, per=0), money=500)

    await refuse(ledger, dear(limit))
    await admit(ledger, dear(limit, fixed=0, per=0))


async def test_a_shadow_counts_and_decides_nothing(ledger: Ledger):
    shadow = money(250, name="watched", mode="shadow")

    admitted = await admit(ledger, dear(shadow, budget(1_000)))

    assert (admitted.hold.output, admitted.over) == (50, ())
    assert (await admit(ledger, dear(shadow, budget(1_000)))).over == ("watched",)
    assert await balance(ledger, shadow) == (0, 400)


async def test_requests_of_a_day_are_given_back_by_a_release(ledger: Ledger):
    limit = Limit(name="asked", unit="requests", account="ann", amount=2, window="day")
    first = wish(limit)
    await admit(ledger, first)
    await spend(ledger, wish(limit))
    await refuse(ledger, wish(limit))

    await ledger.release(first)

    assert await balance(ledger, limit) == (1, 0)
    await admit(ledger, wish(limit))


async def test_a_charge_beyond_all_figures_is_not_refused(ledger: Ledger):
    limit = money(9 * 10**15)
    for _ in range(3):
        await spend(ledger, dear(limit, fixed=0, per=0), money=4 * 10**15)

    assert (await balance(ledger, limit))[0] == 2**53 - 1


async def test_500_at_once_get_what_there_is_in_money(ledger: Ledger):
    limits = (
        money(37 * 200),
        money(37 * 200, "month", "team"),
        money(37 * 200, "week", "everybody"),
    )
    answers: list[object] = []

    async def one() -> None:
        answers.append(await ledger.reserve(dear(*limits)))

    async with anyio.create_task_group() as tasks:
        for _ in range(500):
            tasks.start_soon(one)

    assert sum(isinstance(answer, Admitted) for answer in answers) == 37
    assert [await balance(ledger, each) for each in limits] == [(0, 37 * 200)] * 3


async def test_a_name_has_one_unit(ledger: Ledger):
    await admit(ledger, wish(budget(1_000, name="one")))

    with pytest.raises(UnitConflict):
        await ledger.reserve(dear(money(1_000, name="one")))
