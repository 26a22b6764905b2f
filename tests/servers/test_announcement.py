"""``server.announce_seconds``: who is told to end says so, and serves on, until others know."""

import asyncio
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from chatnest.server.announcement import Announcement
from chatnest.testing import Answer
from tests.servers.support import Client, Process, children, closed, runs
from tests.support.waiting import PATIENCE, wait_for

DONE = b"event: done\ndata: \n\n"
LONG = "3600"
WORKERS = [(), ("--workers", "2")]
by_workers = pytest.mark.parametrize("workers", WORKERS, ids=["alone", "workers"])
linux = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")


def probe(port: int, path: str = "/readyz") -> tuple[int, Any]:
    """What somebody is told who comes anew."""
    with Client(port) as client:
        reply = client.get(path)
    return reply.status, reply.json()["status"]


def not_ready(port: int) -> bool:
    return probe(port) == (503, "server_shutdown")


def asks(port: int) -> bool:
    """Whether a new chat succeeds."""
    with Client(port) as client:
        return client.chat().read_all().endswith(DONE)


def announcing(process: Process) -> bool:
    return any("shutdown announced: " in line for line in process.lines)


def said_at(process: Process, what: str) -> datetime:
    line = process.find(what).string
    assert re.match(r"\S+ \S+ WARNING chatnest\.\w+: ", line)
    return datetime.fromisoformat(" ".join(line.replace(",", ".").split()[:2]))


@by_workers
@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_it_says_so_and_serves_on_until_a_second_signal(real, upstream, workers, second):
    process = real(
        *workers, CHATNEST_SERVER__ANNOUNCE_SECONDS=LONG, CHATNEST_SERVER__DRAIN_SECONDS=LONG
    )
    port = process.ready()
    upstream.script(Answer.stall(1))
    with Client(port) as client:
        reply = client.chat()
        reply.until(b'data: "Hello"\n\n')
        process.signal(signal.SIGTERM)
        wait_for(lambda: not_ready(port))
        for _ in range(6):  # by each of the workers, most likely
            assert not_ready(port)
            assert probe(port, "/healthz") == (200, "ok")
            assert asks(port)
        assert not process.ended()
        process.signal(second)
        wait_for(lambda: closed(port))
        upstream.release()
        assert reply.read_all().endswith(DONE)  # it was let finish
    process.wait()
    assert announcing(process)


@by_workers
def test_then_it_ends_as_without_it(real, upstream, workers):
    """Its sockets are closed, and answers are waited for."""
    process = real(
        *workers, CHATNEST_SERVER__ANNOUNCE_SECONDS="1", CHATNEST_SERVER__DRAIN_SECONDS=LONG
    )
    port = process.ready()
    upstream.default = Answer.stall(1)
    with Client(port) as client:
        reply = client.chat()
        reply.until(b'data: "Hello"\n\n')
        begun = time.monotonic()
        process.signal(signal.SIGTERM)
        wait_for(lambda: closed(port))
        assert time.monotonic() - begun >= 1
        process.find("drain started: seconds=3600")
        assert not process.ended()
        upstream.release()
        assert reply.read_all().endswith(DONE)
    process.wait()
    assert announcing(process)


@by_workers
def test_who_presses_ctrl_c_waits_for_nothing(real, workers):
    process = real(*workers, CHATNEST_SERVER__ANNOUNCE_SECONDS=LONG)
    process.ready()
    process.signal(signal.SIGINT)
    process.wait()
    assert not announcing(process)


def test_nor_if_the_terminal_tells_the_workers_as_well(real, upstream):
    """And their parent tells them by SIGTERM, which counts as no second one: they drain."""
    process = real(
        "--workers",
        "2",
        CHATNEST_SERVER__ANNOUNCE_SECONDS=LONG,
        CHATNEST_SERVER__DRAIN_SECONDS=LONG,
    )
    port = process.ready()
    upstream.default = Answer.stall(1)
    with Client(port) as client:
        reply = client.chat()
        reply.until(b'data: "Hello"\n\n')
        os.killpg(process.pid, signal.SIGINT)
        wait_for(lambda: closed(port))
        upstream.release()
        assert reply.read_all().endswith(DONE)
    process.wait()
    assert not announcing(process)


@linux
def test_all_processes_may_be_told(real):
    """As systemd does. The parent's word counts: workers end when its announcement is over."""
    process = real("--workers", "2", CHATNEST_SERVER__ANNOUNCE_SECONDS="2")
    port = process.ready()
    workers = children(process.pid)
    process.signal(signal.SIGTERM)
    begun = said_at(
        process, "shutdown announced: seconds=2."
    )  # a parent that hears of it late is another matter
    for worker in filter(runs, workers):
        os.kill(worker, signal.SIGTERM)
    first = said_at(process, "drain started: ")
    process.wait()
    assert first - begun >= timedelta(seconds=1.9)
    assert closed(port)


