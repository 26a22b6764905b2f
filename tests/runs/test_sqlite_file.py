"""The file of a SQLiteRunLog, when several open it at once or it is locked."""

import sqlite3
import threading
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import pytest

from chatnest.errors import LedgerUnavailable
from chatnest.runs.base import Claim
from chatnest.runs.sqlite import SQLiteRunLog
from chatnest.runs.sqlite.file import RunFile
from tests.ledger.sqlite_support import SECONDS, lock_that_goes, write_lock
from tests.support.soak import amount

pytestmark = pytest.mark.anyio

WORKERS = 4


async def begin(log: SQLiteRunLog) -> Claim:
    return await log.claim("k", owner="ann", fingerprint="f", run_id=uuid4().hex, lease=10)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file that is not yet in the mode that several can write in."""
    file = tmp_path / "runs"
    with closing(sqlite3.connect(file)) as other:
        other.execute("PRAGMA journal_mode = DELETE")
    return file


async def test_a_file_of_another_version_begins_anew(path: Path):
    with closing(sqlite3.connect(path)) as former:
        former.executescript(
            "CREATE TABLE runs (id TEXT PRIMARY KEY, owner TEXT, attempt INTEGER NOT NULL);"
            "CREATE TABLE attempts (key TEXT PRIMARY KEY);"
            "INSERT INTO runs VALUES ('a', 'ann', 1);"
        )
    log = SQLiteRunLog(path)
    assert (await begin(log)).mine
    await log.aclose()
    again = SQLiteRunLog(path)
    assert not (await begin(again)).mine  # and a file of this version does not
    await again.aclose()


async def test_a_lock_on_a_new_file_that_goes_in_time_is_waited_for(
    path: Path, monkeypatch: pytest.MonkeyPatch
):
    with lock_that_goes(path, monkeypatch):
        log = SQLiteRunLog(path, busy_timeout=SECONDS)
        assert (await begin(log)).mine
        await log.aclose()


async def test_a_new_file_that_stays_locked_is_unavailable_and_comes_back(path: Path):
    log = SQLiteRunLog(path, busy_timeout=0.02)

    with write_lock(path), pytest.raises(LedgerUnavailable):
        await begin(log)
    assert (await begin(log)).mine
    await log.aclose()


async def test_claims_that_wait_share_a_transaction(tmp_path: Path, monkeypatch):
    transactions: list[bool] = []
    transaction = RunFile.transaction

    def counted(file: RunFile, *, writes: bool = True) -> AbstractContextManager[Any]:
        transactions.append(writes)
        return transaction(file, writes=writes)

    monkeypatch.setattr(RunFile, "transaction", counted)
    log = SQLiteRunLog(tmp_path / "runs")
    mine: list[bool] = []

    async def one() -> None:
        mine.append((await begin(log)).mine)

    async with anyio.create_task_group() as tasks:
        with log._lock:  # the thread is kept waiting
            for _ in range(100):
                tasks.start_soon(one)
            await anyio.wait_all_tasks_blocked()

    assert sorted(mine) == [False] * 99 + [True]
    assert len(transactions) <= 2
    await log.aclose()


@pytest.mark.soak
def test_workers_that_open_one_new_file_at_once_all_have_it(tmp_path: Path, record_property):
    files = amount(40, 2_000)
    refused: list[BaseException | None] = []
    owners = []
    together = threading.Barrier(WORKERS)

    async def worker() -> None:
        for number in range(files):
            log = SQLiteRunLog(tmp_path / f"{number}", busy_timeout=SECONDS)
            together.wait(SECONDS)
            try:
                owners.append((await begin(log)).mine)
            except LedgerUnavailable as exc:
                refused.append(exc.__cause__)
            await log.aclose()

    threads = [threading.Thread(target=anyio.run, args=(worker,)) for _ in range(WORKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    record_property("soak", f"{files} new files, {WORKERS} at once, {len(refused)} refused")
    assert refused == []
    assert sorted(owners) == [False] * (WORKERS - 1) * files + [True] * files
