"""What every ledger does with money, with windows of every kind, and with shadow limits."""

import random

import pytest

from chatnest.errors import ConfigurationError, UnitConflict
from chatnest.ledger.base import Charge, Cost, Ledger, Limit, Line, Refused, Settlement
from chatnest.ledger.limit import MOST, Window
from chatnest.ledger.model import EXACT
from tests.ledger.support import (
    DAY,
    HOUR,
    MINUTE,
    SECOND,
    Clock,
    admit,
    amounts,
    balance,
    budget,
    rate,
    refuse,
    streams,
    utc,
    wish,
)

pytestmark = pytest.mark.anyio


async def spend(ledger: Ledger, *limits: Limit, tokens: int = 0, money: int = 0) -> None:
    hold = (await admit(ledger, wish(*limits, tokens=tokens, money=Cost(money, 0)))).hold
    await ledger.settle(hold, Charge(tokens=tokens, money=money))


# ---------------------------------------------------------------- what a request costs


async def test_one_admission_grants_the_output_that_every_unit_leaves(ledger: Ledger):
    tokens, money = budget(1_000), amounts("money", 9_000, "day", "team")
    cost = Cost(fixed=500, per_output=10)

    admitted = await admit(
        ledger, wish(tokens, money, tokens=2_000, min_tokens=100, read=100, money=cost)
    )
    # 900 tokens are left for the output, and money for 850.
    hold = admitted.hold
    assert (hold.output, hold.tokens, hold.money) == (850, 950, 9_000)
    assert [state.held for state in admitted.states] == [950, 9_000]
    assert hold.lines == (
        Line("tokens:2026-06-01:ann", "tokens"),
        Line("money:2026-06-01:team", "money"),
    )

    settlement = await ledger.settle(hold, Charge(tokens=150, money=1_000))
    assert settlement == Settlement(tokens=150, money=1_000, first=True)
    assert await ledger.settle(hold, Charge(tokens=9, money=9)) == Settlement(
        tokens=150, money=1_000, first=False
    )
    assert [(s.used, s.held) for s in await ledger.usage((tokens, money))] == [(150, 0), (1_000, 0)]
    # A division that leaves a rest is rounded down.
    hold = (await admit(ledger, wish(money, tokens=2_000, min_tokens=1, money=Cost(1, 7)))).hold
    assert (hold.output, hold.money) == (1_142, 7_995)


async def test_money_is_counted_to_the_last_nano(ledger: Ledger):
    limit = amounts("money", MOST, "month")
    await spend(ledger, limit, money=10**15)
    for money in (10**14 + 1, 10**15 - 3, 123_456_789_012_345):
        await spend(ledger, limit, money=money)

    used = 10**15 + 10**14 + 1 + 10**15 - 3 + 123_456_789_012_345
    assert await balance(ledger, limit) == (used, 0)
    admitted = await admit(ledger, wish(limit, tokens=10**9 - 1, money=Cost(1, 10**6)))
    assert admitted.hold.money == 10**15 - 10**6 + 1
    assert admitted.states[0].remaining == MOST - used - admitted.hold.money


async def test_what_costs_nothing_passes_a_limit_that_is_used_up(ledger: Ledger):
    money, calls = amounts("money", 1_000, "month"), amounts("requests", 3, "day")
    await spend(ledger, money, calls, tokens=10, money=1_000)
    hold = (await admit(ledger, wish(money, calls))).hold
    await ledger.settle(hold, Charge(tokens=100, money=50))  # it cost something after all

    await admit(ledger, wish(money, calls))
    assert (await refuse(ledger, wish(money, calls))).state.limit == calls  # type: ignore[union-attr]
    assert (await refuse(ledger, wish(money, money=Cost(1, 0)))).state.limit == money  # type: ignore[union-attr]
    assert await balance(ledger, money) == (1_050, 0)


async def test_requests_of_a_day_are_given_back_by_a_release_alone(ledger: Ledger):
    limit = amounts("requests", 2, "day")
    first, second = wish(limit), wish(limit)
    hold = (await admit(ledger, first)).hold
    await admit(ledger, second)

    await ledger.settle(hold, Charge(tokens=7))
    await ledger.release(second)

    assert await balance(ledger, limit) == (1, 0)
    await admit(ledger, wish(limit))
    assert (await refuse(ledger, wish(limit))).by_held


