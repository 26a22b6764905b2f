"""PlanLookup: plans by an async function, cached, one look-up at a time, and safe when it fails."""

from enum import StrEnum
from typing import Any

import anyio
import pytest
from anyio import wait_all_tasks_blocked

from chatnest import Identity
from chatnest.identity import plan_lookup
from chatnest.identity.plan_lookup import PlanLookup

pytestmark = pytest.mark.anyio

ANN = Identity("ann")


class Clock:
    """Seconds, which a test moves."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


class Table:
    """A table of plans, as a database has it. ``answers`` are taken one by one, then the last."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, identity: Identity) -> Any:
        self.asked.append(identity.principal)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, anyio.Event):
            await answer.wait()
            return "late"
        if isinstance(answer, BaseException):
            raise answer
        return answer


def lookup(table: Any, clock: Clock | None = None, *, deadline: float = 30.0) -> PlanLookup:
    return PlanLookup(table, seconds=60, deadline=deadline, clock=clock or Clock())


class Name(StrEnum):
    PRO = "pro"


@pytest.mark.parametrize(("answer", "plan"), [("pro", "pro"), (None, None), (Name.PRO, "pro")])
async def test_a_plan_is_looked_up_once_in_its_seconds(answer, plan):
    clock, table = Clock(), Table(answer)
    plans = lookup(table, clock)
    for _ in range(3):
        found = await plans.find(ANN)
        assert (found, type(found)) == (plan, type(plan))
    assert table.asked == ["ann"]
    clock.now += 59.9
    assert plans.is_fresh(ANN)
    clock.now += 0.1
    assert not plans.is_fresh(ANN)
    assert await plans.find(ANN) == plan
    assert table.asked == ["ann", "ann"]


async def test_a_function_need_not_be_async():
    plans = lookup(lambda identity: identity.groups["bought"])
    assert await plans.find(Identity("ann", groups={"bought": "pro"})) == "pro"


async def test_another_plan_counts_after_the_next_look_up():
    clock, table = Clock(), Table("free", "pro", None)
    plans = lookup(table, clock)
    found = []
    for _ in range(3):
        found.append(await plans.find(ANN))
        clock.now += 60
    assert found == ["free", "pro", None]


async def test_principals_and_their_groups_are_looked_up_apart():
    table = Table("pro")
    plans = lookup(table)
    for identity in (
        *(ANN, Identity("bob"), Identity("ann", groups={"team": "a"})),
        *(Identity("ann", groups={"team": "b"}), Identity("ann", groups={"team": "a"})),
    ):
        await plans.find(identity)
    assert table.asked == ["ann", "bob", "ann", "ann"]


async def test_requests_at_the_same_time_share_one_look_up():
    gate = anyio.Event()
    table = Table(gate)
    plans = lookup(table)
    found: list[str | None] = []

    async def ask() -> None:
        found.append(await plans.find(ANN))

    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(ask)
        await wait_all_tasks_blocked()
        assert table.asked == ["ann"]
        tasks.start_soon(plans.find, Identity("bob"))
        await wait_all_tasks_blocked()
        assert table.asked == ["ann", "bob"]  # another principal does not wait for ann's
        gate.set()
    assert found == ["late"] * 20
    assert table.asked == ["ann", "bob"]


async def test_a_look_up_survives_the_request_that_began_it():
    never, gate = anyio.Event(), anyio.Event()
    table = Table(never, gate)
    plans = lookup(table)
    found: list[str | None] = []

    async def ask() -> None:
        found.append(await plans.find(ANN))

    first = anyio.CancelScope()

    async def begin() -> None:
        with first:
            await ask()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(begin)
        await wait_all_tasks_blocked()
        for _ in range(3):
            tasks.start_soon(ask)
        await wait_all_tasks_blocked()
        first.cancel()
        await wait_all_tasks_blocked()
        assert table.asked == ["ann", "ann"]  # one of the three began it again
        gate.set()
    assert found == ["late"] * 3


FAILURES = {
    "an exception": RuntimeError("the database is gone"),
    "a wrong type": 5,
    "bytes": b"pro",
    "a bool": True,
}


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
async def test_a_failure_keeps_the_last_known_plan(failure, caplog):
    clock, table = Clock(), Table("pro", failure)
    plans = lookup(table, clock)
    assert await plans.find(ANN) == "pro"
    for _ in range(5):
        clock.now += 3_600
        assert await plans.find(ANN) == "pro"
    assert len(table.asked) == 6
    assert "plan_of failed: error=" in caplog.text


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
async def test_a_failure_without_a_known_plan_is_no_plan(failure, caplog):
    assert await lookup(Table(failure)).find(ANN) is None
    assert caplog.records[0].exc_info is not None


async def test_a_look_up_that_takes_too_long_keeps_the_last_known_plan(caplog):
    clock, table = Clock(), Table("pro", anyio.Event())
    plans = lookup(table, clock, deadline=0.01)
    assert await plans.find(ANN) == "pro"
    clock.now += 60
    with anyio.fail_after(30):
        assert await plans.find(ANN) == "pro"
        assert await plans.find(Identity("bob")) is None
    assert "plan_of failed: error=TimeoutError" in caplog.text


async def test_after_a_failure_the_next_look_up_is_soon_and_not_at_once():
    clock, table = Clock(), Table(RuntimeError(), "pro")
    plans = lookup(table, clock)
    assert await plans.find(ANN) is None
    clock.now += 4.9
    assert await plans.find(ANN) is None
    assert table.asked == ["ann"]
    clock.now += 0.2
    assert await plans.find(ANN) == "pro"


async def test_failures_are_logged_once_a_minute(caplog):
    clock, table = Clock(), Table(RuntimeError("no"))
    plans = lookup(table, clock)
    for number in range(50):
        await plans.find(Identity(f"user {number}"))
    assert [record.getMessage() for record in caplog.records] == [
        (
            "plan_of failed: error=RuntimeError failures=1. The last known plan counts, or none. "
            "Further failures are not logged for 60 seconds."
        )
    ]
    clock.now += 60
    await plans.find(ANN)
    assert len(caplog.records) == 2
    assert "failures=50" in caplog.records[1].getMessage()


async def test_the_cache_is_bounded_and_drops_the_oldest(monkeypatch):
    monkeypatch.setattr(plan_lookup, "_MOST", 3)
    clock, table = Clock(), Table("pro")
    plans = lookup(table, clock)
    for name in "abcd":
        await plans.find(Identity(name))
        clock.now += 1
    assert len(plans) == 3
    assert [plans.is_fresh(Identity(name)) for name in "abcd"] == [False, True, True, True]
    clock.now += 60
    await plans.find(Identity("b"))  # is looked up again, so c is now the oldest
    await plans.find(Identity("e"))
    assert [plans.cached(Identity(name)) for name in "bcde"] == ["pro", None, "pro", "pro"]


async def test_a_cancelled_look_up_leaves_nothing_behind():
    table = Table(anyio.Event(), "pro")
    plans = lookup(table)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(plans.find, ANN)
        await wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert len(plans) == 0
    with anyio.fail_after(30):
        assert await plans.find(ANN) == "pro"
