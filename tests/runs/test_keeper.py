"""The keeper of a worker's runs: one look for all of them, appends when they are due, the end of
each run. Its time goes by when a test says so.
"""

import logging
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from chatnest import MemoryRunLog
from chatnest.errors import ChatNestError, LedgerUnavailable, RunCancelled, UpstreamInterrupted
from chatnest.events import Delta, Done, Failed, Start, Usage
from chatnest.runs import writer as run_writer
from chatnest.runs.base import Batch, RunEnd
from chatnest.runs.entries import read_batch
from chatnest.runs.keeper import LogKeeper
from chatnest.runs.known import KnownRuns
from chatnest.runs.run import Run
from chatnest.runs.writer import RunWriter

pytestmark = pytest.mark.anyio

A, B, C = (letter * 32 for letter in "abc")
DONE = Done("stop", Usage(1, 2))


class Clock:
    """The time of the keeper."""

    def __init__(self) -> None:
        self.now = 100.0
        self.waiting: list[float] = []
        """Until when keepers sleep."""
        self._changed = anyio.Event()

    def current_time(self) -> float:
        return self.now

    async def sleep_until(self, deadline: float) -> None:
        self.waiting.append(deadline)
        try:
            while self.now < deadline:
                await self._changed.wait()
        finally:
            self.waiting.remove(deadline)

    async def tick(self, seconds: float = 0.1, times: int = 1) -> None:
        for _ in range(times):
            self.now += seconds + 1e-9
            self._changed.set()
            self._changed = anyio.Event()
            await anyio.wait_all_tasks_blocked()


class Log(MemoryRunLog):
    """Remembers what was asked of it, and fails when it is to."""

    def __init__(self) -> None:
        super().__init__()
        self.signalled: list[set[str]] = []
        self.appended: list[dict[str, Batch | None]] = []
        self.finished: list[Batch | None] = []
        """What came with the end of each run."""
        self.failing: Exception | None = None

    async def signals(self, run_ids: Collection[str]) -> Mapping[str, Any]:
        self.signalled.append(set(run_ids))
        if self.failing is not None:
            raise self.failing
        return await super().signals(run_ids)

    async def finish(self, run_id: str, end: RunEnd, batch: Batch | None = None) -> bool:
        self.finished.append(batch)
        if self.failing is not None:
            raise self.failing
        return await super().finish(run_id, end, batch)

    async def append(self, batches: Mapping[str, Batch | None], *, lease: float) -> Collection[str]:
        self.appended.append(dict(batches))
        if self.failing is not None:
            raise self.failing
        return await super().append(batches, lease=lease)

    def events(self) -> list[list[str]]:
        """The texts of each append."""
        return [texts(batch) for each in self.appended for batch in each.values()]


def texts(batch: Batch | None) -> list[str]:
    return [e.text for e in read_batch(batch.data) if isinstance(e, Delta)] if batch else []


class Writing:
    """A run that is being written, without a model."""

    def __init__(self, log: Log, run_id: str, key: str | None = None) -> None:
        self.stops: list[ChatNestError] = []
        self.turn: Any = SimpleNamespace(outcome="done", charged=3, source="provider")
        generation: Any = SimpleNamespace(
            turn=self.turn, stopped=None, stop=self.stops.append, failed=Failed
        )
        self.run = Run(run_id, owner="ann", key=key, linger=0, max_bytes=1 << 20)
        self.writer = RunWriter(generation, self.run, log)
        self.scope = anyio.CancelScope()

    async def say(self, *texts: str) -> None:
        await self.run.emit([Start(), *map(Delta, texts)])


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(anyio, "current_time", clock.current_time)
    monkeypatch.setattr(anyio, "sleep_until", clock.sleep_until)
    return clock


@pytest.fixture
def log() -> Log:
    return Log()