@pytest.mark.parametrize("window", ["day", "week", "month", "lifetime", 60])
async def test_an_amount_of_nothing_refuses_and_no_wait_helps(ledger: Ledger, window: Window):
    refused = await refuse(ledger, wish(amounts("money", 0, window), money=Cost(0, 1)))

    assert (refused.retry_after, refused.by_held) == (None, False)


async def test_a_request_that_is_too_large_for_a_limit_never_fits(ledger: Ledger):
    month, life = amounts("money", 900, "month"), amounts("money", 900, "lifetime", name="life")
    assert (await refuse(ledger, wish(month, money=Cost(901, 0)))).retry_after is None
    await spend(ledger, life, month, money=500)

    end_of_june = 29 * DAY + 12 * HOUR
    assert (await refuse(ledger, wish(month, money=Cost(401, 0)))).retry_after == end_of_june
    refused = await refuse(ledger, wish(life, money=Cost(401, 0)))
    assert (refused.retry_after, refused.by_held) == (None, False)
    # Among several, one that no wait helps comes first.
    refused = await refuse(ledger, wish(month, life, money=Cost(401, 0)))
    assert refused.state is not None
    assert (refused.state.limit, refused.retry_after) == (life, None)
    await admit(ledger, wish(life, money=Cost(300, 0)))
    assert (await refuse(ledger, wish(life, money=Cost(101, 0)))).by_held


@pytest.mark.parametrize(
    "wrong",
    [
        {"tokens": 10**9 + 1},
        {"read": 10**9 + 1},
        {"read": -1},
        {"money": Cost(0, 10**6 + 1)},
        {"money": Cost(10**15 - 10**6 * 100 + 1, 10**6)},
        {"money": Cost(-1, 0)},
        {"money": Cost(0, -1)},
        {"tokens": -1},
    ],
)
def test_costs_that_a_store_could_not_count_are_refused(wrong: dict[str, int]):
    with pytest.raises(ConfigurationError, match="reservation"):
        wish(budget(1_000), **wrong)  # type: ignore[arg-type]


async def test_a_settlement_next_to_the_last_exact_number_stays_there(ledger: Ledger, clock: Clock):
    limit = amounts("money", MOST, "day")
    hold = (await admit(ledger, wish(limit, money=Cost(5, 0)))).hold
    await ledger.settle(hold, Charge(tokens=0, money=MOST))
    holds = [(await admit(ledger, wish(amounts("money", 9, "lifetime")))).hold for _ in range(3)]

    for held, money in zip(holds, (EXACT - MOST - 1, 7, 10**15), strict=True):
        first = await ledger.settle(held, Charge(tokens=0, money=money))
        assert (first.first, first.money) == (True, money)
    assert await balance(ledger, limit) == (EXACT, 0)
    assert (await refuse(ledger, wish(limit, money=Cost(1, 0)))).retry_after == 12 * HOUR
    clock.now += DAY
    assert await balance(ledger, limit) == (0, 0)


# ---------------------------------------------------------------- windows of the calendar


@pytest.mark.parametrize(
    ("window", "starts", "now", "ends"),
    [
        ("week", 1, "2026-06-01T12:00", "2026-06-08T00:00"),  # a Monday
        ("week", 7, "2026-06-01T12:00", "2026-06-07T00:00"),
        ("month", 1, "2026-06-01T12:00", "2026-07-01T00:00"),
        ("month", 15, "2026-06-01T12:00", "2026-06-15T00:00"),
        ("month", 31, "2026-06-29T12:00", "2026-06-30T00:00"),  # the last day of June
        ("month", 31, "2026-06-30T12:00", "2026-07-31T00:00"),
        ("month", 31, "2026-02-27T12:00", "2026-02-28T00:00"),
        ("month", 31, "2028-02-28T12:00", "2028-02-29T00:00"),
        ("month", 30, "2028-02-29T12:00", "2028-03-30T00:00"),
        ("month", 1, "2028-02-29T12:00", "2028-03-01T00:00"),
        ("month", 1, "2026-12-31T12:00", "2027-01-01T00:00"),
    ],
)
async def test_a_window_of_the_calendar_ends_on_its_day(  # noqa: PLR0917  # a table
    ledger: Ledger, clock: Clock, window: Window, starts: int, now: str, ends: str
):
    limit = amounts("money", 1_000, window, starts=starts)
    clock.now = utc(now)
    await spend(ledger, limit, money=700)

    refused = await refuse(ledger, wish(limit, money=Cost(301, 0)))
    assert refused.retry_after == utc(ends) - clock.now
    assert refused.state is not None
    assert refused.state.resets_at == utc(ends)
    clock.now = utc(ends) - 1
    assert await balance(ledger, limit) == (700, 0)
    assert (await refuse(ledger, wish(limit, money=Cost(301, 0)))).retry_after == 1
    clock.now = utc(ends)
    assert await balance(ledger, limit) == (0, 0)
    await admit(ledger, wish(limit, money=Cost(1_000, 0)))


