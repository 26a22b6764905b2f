"""SQLiteLedger's file: where it may be, and what is in it after a restart."""
# ruff: noqa: ASYNC240  # nobody else runs on these loops

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from chatnest.errors import ConfigurationError
from chatnest.ledger.base import Charge, Settlement
from chatnest.ledger.sqlite import SQLiteLedger
from chatnest.ledger.sqlite import ledger as sqlite
from chatnest.ledger.sqlite.schema import SCHEMA_VERSION
from tests.ledger.support import (
    SECOND,
    Clock,
    admit,
    balance,
    budget,
    rate,
    streams,
    wish,
)

pytestmark = pytest.mark.anyio


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
    with pytest.raises(ConfigurationError, match="cannot be opened"):
        await ledger.check()
    await ledger.aclose()


async def test_what_is_no_database_is_left_alone(path: Path):
    path.write_bytes(b"my diary, " * 1_000)
    ledger = SQLiteLedger(path)

    with pytest.raises(ConfigurationError, match="not a SQLite database"):
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
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")

    with pytest.raises(ConfigurationError, match=rf"newer chatnest \(schema {SCHEMA_VERSION + 1}"):
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
