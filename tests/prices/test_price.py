"""Prices: what a request may cost at most, and what a turn has cost, in whole nano-dollars."""

import ast
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import chatnest.prices
from chatnest.events import Usage
from chatnest.prices import Bill, CostBound, Price, Prices
from chatnest.prices.money import MAX_CHARGE, MAX_COST, MAX_PICOS, MAX_TOKENS, dollars_of, picos_of

SMALL = {"input": "0.25", "cached_input": "0.025", "output": "2.00"}
TIERED = {
    "input": "4",
    "cached_input": "0.4",
    "cache_write": "5",
    "output": "20",
    "above": [{"tokens": 272_000, "input": "8", "cached_input": "0.8", "output": "30"}],
    "tiers": {
        "priority": {"input": "8", "output": "40", "above": []},
        "flex": {
            "input": "2",
            "output": "10",
            "above": [{"tokens": 272_000, "input": "4", "output": "15"}],
        },
    },
}
CLAUDE = {
    "input": "3",
    "cached_input": "0.30",
    "cache_write": "3.75",
    "cache_write_1h": "6",
    "output": "15",
}


def price(table: object) -> Price:
    return Prices.of(table).at(0)  # type: ignore[arg-type]  # any table


@pytest.mark.parametrize(
    ("usage", "nanos"),
    [
        (Usage(0, 0), 0),
        (Usage(1, 0), 250),
        (Usage(0, 1), 2_000),
        (Usage(1_000_000, 1_000_000), 2_250_000_000),
        (Usage(1_000, 10, cached_tokens=400), 600 * 250 + 400 * 25 + 10 * 2_000),
        (Usage(1_000, 10, reasoning_tokens=9), 1_000 * 250 + 10 * 2_000),
        (Usage(1_000, 10, cache_written_tokens=1_000), 1_000 * 250 + 10 * 2_000),
        (Usage(-5, -7, cached_tokens=-1), 0),
    ],
)
def test_a_turn_costs_what_its_classes_of_tokens_cost(usage, nanos):
    assert price(SMALL).charge(usage) == nanos


def test_writes_to_a_cache_cost_by_the_time_that_they_last():
    usage = Usage(100, 0, cached_tokens=10, cache_written_tokens=50, cache_written_1h_tokens=20)

    assert price(CLAUDE).charge(usage) == 40 * 3_000 + 10 * 300 + 30 * 3_750 + 20 * 6_000


def test_writes_for_an_hour_cost_as_much_as_others_without_a_price_of_their_own():
    usage = Usage(100, 0, cache_written_tokens=100, cache_written_1h_tokens=100)

    assert price({**CLAUDE, "cache_write_1h": "3.75"}) == price(
        {name: value for name, value in CLAUDE.items() if name != "cache_write_1h"}
    )
    assert price(TIERED).charge(usage) == 100 * 5_000


def test_reasoning_costs_as_much_as_output_unless_it_has_a_price():
    usage = Usage(0, 100, reasoning_tokens=60)

    assert price(SMALL).charge(usage) == 100 * 2_000
    assert price({**SMALL, "reasoning": "3"}).charge(usage) == 40 * 2_000 + 60 * 3_000


def test_a_turn_is_rounded_once_and_upwards():
    cents = price({"input": "0.0375", "output": "0.000001"})

    assert cents.charge(Usage(1, 0)) == 38
    assert cents.charge(Usage(2, 0)) == 75
    assert cents.charge(Usage(3, 0)) == 113
    assert cents.charge(Usage(0, 1)) == 1


@pytest.mark.parametrize(
    ("usage", "nanos"),
    [
        (Usage(100, 0, cached_tokens=500), 100 * 300),
        (Usage(100, 0, cached_tokens=80, cache_written_tokens=90), 90 * 3_750 + 10 * 300),
        (Usage(100, 0, cache_written_tokens=900), 100 * 3_750),
        (Usage(100, 0, cache_written_tokens=9, cache_written_1h_tokens=90), 91 * 3_000 + 9 * 6_000),
        (Usage(0, 5, reasoning_tokens=50), 5 * 15_000),
    ],
)
def test_a_part_above_its_whole_is_cut_and_noted(usage, nanos):
    assert price(CLAUDE).bill(usage) == Bill(nanos, notes=("overlapping_tokens",))


def test_a_long_input_prices_the_whole_request():
    dated = price(TIERED)

    assert dated.charge(Usage(272_000, 10)) == 272_000 * 4_000 + 10 * 20_000
    assert dated.charge(Usage(272_001, 10)) == 272_001 * 8_000 + 10 * 30_000


