"""Promise A, at the door: 500 at once against a budget for 37, over four worker processes. In money
it is the budget of a principal, of its team and of the house at once, or of some of them.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path

import anyio
import pytest

from chatnest.ledger.audit import Adjustment
from chatnest.ledger.days import day_of
from chatnest.testing import Answer, FakeUpstream
from tests.fire.app import HOLD, HOLD_MONEY, open_ledger
from tests.fire.support import Books, limits, send, serving
from tests.support.soak import amount
from tests.support.waiting import wait_for

REQUESTS, FIT = 500, 37

Tell = Callable[[str, object], None]

CROWDS = {
    "own, team and house": ["ann{0}@red{0}"],
    "team and house": ["ann{0}@red{0}", "bob{0}@red{0}", "cid{0}@red{0}"],
    "house": ["ann{0}@red{0}", "bob{0}@blue{0}", "cid{0}@green{0}"],
}
"""The budgets that a crowd exceeds, and its users. Each round has users and teams of its own."""


@contextmanager
def crowd(port: int, *users: str) -> Iterator[int]:
    """Requests at once. Gives the number of those that were admitted, while they run."""
    clients = [send(port, user) for user, _ in zip(cycle(users), range(REQUESTS), strict=False)]
    statuses = Counter(client.reply().status for client in clients)
    assert set(statuses) == {200, 429}, statuses
    yield statuses[200]
    for client in clients:
        client.socket.close()


@pytest.mark.soak
def test_exactly_as_many_get_in_as_fit(
    tmp_path: Path, upstream: FakeUpstream, where: str, record_property: Tell
):
    upstream.default = Answer.stall(0)  # nobody ends before everybody has asked
    seen: Counter[tuple[int, ...]] = Counter()
    rounds = amount(1, 100)
    workers, budget = ("--workers", "4"), str(FIT * HOLD)
    with serving(tmp_path, upstream.base_url, where, *workers, FIRE_BUDGET=budget) as port:
        for number in range(rounds):
            user = f"user{number}"
            with crowd(port, user) as admitted:
                seen[admitted, limits(port, user)["held"]] += 1

    record_property("soak", f"{where.partition(':')[0]}: {dict(seen)} of {rounds} rounds")
    assert seen == {(FIT, FIT * HOLD): rounds}
    assert Books(where).verdict().drifts == ()


@pytest.mark.soak
def test_exactly_as_many_get_in_as_there_is_money_for(
    tmp_path: Path, upstream: FakeUpstream, where: str, record_property: Tell
):
    upstream.default = Answer.stall(0)
    books, budget = Books(where), FIT * HOLD_MONEY
    seen: Counter[tuple[str, int, int]] = Counter()
    rounds = amount(1, 100)
    workers = "--workers", "4"
    with serving(tmp_path, upstream.base_url, where, *workers, money=budget) as port:
        for number, (name, users) in zip(range(rounds), cycle(CROWDS.items()), strict=False):
            named = [user.format(number) for user in users]
            with crowd(port, *named) as admitted:
                over = max(sum(each) - budget for user in named for each in books.money(user))
                seen[name, admitted, over] += 1
            wait_for(lambda: not books.money("nobody")[2][1])  # the house has no hold
            credit_the_house(where, books, number)

    record_property("soak", f"{where.partition(':')[0]}: {dict(seen)} of {rounds} rounds")
    assert {(admitted, over) for _, admitted, over in seen} == {(FIT, 0)}
    assert sum(seen.values()) == rounds
    assert len(upstream.requests) == len(books.turns()) == FIT * rounds
    assert books.verdict().drifts == ()


def credit_the_house(where: str, books: Books, number: int) -> None:
    """Give back what the house was charged, so that its budget is whole for the next round."""
    ((_, _, (used, _)),) = [books.money("nobody")]

    async def credit() -> None:
        ledger = open_ledger(where)
        audit = ledger.audit()  # type: ignore[attr-defined]
        now = await audit.now()
        await audit.adjust(
            Adjustment(
                id=f"round-{number}",
                account="everybody",
                name="house",
                day=day_of(now, "UTC"),
                amount=-used,
                reason="the next round",
            )
        )
        await ledger.aclose()

    anyio.run(credit)
