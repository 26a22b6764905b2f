"""A hundred thousand requests that nobody would send: no 5xx, nothing spent, nothing repeated."""

import time
from collections import Counter
from collections.abc import Iterator

import pytest

from chatnest.testing import FakeUpstream
from tests.hostile.cases import CLOSED, Case
from tests.hostile.fuzz import Fuzz
from tests.hostile.support import Attack, Target, under_attack
from tests.support.soak import amount

pytestmark = pytest.mark.soak


@pytest.fixture(params=["h11", "httptools"])
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    with FakeUpstream() as upstream, under_attack(upstream, http=request.param) as target:
        yield target


def fire(target: Target, sent: bytes, *, whole: bool) -> int:
    attack = Attack(target.port, Case("fuzzed", sent, ()), whole=whole)
    status = attack.status()
    attack.close()
    assert status < 500, (status, sent)
    return status


def at_the_end(target: Target, seen: Counter[int]) -> str:
    """Everything is settled, nothing is held, and the server goes on."""
    deadline = time.monotonic() + 20
    while len(target.books.charges) + len(target.books.releases) < target.books.admitted:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    target.is_well()
    told = ", ".join(f"{times:,} of {status or 'closed'}" for status, times in sorted(seen.items()))
    return f"{seen.total():,} requests: {told}"


@pytest.mark.parametrize("seed", range(4))
def test_fuzzed_bodies(target, seed, record_property):
    fuzz, seen = Fuzz(seed), Counter[int]()
    for _ in range(amount(60, 8_000)):
        sent, before = fuzz.body(), target.taken
        status = fire(target, sent, whole=True)
        seen[status] += 1
        assert status != CLOSED, sent
        assert (target.taken == before) == (status != 200), (status, sent)
    record_property("soak", at_the_end(target, seen))


@pytest.mark.parametrize("seed", range(4))
def test_fuzzed_requests(target, seed, record_property):
    """The client leaves soon: an honest one among them may or may not reach the model."""
    fuzz, seen = Fuzz(seed), Counter[int]()
    for _ in range(amount(40, 4_500)):
        seen[fire(target, fuzz.request(), whole=False)] += 1
    told = at_the_end(target, seen)
    assert target.books.admitted <= seen[200] + seen[CLOSED] + 1
    record_property("soak", told)