@pytest.mark.parametrize(
    ("tier", "each", "bill"),
    [
        ("", 4_000, ""),
        ("default", 4_000, ""),
        ("Standard", 4_000, ""),
        ("auto", 4_000, ""),
        ("flex", 2_000, "flex"),
        (" Priority ", 8_000, "priority"),
    ],
)
def test_a_turn_is_priced_by_the_tier_that_has_served_it(tier, each, bill):
    usage = Usage(1_000, 0, service_tier=tier)

    assert price(TIERED).bill(usage) == Bill(1_000 * each, bill)
    assert price(TIERED).charge(Usage(1_000, 0), tier) == 1_000 * each


def test_a_tier_without_a_price_costs_as_much_as_the_dearest_one_and_is_noted():
    assert price(TIERED).bill(Usage(100, 1, service_tier="scale")) == Bill(
        100 * 8_000 + 40_000, "priority", ("unknown_tier",)
    )
    assert price(SMALL).bill(Usage(100, 1, service_tier="scale")) == Bill(
        100 * 250 + 2_000, "", ("unknown_tier",)
    )


def test_an_estimate_is_priced_as_if_a_cache_had_taken_in_its_input():
    dated = price({**TIERED, "reasoning": "25"})

    assert dated.charge(Usage(100, 10, "estimated")) == 100 * 5_000 + 10 * 25_000


def test_a_free_model_costs_nothing_and_says_so():
    free = price("free")
    usage = Usage(MAX_TOKENS, MAX_TOKENS, service_tier="priority")

    assert free.is_free
    assert free.bound(1_000) == (0, 0)
    assert free.bound(1_000).most_output == MAX_TOKENS
    assert free.charge(usage) == 0
    assert not price(SMALL).is_free


def test_a_charge_above_a_thousand_dollars_is_capped_and_noted():
    dear = price({"input": "1000", "output": "1000"})

    assert dear.bill(Usage(1_000_000, 0)) == Bill(MAX_CHARGE)
    assert dear.bill(Usage(1_000_001, 0)) == Bill(MAX_CHARGE, notes=("capped",))
    assert dear.charge(Usage(2**63, 2**63)) == MAX_CHARGE


# ---------------------------------------------------------------- bounds


def test_a_request_is_bounded_by_the_dearest_price_that_may_apply():
    assert price(SMALL).bound(1_000) == CostBound(250_000, 2_000)
    assert price(CLAUDE).bound(1_000) == CostBound(6_000_000, 15_000)
    assert price({**SMALL, "reasoning": "3"}).bound(0) == CostBound(0, 3_000)
    assert price({"input": "0.0375", "output": "0.0375"}).bound(1) == CostBound(38, 38)


def test_a_request_that_may_cross_a_length_is_bounded_by_the_prices_above_it():
    dated = price({name: value for name, value in TIERED.items() if name != "tiers"})

    assert dated.bound(272_000) == CostBound(272_000 * 5_000, 20_000)
    assert dated.bound(272_001) == CostBound(272_001 * 8_000, 30_000)


def test_a_cheaper_price_above_a_length_lowers_no_bound():
    above = [{"tokens": 100, "input": "1", "output": "1"}]
    dated = price({"input": "2", "output": "2", "above": above})

    assert dated.bound(101) == CostBound(202_000, 2_000)


def test_a_request_is_bounded_by_the_dearest_tier_that_may_serve_it():
    dated = price(TIERED)

    assert dated.bound(1_000) == CostBound(8_000_000, 40_000)
    assert dated.bound(1_000, tiers=()) == CostBound(5_000_000, 20_000)
    assert dated.bound(1_000, tiers=("flex", "scale")) == CostBound(5_000_000, 20_000)
    assert dated.bound(1_000, tiers=("priority",)) == CostBound(8_000_000, 40_000)


