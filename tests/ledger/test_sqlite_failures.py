"""A SQLiteLedger whose file is locked, lost, damaged or full."""
# ruff: noqa: ASYNC240  # nobody else runs on these loops

import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from chatnest.errors import ConfigurationError, LedgerUnavailable
from chatnest.ledger.sqlite import SQLiteLedger
from chatnest.ledger.sqlite import schema as _sqlite_schema
from chatnest.ledger.sqlite.books import RowBooks
from chatnest.ledger.sqlite.file import BookFile
from tests.ledger.sqlite_support import SECONDS, everything_waits, lock_that_goes, write_lock
from tests.ledger.support import (
    Clock,
    admit,
    balance,
    budget,
    wish,
)

pytestmark = pytest.mark.anyio


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


@pytest.fixture
def only_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """As SQLite opens what this user may not write. It gives a write lock of such a file, too."""
    connect: Callable[..., sqlite3.Connection] = sqlite3.connect

    def read_only(path: str, **options: Any) -> sqlite3.Connection:
        return connect(f"file:{path}?mode=ro", uri=True, **options)

    monkeypatch.setattr(sqlite3, "connect", read_only)


async def test_a_file_that_can_only_be_read_is_no_ledger(
    path: Path, books: SQLiteLedger, request: pytest.FixtureRequest
):
    limit = budget(1_000)
    await admit(books, wish(limit))
    await books.aclose()
    request.getfixturevalue("only_read")
    ledger = SQLiteLedger(path)
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="cannot be opened"):
            await ledger.check()
        with pytest.raises(ConfigurationError, match="cannot be opened"):
            await ledger.reserve(wish(limit))
    await ledger.aclose()


def test_a_file_that_can_only_be_read_all_of_a_sudden_is_away(
    path: Path, request: pytest.FixtureRequest
):
    file = BookFile(
        str(path), clock=lambda: 0, synchronous="FULL", busy_timeout=SECONDS, keep_days=1
    )
    file.transact([RowBooks.touch])
    file.close()
    request.getfixturevalue("only_read")
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        file.transact([RowBooks.touch])


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
        await everything_waits()
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
    with lock_that_goes(path, monkeypatch):
        ledger = SQLiteLedger(path, busy_timeout=SECONDS)
        await ledger.check()
        await ledger.aclose()


def test_two_that_create_the_file_at_once_agree(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
):
    slow = BookFile(str(path), clock=clock, synchronous="NORMAL", busy_timeout=0.1, keep_days=1)
    version = _sqlite_schema._version

    def overtaken(connection: sqlite3.Connection, name: str) -> int:
        answer = version(connection, name)
        monkeypatch.undo()
        with closing(sqlite3.connect(path, isolation_level=None)) as fast:
            _sqlite_schema.prepare(fast, name)
        return answer

    monkeypatch.setattr(_sqlite_schema, "_version", overtaken)
    slow.transact([])
    slow.close()


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
