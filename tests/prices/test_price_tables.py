"""Prices from tables: each wrong value is an error that names its key and what to write."""

from datetime import datetime
from decimal import Decimal

import pytest

from chatnest import ConfigurationError
from chatnest.prices import Prices

GOOD = {"input": "1", "output": "2"}


def refusal(value: object) -> str:
    with pytest.raises(ConfigurationError) as caught:
        Prices.of(value)  # type: ignore[arg-type]  # wrong on purpose
    return caught.value.detail


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0.25, 'got 0.25. Write it as "0.25"'),
        (4, 'got 4. Write it as "4"'),
        (True, "got True."),
        (None, "got None."),
        (Decimal(1), "expected a price in quotes"),
        (float("nan"), "expected a price in quotes"),
        ("nan", "got 'nan'"),
        ("NaN", "got 'NaN'"),
        ("inf", "got 'inf'"),
        ("-0.25", "got '-0.25'"),
        ("+0.25", "got '+0.25'"),
        ("1e3", "got '1e3'"),
        ("1E-3", "got '1E-3'"),
        ("1_000", "got '1_000'"),
        ("0,25", "got '0,25'"),
        ("$0.25", "got '$0.25'"),
        (".25", "got '.25'"),
        ("1.", "got '1.'"),
        (" 1", "got ' 1'"),
        ("1\n", r"got '1\n'"),
        ("٣", "got '٣'"),
        ("", "got ''"),
        ("0x10", "got '0x10'"),
        ("0.0000001", "expected at most 6 decimals"),
        ("0.3333333333333333", "expected at most 6 decimals"),
        ("1000.000001", "expected at most $1,000 per million tokens"),
        ("9" * 50, "expected at most $1,000 per million tokens"),
    ],
)
@pytest.mark.parametrize(
    "place",
    [
        *("input", "cached_input", "cache_write", "cache_write_1h", "output", "reasoning"),
        *("above[0].output", "tiers.flex.input"),
    ],
)
def test_a_wrong_price_is_refused_by_its_key(value, said, place):
    table: dict[str, object] = {**GOOD}
    match place.split("."):
        case ["above[0]", name]:
            table["above"] = [{"tokens": 1, **GOOD, name: value}]
        case ["tiers", tier, name]:
            table["tiers"] = {tier: {**GOOD, name: value}}
        case _:
            table[place] = value
    detail = refusal(table)

    assert detail.startswith(f"prices.{place}: expected ")
    assert said in detail


@pytest.mark.parametrize("value", ["0.000001", "0", "1000", "1000.000000", "0.25"])
def test_these_prices_are_exact(value):
    picos = Prices.of({"input": "1", "output": value}).at(0).standard.rates(0).output

    assert Decimal(picos) == Decimal(value) * 10**6


@pytest.mark.parametrize(
    ("value", "start", "said"),
    [
        ("", "prices: expected ", "Without a price, leave it out."),
        ("gratis", "prices: expected ", "got 'gratis'"),
        (None, "prices: expected ", "got None"),
        ([], "prices: expected ", "got []"),
        (0, "prices: expected ", "got 0"),
        ({}, "prices: expected prices of input and output", "got none for input"),
        ({"input": "1"}, "prices: expected prices of input and output", "got none for output"),
        ({"output": "1"}, "prices: expected prices of input and output", "got none for input"),
        ({"input": "0", "output": "0.00"}, "prices: expected a price above 0", 'price = "free"'),
        ({**GOOD, "inputs": "1"}, "prices.inputs: expected a known key", "Did you mean input?"),
        ({**GOOD, "currency": "EUR"}, "prices.currency: expected a known key", ""),
        ({**GOOD, "price": "free"}, "prices.price: expected ", "Remove it"),
        ({"price": "1"}, "prices.price: expected ", "got '1'"),
        ({**GOOD, "above": {}}, "prices.above: expected a list", "got {}"),
        ({**GOOD, "above": [1]}, "prices.above[0]: expected a table", "got 1"),
        ({**GOOD, "above": [GOOD]}, "prices.above[0].tokens: expected an integer >= 1", "None"),
        (
            {**GOOD, "above": [{"tokens": 9, **GOOD}, {"tokens": 9, **GOOD}]},
            "prices.above[1].tokens: expected an integer >= 10",
            "got 9",
        ),
        (
            {**GOOD, "above": [{"tokens": 9, "input": "1"}]},
            "prices.above[0]: expected prices of input and output",
            "got none for output",
        ),
        (
            {**GOOD, "above": [{"tokens": 9, "input": "0", "output": "0"}]},
            "prices.above[0]: expected a price above 0",
            "got 0 for both",
        ),
        ({**GOOD, "tiers": []}, "prices.tiers: expected a table", "got []"),
        ({**GOOD, "tiers": {"flex": "1"}}, "prices.tiers.flex: expected a table", "got '1'"),
        ({**GOOD, "tiers": {"flex": {}}}, "prices.tiers.flex: expected prices", "none for input"),
        ({**GOOD, "tiers": {"default": GOOD}}, "prices.tiers.default: expected ", "no name"),
        ({**GOOD, "tiers": {"Flex": GOOD}}, "prices.tiers.Flex: expected ", "lower case"),
        (
            {**GOOD, "above": [{"tokens": 200_000, **GOOD}], "tiers": {"flex": GOOD}},
            "prices.tiers.flex.above: expected the prices above 200,000 tokens",
            "above = []",
        ),
        ({**GOOD, "from": "21.8.2026"}, "prices.from: expected a date", "got '21.8.2026'"),
        ({**GOOD, "from": "2026-02-30"}, "prices.from: expected a date", "got '2026-02-30'"),
        ({**GOOD, "from": 2026}, "prices.from: expected a date", "got 2026"),
        ({**GOOD, "from": datetime(2026, 8, 21)}, "prices.from: expected a date", ""),  # noqa: DTZ001  # as TOML has it
        ([GOOD, GOOD], "prices[1].from: expected a later date", "got none"),
        ([GOOD, "free"], "prices[1]: expected a table", "got 'free'"),
        (
            [{**GOOD, "from": "2026-02-02"}, {**GOOD, "from": "2026-02-02"}],
            "prices[1].from: expected a later date",
            "got 2026-02-02",
        ),
        ([GOOD, {**GOOD, "from": "2026-02-02", "input": 1.5}], "prices[1].input: expected ", "1.5"),
    ],
)
def test_a_wrong_table_is_refused_by_its_key(value, start, said):
    detail = refusal(value)

    assert detail.startswith(start)
    assert said in detail


def test_prices_stay_what_they_are():
    prices = Prices.of(GOOD)

    assert Prices.of(prices) is prices
