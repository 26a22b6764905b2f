"""SQLiteLedger's one thread, and its one commit for many."""

import asyncio
import gc
import sqlite3
import weakref
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from anyio.lowlevel import EventLoopToken

from chatnest._util.loops import call_soon
from chatnest.ledger.base import Admitted, Charge, Ledger
from chatnest.ledger.sqlite import SQLiteLedger
from chatnest.ledger.sqlite import writer as sqlite_writer
from chatnest.ledger.sqlite.file import BookFile
from tests.ledger.sqlite_support import SECONDS, Pause, everything_waits
from tests.ledger.support import (
    admit,
    balance,
    budget,
    wish,
)

pytestmark = pytest.mark.anyio


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


@pytest.fixture
def commits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many operations each has."""
    sizes = []
    transact = BookFile.transact

    def counted(file: BookFile, operations: Any) -> list[object]:
        sizes.append(len(operations))
        return transact(file, operations)

    monkeypatch.setattr(BookFile, "transact", counted)
    return sizes


async def test_what_waits_shares_a_commit(books: SQLiteLedger, commits: list[int]):
    pause = Pause(books)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pause.run)
        await pause.reached()
        for _ in range(200):
            tasks.start_soon(admit, books, wish(budget(20_000)))
        await everything_waits()
        pause.end()

    assert commits == [1, 128, 72]
    assert await balance(books, budget(20_000)) == (0, 20_000)


async def test_what_begins_in_one_turn_shares_a_commit_and_a_wake_up(
    books: SQLiteLedger, commits: list[int], monkeypatch: pytest.MonkeyPatch
):
    await books.check()
    commits.clear()
    turns = []

    def noted(home: EventLoopToken, act: Callable[..., object], *arguments: object) -> None:
        turns.append(act.__name__)
        call_soon(home, act, *arguments)

    monkeypatch.setattr(sqlite_writer, "call_soon", noted)
    async with anyio.create_task_group() as tasks:
        for _ in range(50):
            tasks.start_soon(admit, books, wish(budget(20_000)))

    assert commits == [50]
    assert turns == ["_hand_over", "_wake"]


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
        await everything_waits()
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
            await everything_waits()
            impatient.cancel_scope.cancel()
        pause.end()

    assert await balance(books, limit) == (0, 100)


async def test_a_loop_that_is_closed_is_no_error(books: SQLiteLedger, anyio_backend: str):
    limit = budget(1_000)
    pause = Pause(books)

    async def leave_in_the_middle() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(books.reserve, wish(limit))
            await everything_waits()
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


async def test_what_a_loop_began_that_is_closed_comes_with_the_next(books: SQLiteLedger):
    limit = budget(1_000)

    def leave_at_once() -> None:
        loop = asyncio.new_event_loop()
        task: Any = loop.create_task(books.reserve(wish(limit)))
        loop.call_soon(loop.stop)
        loop.run_forever()
        loop.close()
        task._log_destroy_pending = False

    await anyio.to_thread.run_sync(leave_at_once)
    await books.check()
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
        await everything_waits()
        tasks.start_soon(books.aclose)
        pause.end()

    assert await balance(books, limit) == (0, 500)


async def test_who_closes_meanwhile_waits_as_well(books: SQLiteLedger):
    pause = Pause(books)
    alive = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pause.run)
        await pause.reached()
        assert books._writer is not None
        thread = books._writer.thread

        async def close() -> None:
            await books.aclose()
            alive.append(thread.is_alive())

        tasks.start_soon(close)
        await everything_waits()
        tasks.start_soon(close)
        await everything_waits()
        pause.end()

    assert alive == [False, False]


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


async def test_a_ledger_that_was_closed_lets_go_of_its_writer(books: SQLiteLedger):
    """It may be opened and closed as often as its process forks."""
    await books.check()
    assert books._writer is not None
    writer = weakref.ref(books._writer)

    await books.aclose()
    gc.collect()

    assert writer() is None
