"""A hundred thousand requests that nobody would send: no 5xx, nothing spent, nothing repeated."""

import time
from collections import Counter
from collections.abc import Iterator

import pytest

from chatnest.testing import FakeUpstream
from tests.hostile.cases import CLOSED, Case
from tests.hostile.fuzz import Fuzz
from tests.hostile.support import Attack, Target, under_attack
from tests.ledger.soak import amount

pytestmark = pytest.mark.soak


@pytest.fixture(params=["h11", "httptools"])
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    with FakeUpstream() as upstream, under_attack(upstream, http=request.param) as target:
        yield target


@pytest.mark.parametrize("seed", range(4))
def test_fuzzed_requests(target, seed, record_property):
    fuzz, seen = Fuzz(seed), Counter[int]()
    count = amount(100, 12_500)
    for number in range(count):
        sent, whole = fuzz.request()
        before = target.taken
        attack = Attack(target.port, Case(f"{seed}/{number}", sent, ()), whole=whole)
        status = attack.status()
        attack.close()
        seen[status] += 1
        assert status < 500, (status, sent)
        assert status or not whole, (status, sent)
        if status not in {200, CLOSED}:
            assert target.taken == before, (status, sent)
    deadline = time.monotonic() + 20
    while len(target.books.charges) < len(target.books.reservations):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    target.is_well()
    told = ", ".join(
        f"{number:,} of {status or 'closed'}" for status, number in sorted(seen.items())
    )
    record_property("soak", f"{count:,} requests: {told}")
