"""Readers that stall, that are slow, or that keep a connection for nothing, before a fast model."""

import asyncio
import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from chatnest.testing import Answer, FakeUpstream
from tests.endurance.conftest import Measured
from tests.endurance.crowds import Healthy, Progress, asking, serving, whole
from tests.endurance.support import (
    centiles,
    connect,
    open_files,
    percentile,
    rss,
    run,
    sockets,
)
from tests.servers.support import Process
from tests.support.soak import SOAKS, amount

PIECE = "x" * 1_000
SMALL = 4_096
MOST = 400
"""MiB over the base."""


def answer(seen: Any) -> Answer:
    """Endless for those who do not read; paced for the healthy."""
    if seen.json["messages"][-1]["content"] == "healthy":
        return Answer.tokens(40, pace=0.025)
    return Answer.endless(PIECE)


class Watch:
    """Samples of a process' memory and of what the upstream gives, until it is left."""

    def __init__(self, process: Process, progress: Progress) -> None:
        self.base = rss(process.pid)
        self.samples: list[tuple[float, float]] = []
        self._process = process
        self._progress = progress
        self._task: asyncio.Task[None]

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._sample())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _sample(self) -> None:
        while True:
            self._progress.look()
            self.samples.append((time.monotonic(), rss(self._process.pid) - self.base))
            await asyncio.sleep(0.1)

    @property
    def most(self) -> float:
        return max(mib for _, mib in self.samples)

    def growth(self, since: float, until: float) -> float:
        """MiB between two instants."""
        between = [mib for at, mib in self.samples if since <= at <= until]
        return between[-1] - between[0] if between else 0.0


async def eventually(condition: Any, within: float) -> float:
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < within
        await asyncio.sleep(0.05)
    return time.monotonic() - begun


@pytest.mark.soak
def test_readers_that_stall_are_evicted_and_cost_little(tmp_path, measured: Measured):
    """Promise F. Those who read lose nothing by it."""
    open_files(8_192)
    stalled, healthy, timeout = amount(40, 1_000), amount(5, 100), amount(2, 15)

    async def crowd(process: Process, port: int, upstream: FakeUpstream) -> None:
        progress, well = Progress(upstream, "stalled"), Healthy(port, healthy)
        await warm_up(port)
        at_rest = sockets(process.pid)
        async with asyncio.TaskGroup() as group, Watch(process, progress) as watch:
            group.create_task(well.run())
            clients = [
                await asking(port, "stalled", number, buffer=SMALL) for number in range(stalled)
            ]
            await eventually(lambda: len(progress.ended()) == stalled, timeout + 120)
            back = await eventually(
                lambda: sockets(process.pid) <= at_rest + 2 * healthy + 20, timeout + 60
            )
            well.stop()
        for client in clients:
            client.close()
        took = max(progress.ended())
        stalled_by, first_left = progress.stalled()
        flat = watch.growth(stalled_by, first_left)
        note(
            f"{stalled:,} stalled readers: memory",
            f"base + {MOST} MiB, flat",
            f"+{watch.most:.0f} MiB at most, {flat:+.1f} MiB in the "
            f"{max(0.0, first_left - stalled_by):.0f} s in which all were stalled",
        )
        note(
            f"{stalled:,} stalled readers: eviction",
            f"send_seconds ({timeout} s) + 2 s",
            f"{took:.1f} s after the last byte at most",
        )
        note(
            f"{stalled:,} stalled readers: sockets back",
            f"TCP_USER_TIMEOUT ({timeout} s) + 5 s",
            f"{back:.1f} s after the last eviction",
        )
        note(
            f"{stalled:,} stalled readers: {healthy} who read meanwhile",
            "none lost",
            f"{well.lost} of {well.whole + well.lost:,} streams lost",
        )
        assert well.lost == 0
        assert well.whole > 0
        if SOAKS:
            assert watch.most < MOST
            assert took < timeout + 2
            assert back < timeout + 5

    def note(what: str, target: str, figure: str) -> None:
        measured(what=what, where="`chatnest serve`", target=target, figure=figure)

    seconds = {"CHATNEST_BOUNDS__SEND_SECONDS": str(timeout)}
    with FakeUpstream(send_buffer=32_768) as upstream:
        upstream.default = answer
        with serving(tmp_path, upstream.base_url, **seconds) as (process, port):
            run(crowd(process, port, upstream))


async def warm_up(port: int) -> None:
    assert all(await asyncio.gather(*(whole(port, "healthy", n) for n in range(3))))


