"""SQLiteLedgers of several processes, some of which are killed."""
# ruff: noqa: ASYNC240  # nobody else runs on these loops

import signal
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from chatnest.ledger.base import wall_clock
from chatnest.ledger.sqlite import SQLiteLedger
from tests.ledger import worker
from tests.ledger.processes import start, told_by
from tests.ledger.sqlite_support import SECONDS, rows
from tests.ledger.support import (
    HOUR,
    MINUTE,
    SECOND,
    Clock,
    admit,
    budget,
    rate,
    refuse,
    wish,
)

pytestmark = [pytest.mark.anyio, pytest.mark.process]


def figures(path: Path) -> tuple[int, int]:
    (sums,) = rows(path, "SELECT sum(settled) AS settled, sum(held) AS held FROM counters")
    return sums["settled"], sums["held"]


def test_four_processes_never_hold_more_than_there_is(path: Path):
    processes = [start("hold", path, 30) for _ in range(4)]

    admitted = sum(told_by(process)["admitted"] for process in processes)

    assert admitted == worker.BUDGET.amount // worker.HELD
    assert figures(path) == (0, admitted * worker.HELD)


def test_four_processes_settle_to_the_last_token(path: Path):
    processes = [start("settle", path, 40) for _ in range(4)]

    admitted = sum(told_by(process)["admitted"] for process in processes)

    assert figures(path) == (admitted * worker.COST, 0)
    assert admitted * worker.COST <= worker.BUDGET.amount
    # It stopped only where one more would not have fitted beside what was held by others.
    assert rows(path, "PRAGMA integrity_check") == [{"integrity_check": "ok"}]
    assert len(rows(path, "SELECT * FROM turns")) == admitted


@pytest.mark.loops("asyncio")
async def test_a_killed_process_leaves_a_hold_that_expires(path: Path):
    clock = Clock(wall_clock())
    ledger = SQLiteLedger(path, clock=clock, synchronous="NORMAL", busy_timeout=SECONDS)

    def kill_it_on_its_way() -> None:
        with start("until-killed", path) as process:
            assert process.stdout is not None
            for _ in range(5):
                process.stdout.readline()
            process.kill()
            assert process.wait(SECONDS) == -signal.SIGKILL

    await anyio.to_thread.run_sync(kill_it_on_its_way)

    clock.now = wall_clock()
    used, held = figures(path)
    assert held >= worker.HELD
    other = (await admit(ledger, wish(budget(1_000)))).hold
    await ledger.renew(other, HOUR)
    clock.now += MINUTE
    await ledger.usage(())
    assert figures(path) == (used + held, 100)
    await ledger.aclose()
    assert rows(path, "PRAGMA integrity_check") == [{"integrity_check": "ok"}]


def test_a_fork_takes_no_open_file_along(path: Path):
    told = told_by(start("fork", path))

    assert told == {"child": 0}
    assert figures(path) == (0, 4 * worker.HELD)


def test_nor_one_that_is_being_closed(path: Path):
    assert told_by(start("fork-while-closing", path)) == {"child": 0, "alive": 0}


@pytest.mark.parametrize("mode", ["fork-meanwhile", "fork-at-first"])
def test_a_fork_ends_whatever_another_thread_was_at(path: Path, mode: str):
    told = told_by(start(mode, path))

    assert told == {"child": 0}
    assert figures(path) == (0, 2 * worker.HELD)


def test_what_is_asked_for_at_the_exit_is_done(path: Path):
    told = told_by(start("at-exit", path))

    assert told == {"at_exit": 1}
    assert figures(path) == (0, 2 * worker.HELD)


@pytest.mark.loops("asyncio")
async def test_a_refusal_tells_the_same_after_a_restart(path: Path, clock: Clock):
    limit = rate(1, window=10)
    for _ in range(2):
        ledger = SQLiteLedger(path, clock=clock, synchronous="NORMAL")
        first = not path.exists()
        if first:
            await admit(ledger, wish(limit))
        assert (await refuse(ledger, wish(limit))).retry_after == 10 * SECOND
        await ledger.aclose()
