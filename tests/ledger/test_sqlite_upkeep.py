"""What SQLiteLedger sees to by itself: who may read its files, how large they are, what is old."""
# ruff: noqa: ASYNC240  # nobody else runs on these loops

import os
import sqlite3
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from pathlib import Path
from shutil import copyfile

import anyio
import pytest

from chatnest.errors import ConfigurationError, LedgerUnavailable
from chatnest.ledger.base import Charge
from chatnest.ledger.sqlite import SQLiteLedger
from chatnest.ledger.sqlite import audit as sqlite_audit
from chatnest.ledger.sqlite import writer as sqlite_writer
from chatnest.ledger.sqlite.schema import SCHEMA_VERSION
from chatnest.stores.reasons import reason_of
from chatnest.stores.wal import log_size
from tests.ledger.sqlite_support import SECONDS, rows
from tests.ledger.support import DAY, Clock, admit, budget, rate, wish

pytestmark = pytest.mark.anyio

KEPT_LOG = 4 * 1024 * 1024


@pytest.fixture(params=[0o000, 0o022, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def modes(path: Path) -> set[int]:
    return {stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}


async def test_every_file_is_for_its_owner_alone(path: Path, books: SQLiteLedger, umask: int):
    await admit(books, wish(budget(1_000)))

    names = {each.name for each in path.parent.iterdir()}
    assert names == {"ledger.db", "ledger.db-wal", "ledger.db-shm", ".ledger.db-books"}
    assert modes(path) == {0o600}


async def test_files_that_others_could_read_are_narrowed(
    path: Path, books: SQLiteLedger, clock: Clock
):
    await admit(books, wish(budget(1_000)))
    for each in path.parent.glob("ledger.db*"):
        each.chmod(0o644)

    other = SQLiteLedger(path, clock=clock)
    await other.check()

    assert modes(path) == {0o600}
    await other.aclose()


async def test_a_file_of_another_program_keeps_its_mode(path: Path):
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE diary (text)")
    path.chmod(0o644)

    with pytest.raises(ConfigurationError):
        await SQLiteLedger(path).check()

    assert stat.S_IMODE(path.stat().st_mode) == 0o644


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(SECONDS):
        while not condition():  # noqa: ASYNC110  # on a file, which tells nobody
            await anyio.sleep(0.01)


@pytest.fixture
async def eager(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[SQLiteLedger]:
    """One that looks after its file all the time."""
    monkeypatch.setattr(sqlite_writer, "_TEND_SECONDS", 0.01)
    monkeypatch.setattr(sqlite_writer, "_PRUNE_SECONDS", 0.01)
    ledger = SQLiteLedger(path, clock=clock, synchronous="NORMAL", keep_days=2)
    yield ledger
    await ledger.aclose()


async def test_what_is_old_is_forgotten_while_nobody_asks(
    path: Path, clock: Clock, eager: SQLiteLedger
):
    for _ in range(3):
        hold = (await admit(eager, wish(budget(1_000), rate(9)))).hold
        await eager.settle(hold, Charge(tokens=10, principal="ann"))
    tables = ("counters", "windows", "holds", "turns")

    clock.now += 63 * DAY

    await until(lambda: not any(rows(path, f"SELECT * FROM {table}") for table in tables))


async def _hundred_turns(ledger: SQLiteLedger) -> None:
    async with anyio.create_task_group() as tasks:
        for number in range(100):
            tasks.start_soon(_turn, ledger, f"{number}" * 200)


async def _turn(ledger: SQLiteLedger, account: str) -> None:
    hold = (await admit(ledger, wish(budget(10**9, account)))).hold
    await ledger.settle(hold, Charge(tokens=10, principal=account))


async def test_the_log_shrinks_when_a_reader_has_gone_and_an_export_is_none(
    path: Path, eager: SQLiteLedger, monkeypatch: pytest.MonkeyPatch
):
    """An export in pages keeps nothing while its own reader waits, as `less` does."""
    monkeypatch.setattr(sqlite_audit, "_PAGE", 10)
    for number in range(50):
        await _turn(eager, f"{number}")
    large, batches = 8 * 1024 * 1024, 0
    with closing(sqlite3.connect(path, isolation_level=None)) as reader, anyio.fail_after(SECONDS):
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM turns").fetchone()
        while log_size(path) < large:
            await _hundred_turns(eager)
            batches += 1
    await until(lambda: log_size(path) <= KEPT_LOG)

    records = eager.audit().records(0)
    read = [(await anext(records)).id]
    for _ in range(batches):
        await _hundred_turns(eager)
        assert log_size(path) < large
    await until(lambda: log_size(path) <= KEPT_LOG)
    read += [record.id async for record in records]
    assert len(read) == len(set(read)) == 50 + 100 * batches


async def test_an_open_file_of_a_newer_schema_is_not_written(path: Path, books: SQLiteLedger):
    await admit(books, wish(budget(1_000)))
    with closing(sqlite3.connect(path)) as newer:
        newer.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")

    with pytest.raises(ConfigurationError, match="newer chatnest"):
        await books.reserve(wish(budget(1_000)))


async def test_a_look_inserts_nothing(path: Path, books: SQLiteLedger):
    await books.usage((budget(1_000), rate(9)))

    for table in ("counters", "windows", "holds", "zones"):
        assert rows(path, f"SELECT * FROM {table}") == []


async def test_a_symlink_to_another_file_is_another_file(path: Path, clock: Clock):
    first, second, link = path, path.with_name("second.db"), path.with_name("link.db")
    link.symlink_to(first)
    ledger = SQLiteLedger(link, clock=clock)
    await admit(ledger, wish(budget(1_000)))
    other = SQLiteLedger(second, clock=clock)
    await other.check()
    await other.aclose()

    link.unlink()
    link.symlink_to(second)
    with pytest.raises(LedgerUnavailable) as raised:
        await ledger.reserve(wish(budget(1_000)))
    assert "replaced" in reason_of(raised.value).found

    await ledger.audit().adopt()
    await admit(ledger, wish(budget(1_000)))
    await ledger.aclose()


async def test_the_file_moved_back_is_used_again(path: Path, books: SQLiteLedger):
    await admit(books, wish(budget(1_000)))
    elsewhere = path.with_name("elsewhere")
    path.rename(elsewhere)
    with pytest.raises(LedgerUnavailable):
        await books.reserve(wish(budget(1_000)))
    elsewhere.rename(path)

    await admit(books, wish(budget(1_000)))
    assert len(rows(path, "SELECT * FROM holds")) == 2


async def test_a_copy_written_into_the_open_file_is_noticed(path: Path, books: SQLiteLedger):
    copy = path.with_name("copy")
    await admit(books, wish(budget(10**9)))
    with closing(sqlite3.connect(path)) as one, closing(sqlite3.connect(copy)) as other:
        one.backup(other)
    while path.stat().st_size <= copy.stat().st_size:  # until the log was written into it
        await _hundred_turns(books)
    await books.check()  # which sees how large it is

    copyfile(copy, path)

    with pytest.raises(LedgerUnavailable) as raised:
        await books.reserve(wish(budget(1_000)))
    assert "overwritten" in reason_of(raised.value).found


async def test_a_file_that_was_made_smaller_is_still_the_ledger(
    path: Path, clock: Clock, books: SQLiteLedger
):
    for _ in range(10):
        await _hundred_turns(books)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        await admit(books, wish(budget(1_000)))
        before = path.stat().st_size
        other.execute("DELETE FROM turns")
        other.execute("VACUUM")
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert path.stat().st_size < before

    await admit(books, wish(budget(1_000)))


async def test_a_damaged_file_is_not_adopted(path: Path, books: SQLiteLedger):
    for _ in range(3):
        await _hundred_turns(books)
    await books.aclose()
    content = bytearray(path.read_bytes())
    content[8 * 4096 : 20 * 4096] = b"x" * (12 * 4096)
    path.write_bytes(content)

    with pytest.raises((ConfigurationError, LedgerUnavailable)):
        await books.audit().adopt()