@pytest.mark.soak
def test_one_slow_reader_holds_its_model_back_and_nobody_else(tmp_path, measured: Measured):
    seconds = amount(2, 20)

    async def slow(port: int, ahead: list[int], upstream: FakeUpstream) -> None:
        """Reads 4 KiB every 50 ms, and notes how much more the upstream could give."""
        loop, read, until = asyncio.get_running_loop(), 0, time.monotonic() + seconds
        with await asking(port, "slow", buffer=SMALL) as sock:
            while time.monotonic() < until:
                data = await loop.sock_recv(sock, SMALL)
                assert data, "it ended, although it is endless"
                read += data.count(b"x")
                ahead.append(upstream_pieces(upstream) * len(PIECE) - read)
                await asyncio.sleep(0.05)

    async def paced(port: int) -> list[float]:
        """Seconds between what a healthy reader reads."""
        loop, gaps = asyncio.get_running_loop(), []
        with await asking(port, "paced", 1) as sock:
            begun = before = time.monotonic()
            while b"event: done" not in (data := await loop.sock_recv(sock, 65_536)):
                assert data, "it ended before its end"
                now = time.monotonic()
                gaps.append(now - before)
                before = now
        # The head, the start, the first; where all came at once, there is no other.
        return gaps[3:] or [before - begun]

    async def both(port: int, upstream: FakeUpstream) -> None:
        alone = await paced(port)
        ahead: list[int] = []
        async with asyncio.TaskGroup() as group:
            group.create_task(slow(port, ahead, upstream))
            beside = group.create_task(paced(port))
        where = "`chatnest serve`"
        measured(
            what="one slow reader: read ahead of it",
            where=where,
            target="512 KiB",
            figure=f"{max(ahead) / 1024:.0f} KiB at most",
        )
        measured(
            what="one slow reader: a token every 20 ms for another",
            where=where,
            target="not delayed",
            figure=f"{centiles(beside.result())}; alone {centiles(alone)}",
        )
        assert max(ahead) <= 512 * 1024

    with FakeUpstream(send_buffer=16_384) as upstream:
        upstream.default = lambda seen: (
            Answer.endless(PIECE)
            if seen.json["messages"][-1]["content"] == "slow"
            else Answer.tokens(50 * seconds, pace=0.02)
        )
        with serving(tmp_path, upstream.base_url) as (_, port):
            run(both(port, upstream))


def upstream_pieces(upstream: FakeUpstream) -> int:
    """Of the slow reader's answer."""
    (one,) = (u for u in upstream.requests if u.json["messages"][-1]["content"] == "slow")
    return one.pieces_sent


@pytest.mark.soak
def test_connections_that_do_nothing_delay_nobody(tmp_path, measured: Measured):
    """The model is in a process of its own, so that it does not share this one's clock."""
    open_files(16_384)
    idle, streams, asked = amount(200, 10_000), amount(20, 1_000), amount(50, 1_000)

    async def crowd(process: Process, port: int) -> None:
        took: list[float] = []
        kept = [await connect(port, f"127.0.0.{2 + n % 200}") for n in range(idle)]
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(whole(port, "paced", n)) for n in range(streams)]
            await eventually(lambda: sockets(process.pid) >= idle + 2 * streams, 120)
            for _ in range(asked):
                took.append(await health(port))
                await asyncio.sleep(0.01)
            open_now = sum(not task.done() for task in running)
            there = sum(still_open(sock) for sock in kept)
            for task in running:
                task.cancel()
        for sock in kept:
            sock.close()
        measured(
            what=f"`/healthz` beside {idle:,} idle connections and {streams:,} streams",
            where="`chatnest serve`",
            target="p99 50 ms",
            figure=f"{centiles(took)}; {there:,} and {open_now:,} were still there, "
            f"{rss(process.pid):.0f} MiB",
        )
        assert max(took) < 20
        if SOAKS:
            assert percentile(took, 99) < 50

    with (
        model(tmp_path, "--pieces", "3900", "--pace", "0.5") as base_url,
        serving(tmp_path, base_url) as (process, port),
    ):
        run(crowd(process, port))


@contextlib.contextmanager
def model(folder: Path, *options: str) -> Iterator[str]:
    """A fake upstream in a process; gives its base URL."""
    command = [sys.executable, "-m", "chatnest.testing.upstream", *options]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


async def health(port: int) -> float:
    """Seconds that one question takes, on a connection of its own."""
    loop, begun = asyncio.get_running_loop(), time.monotonic()
    with await connect(port) as sock:
        head = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        await loop.sock_sendall(sock, head)
        assert b" 200 " in await loop.sock_recv(sock, 65_536)
    return time.monotonic() - begun


def still_open(sock: socket.socket) -> bool:
    try:
        return sock.recv(1) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False
