"""Turns in money, from a request to the books: none is free by accident."""

import logging
from typing import Any

import pytest

from chatnest import standard_policies
from chatnest.errors import ConfigurationError
from chatnest.ledger.base import Charge, Hold, Reservation
from chatnest.policies import LimitRule
from chatnest.prices import Prices, PriceTable
from chatnest.testing import Answer, Conversation, TokenUsage
from tests.ledger.support import DAY, Clock, utc
from tests.streams.support import Books, answer_to, ask, serving

pytestmark = pytest.mark.anyio

PRIORITY = {"input": "8.00", "cached_input": "0.80", "output": "40.00"}
PRICE = {
    "input": "2.00",
    "cached_input": "0.20",
    "output": "10.00",
    "tiers": {"priority": PRIORITY},
}


class Kept(Books):
    """Books that keep what was held, too."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.holds: list[Hold] = []

    async def reserve(self, reservation: Reservation) -> Any:
        answer = await super().reserve(reservation)
        if hold := getattr(answer, "hold", None):
            self.holds.append(hold)
        return answer


def rules(amount: str = "5.00") -> Any:
    return standard_policies(
        limits=[LimitRule(name="own", unit="money", amount=amount, window="month")]
    )


async def turn(upstream: Any, answer: Answer, price: Any = PRICE) -> tuple[Hold, Charge]:
    """A turn's hold and charge."""
    upstream.default = answer
    books = Kept()
    async with serving(upstream, ledger=books, prices=price, policies=rules()) as app:
        assert (await answer_to(app, ask())).status == 200
    return books.holds[0], books.charge


@pytest.mark.parametrize(
    ("usage", "tier", "nanos", "note"),
    [
        # More cached than there was, or more thinking: some servers leave it out of the whole.
        (
            TokenUsage(1_000, 40, cached=5_000),
            *(None, 1_000 * 2_000 + 5_000 * 200 + 40 * 10_000, ""),
        ),
        (TokenUsage(1_000, 40, reasoning=90), None, 1_000 * 2_000 + 130 * 10_000, ""),
        (TokenUsage(1_000, 40), "priority", 1_000 * 8_000 + 40 * 40_000, ""),
        # A tier without a price, and a lower one: at the dearest.
        (TokenUsage(1_000, 40), "warp", 1_000 * 8_000 + 40 * 40_000, "unknown_tier"),
        (TokenUsage(1_000, 40), "flex", 1_000 * 8_000 + 40 * 40_000, "unknown_tier"),
    ],
)
async def test_a_turn_is_charged_by_its_classes_and_its_tier(  # noqa: PLR0917  # a table
    upstream, caplog, usage: TokenUsage, tier: str | None, nanos: int, note: str
):
    more = {} if tier is None else {"service_tier": tier}
    with caplog.at_level(logging.WARNING, "chatnest.accounting"):
        _, charge = await turn(upstream, Answer.text("Hello", usage=usage, **more))

    assert charge.money == nanos
    assert bool(note) == ("cost of a turn" in caplog.text)
    assert note in caplog.text


async def test_a_dearer_tier_that_nobody_asked_for_is_held(upstream):
    hold, charge = await turn(
        upstream, Answer.text("Hello", usage=(8, 400), service_tier="priority")
    )

    assert charge.facts.tier == "priority"
    assert charge.money == 8 * 8_000 + 400 * 40_000 <= hold.money


async def test_without_a_usage_a_turn_is_charged_an_estimate(upstream):
    hold, charge = await turn(upstream, Answer.text("Hello there", usage=None))

    assert charge.source == "estimated"
    assert 0 < charge.money <= hold.money


async def test_a_model_costs_nothing_because_its_operator_said_it(upstream):
    _, charge = await turn(upstream, Answer.text("Hello", usage=(100, 10)), "free")

    assert charge.money == 0
    assert Prices.of("free").at(0).is_free


@pytest.mark.parametrize(
    "price",
    [
        *({}, [], "", "0", {"input": "0"}, {"input": "", "output": ""}),
        *({"input": "0", "output": "0"}, {"input": "-1", "output": "2"}),
        *({"input": "NaN", "output": "2"}, {"input": "1e3", "output": "2"}),
    ],
)
async def test_a_price_that_is_empty_or_none_stops_the_start(upstream, price):
    with pytest.raises(ConfigurationError, match="price"):
        async with serving(upstream, prices=price, policies=rules()):
            pass


async def test_a_model_without_a_price_stops_the_start(upstream):
    with pytest.raises(ConfigurationError, match="expected a price, since the limit 'own'"):
        async with serving(upstream, policies=rules()):
            pass


@pytest.mark.parametrize("step", [DAY, -DAY])
async def test_the_price_in_force_at_the_admission_counts_whatever_it_is_at_the_end(
    upstream, step: int
):
    midnight = utc("2026-08-21T00:00")
    clock = Clock(midnight - 1 if step > 0 else midnight)
    dated: list[PriceTable] = [PRICE, {"from": "2026-08-21", "input": "4.00", "output": "20.00"}]
    upstream.default = Answer.stall(1, usage=(100, 10))
    books = Kept(clock=clock)
    async with serving(upstream, ledger=books, prices=dated, policies=rules()) as app:

        async def ends_on_another_day() -> None:
            await c.until(lambda: b'"Hello"' in c.received)
            clock.now += step
            upstream.release()
            await c.read_all()
            await c.finished()

        async with Conversation(app, json=ask()) as c:
            await ends_on_another_day()
        first = books.charge
        upstream.default = Answer.text("Hello", usage=(100, 10))
        await answer_to(app, ask())
    charges = [charge.money for charge in books.charges]
    old, new = 100 * 2_000 + 10 * 10_000, 100 * 4_000 + 10 * 20_000

    assert charges == ([old, new] if step > 0 else [new, old])
    versions = [Prices.of(dated).entries[n].version for n in (0, 1)]
    assert first.facts.price == versions[0 if step > 0 else 1]
