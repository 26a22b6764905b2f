"""What tests of SQLiteLedger share: a look into the file, a lock, a writer that stands still."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from chatnest.ledger.sqlite import SQLiteLedger

SECONDS = 30
"""A bound on anything that should take milliseconds."""


def rows(path: Path, query: str) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(query)]


async def everything_waits() -> None:
    """For the writer thread, to which it was handed over."""
    await anyio.wait_all_tasks_blocked()
    await anyio.lowlevel.checkpoint()


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
def lock_that_goes(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The file is locked until somebody sleeps over it."""
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:

        def let_go(_: float) -> None:
            if other.in_transaction:
                other.execute("ROLLBACK")

        other.execute("BEGIN IMMEDIATE")
        monkeypatch.setattr("time.sleep", let_go)
        yield


@contextmanager
def write_lock(path: Path) -> Iterator[None]:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


V5 = """
ALTER TABLE holds DROP COLUMN watched;
DROP TABLE watches;
DROP TABLE crossings;
DROP TABLE usage;
DROP TABLE refusals;
ALTER TABLE books DROP COLUMN currency;
PRAGMA user_version = 5;
"""
"""Takes a file of today back to schema 5."""
