"""Readers that stall, that are slow, or that keep a connection for nothing, before a fast model."""

import asyncio
import time
from typing import Any, Self

import pytest

from chatnest.testing import Answer, FakeUpstream
from tests.endurance.conftest import Measured
from tests.endurance.crowds import Healthy, Progress, asking, serving, whole
from tests.endurance.support import open_files, rss, sockets
from tests.ledger.soak import SOAKS, amount
from tests.servers.support import Process

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
            asked = time.monotonic()
            await eventually(lambda: len(progress.ended()) == stalled, timeout + 120)
            evicted = time.monotonic()
            back = await eventually(
                lambda: sockets(process.pid) <= at_rest + 2 * healthy + 20, timeout + 60
            )
            well.stop()
        for client in clients:
            client.close()
        took = max(progress.ended())
        flat = watch.growth(asked + (evicted - asked) / 2, evicted)
        note(
            f"{stalled:,} stalled readers: memory",
            f"base + {MOST} MiB, flat",
            f"+{watch.most:.0f} MiB at most, {flat:+.1f} MiB in the second half",
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
            asyncio.run(crowd(process, port, upstream))


async def warm_up(port: int) -> None:
    assert all(await asyncio.gather(*(whole(port, "healthy", n) for n in range(3))))
