"""Promise A, at the door: 500 at once against a budget for 37, over four worker processes."""

from collections import Counter
from collections.abc import Callable
from functools import partial

import pytest

from chatnest.testing import Answer, FakeUpstream
from tests.fire.app import HOLD
from tests.fire.support import Books, limits, send, serving
from tests.servers.support import Client
from tests.soak import amount
from tests.waiting import wait_for

REQUESTS, FIT = 500, 37


def come_again(port: int, user: str, clients: list[Client], statuses: Counter[int]) -> bool:
    """One more, unless as many are in as fit."""
    if statuses[200] < FIT:
        clients.append(send(port, user))
        statuses[clients[-1].reply().status] += 1
    return statuses[200] >= FIT


@pytest.mark.soak
def test_exactly_as_many_get_in_as_fit(
    tmp_path, upstream: FakeUpstream, where: str, record_property: Callable[[str, object], None]
):
    upstream.default = Answer.stall(0)  # nobody ends before everybody has asked
    seen: Counter[tuple[int, ...]] = Counter()
    rounds = amount(2, 100)
    budget = {"FIRE_BUDGET": str(FIT * HOLD)}
    with serving(tmp_path, upstream.base_url, where, "--workers", "4", **budget) as port:
        for number in range(rounds):
            user = f"user{number}"
            clients = [send(port, user) for _ in range(REQUESTS)]
            statuses = Counter(client.reply().status for client in clients)
            assert set(statuses) <= {200, 429, 503}, statuses
            if statuses[503]:
                # The ledger had not answered in time, on a machine that has more to do. Nobody got
                # in by that, and who comes after does.
                wait_for(partial(come_again, port, user, clients, statuses))
            seen[statuses[200], limits(port, user)["held"]] += 1
            for client in clients:
                client.socket.close()

    record_property("soak", f"{where.partition(':')[0]}: {dict(seen)} of {rounds} rounds")
    assert seen == {(FIT, FIT * HOLD): rounds}
    assert Books(where).verdict().drifts == ()
