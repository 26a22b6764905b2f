"""Ten thousand clients that leave at random: everything is back to where it was."""

import asyncio
import contextlib
import random
import socket
from collections import Counter
from typing import Any

import pytest

from chatnest.testing import Answer, FakeUpstream
from tests.endurance.conftest import Measured
from tests.endurance.support import (
    CHECKED,
    Server,
    connect,
    leave,
    open_files,
    request,
    run,
    uvicorn_process,
)
from tests.servers.support import Client
from tests.support.soak import SOAKS, amount

DONE = b"event: done"
AT_ONCE = 60
LONGEST = 0.05
"""Seconds that a client stays who leaves after a while."""
PATIENCE = 0.5
"""Seconds that one stays who waits for text, which may never come."""
TO_THE_END = 10**9
QUIET = amount(20, 3)
"""Seconds: machines that run many tests at once have other things to do."""
NEXT = amount(20, 100)
GROWTH = 20
"""MiB."""
ANSWERS = (
    Answer.tokens(20, pace=0.002),
    Answer.tokens(20, pace=0.002, first_delay=0.02),
    Answer.endless("x" * 200, pace=0.001),
    Answer.silence(),
    Answer.error(500),
)


async def cancel_at_random(port: int, count: int, seed: int) -> Counter[str]:
    """So many clients, sixty at once: half of them leave after a while, half after a while of
    text. Between two, each asks for something else, so that they come as fast as they are served.
    """
    chance = random.Random(seed)
    ways: Counter[str] = Counter()
    left = iter(range(count))

    async def one_after_the_other() -> None:
        with await connect(port) as other:
            for number in left:
                how = "RST" if number % 2 else "FIN"
                ways[how] += 1
                text = chance.randrange(1_000) if chance.random() < 0.5 else TO_THE_END
                patience = PATIENCE if text < TO_THE_END else chance.random() * LONGEST
                with await connect(port, f"127.0.0.{2 + number % 100}") as sock:
                    await read(sock, text, patience)
                    leave(sock, how)
                await ask_something(other)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(one_after_the_other())
    return ways


async def read(sock: socket.socket, size: int, seconds: float) -> None:
    """Ask, and read so many bytes of the answer, or until its end or for so long."""
    loop, got = asyncio.get_running_loop(), b""
    with contextlib.suppress(TimeoutError, ConnectionError):
        async with asyncio.timeout(seconds):
            await loop.sock_sendall(sock, request("Hi"))
            while len(got) < size and DONE not in got[-100:]:
                data = await loop.sock_recv(sock, 65_536)
                if not data:
                    return
                got += data


async def ask_something(sock: socket.socket) -> None:
    loop, got = asyncio.get_running_loop(), b""
    await loop.sock_sendall(sock, b"GET /inside HTTP/1.1\r\nHost: localhost\r\n\r\n")
    while b"blocked" not in got:
        data = await loop.sock_recv(sock, 65_536)
        assert data, got
        got += data


def succeed(server: Server, count: int) -> int:
    good = 0
    for _ in range(count):
        with Client(server.port) as client:
            good += b"event: done" in client.chat().read_all()
    return good


def without_pool(server: Server, upstream: FakeUpstream) -> dict[str, int]:
    """What there is, without connections that the pool keeps for the next request."""
    upstream.disconnect()
    upstream.wait(lambda u: not u.open_sockets)
    counts: dict[str, int] = server.leaks()["counts"]
    return counts


def choose(chance: random.Random) -> Any:
    return lambda _: chance.choice(ANSWERS)


@pytest.mark.soak
@pytest.mark.parametrize(("loop", "http"), [("asyncio", "h11"), ("uvloop", "httptools")])
def test_nothing_is_left_of_those_who_left(
    tmp_path, upstream, measured: Measured, loop: str, http: str
):
    """Promise C. The server is warm before: pools keep connections, and Python its memory."""
    open_files(4_096)
    count = amount(150, 10_000)
    chance = random.Random(1)
    checked = {} if SOAKS else CHECKED
    with uvicorn_process(tmp_path, upstream.base_url, loop, http, **checked) as server:
        upstream.default = choose(chance)
        run(cancel_at_random(server.port, amount(60, 1_000), 2))
        upstream.default = Answer()
        assert succeed(server, 3) == 3
        before = without_pool(server, upstream)
        upstream.default = choose(chance)
        ways = run(cancel_at_random(server.port, count, 3))
        upstream.default = Answer()
        upstream.wait(lambda u: u.served + u.aborted == len(u.requests), timeout=QUIET)
        server.quiet({**before, "sockets": before["sockets"] + AT_ONCE}, within=QUIET)
        called = len(upstream.requests)
        assert succeed(server, NEXT) == NEXT
        after = without_pool(server, upstream)
        server.quiet(before, within=QUIET)
        grown = (after["rss"] - before["rss"]) / 2**20
    what = {k: v for k, v in after.items() if k not in {"rss", "threads"}}
    measured(
        what=f"{count:,} random cancels, {AT_ONCE} at once, {ways['RST']:,} by RST",
        where=f"uvicorn, {loop} and {http}",
        target=f"all back within {QUIET} s, the next {NEXT} succeed, RSS + {GROWTH} MiB",
        figure=f"all back ({listed(what)}), {NEXT} of {NEXT}, RSS {grown:+.1f} MiB; "
        f"the model was asked {called:,} times",
    )
    if SOAKS:
        assert grown <= GROWTH


def listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{name.split(' of ')[0]} {count}" for name, count in counts.items())
