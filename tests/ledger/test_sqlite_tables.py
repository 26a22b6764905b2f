"""What the tables of SQLiteLedger refuse, keep and forget."""
# nobody else runs on these loops

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from chatnest.ledger import model
from chatnest.ledger.base import Charge, Refused
from chatnest.ledger.sqlite import SQLiteLedger
from chatnest.ledger.sqlite.file import BookFile
from tests.ledger.sqlite_support import rows
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
    streams,
    wish,
)

pytestmark = pytest.mark.anyio


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
        "INSERT INTO counters VALUES ('n', 'a', '', -1, 0, 0, 0, 0, 0, 0)",
        "INSERT INTO counters VALUES (NULL, 'a', '', 0, 0, 0, 0, 0, 0, 0)",
        "INSERT INTO counters VALUES ('n', 'a', '', 'many', 0, 0, 0, 0, 0, 0)",
        "UPDATE holds SET charged_money = -1 WHERE state = 1",
        "UPDATE holds SET money = -1",
        "UPDATE holds SET state = 4",
        "UPDATE holds SET charged = -1 WHERE state = 1",
        "UPDATE holds SET charged = 1 WHERE state = 0",
        "UPDATE holds SET charged = 1 WHERE state = 3",
        "UPDATE holds SET state = 0 WHERE state = 1",
        "UPDATE holds SET state = 2, charged = 0 WHERE state = 1",
        "UPDATE holds SET state = 1 WHERE state = 2",
        "UPDATE holds SET state = 0, charged = 0 WHERE state = 3",
        "UPDATE turns SET tokens = -1",
        "UPDATE turns SET money = -1",
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
        "held_money": 0,
        "money": 0,
        "facts": "{}",
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


async def test_no_part_of_a_window_in_use_is_forgotten(path: Path, clock: Clock):
    """One that is as long as what is kept, under a clock that is not quite steady."""
    file = BookFile(str(path), clock=clock, synchronous="NORMAL", busy_timeout=1, keep_days=1)
    start, limit = clock.now, rate(200, window=DAY // SECOND)
    for _ in range(200):
        file.transact([lambda books: model.reserve(books, wish(limit), books.now)])
        clock.now += SECOND
    clock.now = start + DAY + 150 * SECOND
    file.prune()
    clock.now -= 145 * SECOND
    lower = rate(150, window=DAY // SECOND)
    (answer,) = file.transact([lambda books: model.reserve(books, wish(lower), books.now)])
    file.close()

    assert len(rows(path, "SELECT * FROM windows")) == 2
    assert isinstance(answer, Refused)
    assert answer.retry_after == (200 - 150 - 5) * SECOND


async def test_a_fault_while_forgetting_harms_nobody(
    books: SQLiteLedger, monkeypatch: pytest.MonkeyPatch
):
    def prune(_: BookFile) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(BookFile, "prune", prune)
    await books.check()
    await books.check()
