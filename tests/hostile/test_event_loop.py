"""No input and no event of an upstream's keeps the event loop for more than 50 ms.

What is done without a break is counted elsewhere (test_breaks.py). Here it is measured in a real
process; figures are kept with the results, and judged in a soak alone, on a machine that is calm.
"""

import asyncio
import os
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from chatnest.testing import FakeUpstream
from tests.hostile import bodies
from tests.hostile.cases import KINDS, post
from tests.hostile.floods import FLOODS
from tests.hostile.watchdog import Block, TrioWatch, Watchdog
from tests.servers.support import Client, Process, ask
from tests.streams.support import answer_to, policies, profile, serving
from tests.support.ports import free_port
from tests.support.soak import SOAKS, amount
from tests.support.waiting import wait_for

pytestmark = pytest.mark.soak

TARGET = 50.0
QUICK = ("huge_line", "million_tiny_chunks", "256 KiB of newlines", "bad framing")
RUNS = (
    *("million_tiny_chunks", "a delta for each character", "one delta of 200,000 characters"),
    *("endless", "8 MiB of newlines"),
)
HOSTILE = ("tokenizer bombs", "depth", "messages", "too large, declared and not")


class Server:
    """A server in a process of its own, under watch."""

    def __init__(self, port: int) -> None:
        self.port = port

    def block(self) -> Block:
        with Client(self.port) as client:
            told = client.get("/block").json()
        self.cpu: float = told.pop("cpu_total")
        self.frozen: int = told.pop("frozen")
        return Block(**told)

    def send(self, data: bytes) -> None:
        """Send anything, and read whatever comes of it."""
        with Client(self.port) as client:
            try:
                client.socket.sendall(data)
                client.reply().read_all()
            except (OSError, EOFError):
                pass

    def chat(self, *headers: str) -> None:
        with Client(self.port) as client:
            client.socket.settimeout(60)
            client.request("POST", body=ask(), headers=headers)
            client.reply().read_all()

    def run_and_replay(self) -> None:
        key = f"Idempotency-Key: {uuid.uuid4()}"
        self.chat(key)
        self.chat(key)

    def is_up(self) -> bool:
        try:
            self.block()
        except OSError:
            return False
        return True

    def worst_of(self, times: int, act: Callable[[], None]) -> Block:
        """The least of the worst: what happened each time is not the machine's doing."""
        blocks = []
        for _ in range(times):
            self.block()
            act()
            blocks.append(self.block())
        return min(blocks, key=lambda block: block.wall)


@pytest.fixture(scope="module")
def upstream() -> Iterator[FakeUpstream]:
    with FakeUpstream() as fake:
        yield fake


@pytest.fixture(scope="module", params=["uvloop-httptools", *(["asyncio-h11"] if SOAKS else [])])
def server(request, upstream, tmp_path_factory) -> Iterator[Server]:
    loop, http = request.param.split("-")
    port = free_port()
    command = ["-m", "uvicorn", "tests.hostile.server:create_app", "--factory"]
    command += ["--port", str(port), "--log-level", "critical", "--loop", loop, "--http", http]
    path = os.pathsep.join([str(Path(__file__).parents[2]), *(p for p in sys.path if p)])
    folder = tmp_path_factory.mktemp("server")
    with Process(command, cwd=folder, PYTHONPATH=path, HOSTILE_UPSTREAM=upstream.base_url):
        running = Server(port)
        wait_for(running.is_up)
        running.chat()
        yield running


def judge(name: str, block: Block, record_property: Callable[[str, object], None]) -> None:
    record_property("soak", f"{name}: {block}")
    assert block.cpu < (TARGET if SOAKS else 2_000), name


@pytest.mark.process
def test_control(server, record_property):
    """What an event loop that has nothing to do is kept by."""
    block = server.worst_of(1, lambda: time.sleep(amount(1, 5)))
    judge("nothing", block, record_property)


@pytest.mark.parametrize("kind", HOSTILE)
def test_no_request_keeps_the_event_loop(server, kind, record_property):
    blocks, costs = {}, {}
    for case in KINDS[kind]:
        server.block()
        before = server.cpu
        blocks[case.name] = server.worst_of(amount(1, 5), lambda c=case: server.send(c.sent))
        costs[case.name] = (server.cpu - before) * 1000 / amount(1, 5)
    name = max(blocks, key=lambda name: blocks[name].cpu)
    dearest = max(costs, key=costs.__getitem__)
    record_property("soak", f"{kind}: {costs[dearest]:.0f} ms of CPU for {dearest}")
    judge(f"{kind}, {name}", blocks[name], record_property)


def test_no_collection_of_garbage_keeps_the_event_loop(server, record_property):
    """What makes many objects brings one about, and all that was ever imported takes 50 ms."""
    littering = [
        *(bodies.TWICE["messages by the thousand"], bodies.MESSAGES["1,001 of them"]),
        *(bodies.NAMES["10,000 names"], bodies.body(*[bodies.HELLO] * 1_000)),
    ]

    def litter() -> None:
        for number in range(amount(60, 300)):
            server.send(post(littering[number % len(littering)]))

    judge("garbage", server.worst_of(amount(1, 5), litter), record_property)
    assert server.frozen > 50_000  # objects that no collection looks at


@pytest.mark.parametrize("name", FLOODS if SOAKS else QUICK)
def test_no_flood_keeps_the_event_loop(server, upstream, name, record_property):
    upstream.default = FLOODS[name]
    judge(name, server.worst_of(amount(1, 5), server.chat), record_property)


@pytest.mark.parametrize("name", RUNS if SOAKS else RUNS[:1])
def test_no_run_keeps_the_event_loop(server, upstream, name, record_property):
    upstream.default = FLOODS[name]
    judge(f"run, {name}", server.worst_of(amount(1, 5), server.run_and_replay), record_property)


@pytest.mark.anyio
@pytest.mark.loops("trio")
@pytest.mark.parametrize("name", FLOODS if SOAKS else QUICK)
async def test_no_flood_keeps_trio(anyio_backend, upstream, name, record_property):
    upstream.default = FLOODS[name]
    own = profile(max_output_tokens=3_000, max_tokens_per_request=12_000)
    options = {"profiles": [own], "default_profile": "own", "policies": policies()[1:]}
    async with serving(upstream, **options) as app:
        blocks = []
        for _ in range(amount(1, 3)):
            with TrioWatch() as block:
                await answer_to(app, ask(), timeout=60)
            blocks.append(block)
            await anyio.lowlevel.checkpoint()
    judge(name, min(blocks, key=lambda block: block.cpu), record_property)


async def kept_for(seconds: float) -> float:
    watchdog = Watchdog(asyncio.get_running_loop())
    while not watchdog.worst.turns:  # noqa: ASYNC110  # another thread counts them
        await asyncio.sleep(0.001)
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass
    turns = watchdog.worst.turns
    while watchdog.worst.turns < turns + 2:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    return watchdog.worst.cpu


def test_a_watchdog_sees_a_block():
    """The measure is one: a loop that is kept is seen to be, but for the time between two looks."""
    assert asyncio.run(kept_for(0.2)) > 100