@linux
def test_a_worker_that_is_told_alone_ends_and_nobody_is_sent_away(real):
    """Its parent, which has one too many, has others."""
    process = real("--workers", "2", CHATNEST_SERVER__ANNOUNCE_SECONDS=LONG)
    port = process.ready()
    before = len(children(process.pid))
    process.signal(signal.SIGTTOU)
    process.find("drain started: ")
    wait_for(lambda: len(children(process.pid)) < before)
    assert probe(port) == (200, "ok")
    assert asks(port)
    process.signal(signal.SIGINT)
    process.wait()
    assert not announcing(process)


@linux
def test_a_parent_that_waits_for_a_worker_does_not_wait_for_ever(real):
    """It has told one to go, in the middle of an announcement, and hears nothing else meanwhile."""
    process = real("--workers", "2", CHATNEST_SERVER__ANNOUNCE_SECONDS=LONG)
    port = process.ready()
    process.signal(signal.SIGTERM)
    wait_for(lambda: not_ready(port))
    files = Path(f"/proc/{process.pid}/fd")
    before = len(list(files.iterdir()))
    process.signal(signal.SIGTTOU)
    wait_for(lambda: len(list(files.iterdir())) < before)  # it has told it, and hung up
    process.signal(signal.SIGTERM)
    process.wait()


@linux
def test_nor_for_one_that_waits_until_the_announcement_is_over(real):
    process = real("--workers", "2", CHATNEST_SERVER__ANNOUNCE_SECONDS="2")
    port = process.ready()
    process.signal(signal.SIGTTOU)  # of which it takes notice later
    process.signal(signal.SIGTERM)
    process.wait()
    assert announcing(process)
    assert closed(port)


@linux
def test_workers_do_not_announce_that_their_parent_was_killed(real):
    """It would keep the port from the next."""
    process = real("--workers", "2", CHATNEST_SERVER__ANNOUNCE_SECONDS=LONG)
    port = process.ready()
    workers = children(process.pid)
    process.signal(signal.SIGTERM)
    wait_for(lambda: not_ready(port))
    try:
        process.signal(signal.SIGKILL)
        wait_for(lambda: not any(runs(worker) for worker in workers))
    finally:
        for worker in filter(runs, workers):
            os.kill(worker, signal.SIGKILL)
    assert closed(port)


@contextmanager
def server() -> Iterator[list[int]]:
    """A server that is this process: the signals that it has heard of."""
    seen: list[int] = []
    former = signal.signal(signal.SIGTERM, lambda number, _: seen.append(number))
    try:
        yield seen
    finally:
        signal.signal(signal.SIGTERM, former)


def test_an_announcement_that_never_came_leaves_nothing():
    announcement = Announcement(3600)
    before = set(threading.enumerate())  # of which some may end meanwhile
    with server() as seen:
        with announcement.before_end():
            assert not announcement.begun
            assert len(set(threading.enumerate()) - before) == 1
        assert set(threading.enumerate()) <= before
        signal.raise_signal(signal.SIGTERM)
        assert seen == [signal.SIGTERM]


def test_a_worker_that_is_told_before_its_parent_waits_for_it(monkeypatch):
    """For a moment; and then until the announcement is over."""
    monkeypatch.setattr("chatnest.server.announcement._POLL_SECONDS", 0.05)
    announcement = Announcement(3600)
    is_set, looks = announcement._begun.is_set, 0

    def look() -> bool:
        nonlocal looks
        looks += 1
        return is_set()

    monkeypatch.setattr(announcement._begun, "is_set", look)

    async def work() -> None:
        with announcement.to_workers().before_end():
            signal.raise_signal(signal.SIGTERM)
            assert seen == []
            announcement._begun.set()
            async with asyncio.timeout(PATIENCE):
                while looks < 4:  # noqa: ASYNC110  # it tells nobody
                    await asyncio.sleep(0.01)
                assert seen == []
                announcement._over.set()
                while not seen:  # noqa: ASYNC110  # as above
                    await asyncio.sleep(0.01)

    with server() as seen:
        asyncio.run(work())
    assert seen == [signal.SIGTERM]


def test_a_worker_hears_its_parent_at_once():
    """Where the announcement is over; not a second later."""
    announcement = Announcement(3600)
    with announcement.before_end():
        pass  # it is over

    async def work() -> None:
        with announcement.to_workers().before_end():
            signal.raise_signal(signal.SIGTERM)
            assert seen == [signal.SIGTERM]

    with server() as seen:
        asyncio.run(work())
