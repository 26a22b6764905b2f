"""Known refusals: no counting and no ledger for those who were told when to come back."""

import msgspec
import pytest

from chatnest.accounting import refusals
from chatnest.accounting.accounts import Accounts
from chatnest.accounting.refusals import KnownRefusals
from chatnest.bounds import Bounds
from chatnest.errors import LimitExceeded
from chatnest.ledger.base import LimitState, Refused
from chatnest.testing import ManualClock
from tests.test_accounting import BUDGET, RATE, STREAMS, FlakyLedger, make_turn


def refused(limit=RATE, *, now=1_000, retry_after=500) -> Refused:
    state = LimitState(limit=limit, used=2, held=0, resets_at=now + retry_after)
    return Refused(state=state, retry_after=retry_after, now=now)


@pytest.mark.parametrize(
    ("now", "retry_after"), [(999, None), (1_000, 500), (1_499, 1), (1_500, None)]
)
def test_a_rate_is_known_until_something_comes_back(now, retry_after):
    known = KnownRefusals()
    known.remember(refused())

    found = known.find((STREAMS, BUDGET, RATE), now)

    assert (found and found.retry_after) == retry_after
    assert len(known) == (retry_after is not None)


@pytest.mark.parametrize("limit", [BUDGET, STREAMS])
def test_what_may_be_given_back_at_any_moment_is_asked_again(limit):
    known = KnownRefusals()
    known.remember(refused(limit))
    known.remember(Refused(state=None, retry_after=500, now=1_000))

    assert len(known) == 0


@pytest.mark.parametrize("change", [{"amount": 3}, {"account": "bob"}, {"window": 61}])
def test_another_limit_is_another_limit(change):
    known = KnownRefusals()
    known.remember(refused())

    assert known.find((msgspec.structs.replace(RATE, **change),), 1_001) is None


def test_they_are_bounded(monkeypatch):
    monkeypatch.setattr(refusals, "_MOST", 2)
    known = KnownRefusals()
    limits = [msgspec.structs.replace(RATE, account=name) for name in "abc"]
    for limit in limits:
        known.remember(refused(limit))

    assert [known.find((limit,), 1_001) is not None for limit in limits] == [False, True, True]


@pytest.mark.anyio
async def test_a_worker_repeats_the_ledgers_refusal_and_honours_its_end():
    clock = ManualClock()
    ledger = FlakyLedger(clock)
    accounts = Accounts(ledger, Bounds())
    for n in range(RATE.amount):
        accounts.weigh(make_turn(), lambda _: (RATE, BUDGET))
        await accounts.admit(make_turn(f"t{n}"), (RATE, BUDGET))
    with pytest.raises(LimitExceeded) as told:
        await accounts.admit(make_turn("t8"), (RATE, BUDGET))
    ledger.calls.clear()
    clock.advance(10)

    with pytest.raises(LimitExceeded) as again:
        accounts.weigh(make_turn(), lambda _: (RATE, BUDGET))

    assert ledger.calls == []
    assert (told.value.retry_after, again.value.retry_after) == (60, 50)
    assert (again.value.code, again.value.detail) == (told.value.code, told.value.detail)
    assert again.value.headers["RateLimit"] == '"requests";r=0;t=50'

    clock.advance(50)
    accounts.weigh(make_turn(), lambda _: (RATE, BUDGET))
    await accounts.admit(make_turn("t9"), (RATE, BUDGET))