@asynccontextmanager
async def kept(log: Log, *run_ids: str, key: str | None = None) -> AsyncIterator[list[Writing]]:
    """These runs, claimed and kept by one keeper."""
    keeper = LogKeeper(KnownRuns(log, 10))
    writings = [Writing(log, run_id, key) for run_id in run_ids]

    async def keep(writing: Writing) -> None:
        with writing.scope:
            async with anyio.create_task_group() as tasks:
                with keeper.keeping(writing.writer, tasks):
                    await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        for run_id, writing in zip(run_ids, writings, strict=True):
            await log.claim(key, owner="ann", fingerprint="", run_id=run_id, lease=6)
            tasks.start_soon(keep, writing)
            await anyio.wait_all_tasks_blocked()  # so that the first is the one that looks
        yield writings
        tasks.cancel_scope.cancel()


# ---------------------------------------------------------------- looks


async def test_one_look_each_tenth_of_a_second_is_for_all_runs(log, clock):
    async with kept(log, A, B, C):
        assert log.signalled == []
        assert clock.waiting == [pytest.approx(100.1)], "one task looks for all"
        await clock.tick()
        assert log.signalled == [{A, B, C}]
        assert clock.waiting == [pytest.approx(100.2)]
        await clock.tick(times=3)
        assert log.signalled == [{A, B, C}] * 4


async def test_when_the_run_of_the_one_that_looks_ends_the_next_takes_over(log, clock):
    async with kept(log, A, B, C) as (first, second, _):
        for one in (first, second):
            one.scope.cancel()
            await anyio.wait_all_tasks_blocked()
            await clock.tick()
    assert log.signalled == [{B, C}, {C}]


async def test_a_cancellation_stops_the_run_that_it_is_for(log, clock):
    async with kept(log, A, B) as (first, second):
        await log.cancel(B)
        await clock.tick()
    assert first.stops == []
    assert [type(stop) for stop in second.stops] == [RunCancelled]


async def test_a_run_that_is_read_elsewhere_is_looked_at_and_appended_to_more_often(log, clock):
    async with kept(log, A) as (one,):
        await one.say("a")
        await log.read(A, 0, owner="ann")
        await clock.tick()
        assert one.run.read_at(clock.now)
        assert log.events() == [["a"]]
        assert clock.waiting == [pytest.approx(clock.now + 0.05)]
        await one.say("b")
        await clock.tick(0.05)
        assert log.events() == [["a"], ["b"]]
        await clock.tick(0.5)  # the reader has left
        assert clock.waiting == [pytest.approx(clock.now + 0.1)]


# ---------------------------------------------------------------- appends


async def test_events_are_appended_each_second_and_the_lease_with_them(log, clock):
    async with kept(log, A, B) as (first, _):
        await first.say("a")
        await clock.tick(times=9)
        assert log.appended == []
        await clock.tick()
        (both,) = log.appended
        assert set(both) == {A, B}
        assert both[B] is None, "only the lease"
        await first.say("b", "c")
        await clock.tick(times=9)
        assert len(log.appended) == 1
        await clock.tick(times=2)
    assert len(log.appended) == 2
    assert log.events() == [["a"], [], ["b", "c"], []]


async def test_a_long_run_takes_several_batches_of_one_look(log, clock):
    async with kept(log, A) as (one,):
        await one.say(*["x"] * 2_500)
        await clock.tick(times=10)
    assert [len(texts) for texts in log.events()] == [1_000, 1_000, 500]


async def test_many_runs_take_several_appends(log, clock):
    names = [f"{number:032x}" for number in range(150)]
    async with kept(log, *names):
        await clock.tick(times=10)
    assert [len(batches) for batches in log.appended] == [100, 50]


async def test_a_run_that_ends_during_an_append_is_in_no_later_one(log, clock):
    names = [f"{number:032x}" for number in range(150)]
    real = log.append

    async with kept(log, *names) as writings:

        async def append(batches: Mapping[str, Batch | None], *, lease: float) -> Collection[str]:
            log.append = real
            writings[120].scope.cancel()
            await anyio.wait_all_tasks_blocked()
            unknown: Collection[str] = await real(batches, lease=lease)
            return unknown

        log.append = append
        await clock.tick(times=10)
    assert [len(batches) for batches in log.appended] == [100, 49]
    assert names[120] not in log.appended[1]


