"""Whatever a client sends is answered by a 4xx that is small and says nothing of it, or served."""

from collections.abc import Iterator

import pytest

from chatnest.cli.protocol import BoundedProtocol
from chatnest.testing import FakeUpstream
from tests.hostile.cases import KINDS
from tests.hostile.support import Target, play, under_attack
from tests.streams.support import CLIENT

PROTOCOLS = {"h11": "h11", "httptools": "httptools", "serve": BoundedProtocol}


@pytest.fixture(scope="module", params=PROTOCOLS)
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    http = PROTOCOLS[request.param]
    with FakeUpstream() as upstream, under_attack(upstream, http=http) as target:
        yield target


def test_there_are_twenty_cases_of_each_kind_with_names_of_their_own():
    for kind, cases in KINDS.items():
        assert len(cases) >= 20, kind
        assert len({case.name for case in cases}) == len(cases), kind


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_of_hostile_requests(target, kind):
    assert play(target, KINDS[kind]) == {}
    target.is_well()


def test_one_bucket_whatever_is_forwarded(target):
    before = len(target.books.reservations)
    assert play(target, KINDS["spoofed forwarding"]) == {}
    spent = target.books.reservations[before:]
    assert len(spent) == len(KINDS["spoofed forwarding"])
    assert {limit.account for made in spent for limit in made.limits} == {CLIENT}
