"""Intake: a burst is taken, a rate that is too high is not. The clock is the test's."""

import asyncio
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import trio

from chatnest import Bounds, ChatNestApp
from chatnest.asgi.http import SEND_NOW
from chatnest.errors import Overloaded
from chatnest.ledger.memory import MemoryLedger
from chatnest.providers import DemoProvider
from chatnest.streams.intake import Intake
from chatnest.testing import Conversation
from tests.servers.support import ask

BOUND = 0.25


class Loop:
    """An event loop whose turns take as long as a test says."""

    def __init__(self, streams: int = 1_000_000) -> None:
        self.now = 1_000.0
        self.open = 0
        self.ready: deque[Any] = deque()
        self.places: list[Any] = []
        self.intake = Intake(
            BOUND, streams, lambda: self.open, clock=lambda: self.now, work=lambda: self.now
        )

    def soon(self, act, argument) -> None:
        self.ready.append((act, argument))

    def arrive(self, chats: int, *, wait: bool = False) -> int:
        """How many of them are let in. They call the model at once, or ``wait``."""
        taken = sum(self.intake.take(self.soon) for _ in range(chats))
        places = [self.intake.place() for _ in range(taken)]
        for leave in () if wait else places:
            leave(True)
        self.places += places if wait else []
        return taken

    def turn(self, seconds: float) -> None:
        self.now += seconds
        for _ in range(len(self.ready)):
            act, argument = self.ready.popleft()
            act(argument)


def test_a_burst_is_taken():
    assert Loop().arrive(100) == 100


def test_nobody_is_let_in_behind_a_long_turn():
    loop = Loop()
    assert loop.arrive(1) == 1
    loop.turn(0)
    loop.now += BOUND + 0.01  # this turn is longer than the bound already
    assert loop.arrive(10) == 0
    loop.turn(0)
    assert loop.intake.lag > BOUND
    assert loop.arrive(10) == 0  # the last one was
    loop.turn(0.001)
    loop.turn(0.001)
    assert loop.arrive(1) == 1


def test_more_than_a_burst_makes_a_crowd_and_a_crowd_ends():
    loop = Loop()
    assert 0 < loop.arrive(10_000) < 1_000
    assert loop.intake.lag == 0
    loop.turn(0.001)
    loop.turn(0.001)
    few = loop.arrive(10_000)
    assert 0 < few < 100
    loop.turn(0.001)
    loop.turn(0.001)  # nobody came, so that the loop is left alone
    loop.now += 1.01
    crowded: bool = loop.intake.is_crowded
    assert (crowded, loop.arrive(100) > few) == (False, True)


def test_turns_that_stay_long_make_a_crowd():
    loop = Loop()
    for _ in range(10):
        loop.arrive(50)
        loop.turn(0.1)
    assert loop.intake.is_crowded
    assert loop.arrive(50) < 50


def test_a_crowd_lets_in_as_many_as_reach_the_model():
    loop = Loop()
    loop.arrive(10_000)
    loop.turn(0)
    taken = 0
    for _ in range(20):
        taken += loop.arrive(100, wait=True)
        loop.turn(0.001)
    assert 0 < taken < 2_000
    assert loop.arrive(100) == 0  # none of them has reached it
    for leave in loop.places:
        leave(True)
    loop.turn(0.001)
    assert loop.arrive(100) > 0


def test_chats_that_are_there_as_a_whole_wait_from_the_first():
    loop = Loop()
    loop.arrive(10_000)
    loop.turn(0)
    taken = 0
    for _ in range(50):
        loop.turn(0.001)
        taken += sum(loop.intake.take(loop.soon, whole=True) for _ in range(10))
    assert 0 < taken < 500
    places = [loop.intake.place(counted=True) for _ in range(taken)]
    assert loop.arrive(10) == 0
    for leave in places:
        leave(True)
    assert loop.arrive(10) == 10


def test_bodies_that_never_come_keep_nobody_out_of_a_crowd():
    loop = Loop()
    loop.arrive(10_000)
    loop.turn(0)
    loop.turn(0.001)
    for _ in range(50):
        assert loop.intake.take(loop.soon)
        loop.turn(0.001)
    assert loop.intake.is_crowded
    assert loop.arrive(10) == 10