async def test_a_batch_that_was_not_acknowledged_is_repeated_as_it_was(log, clock):
    async with kept(log, A) as (one,):
        await one.say("a")
        await clock.tick(times=9)
        append, log.append = log.append, unavailable
        await clock.tick()
        await one.say("b")
        log.append = append
        await clock.tick(times=2)
        assert log.events()[0] == ["a"]
        await clock.tick(times=11)
    assert log.events() == [["a"], ["b"]]
    page = await log.read(A, 0, owner="ann")
    assert [batch.first for batch in page.batches] == [1, 2]


async def unavailable(*_: object, **__: object) -> Any:
    raise LedgerUnavailable


# ---------------------------------------------------------------- a log that fails


FAILURES = {"unavailable": LedgerUnavailable(), "failed": ZeroDivisionError()}
failing = pytest.mark.parametrize(("word", "failure"), FAILURES.items(), ids=FAILURES)
"""What a log raises, and the word for it. Only what we do not know comes with its traceback."""


def lines(records: list[logging.LogRecord]) -> set[tuple[str, bool]]:
    return {(r.getMessage().partition(":")[0], r.exc_info is not None) for r in records}


@failing
async def test_a_log_that_fails_is_logged_once_and_ends_nothing(log, clock, caplog, word, failure):
    async with kept(log, A) as (one,):
        log.failing = failure
        await clock.tick(times=5)
        assert len(caplog.records) == 1
        log.failing = None
        await clock.tick()
        log.failing = failure
        await clock.tick(times=2)
        assert len(caplog.records) == 2
        log.failing = None
        await one.say("a")
        await clock.tick(times=11)
    assert lines(caplog.records) == {(f"run log {word}", word == "failed")}
    assert log.events() == [["a"]]


async def test_a_run_that_the_log_has_lost_is_claimed_and_written_again(log, clock, caplog):
    async with kept(log, A, key="k") as (one,):
        await one.say("a")
        await clock.tick(times=10)
        MemoryRunLog.__init__(log)
        await one.say("b")
        await clock.tick()
    assert log.events() == [["a"], ["a", "b"]]
    assert (await claimed(log, "k", B)) == A
    assert [r.message for r in caplog.records] == [
        f"run log lost a run: run={A}. It was claimed again."
    ]


async def test_a_run_that_an_append_finds_lost_is_written_at_the_next_look(log, clock):
    async with kept(log, A, key="k") as (one,):
        await one.say("a")
        await clock.tick(times=9)
        real = log.signals

        async def none(run_ids: Collection[str]) -> Mapping[str, Any]:
            return {}

        log.signals = none
        MemoryRunLog.__init__(log)
        await clock.tick()
        assert await claimed(log, "k", B) == A
        log.signals = real
        await clock.tick()
    assert (await log.read(A, 0, owner="ann")).last == 1


async def test_a_key_that_another_has_claimed_meanwhile_is_left_to_it(log, clock):
    async with kept(log, A, key="k") as (one,):
        await one.say("a")
        MemoryRunLog.__init__(log)
        assert await claimed(log, "k", B) == B
        await clock.tick()
    assert await claimed(log, "k", C) == B
    assert (await log.read(A, 0, owner="ann")).last == 1


async def claimed(log: Log, key: str, run_id: str) -> str:
    claim = await log.claim(key, owner="ann", fingerprint="", run_id=run_id, lease=6)
    return claim.run_id


# ---------------------------------------------------------------- the end


async def test_a_run_that_is_being_closed_is_left_alone(log, clock):
    async with kept(log, A, B) as (first, _):
        async with first.writer.lock:
            await clock.tick(times=10)
        assert [set(batches) for batches in log.appended] == [{B}]
        await clock.tick()
    assert [set(batches) for batches in log.appended] == [{B}, {A}]