async def test_a_month_is_the_sum_of_its_days(ledger: Ledger, clock: Clock):
    limits = (
        amounts("money", 10**6, "month", name="dollars"),
        amounts("money", 10**6, "week", name="dollars"),
        amounts("money", 10**6, "day", name="dollars"),
        amounts("money", 10**6, "lifetime", name="dollars"),
    )
    for day in range(70):  # from 1 June to 9 August
        await spend(ledger, *limits, money=day + 1)
        running = wish(*limits, money=Cost(1_000, 0))
        await admit(ledger, running)
        used = [s.used for s in await ledger.usage(limits)]
        first_of_month = 0 if day < 30 else 30 if day < 61 else 61
        month = sum(range(first_of_month + 1, day + 2))
        week = sum(range(day - day % 7 + 1, day + 2))
        assert used == [month, week, day + 1, sum(range(day + 2))]
        assert {s.held for s in await ledger.usage(limits)} == {1_000}
        await ledger.release(running)
        clock.now += DAY


async def test_a_late_settlement_counts_on_the_day_of_its_admission(ledger: Ledger, clock: Clock):
    month, day = amounts("money", 9_000, "month"), amounts("money", 9_000, "day")
    clock.now = utc("2026-06-29T23:59")
    hold = (await admit(ledger, wish(month, lease=9 * DAY, money=Cost(500, 0)))).hold
    clock.now += MINUTE
    assert await balance(ledger, month) == (0, 500)
    await spend(ledger, month, money=1)

    await ledger.settle(hold, Charge(tokens=0, money=200))

    assert await balance(ledger, month) == (201, 0)
    assert await balance(ledger, day) == (1, 0)
    clock.now = utc("2026-07-01T00:00")
    assert await balance(ledger, month) == (0, 0)


async def test_a_hold_of_last_month_weighs_on_that_month_alone(ledger: Ledger, clock: Clock):
    month = amounts("money", 1_000, "month")
    clock.now = utc("2026-06-30T23:59")
    hold = (await admit(ledger, wish(month, lease=DAY, money=Cost(900, 0)))).hold
    clock.now += 2 * MINUTE

    await admit(ledger, wish(month, money=Cost(1_000, 0)))
    await ledger.settle(hold, Charge(tokens=0, money=900))
    assert await balance(ledger, month) == (0, 1_000)


async def test_a_change_of_the_window_or_the_amount_loses_nothing(ledger: Ledger, clock: Clock):
    await spend(ledger, amounts("money", 1_000, "day"), money=600)
    clock.now += DAY
    await spend(ledger, amounts("money", 1_000, "week"), money=300)

    assert await balance(ledger, amounts("money", 1, "month")) == (900, 0)
    assert await balance(ledger, amounts("money", 1, "week", starts=2)) == (300, 0)
    assert await balance(ledger, amounts("money", 1, "day")) == (300, 0)
    assert await balance(ledger, amounts("money", 1, "lifetime")) == (900, 0)


