"""Random lives of the ledgers that run the rules themselves: in memory, and in a file.

SQLiteLedger's writer thread is played by the very transactions that it runs. The file can be closed
and opened again; it is not synced.
"""

import shutil
import tempfile
from collections.abc import Callable, Coroutine
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from chatnest.ledger import days, model
from chatnest.ledger.audit import Adjustment
from chatnest.ledger.memory import MemoryLedger
from chatnest.ledger.sqlite import SQLiteLedger
from chatnest.ledger.sqlite import audit as sqlite_audit
from chatnest.ledger.sqlite import window as sqlite_window
from chatnest.ledger.sqlite.books import RowBooks
from chatnest.ledger.sqlite.file import BookFile
from chatnest.ledger.sqlite.watches import CROSSINGS, read_crossing
from chatnest.ledger.usage import UsageRow, Use
from chatnest.ledger.verification import recounted
from tests.ledger.conftest import Tell
from tests.ledger.lives import (
    FIRST_LIMITS,
    STARTS,
    Answer,
    CrossingKey,
    Driver,
    Figures,
    Lives,
    Usage,
    finish,
    in_shards,
    live,
)
from tests.ledger.support import DAY, HOUR, Clock, utc


class MemoryDriver:
    """A MemoryLedger never waits."""

    def __init__(self, clock: Clock) -> None:
        self.ledger = MemoryLedger(clock=clock)

    def run(self, calls: list[Coroutine[Any, Any, object]]) -> list[object]:
        return [finish(call, None) for call in calls]

    def restart(self) -> None:
        """It would forget everything."""

    def adjust(self, adjustment: Adjustment) -> None:
        books = self.ledger._books
        model.correct(books, adjustment, self.ledger.now())
        books._keep()

    def crossings(self) -> list[CrossingKey]:
        return [crossing.key for crossing in self.ledger._books.crossings.all()]

    def figures(self) -> Figures:
        return {
            key: (c.settled, c.held, c.overrun, c.expired, c.adjusted)
            for key, c in self.ledger._books._counters.items()
            if c.settled or c.held or c.adjusted
        }

    def usage(self) -> Usage:
        return dict(self.ledger._books._usage._rows)

    def recorded(self) -> None:
        """It has no records."""

    def end(self) -> None:
        """Nothing to do."""


class DirectSQLiteLedger(SQLiteLedger):
    """Operations wait until ``commit`` runs them all, in one transaction and in this thread."""

    def __init__(self, path: Path, clock: Clock) -> None:
        super().__init__(path, clock=clock)
        self.file = BookFile(
            str(path), clock=clock, synchronous="OFF", busy_timeout=0, keep_days=100 * 365
        )
        self.waiting: list[Callable[[RowBooks], object]] = []

    async def _run(self, operation: Callable[[RowBooks], Any]) -> Any:
        self.waiting.append(operation)
        return await Answer()

    def commit(self) -> list[object]:
        operations, self.waiting = self.waiting, []
        return self.file.transact(operations)


@cache
def empty_file() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.db"
        file = BookFile(str(path), clock=Clock(), synchronous="OFF", busy_timeout=0, keep_days=1)
        file.transact([])
        file.close()
        return path.read_bytes()


class SQLiteDriver:
    """The writer thread's transactions."""

    def __init__(self, clock: Clock) -> None:
        self._folder = Path(tempfile.mkdtemp())
        path = self._folder / "ledger.db"
        path.write_bytes(empty_file())
        self.ledger = DirectSQLiteLedger(path, clock)

    def run(self, calls: list[Coroutine[Any, Any, object]]) -> list[object]:
        for call in calls:
            call.send(None)
        answers = self.ledger.commit()
        return [finish(call, answer) for call, answer in zip(calls, answers, strict=True)]

    def restart(self) -> None:
        self.ledger.file.close()

    def adjust(self, adjustment: Adjustment) -> None:
        self.ledger.file.transact([lambda books: books.adjust(adjustment)])

    def crossings(self) -> list[CrossingKey]:
        def read(books: RowBooks) -> list[CrossingKey]:
            return [read_crossing(row).key for row in books.execute(CROSSINGS)]

        (found,) = self.ledger.file.transact([read])
        return found  # type: ignore[return-value]

    def figures(self) -> Figures:
        def read(books: RowBooks) -> Figures:
            rows = books._execute(
                "SELECT name || ':' || day || ':' || account, settled, held, overrun, expired,"
                " adjusted FROM counters"
            )
            return {key: tuple(figures) for key, *figures in rows if any(figures)}

        (figures,) = self.ledger.file.transact([read])
        return figures  # type: ignore[return-value]

    def usage(self) -> Usage:
        def read(books: RowBooks) -> Usage:
            found = books._execute("SELECT * FROM usage").fetchall()
            return {UsageRow(*row[:6]): Use(*row[6:]) for row in found}

        (usage,) = self.ledger.file.transact([read])
        return usage  # type: ignore[return-value]

    def recorded(self) -> Usage:
        with self.ledger.file.snapshot() as rows:
            return recounted(record for _, record in sqlite_audit._turns(rows))

    def end(self) -> None:
        self.ledger.file.close()
        shutil.rmtree(self._folder)


class LivesOfMemory(Lives):
    def drive(self, clock: Clock) -> Driver:
        return MemoryDriver(clock)


class LivesOfSQLite(Lives):
    def drive(self, clock: Clock) -> Driver:
        return SQLiteDriver(clock)


@pytest.mark.soak
@in_shards
def test_memory_lives_by_the_rules(shard: int, tell: Tell):
    live(LivesOfMemory, tell)


@pytest.mark.soak
@in_shards
def test_sqlite_lives_by_the_rules(shard: int, tell: Tell, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sqlite_window, "_MOST", 2)  # so that windows have parts
    live(LivesOfSQLite, tell)


@pytest.mark.parametrize("hours", [23, 25])
@pytest.mark.parametrize("who", ["bob", "team"])
def test_some_lives_begin_before_a_day_of_another_length(who: str, hours: int):
    zone = FIRST_LIMITS[who][1].timezone
    ends = [days.day_end(utc(start), zone) for start in STARTS]

    assert hours * HOUR in [days.day_end(end, zone) - end for end in ends]
    assert all(end - utc(start) < DAY for start, end in zip(STARTS, ends, strict=True))
