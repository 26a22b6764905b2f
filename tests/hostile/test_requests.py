"""Whatever a client sends is answered by a 4xx that is small and says nothing of it, or served."""

from collections.abc import Iterator
from typing import Any

import pytest

from chatnest.server.protocol import BoundedProtocol
from chatnest.testing import FakeUpstream
from tests.hostile.cases import KINDS
from tests.hostile.support import SLOW_BODY, Target, play, under_attack
from tests.streams.support import CLIENT

SLOWLY = "trickled and abandoned"
PROTOCOLS = {"h11": "h11", "httptools": "httptools", "serve": BoundedProtocol}


@pytest.fixture(scope="module", params=PROTOCOLS)
def protocol(request: pytest.FixtureRequest) -> Any:
    return PROTOCOLS[request.param]


@pytest.fixture(scope="module")
def target(protocol: Any) -> Iterator[Target]:
    with FakeUpstream() as upstream, under_attack(upstream, http=protocol) as target:
        yield target


@pytest.fixture(scope="module")
def impatient(protocol: Any) -> Iterator[Target]:
    """One that waits for no body for long."""
    options = {"body_seconds": SLOW_BODY, "http": protocol}
    with FakeUpstream() as upstream, under_attack(upstream, **options) as target:
        yield target


def test_there_are_twenty_cases_of_each_kind_with_names_of_their_own():
    for kind, cases in KINDS.items():
        assert len(cases) >= 20, kind
        assert len({case.name for case in cases}) == len(cases), kind


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_of_hostile_requests(target, impatient, kind):
    target = impatient if kind == SLOWLY else target
    assert play(target, KINDS[kind]) == {}
    target.is_well()


def test_one_bucket_whatever_is_forwarded(target):
    before = len(target.books.reservations)
    assert play(target, KINDS["spoofed forwarding"]) == {}
    spent = target.books.reservations[before:]
    assert len(spent) == len(KINDS["spoofed forwarding"])
    assert {limit.account for made in spent for limit in made.limits} == {CLIENT, "addr:all"}