def test_a_place_that_is_never_given_back_is_forgotten():
    loop = Loop()
    loop.arrive(10_000)
    loop.turn(0)
    for _ in range(50):
        loop.arrive(100, wait=True)
        loop.turn(0.001)
    assert loop.arrive(100) == 0
    for _ in range(3):
        loop.turn(1.01)
        loop.arrive(1, wait=True)
    loop.turn(0)
    loop.turn(0)
    assert loop.arrive(100) > 0


def test_nothing_stands_in_the_loop_while_no_chat_comes():
    loop = Loop()
    loop.arrive(1)
    for _ in range(5):
        loop.turn(0.001)
    assert not loop.ready


def test_a_loop_that_has_ended_is_not_waited_for():
    loop = Loop()
    loop.arrive(1)
    loop.ready.clear()
    loop.now += 10
    assert loop.arrive(1) == 0  # it is as late as that
    other = Loop()
    assert loop.intake.take(other.soon)
    assert other.ready


@pytest.mark.parametrize("accepted", [1, 64, 200])
@pytest.mark.parametrize("seconds", [0.0005, 0.005])
def test_a_burst_of_200_chats_is_taken_by_a_slow_machine(accepted, seconds):
    """However many of them the server accepts in one turn, and whatever each of them takes."""
    loop = Loop()
    taken = 0
    while taken < 200:
        few = min(accepted, 200 - taken)
        assert loop.arrive(few, wait=True) == few
        loop.turn(few * seconds if taken else 0)  # the first turn is not measured
        taken += few
    assert not loop.intake.is_crowded


def test_a_rate_that_is_too_high_is_no_burst():
    """Chats at five times the rate that a slow machine keeps up with."""
    loop = Loop()
    taken = asked = 0
    for _ in range(100):
        few = loop.arrive(25, wait=True)
        taken, asked = taken + few, asked + 25
        loop.turn(0.005 * few)
    assert loop.intake.is_crowded
    assert taken < 0.3 * asked


def test_turns_are_measured_under_every_event_loop():
    """A callback of asyncio's is in no task, and in no context that says which library it is."""

    async def measured() -> Intake:
        intake = Intake(BOUND, 1, lambda: 0)
        assert intake.take()
        for _ in range(5):
            await anyio.lowlevel.checkpoint()
        return intake

    with ThreadPoolExecutor(1) as thread:
        assert not thread.submit(asyncio.run, measured()).result()._watching
    assert not trio.run(measured)._watching


def test_streams_have_a_limit():
    loop = Loop(streams=2)
    loop.open = 2
    assert loop.arrive(1) == 0
    with pytest.raises(Overloaded):
        loop.intake.check_room()
    loop.open = 1
    loop.intake.check_room()
    assert loop.arrive(1) == 1


# ---------------------------------------------------------------- the application


class Books(MemoryLedger):
    """A ledger that counts what it is asked."""

    asked = 0

    async def reserve(self, reservation):
        self.asked += 1
        return await super().reserve(reservation)


class Flow:
    """What ``chatnest serve`` knows of a connection."""

    def __init__(self, *looks: bool) -> None:
        self.looks = list(looks)

    def belongs_to(self, _: object) -> bool:
        return False

    def is_gone(self) -> bool:
        return self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]


@pytest.mark.anyio
@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": '"a"'}], ids=["plain", "with a key"])
@pytest.mark.parametrize("looks", [[True], [False, True]], ids=["before", "after the body"])
async def test_a_client_that_has_gone_is_no_operation_of_the_ledger(headers, looks):
    books = Books()
    app = ChatNestApp(provider=DemoProvider(), ledger=books)
    extras = {"extensions": {SEND_NOW: Flow(*looks)}}
    async with Conversation(app, json=ask(), headers=headers, extras=extras) as c:
        await anyio.wait_all_tasks_blocked()
        c.disconnect()
        await c.finished()
    assert books.asked == 0
    assert not c.messages
    assert not c.late


@pytest.mark.anyio
async def test_a_worker_that_is_behind_refuses_before_it_reads():
    books = Books()
    app = ChatNestApp(provider=DemoProvider(), ledger=books, bounds=Bounds(streams=1))
    app.intake._streams = 0
    async with Conversation(app, json=ask(), send_body=False) as c:
        await c.finished()
    assert (c.status, c.problem()["code"]) == (503, "overloaded")
    assert c.headers["retry-after"] == "2"
    assert books.asked == 0
    async with Conversation(app, method="GET", path="/limits") as c:
        await c.finished()
    assert c.status == 200