@pytest.mark.parametrize("window", ["day", "week", "month", "lifetime"])
async def test_after_a_clock_was_set_back_the_days_ahead_still_count(
    ledger: Ledger, clock: Clock, window: Window
):
    limit = amounts("money", 10_000, window)
    clock.now = utc("2026-06-10T12:00")
    for money in (100, 20):
        await spend(ledger, limit, money=money)
        clock.now += DAY
    await spend(ledger, limit, money=3)  # on the 12th
    clock.now -= DAY
    # A day ahead is in every window that ends after the present day begins.
    assert await balance(ledger, limit) == ({"day": 23}.get(str(window), 123), 0)
    await spend(ledger, limit, money=4_000)
    clock.now += DAY
    await spend(ledger, limit, money=500)
    clock.now -= DAY
    used = 20 + 3 + 4_000 + 500
    assert await balance(ledger, limit) == ({"day": used}.get(str(window), used + 100), 0)


async def test_a_day_ahead_counts_in_a_month_whose_sum_was_known(ledger: Ledger, clock: Clock):
    month, day = amounts("tokens", 1_000, "month"), amounts("tokens", 1_000, "day")
    clock.now = utc("2026-06-10T12:00")
    await spend(ledger, month, tokens=100)
    assert await balance(ledger, month) == (100, 0)
    clock.now += DAY
    await admit(ledger, wish(day, tokens=10, lease=3 * DAY))
    clock.now -= DAY
    assert await balance(ledger, month) == (100, 10)


async def test_a_day_counts_in_a_window_that_was_not_asked_for_on_it(ledger: Ledger, clock: Clock):
    month, week = (amounts("money", 10_000, window) for window in ("month", "week"))
    clock.now = utc("2026-06-10T12:00")
    await spend(ledger, month, money=100)
    for days, limit, money in ((1, week, 20), (-1, month, 3), (1, week, 4_000), (-1, month, 500)):
        clock.now += days * DAY
        await spend(ledger, limit, money=money)
    assert await balance(ledger, month) == (4_623, 0)
    assert await balance(ledger, week) == (4_623, 0)


async def test_one_name_has_one_unit(ledger: Ledger):
    await admit(ledger, wish(amounts("money", 10, "day", name="both")))

    for operation in (
        lambda: ledger.reserve(wish(amounts("requests", 10, "day", name="both"))),
        lambda: ledger.usage((amounts("tokens", 10, "month", name="both"),)),
    ):
        with pytest.raises(UnitConflict):
            await operation()


# ---------------------------------------------------------------- sliding windows of amounts


async def test_a_sliding_window_of_tokens_never_lowers_and_says_how_long(
    ledger: Ledger, clock: Clock
):
    limit = amounts("tokens", 1_000, 60, name="tpm")
    hold = (await admit(ledger, wish(limit, tokens=500, read=100))).hold
    assert hold.lines == (Line("tpm:60:ann", "tokens", clock.now),)
    clock.now += 20 * SECOND
    await admit(ledger, wish(limit, tokens=300))

    # It would fit with less output, and waits all the same.
    refused = await refuse(ledger, wish(limit, tokens=300, min_tokens=1))
    assert (refused.retry_after, refused.by_held) == (40 * SECOND, False)
    clock.now += 40 * SECOND - 1
    assert (await refuse(ledger, wish(limit, tokens=300, min_tokens=1))).retry_after == 1
    clock.now += 1
    admitted = await admit(ledger, wish(limit, tokens=300, min_tokens=1))
    assert admitted.hold.output == 300
    assert [(s.used, s.held) for s in admitted.states] == [(600, 0)]
    # Only what the whole limit cannot give is lowered.
    clock.now += MINUTE
    assert (await admit(ledger, wish(limit, tokens=5_000, min_tokens=1))).hold.output == 1_000


async def test_an_answer_that_cost_less_gives_room_in_its_bucket(ledger: Ledger, clock: Clock):
    limit = amounts("tokens", 1_000, 60, name="tpm")
    wishes = [wish(limit, tokens=500), wish(limit, tokens=500)]
    holds = []
    for each in wishes:
        holds.append((await admit(ledger, each)).hold)
        clock.now += 10 * SECOND
    await ledger.settle(holds[0], Charge(tokens=200))
    assert await balance(ledger, limit) == (700, 0)
    await ledger.release(wishes[1])
    assert await balance(ledger, limit) == (200, 0)
    clock.now += 40 * SECOND
    assert await balance(ledger, limit) == (0, 0)


