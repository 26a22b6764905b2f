"""LeakProbe: what leaks is named, what does not is not."""

import socket
import subprocess
import sys

import anyio
import pytest

from chatnest import ChatNestApp, DemoProvider, MemoryLedger
from chatnest.ledger.base import Limit, Reservation
from chatnest.testing import LeakProbe

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc"),
]

# A thread that another test began may be seen to begin here.
THREADS = {"threads": 2}

BUDGET = Limit(name="tokens", unit="tokens", window="day", account="ann", amount=1_000)


async def test_nothing_leaks_where_nothing_happens():
    probe = LeakProbe(chats=[ChatNestApp(provider=DemoProvider(), ledger=MemoryLedger())])
    before = await probe.measure()
    now = await probe.settled(before, slack=THREADS)
    assert now.more_than(before, THREADS) == {}
    assert {"tasks", "fds", "sockets", "threads", "rss", "streams", "upstream slots"} <= set(
        now.counts
    )


async def test_a_socket_that_stays_open_is_named():
    probe = LeakProbe()
    before = await probe.measure()
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()),
        pytest.raises(AssertionError, match="established"),
    ):
        await probe.settled(before, within=0.1, slack=THREADS)
    await probe.settled(before, slack=THREADS)


async def test_a_task_that_goes_on_is_named():
    probe = LeakProbe()
    before = await probe.measure()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.sleep_forever, name="forgotten")
        with pytest.raises(AssertionError, match="forgotten"):
            await probe.settled(before, within=0.1, slack=THREADS)
        tasks.cancel_scope.cancel()
    await probe.settled(before, slack=THREADS)


async def test_a_hold_that_stays_is_named():
    ledger = MemoryLedger()
    probe = LeakProbe(ledger=ledger, limits=[BUDGET])
    before = await probe.measure()
    wish = Reservation(id="turn-1", limits=(BUDGET,), output=100, min_output=100)
    await ledger.reserve(wish)
    with pytest.raises(AssertionError, match="100 held tokens of ann"):
        await probe.settled(before, within=0.1, slack=THREADS)
    await ledger.release(wish)
    await probe.settled(before, slack=THREADS)


@pytest.mark.process
async def test_another_process_is_looked_into_from_outside():
    command = [sys.executable, "-c", "input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:  # noqa: ASYNC220  # at once
        probe = LeakProbe(process.pid)
        assert "tasks" not in (await probe.measure()).counts
        process.communicate(b"\n")
    with pytest.raises(ProcessLookupError):
        await probe.measure()


def test_what_cannot_be_seen_is_refused():
    with pytest.raises(ValueError, match="both, or neither"):
        LeakProbe(ledger=MemoryLedger())
    chat = ChatNestApp(provider=DemoProvider(), ledger=MemoryLedger())
    with pytest.raises(ValueError, match="Probe their own process"):
        LeakProbe(1, chats=[chat])