def test_the_largest_request_is_within_the_numbers_of_a_ledger():
    dear = price({"input": "1000", "output": "1000"})
    bound = dear.bound(MAX_TOKENS)

    assert bound == CostBound(MAX_COST, MAX_PICOS // 1_000)
    assert bound.most_output == 0
    assert dear.bound(MAX_TOKENS // 2).most_output == MAX_TOKENS // 2
    assert dear.bound(MAX_TOKENS // 2).cost(MAX_TOKENS // 2) == MAX_COST
    with pytest.raises(ValueError, match="above the maximum"):
        bound.cost(1)
    with pytest.raises(ValueError, match="above the maximum"):
        dear.bound(0).cost(MAX_TOKENS + 1)
    for tokens in (-1, MAX_TOKENS + 1):
        with pytest.raises(ValueError, match="above the maximum"):
            dear.bound(tokens)


PRICES = st.integers(1, MAX_PICOS).map(dollars_of)
COUNTS = st.integers(0, 10**6)
CLASSES = st.fixed_dictionaries(
    {"input": PRICES, "output": PRICES},
    optional=dict.fromkeys(("cached_input", "cache_write", "cache_write_1h", "reasoning"), PRICES),
)


def _with_length(table, above):
    return {**table, "above": [{"tokens": 500_000, **above}]}


LONG = st.builds(_with_length, CLASSES, CLASSES)
TABLES = st.builds(lambda table, priority: {**table, "tiers": {"priority": priority}}, LONG, LONG)


@given(
    table=TABLES,
    most=COUNTS,
    parts=st.lists(COUNTS, min_size=7, max_size=7),
    tier=st.sampled_from(["", "priority", "scale"]),
    source=st.sampled_from(["provider", "estimated"]),
)
def test_no_turn_within_its_bounds_costs_more_than_was_bounded(table, most, parts, tier, source):
    taken, given_, cached, written, written_1h, reasoning, _ = parts
    usage = Usage(*(min(taken, most), given_, source, cached, written, reasoning, written_1h, tier))
    found = price(table)

    assert found.charge(usage) >= 0
    assert found.charge(usage) <= max(found.bound(most).cost(given_), 0)


# ---------------------------------------------------------------- dates and versions


def test_the_price_in_force_at_a_moment_counts():
    noon = 1_787_313_600_000  # 2026-08-21T12:00Z
    midnight = noon - 43_200_000
    prices = Prices.of(
        [
            {"input": "5", "output": "30"},
            {"from": "2026-08-21", "input": "4", "output": "20"},
            {"from": date(2026, 9, 1), "price": "free"},
        ]
    )

    assert prices.at(0).charge(Usage(1, 0)) == 5_000
    assert prices.at(midnight - 1).charge(Usage(1, 0)) == 5_000
    assert prices.at(midnight).charge(Usage(1, 0)) == 4_000
    assert prices.at(noon).since == date(2026, 8, 21)
    assert prices.at(2**62).is_free


def test_the_first_price_counts_before_its_date():
    prices = Prices.of({"from": "2026-08-21", **SMALL})

    assert prices.at(0).charge(Usage(1, 0)) == 250


def test_a_version_names_a_price_and_its_date():
    assert price(SMALL).version == "eed5d2565fd2"
    rewritten = {"output": "2", "input": "0.250000", "cached_input": "0.025", "reasoning": "2.0"}
    assert price(rewritten) == price(SMALL)
    others = [
        *(SMALL | {"from": "2026-08-21"}, SMALL | {"input": "0.26"}, TIERED, CLAUDE, "free"),
        {**TIERED, "tiers": {}},
        {**TIERED, "above": [], "tiers": {}},
    ]
    assert len({price(each).version for each in [SMALL, *others]}) == 1 + len(others)


# ---------------------------------------------------------------- no floats


def floats(source: str) -> list[int]:
    """Lines with a float, or with an operation that gives one."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if (isinstance(node, ast.Constant) and isinstance(node.value, float | complex))
        or (isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.Div))
        or (isinstance(node, ast.Name) and node.id in {"float", "round", "divmod", "math"})
        or (isinstance(node, ast.Attribute) and node.attr in {"truediv", "total_seconds"})
    ]


HERE = Path(chatnest.prices.__file__).parent


COUNTING = (
    "amounts accounting/bills policies/limits providers/served"
    " ledger/base ledger/books ledger/limit ledger/model ledger/sliding ledger/standing"
)
"""Modules beside those of prices that money goes through."""


@pytest.mark.parametrize(
    "path",
    [
        *sorted(HERE.glob("*.py")),
        *(HERE.parent / f"{name}.py" for name in COUNTING.split()),
    ],
    ids=lambda path: path.stem,
)
def test_no_float_is_on_the_way(path):
    assert floats(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("source", ["a = 0.5", "a / b", "a /= b", "float(a)", "round(a)"])
def test_these_would_be_found(source):
    assert floats(source) == [1]


@pytest.mark.parametrize("picos", [0, 1, 10, 250_000, 1_000_000, MAX_PICOS])
def test_a_price_is_written_as_it_is_read(picos):
    assert picos_of(dollars_of(picos), "price") == picos
