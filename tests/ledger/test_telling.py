"""Telling: each warning is told at least once, also by workers other than the one it is from."""

import logging
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from chatnest.alerts import BudgetWarning, deliveries
from chatnest.alerts.deliveries import Deliveries
from chatnest.alerts.warning import warning_of
from chatnest.errors import ConfigurationError, LedgerUnavailable
from chatnest.ledger.base import Ledger, wall_clock
from chatnest.ledger.memory import MemoryLedger
from chatnest.ledger.redis import RedisLedger
from chatnest.ledger.sqlite import SQLiteLedger
from chatnest.ledger.watch import Crossing
from tests.ledger import teller_worker
from tests.ledger.support import DAY, SECOND, Clock
from tests.ledger.test_warnings import spend, watched
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.anyio


class Hook:
    """Raises for the first calls, and then notes the warnings."""

    def __init__(self, failures: int = 0, expected: int = 1) -> None:
        self.calls = 0
        self.told: list[BudgetWarning] = []
        self.done = anyio.Event()
        self._failures = failures
        self._expected = expected

    async def __call__(self, warning: BudgetWarning) -> None:
        self.calls += 1
        if self.calls <= self._failures:
            raise OSError("not yet")
        self.told.append(warning)
        if len(self.told) >= self._expected:
            self.done.set()


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_TICK_SECONDS", "_PAUSE_SECONDS", "_SWEEP_SECONDS"):
        monkeypatch.setattr(deliveries, name, 0.001)


async def tend(ledger: Ledger, hook: Hook, *, noted: Callable[[], bool] | None = None) -> None:
    """Tell until the hook has what it expects, and that is noted."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(Deliveries(ledger, hook, currency="EUR").tend)
        with anyio.fail_after(PATIENCE):
            await hook.done.wait()
            while noted is not None and not noted():  # noqa: ASYNC110  # another task's books
                await anyio.sleep(0.001)
        tasks.cancel_scope.cancel()


async def test_a_hook_that_fails_is_called_again_within_seconds(clock: Clock, caplog: Any):
    ledger, hook = MemoryLedger(clock=clock), Hook(failures=2)
    caplog.set_level(logging.WARNING, "chatnest.alerts")
    await spend(ledger, 900, watched(1_000, 500, account="group:team:acme"))
    crossings = ledger._books.crossings
    await tend(ledger, hook, noted=lambda: crossings.all()[0].state == "delivered")

    (warning,) = hook.told
    assert hook.calls == 3
    assert (warning.kind, warning.name, warning.threshold) == ("team", "acme", 0.5)
    assert (warning.used, warning.amount, warning.currency) == (900, 1_000, "")
    (line,) = [record.message for record in caplog.records]
    assert line == (
        "budget warning: limit=tokens account=team:acme window=2026-06-01 threshold=0.5 used=900 "
        f"of=1000 unit=tokens id={warning.id}"
    )


async def test_a_hook_that_fails_for_long_is_called_again_later(clock: Clock, caplog: Any):
    ledger, hook = MemoryLedger(clock=clock), Hook(failures=3)
    await spend(ledger, 900, watched(1_000, 500))
    sweep = Deliveries(ledger, hook)._sweep
    await sweep(ledger)
    await sweep(ledger)
    assert hook.calls == 3  # the second sweep is too early
    clock.now += 30 * SECOND
    await sweep(ledger)
    assert (hook.calls, len(hook.told)) == (4, 1)
    lines = [record.message for record in caplog.records if "limit=" in record.message]
    assert len(lines) == 1


async def test_a_warning_that_nobody_takes_is_dropped_after_days(clock: Clock, caplog: Any):
    ledger, hook = MemoryLedger(clock=clock), Hook(failures=1_000)
    await spend(ledger, 900, watched(1_000, 500))
    clock.now += 3 * DAY + 1
    await Deliveries(ledger, hook)._sweep(ledger)
    assert ledger._books.crossings.all()[0].state == "dropped"
    assert "budget warning dropped" in caplog.text


async def test_a_slow_hook_is_given_up(clock: Clock, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(deliveries, "_ATTEMPT_SECONDS", 0.01)
    ledger, calls = MemoryLedger(clock=clock), []

    async def hang(warning: BudgetWarning) -> None:
        calls.append(warning)
        await anyio.sleep_forever()

    await spend(ledger, 900, watched(1_000, 500))
    with anyio.fail_after(PATIENCE):
        await Deliveries(ledger, hang)._sweep(ledger)
    assert len(calls) == 3
    assert ledger._books.crossings.all()[0].state == "pending"


async def test_a_ledger_that_is_away_ends_a_sweep_and_not_the_task():
    class Away(MemoryLedger):
        async def next_crossing(self) -> Crossing | None:
            raise LedgerUnavailable

    ledger = Away()
    await Deliveries(ledger, Hook())._sweep(ledger)


def test_a_hook_needs_a_ledger_that_keeps_warnings():
    class Plain:
        pass

    with pytest.raises(ConfigurationError, match="expected a ledger that keeps warnings"):
        Deliveries(Plain(), Hook())  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="on_warning: expected an async function, got int"):
        Deliveries(MemoryLedger(), 3)  # type: ignore[arg-type]


def test_the_names_of_accounts_are_parted():
    crossing = Crossing(
        limit="m", account="", window="2026-06", threshold=1, unit="money", used=1, amount=2, at=3
    )
    found = []
    for account in ("everybody", "group:team:a:b", "user:ann"):
        warning = warning_of(Crossing(**{**_fields(crossing), "account": account}), "EUR")
        found.append((warning.kind, warning.name, warning.currency))
    assert found == [
        ("global", "", "EUR"),
        ("team", "a:b", "EUR"),
        ("principal", "user:ann", "EUR"),
    ]


def _fields(crossing: Crossing) -> dict[str, Any]:
    return {name: getattr(crossing, name) for name in crossing.__struct_fields__}


@pytest.mark.process
@pytest.mark.parametrize("when", ["before", "within", "after"])
@pytest.mark.parametrize("ledger", ["sqlite", "redis"])
async def test_a_killed_worker_leaves_its_warnings_to_others(
    ledger: str, when: str, path: Path, request: pytest.FixtureRequest
):
    where = str(path)
    if ledger == "redis":
        server = request.getfixturevalue("redis_server")
        where = f"redis://{server.address}/{['before', 'within', 'after'].index(when) + 3}"
    command = [sys.executable, teller_worker.__file__, where, when]
    process = await anyio.to_thread.run_sync(
        lambda: subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    )
    assert process.returncode == -signal.SIGKILL, process.stderr

    def later() -> int:
        return wall_clock() + 31 * SECOND

    books: Any = (
        RedisLedger(where, clock=later, timeout=10)
        if ledger == "redis"
        else SQLiteLedger(where, clock=later)
    )
    rows = await books.audit().warnings()
    assert [(row.threshold, row.state) for row in rows] == [(500, "pending"), (800, "pending")]
    hook = Hook(expected=2)
    await tend(books, hook)
    told = [warning.id for warning in hook.told]
    assert len(set(told)) == 2
    assert set(process.stdout.split()) <= set(told)
    assert bool(process.stdout) == (when == "after")
    rows = await books.audit().warnings()
    assert "delivered" in {row.state for row in rows}
    await books.aclose()
