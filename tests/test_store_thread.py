"""A store's own thread: what waits runs together, in order, and each task gets its own result."""

import multiprocessing
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Sequence

import anyio
import anyio.to_thread
import pytest

from chatnest.errors import LedgerUnavailable
from chatnest.stores import thread as store_thread
from chatnest.stores.thread import StoreThread

pytestmark = pytest.mark.anyio

SECONDS = 30.0
"""For what takes no time."""

Operation = Callable[[], object]


class Store:
    """Notes which operations ran together. ``gate`` holds the thread within the first of them."""

    def __init__(self) -> None:
        self.groups: list[int] = []
        self.failure: Exception | None = None
        self.entered = threading.Event()
        self.gate = threading.Event()
        self.thread: StoreThread[Operation] = StoreThread("store", self._run_all)

    def _run_all(self, operations: Sequence[Operation]) -> Sequence[object]:
        self.groups.append(len(operations))
        if self.failure is not None:
            raise self.failure
        return [operation() for operation in operations]

    def hold(self) -> None:
        self.entered.set()
        assert self.gate.wait(SECONDS)

    async def held(self) -> None:
        await anyio.to_thread.run_sync(self.entered.wait, SECONDS)


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    store = Store()
    yield store
    store.gate.set()
    await anyio.to_thread.run_sync(store.thread.end)


async def test_what_waits_runs_together_and_in_its_order(store: Store):
    begun: list[int] = []
    ran: list[int] = []

    async def one(number: int) -> None:
        begun.append(number)
        await store.thread.run(lambda: ran.append(number))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(store.thread.run, store.hold)
        await store.held()
        for number in range(200):
            tasks.start_soon(one, number)
        await anyio.wait_all_tasks_blocked()
        store.gate.set()

    assert store.groups == [1, 128, 72]
    assert ran == begun


async def test_each_task_gets_its_own_result(store: Store):
    results: dict[int, object] = {}

    async def one(number: int) -> None:
        results[number] = await store.thread.run(lambda: number * 2)

    async with anyio.create_task_group() as tasks:
        for number in range(50):
            tasks.start_soon(one, number)

    assert results == {number: number * 2 for number in range(50)}


async def test_only_the_culprit_fails(store: Store):
    failures: list[BaseException] = []
    results: list[object] = []

    def culprit() -> None:
        raise sqlite3.IntegrityError

    async def one(operation: Operation) -> None:
        try:
            results.append(await store.thread.run(operation))
        except sqlite3.IntegrityError as exc:
            failures.append(exc)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one, store.hold)
        await store.held()
        for operation in (lambda: 1, culprit, lambda: 2):
            tasks.start_soon(one, operation)
        await anyio.wait_all_tasks_blocked()
        store.gate.set()

    assert len(failures) == 1
    assert set(results) == {None, 1, 2}


async def test_a_store_that_is_unavailable_is_tried_once_for_all_that_wait(store: Store):
    failures: list[LedgerUnavailable] = []

    async def one() -> None:
        with pytest.raises(LedgerUnavailable) as caught:
            await store.thread.run(lambda: None)
        failures.append(caught.value)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(store.thread.run, store.hold)
        await store.held()
        for _ in range(5):
            tasks.start_soon(one)
        await anyio.wait_all_tasks_blocked()
        store.failure = LedgerUnavailable()
        store.gate.set()

    assert store.groups == [1, 5]
    assert len(set(map(id, failures))) == 5, "tasks that share an exception share its traceback"


async def test_an_operation_runs_also_if_its_task_has_gone(store: Store):
    ran: list[str] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(store.thread.run, store.hold)
        await store.held()
        async with anyio.create_task_group() as impatient:
            impatient.start_soon(store.thread.run, lambda: ran.append("gone"))
            await anyio.wait_all_tasks_blocked()
            impatient.cancel_scope.cancel()
        store.gate.set()
        await store.thread.run(lambda: ran.append("next"))

    assert ran == ["gone", "next"]


async def test_event_loops_that_are_closed_hold_nobody_up(store: Store, anyio_backend: str):
    async def leave_in_the_middle() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(store.thread.run, lambda: None)
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(store.thread.run, store.hold)
        await store.held()
        await anyio.to_thread.run_sync(
            lambda: anyio.run(leave_in_the_middle, backend=anyio_backend)
        )
        store.gate.set()

    with anyio.fail_after(SECONDS):
        assert await store.thread.run(lambda: "alive") == "alive"


async def test_the_end_comes_after_what_waits_and_is_no_end_for_good(store: Store):
    ran: list[int] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(store.thread.run, store.hold)
        await store.held()
        for number in range(3):
            tasks.start_soon(store.thread.run, lambda number=number: ran.append(number))
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(anyio.to_thread.run_sync, store.thread.end)
        store.gate.set()

    assert set(ran) == {0, 1, 2}
    assert threads() == set()
    assert await store.thread.run(lambda: "again") == "again"


async def test_a_thread_without_work_ends(store: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(store_thread, "_IDLE_SECONDS", 0.01)
    await store.thread.run(lambda: None)

    with anyio.fail_after(SECONDS):
        while threads():  # noqa: ASYNC110  # a thread has no event for its end
            await anyio.sleep(0.01)
    assert await store.thread.run(lambda: "again") == "again"


@pytest.mark.process
@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="has no fork")
def test_a_forked_child_has_a_thread_of_its_own():
    thread = Store().thread

    async def run() -> None:
        with anyio.fail_after(SECONDS):
            await thread.run(lambda: None)

    anyio.run(run)
    process = multiprocessing.get_context("fork").Process(target=anyio.run, args=(run,))
    process.start()
    process.join(2 * SECONDS)
    thread.end()

    assert process.exitcode == 0


def threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "store"}