async def test_a_bucket_that_has_left_is_not_corrected_nor_is_another(ledger: Ledger, clock: Clock):
    limit = amounts("tokens", 1_000, 60, name="tpm")
    old = (await admit(ledger, wish(limit, tokens=900, lease=HOUR))).hold
    clock.now += MINUTE
    assert await balance(ledger, limit) == (0, 0)
    hold = (await admit(ledger, wish(limit, tokens=300))).hold
    assert hold.lines[0].serial > old.lines[0].serial

    await ledger.settle(old, Charge(tokens=0))

    assert await balance(ledger, limit) == (300, 0)


async def test_a_clock_set_back_makes_no_window_longer(ledger: Ledger, clock: Clock):
    limit = amounts("tokens", 1_000, 60, name="tpm")
    hold = (await admit(ledger, wish(limit, tokens=900))).hold
    clock.now -= DAY

    assert (await refuse(ledger, wish(limit, tokens=200))).retry_after == MINUTE
    await ledger.settle(hold, Charge(tokens=500))
    clock.now += MINUTE
    assert await balance(ledger, limit) == (0, 0)


@pytest.mark.parametrize("seed", range(2))
async def test_no_window_ever_costs_more_than_its_amount(ledger: Ledger, clock: Clock, seed: int):
    dice = random.Random(seed)
    limit = amounts("money", 1_000, 10, name="burst")
    spent: list[tuple[int, int]] = []
    waited = 0
    for _ in range(150):
        clock.now += dice.choice([0, 1, 40, 166, 167, 999, 2_500])
        asked = wish(limit, money=Cost(dice.choice([1, 90, 300, 700]), 0))
        answer = await ledger.reserve(asked)
        if isinstance(answer, Refused):
            assert answer.retry_after is not None
            clock.now += answer.retry_after  # an honest wait
            waited += 1
            answer = await admit(ledger, asked)
        cost = dice.choice([0, answer.hold.money])
        await ledger.settle(answer.hold, Charge(tokens=0, money=cost))
        spent.append((clock.now, cost))

    for start, _ in spent:
        assert sum(cost for at, cost in spent if start <= at < start + 10 * SECOND) <= 1_000
    assert waited > 10


# ---------------------------------------------------------------- shadow limits


async def test_a_shadow_limit_is_counted_and_decides_nothing(ledger: Ledger):
    shadows = (
        amounts("money", 10, "month", mode="shadow"),
        amounts("tokens", 50, 60, mode="shadow", name="tpm"),
        amounts("requests", 0, 60, mode="shadow", name="rpm"),
        amounts("streams", 0, None, mode="shadow"),
        amounts("tokens", 0, "lifetime", mode="shadow", name="life"),
    )
    enforced = (budget(1_000), amounts("requests", 9, "day"))

    admitted = await admit(
        ledger, wish(*shadows, *enforced, tokens=5_000, min_tokens=1, money=Cost(0, 3))
    )

    # The output is the enforced ones', and what the others would have said is told.
    assert admitted.hold.output == 1_000
    assert admitted.over == ("tpm", "rpm", "streams", "life")
    assert [s.used + s.held for s in admitted.states] == [3_000, 1_000, 1, 1, 1_000, 1_000, 1]
    await ledger.settle(admitted.hold, Charge(tokens=700, money=2_000))
    states = await ledger.usage((*shadows, *enforced))
    assert [s.used + s.held for s in states] == [2_000, 700, 1, 0, 700, 700, 1]
    again = await admit(ledger, wish(*shadows, tokens=1, money=Cost(0, 3)))
    assert again.over == ("money", "tpm", "rpm", "streams", "life")


async def test_a_repetition_returns_the_same_hold(ledger: Ledger, clock: Clock):
    limits = (
        amounts("tokens", 900, 60, name="tpm"),
        amounts("money", 9_000, "month"),
        streams(9),
        rate(9),
    )
    for _ in range(3):
        await admit(ledger, wish(*limits))
        clock.now += 5 * SECOND
    asked = wish(*limits, tokens=200, money=Cost(7, 2))

    first, second = [await admit(ledger, asked) for _ in range(2)]

    assert first == second
    assert first.hold.lines[0].serial == clock.now - 15 * SECOND + 3  # of the fourth bucket
    assert await ledger.usage(limits) == first.states
