"""A run keeps its events, and hands a piece to its only reader at once."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from chatnest import Bounds
from chatnest.errors import ReplayUnavailable, ServerShutdown
from chatnest.events import ClientEvent, Delta, Done, Numbered, Start, Usage
from chatnest.runs.reader import Reader as StreamReader
from chatnest.runs.run import Run

pytestmark = pytest.mark.anyio

PATIENCE = 20.0
DONE = Done("stop", Usage(1, 2))
BOUNDS = Bounds().resolved(local=False)


class Reader:
    """Takes what it is offered if it is willing to."""

    def __init__(self, position: int = 0, *, willing: bool = True) -> None:
        self.position = position
        self.willing = willing
        self.taken: list[Numbered] = []

    def put_now(self, event: Numbered) -> bool:
        if self.willing:
            self.taken.append(event)
            self.position = event.number
        return self.willing


def run(**options: Any) -> Run:
    return Run("a" * 32, owner="ann", **{"linger": 0, "max_bytes": 1_024, **options})


async def test_a_piece_goes_to_the_only_reader_and_is_kept():
    one, reader = run(), Reader()
    with one.reading(reader):
        assert one.put_now(Delta("a"))
        assert one.put_now(Delta("b"))
    assert reader.taken == [Numbered(1, Delta("a")), Numbered(2, Delta("b"))]
    assert (one.since(0, 10), one.last, one.said) == ([Delta("a"), Delta("b")], 2, True)


async def test_without_a_reader_or_with_two_no_piece_takes_the_short_cut():
    one, first, second = run(), Reader(), Reader()
    assert not one.put_now(Delta("a"))
    with one.reading(first), one.reading(second):
        assert not one.put_now(Delta("a"))
    assert (first.taken, second.taken, one.since(0, 10)) == ([], [], [])


async def test_a_reader_that_is_behind_or_busy_gets_no_piece_out_of_turn():
    one, behind, busy = run(), Reader(), Reader(1, willing=False)
    await one.emit([Start(), Delta("a")])
    with one.reading(behind):
        assert not one.put_now(Delta("b"))
    with one.reading(busy):
        assert not one.put_now(Delta("b"))
    assert (behind.taken, one.since(0, 10), one.last) == ([], [Delta("a")], 1)


async def test_a_reader_that_was_stopped_takes_nothing_more():
    """Such as in a shutdown: its last event is on its way."""
    taken: list[Numbered] = []

    def put_now(event: Numbered) -> bool:
        taken.append(event)
        return True

    output: Any = SimpleNamespace(put_now=put_now)
    reader = StreamReader(output, no_work, BOUNDS, request_id="1")
    assert reader.put_now(Numbered(1, Delta("a")))
    reader.stop(ServerShutdown())
    assert not reader.put_now(Numbered(2, Delta("b")))
    assert (len(taken), reader.position) == (1, 1)


async def test_a_reader_that_comes_too_late_for_the_beginning_gets_no_stream():
    one, sent = run(max_bytes=100), list[Any]()

    async def emit(events: Sequence[ClientEvent]) -> None:
        sent.extend(events)
        output.begun = True

    output: Any = SimpleNamespace(begun=False, emit=emit)
    await one.emit([Start(), *[Delta("x" * 46)] * 5])
    late, resumed = (
        StreamReader(output, no_work, BOUNDS, request_id="1", position=position)
        for position in (2, 5)
    )
    with pytest.raises(ReplayUnavailable):
        await late.follow(one)
    assert sent == []
    await one.finish(DONE)
    assert await resumed.follow(one) == Numbered(6, DONE)
    assert sent == [Start()]


async def no_work(_: StreamReader) -> Done:
    raise NotImplementedError


async def test_only_pieces_of_text_take_the_short_cut():
    one, reader = run(), Reader()
    with one.reading(reader):
        assert not one.put_now(Numbered(1, Delta("a")))
    assert reader.taken == []


async def test_events_beyond_the_bound_are_dropped_and_a_reader_of_them_is_refused():
    one = run(max_bytes=100)
    await one.emit([Start(), *[Delta("x" * 46)] * 5])
    assert (one.dropped, one.last, len(one.since(0, 10))) == (3, 5, 2)
    assert len(await one.after(Reader(3))) == 2
    with pytest.raises(ReplayUnavailable):
        await one.after(Reader(2))


async def test_an_ended_run_has_one_last_event():
    one = run()
    await one.emit([Start(), Delta("a")])
    await one.finish(DONE)
    await one.finish(Done("length", DONE.usage))
    assert (one.end, one.since(0, 10)) == (DONE, [Delta("a"), DONE])


async def test_a_run_is_deserted_when_its_linger_is_over(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(anyio, "current_time", lambda: now[0])
    one, gone = run(linger=5), list[bool]()
    with one.reading(Reader()):
        now[0] += 50
    now[0] += 4
    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(one.watch, lambda: gone.append(True))
            await anyio.wait_all_tasks_blocked()
            assert gone == []
            one.read_elsewhere()  # which counts for half a second, and from then on the linger
            now[0] += 5.4
            one._audience_changed.send()
            await anyio.wait_all_tasks_blocked()
            assert gone == []
            now[0] += 0.2
            one._audience_changed.send()
    assert gone == [True]
