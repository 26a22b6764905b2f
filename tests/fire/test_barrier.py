"""Promise A, at the door: 500 at once against a budget for 37, over four worker processes."""

from collections import Counter
from collections.abc import Callable

import pytest

from chatnest.testing import Answer, FakeUpstream
from tests.fire.app import HOLD
from tests.fire.support import Books, limits, send, serving
from tests.support.soak import amount

REQUESTS, FIT = 500, 37


@pytest.mark.soak
def test_exactly_as_many_get_in_as_fit(
    tmp_path, upstream: FakeUpstream, where: str, record_property: Callable[[str, object], None]
):
    upstream.default = Answer.stall(0)  # nobody ends before everybody has asked
    seen: Counter[tuple[int, ...]] = Counter()
    rounds = amount(1, 100)
    budget = {"FIRE_BUDGET": str(FIT * HOLD)}
    with serving(tmp_path, upstream.base_url, where, "--workers", "4", **budget) as port:
        for number in range(rounds):
            user = f"user{number}"
            clients = [send(port, user) for _ in range(REQUESTS)]
            statuses = Counter(client.reply().status for client in clients)
            assert set(statuses) == {200, 429}, statuses
            seen[statuses[200], limits(port, user)["held"]] += 1
            for client in clients:
                client.socket.close()

    record_property("soak", f"{where.partition(':')[0]}: {dict(seen)} of {rounds} rounds")
    assert seen == {(FIT, FIT * HOLD): rounds}
    assert Books(where).verdict().drifts == ()
