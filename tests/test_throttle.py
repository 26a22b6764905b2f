"""Throttle: large requests that come to nothing, as often as a rate allows."""

import msgspec
import pytest

from chatnest.accounting import throttle
from chatnest.accounting.throttle import Throttle
from chatnest.ledger.base import Limit, Refused
from tests.test_accounting import BUDGET, STREAMS

RATE = Limit(name="requests", unit="requests", account="ann", amount=3, window=60)
HOUR = msgspec.structs.replace(RATE, window=3_600, amount=4)
NOBODY = msgspec.structs.replace(RATE, amount=0)
NOW = 1_000_000


def waits(throttle: Throttle, *limits: Limit, now: int, count: int = 1) -> list[int]:
    """For each of so many requests, how long it has to wait; none of them is admitted."""
    found = [throttle.begin(limits, now) for _ in range(count)]
    return [0 if refused is None else refused.retry_after or 0 for refused in found]


def test_as_many_at_once_as_the_rate_allows_and_then_one_by_one():
    tried = Throttle()

    assert waits(tried, RATE, now=NOW, count=5) == [0, 0, 0, 20_000, 20_000]
    assert waits(tried, RATE, now=NOW + 19_999) == [1]
    assert waits(tried, RATE, now=NOW + 20_000, count=2) == [0, 20_000]
    assert waits(tried, RATE, now=NOW + 80_000, count=4) == [0, 0, 0, 20_000]


def test_a_refusal_says_what_the_ledger_would():
    tried = Throttle()
    waits(tried, BUDGET, RATE, STREAMS, now=NOW, count=3)

    refused = tried.begin((BUDGET, RATE, STREAMS), NOW)

    assert isinstance(refused, Refused)
    assert refused.state is not None
    assert (refused.state.limit, refused.state.remaining) == (RATE, 0)
    assert (refused.state.resets_at, refused.retry_after) == (NOW + 20_000, 20_000)


def test_of_several_rates_all_count_or_none():
    tried = Throttle()
    waits(tried, RATE, now=NOW, count=3)

    assert waits(tried, HOUR, RATE, now=NOW, count=9) == [20_000] * 9
    assert waits(tried, HOUR, now=NOW, count=5) == [0, 0, 0, 0, 900_000]


def test_what_is_admitted_is_forgotten():
    tried = Throttle()
    for _ in range(9):
        assert waits(tried, RATE, now=NOW) == [0]
        tried.undo((BUDGET, RATE), NOW)
    assert len(tried) == 0
    tried.undo((RATE,), NOW)  # forgotten meanwhile, as the oldest of too many

    assert waits(tried, RATE, now=NOW, count=4) == [0, 0, 0, 20_000]
    tried.undo((RATE,), NOW)
    assert waits(tried, RATE, now=NOW, count=2) == [0, 20_000]


def test_a_clock_that_was_set_back_locks_nobody_out_for_longer_than_a_window():
    tried = Throttle()
    waits(tried, RATE, now=NOW * 1_000, count=3)

    assert waits(tried, RATE, now=NOW) == [20_000]
    assert waits(tried, RATE, now=NOW + 20_000, count=2) == [0, 20_000]


@pytest.mark.parametrize("limits", [(), (BUDGET, STREAMS), (NOBODY,)])
def test_where_there_is_no_rate_there_is_none_of_these(limits):
    """Nobody gets in by a rate of 0, and who knows that need not count."""
    tried = Throttle()

    assert waits(tried, *limits, now=NOW, count=9) == [0] * 9
    assert len(tried) == 0


def test_the_oldest_of_too_many_is_forgotten(monkeypatch):
    monkeypatch.setattr(throttle, "_MOST", 2)
    tried = Throttle()
    limits = [msgspec.structs.replace(RATE, account=name) for name in "abc"]
    for limit in limits:
        waits(tried, limit, now=NOW, count=3)

    assert [waits(tried, limit, now=NOW) for limit in limits[::-1]] == [[20_000], [20_000], [0]]