async def test_the_rest_comes_in_one_step_with_the_end(log):
    await claimed(log, "k", A)
    one = Writing(log, A, "k")
    await one.say("a", "b")
    await one.run.finish(DONE)
    await one.writer.close()
    page = await log.read(A, 0, owner="ann")
    assert (page.last, page.end.outcome, page.end.charged) == (3, "done", 3)
    assert log.events() == []
    assert list(map(texts, log.finished)) == [["a", "b"]]


async def test_a_long_rest_is_appended_but_for_its_last_batch(log, monkeypatch):
    monkeypatch.setattr(run_writer, "_AT_ONCE", 2)
    await claimed(log, "k", A)
    one = Writing(log, A, "k")
    await one.say("a", "b", "c", "d", "e")
    await one.run.finish(DONE)
    await one.writer.close()
    page = await log.read(A, 0, owner="ann")
    assert (page.last, page.end.outcome) == (6, "done")
    assert log.events() == [["a", "b"], ["c", "d"]]
    assert list(map(texts, log.finished)) == [["e"]]


async def test_the_end_of_a_run_whose_events_are_all_in_the_log_comes_alone(log):
    await claimed(log, "k", A)
    one = Writing(log, A, "k")
    await one.say("a")
    await one.run.finish(DONE)
    await log.append({A: one.writer.next_batch()}, lease=6)
    one.writer.appended(one.writer.next_batch(), 0)
    await one.writer.close()
    assert log.finished == [None]
    assert (await log.read(A, 0, owner="ann")).end.outcome == "done"


async def test_a_close_waits_for_an_append(log):
    await claimed(log, "k", A)
    one = Writing(log, A, "k")
    await one.say("a")
    await one.run.finish(DONE)
    async with anyio.create_task_group() as tasks, one.writer.lock:
        tasks.start_soon(one.writer.close)
        await anyio.wait_all_tasks_blocked()
        assert log.finished == []
    assert list(map(texts, log.finished)) == [["a"]]


async def test_a_run_that_is_lost_at_its_end_is_written_whole(log):
    await claimed(log, "k", A)
    one = Writing(log, A, "k")
    await one.say("a")
    one.writer.appended(one.writer.next_batch(), 0)
    MemoryRunLog.__init__(log)
    await one.run.finish(DONE)
    await one.writer.close()
    page = await log.read(A, 0, owner="ann")
    assert (page.dropped, page.last, page.end.outcome) == (0, 2, "done")


async def test_a_run_that_is_lost_after_its_last_event_is_written_whole(log):
    await claimed(log, "k", A)
    one = Writing(log, A, "k")
    await one.say("a")
    await one.run.finish(DONE)
    one.writer.appended(one.writer.next_batch(), 0)
    MemoryRunLog.__init__(log)
    await one.writer.close()
    page = await log.read(A, 0, owner="ann")
    assert (page.dropped, page.last, page.end.outcome) == (0, 2, "done")


async def test_a_run_without_text_or_cost_is_dropped_and_its_readers_are_refused(log):
    await claimed(log, "k", A)
    one = Writing(log, A, "k")
    one.turn.charged = 0
    await one.run.finish(Failed(UpstreamInterrupted()))
    await one.writer.close()
    assert one.run.refusal == one.run.unstarted
    assert await claimed(log, "k", B) == B


@failing
async def test_a_log_that_fails_at_the_end_is_logged_and_the_run_ends(log, caplog, word, failure):
    await claimed(log, "k", A)
    log.failing = failure
    whole, empty = Writing(log, A, "k"), Writing(log, B)
    await whole.say("a")
    await whole.run.finish(DONE)
    await whole.writer.close()
    await empty.run.finish(Failed(UpstreamInterrupted()))
    await empty.writer.close()
    assert whole.run.end == DONE
    assert isinstance(empty.run.end, Failed)
    assert len(caplog.records) == 2
    assert lines(caplog.records) == {(f"run log {word}", word == "failed")}
