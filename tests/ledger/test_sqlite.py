"""What only SQLiteLedger has: a file, a thread, other processes."""
# ruff: noqa: ASYNC240  # nobody else runs on these loops

import gc
import json
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from chatnest.errors import ConfigurationError, LedgerUnavailable
from chatnest.ledger import sqlite
from chatnest.ledger._sqlite_file import BookFile
from chatnest.ledger.base import Admitted, Charge, Ledger, Settlement, wall_clock
from chatnest.ledger.sqlite import SQLiteLedger
from tests.ledger import worker
from tests.ledger.support import (
    DAY,
    HOUR,
    MINUTE,
    NOON,
    SECOND,
    Clock,
    admit,
    balance,
    budget,
    rate,
    refuse,
    streams,
    wish,
)

pytestmark = pytest.mark.anyio

SECONDS = 30
"""A bound on anything that should take milliseconds."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
async def books(path: Path, clock: Clock):
    ledger = SQLiteLedger(path, clock=clock, synchronous="NORMAL")
    yield ledger
    await ledger.aclose()


def rows(path: Path, query: str) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(query)]


class Pause:
    """Keeps the writer thread from its queue."""

    def __init__(self, ledger: SQLiteLedger) -> None:
        self._ledger = ledger
        self._reached, self._go_on = threading.Event(), threading.Event()

    def _stand_still(self, _: object) -> None:
        self._reached.set()
        assert self._go_on.wait(SECONDS)

    async def run(self) -> None:
        await self._ledger._run(self._stand_still)

    async def reached(self) -> None:
        assert await anyio.to_thread.run_sync(self._reached.wait, SECONDS)

    def end(self) -> None:
        self._go_on.set()


@contextmanager
def write_lock(path: Path) -> Iterator[None]:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


# ---------------------------------------------------------------- the file


async def test_figures_survive_a_restart_and_leases_end(path: Path, clock: Clock):
    limits = (budget(1_000), streams(2), rate(5))
    before = SQLiteLedger(path, clock=clock)
    done = (await admit(before, wish(*limits, tokens=400))).hold
    await before.settle(done, Charge(tokens=300))
    left = (await admit(before, wish(*limits, tokens=400))).hold
    states = await before.usage(limits)
    await before.aclose()

    after = SQLiteLedger(path, clock=clock)
    assert await after.usage(limits) == states
    assert await after.settle(done, Charge(tokens=1)) == Settlement(tokens=300, first=False)
    clock.now += 30 * SECOND
    assert await balance(after, limits[0]) == (700, 0)
    assert await balance(after, limits[1]) == (0, 0)
    await after.settle(left, Charge(tokens=50))
    assert await balance(after, limits[0]) == (350, 0)
    await after.aclose()


async def test_nothing_is_opened_before_it_is_needed(path: Path):
    ledger = SQLiteLedger(path)
    await ledger.aclose()

    assert not path.exists()
    assert repr(ledger) == f"SQLiteLedger({str(path)!r})"


@pytest.mark.parametrize("synchronous", ["FULL", "NORMAL"])
async def test_it_writes_ahead_and_is_synced_as_asked(path: Path, synchronous: Any):
    ledger = SQLiteLedger(path, synchronous=synchronous)
    found = await ledger._run(
        lambda books: [
            books._execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous")
        ]
    )
    assert found == ["wal", {"FULL": 2, "NORMAL": 1}[synchronous]]
    await ledger.aclose()
    assert not path.with_name("ledger.db-wal").exists()  # checkpointed


async def test_a_missing_directory_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    ledger = SQLiteLedger("nowhere/ledger.db")

    for operation in (ledger.check(), ledger.reserve(wish(budget(1)))):
        with pytest.raises(ConfigurationError, match=r"'nowhere/ledger\.db'.*does not exist"):
            await operation
    await ledger.aclose()


async def test_a_directory_is_not_a_file(tmp_path: Path):
    ledger = SQLiteLedger(tmp_path)
    with pytest.raises(ConfigurationError, match="may not read and write"):
        await ledger.check()
    await ledger.aclose()


async def test_what_is_no_database_is_left_alone(path: Path):
    path.write_bytes(b"my diary, " * 1_000)
    ledger = SQLiteLedger(path)

    with pytest.raises(ConfigurationError, match="no SQLite database"):
        await ledger.check()
    await ledger.aclose()
    assert path.read_bytes() == b"my diary, " * 1_000


@pytest.mark.parametrize("made", ["CREATE TABLE diary (text)", "PRAGMA user_version = 7"])
async def test_a_database_of_another_program_is_left_alone(path: Path, made: str):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(made)
    ledger = SQLiteLedger(path)

    with pytest.raises(ConfigurationError, match="belongs to another program"):
        await ledger.check()
    await ledger.aclose()


async def test_a_newer_schema_is_refused(path: Path, books: SQLiteLedger):
    await books.check()
    await books.aclose()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 2")

    with pytest.raises(ConfigurationError, match=r"newer chatnest \(schema 2"):
        await books.check()


@pytest.mark.parametrize("arguments", [{"path": ""}, {"path": ":memory:"}, {"synchronous": "OFF"}])
async def test_what_makes_no_sense_is_refused_at_once(path: Path, arguments: dict[str, Any]):
    with pytest.raises(ConfigurationError):
        SQLiteLedger(**{"path": path, **arguments})


@pytest.mark.parametrize(
    ("version", "safe"),
    [
        ((3, 40, 1), False),
        ((3, 44, 5), False),
        ((3, 44, 6), True),
        ((3, 45, 0), False),
        ((3, 50, 6), False),
        ((3, 50, 7), True),
        ((3, 51, 2), False),
        ((3, 51, 3), True),
        ((3, 52, 0), True),
    ],
)
async def test_versions_that_can_corrupt_a_shared_file_are_known(
    version: tuple[int, ...], safe: bool
):
    assert sqlite._wal_is_safe(version) is safe
    assert SQLiteLedger.wal_is_safe is sqlite._wal_is_safe(sqlite3.sqlite_version_info)


# ---------------------------------------------------------------- what the file enforces


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE counters SET held = -1",
        "UPDATE counters SET settled = -1",
        "UPDATE counters SET settled = settled - 1",
        "UPDATE counters SET expired = -1",
        "UPDATE counters SET expired = settled + 1",
        "UPDATE counters SET overrun = settled + 1",
        "UPDATE counters SET overrun = overrun - 1",
        "INSERT INTO counters VALUES ('k', -1, 0, 0, 0, 0)",
        "INSERT INTO counters VALUES (NULL, 0, 0, 0, 0, 0)",
        "INSERT INTO counters VALUES ('k', 'many', 0, 0, 0, 0)",
        "UPDATE holds SET state = 4",
        "UPDATE holds SET charged = -1 WHERE state = 1",
        "UPDATE holds SET charged = 1 WHERE state = 0",
        "UPDATE holds SET charged = 1 WHERE state = 3",
        "UPDATE holds SET state = 0 WHERE state = 1",
        "UPDATE holds SET state = 2, charged = 0 WHERE state = 1",
        "UPDATE holds SET state = 1 WHERE state = 2",
        "UPDATE holds SET state = 0, charged = 0 WHERE state = 3",
        "UPDATE turns SET tokens = -1",
    ],
)
async def test_the_file_refuses_figures_that_cannot_be(
    path: Path, clock: Clock, books: SQLiteLedger, statement: str
):
    limit = budget(1_000)
    released = wish(limit)
    await admit(books, released)
    await books.release(released)
    hold = (await admit(books, wish(limit))).hold
    await books.settle(hold, Charge(tokens=130))
    await admit(books, wish(limit))
    clock.now += MINUTE
    await admit(books, wish(limit))
    await books.aclose()

    with closing(sqlite3.connect(path)) as connection, pytest.raises(sqlite3.IntegrityError):
        connection.execute(statement)


async def test_turns_are_kept_and_nothing_that_was_said(
    path: Path, clock: Clock, books: SQLiteLedger
):
    limit = budget(1_000)
    done = (await admit(books, wish(limit, hold_id="done"))).hold
    await admit(books, wish(limit, hold_id="silent"))
    late = (await admit(books, wish(limit, hold_id="late"))).hold
    lost = wish(limit, hold_id="lost")
    await admit(books, lost)
    clock.now += SECOND
    charge = Charge(
        tokens=70,
        input_tokens=20,
        output_tokens=50,
        source="provider",
        outcome="done",
        principal="ann",
        profile="balanced",
        model="gpt-4o-mini",
    )
    for _ in range(3):
        await books.settle(done, charge)
    clock.now += MINUTE
    await books.check()
    await books.usage((limit,))
    assert [(row["hold"], row["outcome"]) for row in rows(path, "SELECT * FROM turns")] == [
        ("done", "done"),
        ("silent", "expired"),
        ("late", "expired"),
        ("lost", "expired"),
    ]
    await books.settle(late, Charge(tokens=30, outcome="cancelled"))
    await books.release(lost)
    forgotten = late.__class__(id="forgotten", tokens=60, lines=late.lines)
    await books.settle(forgotten, Charge(tokens=9))

    turns = {row["hold"]: row for row in rows(path, "SELECT * FROM turns")}
    assert turns["done"] == {
        "hold": "done",
        "admitted_at": NOON,
        "settled_at": NOON + SECOND,
        "held": 100,
        "tokens": 70,
        "input_tokens": 20,
        "output_tokens": 50,
        "source": "provider",
        "outcome": "done",
        "principal": "ann",
        "profile": "balanced",
        "model": "gpt-4o-mini",
    }
    assert {hold: (row["outcome"], row["tokens"]) for hold, row in turns.items()} == {
        "done": ("done", 70),
        "silent": ("expired", 100),
        "late": ("cancelled", 30),
        "forgotten": ("done", 9),
    }
    assert turns["silent"]["source"] == "estimated"
    assert turns["late"]["admitted_at"] == NOON
    assert turns["forgotten"]["admitted_at"] is None
    (counter,) = rows(path, "SELECT * FROM counters")
    assert sum(row["tokens"] for row in turns.values()) == counter["settled"]


async def test_what_is_old_is_forgotten_and_what_is_live_is_not(path: Path, clock: Clock):
    limits = (budget(1_000), streams(9), rate(9))
    ledger = SQLiteLedger(path, clock=clock, synchronous="NORMAL", keep_days=2)
    for _ in range(3):
        hold = (await admit(ledger, wish(*limits))).hold
        await ledger.settle(hold, Charge(tokens=10))
    await admit(ledger, wish(*limits, hold_id="live", lease=9 * DAY))
    await ledger.aclose()
    tables = ("counters", "windows", "holds", "turns")
    assert [len(rows(path, f"SELECT * FROM {table}")) for table in tables] == [2, 1, 4, 3]

    clock.now += 2 * DAY
    await ledger.check()
    await ledger.aclose()
    assert [len(rows(path, f"SELECT * FROM {table}")) for table in tables] == [2, 1, 4, 3]
    clock.now += HOUR
    await ledger.check()
    await ledger.aclose()  # it forgets after it has answered, and ends after that
    assert [len(rows(path, f"SELECT * FROM {table}")) for table in tables] == [2, 0, 1, 0]
    assert await balance(ledger, limits[1]) == (0, 1)
    await ledger.aclose()


async def test_a_fault_while_forgetting_harms_nobody(
    books: SQLiteLedger, monkeypatch: pytest.MonkeyPatch
):
    def prune(_: BookFile) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(BookFile, "prune", prune)
    await books.check()
    await books.check()


# ---------------------------------------------------------------- one thread, one commit


async def test_of_200_at_once_exactly_as_many_as_fit(ledger: Ledger):
    limit = budget(1_000)
    answers = []

    async def one() -> None:
        answers.append(await ledger.reserve(wish(limit)))

    async with anyio.create_task_group() as tasks:
        for _ in range(200):
            tasks.start_soon(one)

    assert sum(isinstance(answer, Admitted) for answer in answers) == 10
    assert await balance(ledger, limit) == (0, 1_000)


async def test_what_waits_shares_a_commit(books: SQLiteLedger, monkeypatch: pytest.MonkeyPatch):
    sizes = []
    transact = BookFile.transact

    def counted(file: BookFile, operations: Any) -> list[object]:
        sizes.append(len(operations))
        return transact(file, operations)

    monkeypatch.setattr(BookFile, "transact", counted)
    pause = Pause(books)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pause.run)
        await pause.reached()
        for _ in range(200):
            tasks.start_soon(admit, books, wish(budget(20_000)))
        await anyio.wait_all_tasks_blocked()
        pause.end()

    assert sizes == [1, 128, 72]
    assert await balance(books, budget(20_000)) == (0, 20_000)


async def test_only_the_culprit_fails(books: SQLiteLedger):
    limit = budget(1_000)
    hold = (await admit(books, wish(limit, hold_id="h"))).hold
    failures = []

    async def culprit(operation: Callable[..., Awaitable[object]], *arguments: object) -> None:
        with pytest.raises((UnicodeEncodeError, sqlite3.IntegrityError, OverflowError)) as caught:
            await operation(*arguments)
        failures.append(caught.type)

    pause = Pause(books)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pause.run)
        await pause.reached()
        tasks.start_soon(admit, books, wish(limit))
        tasks.start_soon(culprit, books.reserve, wish(budget(10**6, account="\ud800")))
        tasks.start_soon(culprit, books.settle, hold, Charge(tokens=-5))
        tasks.start_soon(culprit, books.settle, hold, Charge(tokens=10**30))
        tasks.start_soon(admit, books, wish(limit))
        await anyio.wait_all_tasks_blocked()
        pause.end()

    assert len(failures) == 3
    assert await balance(books, limit) == (0, 300)
    await books.settle(hold, Charge(tokens=5))
    assert await balance(books, limit) == (5, 200)


async def test_who_stopped_waiting_is_no_error(books: SQLiteLedger):
    limit = budget(1_000)
    pause = Pause(books)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pause.run)
        await pause.reached()
        async with anyio.create_task_group() as impatient:
            impatient.start_soon(books.reserve, wish(limit))
            await anyio.wait_all_tasks_blocked()
            impatient.cancel_scope.cancel()
        pause.end()

    assert await balance(books, limit) == (0, 100)


async def test_a_loop_that_is_closed_is_no_error(books: SQLiteLedger, anyio_backend: str):
    limit = budget(1_000)
    pause = Pause(books)

    async def leave_in_the_middle() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(books.reserve, wish(limit))
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pause.run)
        await pause.reached()
        await anyio.to_thread.run_sync(
            lambda: anyio.run(leave_in_the_middle, backend=anyio_backend)
        )
        pause.end()

    with anyio.fail_after(SECONDS):  # the writer thread lives
        assert await balance(books, limit) == (0, 100)


async def test_several_loops_of_both_kinds_share_a_ledger(books: SQLiteLedger):
    limit = budget(5_000)

    async def many() -> None:
        async def one() -> None:
            admitted = await admit(books, wish(limit, tokens=50))
            await books.settle(admitted.hold, Charge(tokens=50))

        async with anyio.create_task_group() as tasks:
            for _ in range(25):
                tasks.start_soon(one)

    async def elsewhere(backend: str) -> None:
        await anyio.to_thread.run_sync(lambda: anyio.run(many, backend=backend))

    async with anyio.create_task_group() as tasks:
        for backend in ("asyncio", "trio", "asyncio", "trio"):
            tasks.start_soon(elsewhere, backend)

    assert await balance(books, limit) == (5_000, 0)


async def test_closing_finishes_what_waits(books: SQLiteLedger):
    limit = budget(1_000)
    pause = Pause(books)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pause.run)
        await pause.reached()
        for _ in range(5):
            tasks.start_soon(admit, books, wish(limit))
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(books.aclose)
        pause.end()

    assert await balance(books, limit) == (0, 500)


async def test_closing_is_shielded(books: SQLiteLedger):
    await books.check()
    writer = books._writer
    assert writer is not None
    with anyio.CancelScope() as scope:
        scope.cancel()
        await books.aclose()

    assert not writer.thread.is_alive()


async def test_a_ledger_that_nobody_closed_takes_its_thread_along(path: Path):
    ledger = SQLiteLedger(path)
    await ledger.check()
    assert ledger._writer is not None
    thread = ledger._writer.thread

    del ledger
    gc.collect()

    await anyio.to_thread.run_sync(thread.join, SECONDS)
    assert not thread.is_alive()


# ---------------------------------------------------------------- a file that fails


async def test_a_locked_file_is_unavailable_and_comes_back(path: Path, clock: Clock):
    limit = budget(1_000)
    ledger = SQLiteLedger(path, clock=clock, busy_timeout=0.05)
    await ledger.check()
    failures = []

    async def one() -> None:
        with pytest.raises(LedgerUnavailable) as caught:
            await ledger.reserve(wish(limit))
        failures.append(caught.value.__cause__)

    with write_lock(path), anyio.fail_after(SECONDS):
        async with anyio.create_task_group() as tasks:
            for _ in range(300):
                tasks.start_soon(one)
        with pytest.raises(LedgerUnavailable):
            await ledger.check()

    assert len(failures) == 300
    assert all(isinstance(failure, sqlite3.OperationalError) for failure in failures)
    await ledger.check()
    assert await balance(ledger, limit) == (0, 0)
    await ledger.aclose()


async def test_who_waits_behind_a_lock_waits_once(
    books: SQLiteLedger, monkeypatch: pytest.MonkeyPatch
):
    reached, go_on = threading.Event(), threading.Event()
    attempts = []

    def locked(_: BookFile, operations: Any) -> list[object]:
        attempts.append(len(operations))
        reached.set()
        assert go_on.wait(SECONDS)
        raise sqlite3.OperationalError("database is locked")

    async def one() -> None:
        with pytest.raises(LedgerUnavailable):
            await books.check()

    monkeypatch.setattr(BookFile, "transact", locked)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one)
        assert await anyio.to_thread.run_sync(reached.wait, SECONDS)
        for _ in range(200):
            tasks.start_soon(one)
        await anyio.wait_all_tasks_blocked()
        go_on.set()

    assert attempts == [1]


async def test_a_new_file_locked_by_another_process_is_unavailable(path: Path):
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA journal_mode = DELETE")
    ledger = SQLiteLedger(path, busy_timeout=0.02)

    with write_lock(path), pytest.raises(LedgerUnavailable):
        await ledger.check()
    await ledger.check()
    await ledger.aclose()


async def test_a_lock_that_goes_in_time_is_waited_for(path: Path, monkeypatch: pytest.MonkeyPatch):
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:

        def let_go(_: float) -> None:
            if other.in_transaction:
                other.execute("ROLLBACK")

        other.execute("BEGIN IMMEDIATE")
        monkeypatch.setattr("time.sleep", let_go)
        ledger = SQLiteLedger(path, busy_timeout=SECONDS)
        await ledger.check()
        await ledger.aclose()


def test_two_that_create_the_file_at_once_agree(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
):
    def book_file() -> BookFile:
        return BookFile(str(path), clock=clock, synchronous="NORMAL", busy_timeout=0.1, keep_days=1)

    slow, fast = book_file(), book_file()
    is_prepared = BookFile._is_prepared

    def overtaken(file: BookFile, connection: sqlite3.Connection) -> bool:
        answer = is_prepared(file, connection)
        monkeypatch.undo()
        fast.transact([])
        return answer

    monkeypatch.setattr(BookFile, "_is_prepared", overtaken)
    slow.transact([])
    slow.close()
    fast.close()


async def test_a_file_that_was_there_and_went_is_no_fault_of_configuration(tmp_path: Path):
    folder, elsewhere = tmp_path / "here", tmp_path / "there"
    folder.mkdir()
    ledger = SQLiteLedger(folder / "ledger.db", busy_timeout=0.02)
    await ledger.check()
    with write_lock(folder / "ledger.db"), pytest.raises(LedgerUnavailable):
        await ledger.check()  # it will open the file anew
    folder.rename(elsewhere)

    with pytest.raises(LedgerUnavailable):
        await ledger.check()
    elsewhere.rename(folder)
    await ledger.check()
    await ledger.aclose()


async def test_a_damaged_file_is_unavailable(path: Path, books: SQLiteLedger):
    for number in range(40):
        await admit(books, wish(budget(100, account=f"user-{number}" * 20)))
    await books.aclose()
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + b"\xa5" * (len(whole) - 4096))

    with pytest.raises(LedgerUnavailable) as caught:
        await books.usage((budget(100),))
    assert isinstance(caught.value.__cause__, sqlite3.DatabaseError)

    path.write_bytes(whole)
    assert await balance(books, budget(100, account="user-1" * 20)) == (0, 100)


@pytest.mark.parametrize("statement", ["COMMIT", "BEGIN IMMEDIATE"])
async def test_a_full_disk_is_unavailable_and_comes_back(
    books: SQLiteLedger, monkeypatch: pytest.MonkeyPatch, statement: str
):
    limit = budget(1_000)
    await books.check()
    full = threading.Event()

    class Connection(sqlite3.Connection):
        def execute(self, sql: str, *arguments: Any) -> sqlite3.Cursor:
            if full.is_set() and sql == statement:
                raise sqlite3.OperationalError("database or disk is full")
            return super().execute(sql, *arguments)

    connect = sqlite3.connect
    monkeypatch.setattr(
        sqlite3, "connect", lambda *args, **settings: connect(*args, factory=Connection, **settings)
    )
    await books.aclose()
    await books.check()
    full.set()
    with pytest.raises(LedgerUnavailable):
        await books.reserve(wish(limit))
    full.clear()

    assert await balance(books, limit) == (0, 0)
    await admit(books, wish(limit))


# ---------------------------------------------------------------- other processes


def start(mode: str, path: Path, *arguments: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, worker.__file__, mode, str(path), *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
    )


def finish(process: "subprocess.Popen[str]") -> dict[str, int]:
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    told: dict[str, int] = json.loads(output)
    return told


def figures(path: Path) -> tuple[int, int]:
    (sums,) = rows(path, "SELECT sum(settled) AS settled, sum(held) AS held FROM counters")
    return sums["settled"], sums["held"]


def test_four_processes_never_hold_more_than_there_is(path: Path):
    processes = [start("hold", path, 30) for _ in range(4)]

    admitted = sum(finish(process)["admitted"] for process in processes)

    assert admitted == worker.BUDGET.limit // worker.HELD
    assert figures(path) == (0, admitted * worker.HELD)


def test_four_processes_settle_to_the_last_token(path: Path):
    processes = [start("settle", path, 40) for _ in range(4)]

    admitted = sum(finish(process)["admitted"] for process in processes)

    assert figures(path) == (admitted * worker.COST, 0)
    assert admitted * worker.COST <= worker.BUDGET.limit
    # It stopped only where one more would not have fitted beside what was held by others.
    assert rows(path, "PRAGMA integrity_check") == [{"integrity_check": "ok"}]
    assert len(rows(path, "SELECT * FROM turns")) == admitted


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
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
    told = finish(start("fork", path))

    assert told == {"child": 0}
    assert figures(path) == (0, 4 * worker.HELD)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_refusal_tells_the_same_after_a_restart(path: Path, clock: Clock):
    limit = rate(1, window=10)
    for _ in range(2):
        ledger = SQLiteLedger(path, clock=clock, synchronous="NORMAL")
        first = not path.exists()
        if first:
            await admit(ledger, wish(limit))
        assert (await refuse(ledger, wish(limit))).retry_after == 10 * SECOND
        await ledger.aclose()
