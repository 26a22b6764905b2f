"""RateLimit fields, as draft-ietf-httpapi-ratelimit-headers-10 writes them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatnest.ledger.base import Limit, LimitState
from chatnest.wire.ratelimit import rate_limit_fields, seconds_until

NOW = 1_000_000
RATE = Limit(name="requests", unit="requests", account="ann", amount=30, window=60)
BUDGET = Limit(name="tokens", unit="tokens", window="day", account="ann", amount=70_000)
STREAMS = Limit(name="streams", unit="streams", account="ann", amount=4)


def state(limit: Limit, used: int, held: int = 0, resets_at: int | None = None) -> LimitState:
    return LimitState(limit=limit, used=used, held=held, resets_at=resets_at)


@pytest.mark.parametrize(
    ("states", "policy", "remaining"),
    [
        (
            [state(RATE, 1, resets_at=NOW + 12_000)],
            '"requests";q=30;w=60',
            '"requests";r=29;t=12',
        ),
        ([state(RATE, 0)], '"requests";q=30;w=60', '"requests";r=30'),
        (
            [state(BUDGET, 1_000, 500, NOW + 3_600_000)],
            '"tokens";q=70000;w=86400',
            '"tokens";r=68500;t=3600',
        ),
        ([state(STREAMS, 0, 3)], '"streams";q=4', '"streams";r=1'),
        ([state(STREAMS, 0, 9)], '"streams";q=4', '"streams";r=0'),
        (
            [state(BUDGET, 71_000, 0, NOW + 1)],
            '"tokens";q=70000;w=86400',
            '"tokens";r=0;t=1',
        ),
        (
            [
                state(RATE, 30, resets_at=NOW + 500),
                state(STREAMS, 0, 1),
                state(BUDGET, 0, 0, NOW + 7_200_000),
            ],
            '"requests";q=30;w=60, "streams";q=4, "tokens";q=70000;w=86400',
            '"requests";r=0;t=1, "streams";r=3, "tokens";r=70000;t=7200',
        ),
    ],
)
def test_limits_are_told_by_quota_window_and_what_remains(states, policy, remaining):
    assert rate_limit_fields(states, NOW) == {"RateLimit-Policy": policy, "RateLimit": remaining}


@pytest.mark.parametrize(
    ("milliseconds", "seconds"),
    [(1, 1), (999, 1), (1_000, 1), (1_001, 2), (59_999, 60), (0, 1), (-5_000, 1)],
)
def test_seconds_are_whole_rounded_up_and_at_least_one(milliseconds, seconds):
    assert seconds_until(NOW + milliseconds, NOW) == seconds


@given(st.integers(0, 10**12), st.integers(0, 10**9))
def test_who_waits_so_many_seconds_never_comes_too_early(now, wait):
    seconds = seconds_until(now + wait, now)

    assert seconds * 1000 >= wait
    assert seconds * 1000 - wait <= 1_000


def test_no_limits_are_no_fields():
    assert rate_limit_fields([], NOW) == {}
