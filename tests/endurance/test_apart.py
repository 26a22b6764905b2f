"""Several event loops, several processes: nothing of one is touched by another."""

import subprocess
import sys
import threading
import time
from typing import Any

import anyio
import pytest

from chatnest import Bounds, ChatNestApp, OpenAIProvider
from chatnest.testing import Answer, Conversation, FakeUpstream
from tests.endurance.support import ROOT, python_path
from tests.servers.support import COMPLAINTS, ask

BACKENDS = ("asyncio", "trio")


SETTLE = 60.0
"""Seconds that a shutdown waits for settlements, where there is one to wait for."""


def patient(upstream: FakeUpstream) -> ChatNestApp:
    provider = OpenAIProvider(base_url=upstream.base_url, api_key="k")
    return ChatNestApp(provider=provider, bounds=Bounds(settle_seconds=SETTLE))


class Reader(threading.Thread):
    """Reads a stream on an event loop of its own."""

    def __init__(self, chat: ChatNestApp, backend: str) -> None:
        super().__init__(daemon=True)
        self.reads = threading.Event()
        self.received = b""
        self.failure: BaseException | None = None
        self._chat = chat
        self._backend = backend

    def run(self) -> None:
        try:
            anyio.run(self._read, backend=self._backend)
        except BaseException as exc:  # noqa: BLE001  # the test shows it
            self.failure = exc

    async def _read(self) -> None:
        async with Conversation(self._chat, json=ask(), timeout=30) as c:
            await c.until(lambda: b"Hello" in c.received)
            self.reads.set()
            self.received = await c.read_all()


@pytest.mark.parametrize("other", BACKENDS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_an_application_is_closed_from_another_event_loop(
    upstream: FakeUpstream, backend: str, other: str
):
    """Streams are ended where they run: at once, and without an error."""
    upstream.default = Answer.stall(1)
    chat = patient(upstream)
    reader = Reader(chat, backend)
    reader.start()
    assert reader.reads.wait(20)
    begun = time.monotonic()
    anyio.run(chat.aclose, backend=other)
    took = time.monotonic() - begun
    reader.join(20)
    assert reader.failure is None
    assert b'"code":"server_shutdown"' in reader.received
    assert took < SETTLE / 2, "as long as a settlement may take, where streams are not told"
    upstream.wait(lambda u: u.aborted == 1)


def test_a_stream_whose_event_loop_has_ended_is_not_waited_for(upstream: FakeUpstream):
    """As in a thread that was left alone: its loop is closed, and what ran there with it."""
    upstream.default = Answer.stall(1)
    chat = patient(upstream)
    streams: Any = chat._streams

    async def leave_one() -> None:
        streams._streams[object()] = anyio.lowlevel.current_token()

    anyio.run(leave_one)
    begun = time.monotonic()
    anyio.run(chat.aclose)
    assert time.monotonic() - begun < SETTLE / 2


FORKS = """
import os, sys
import anyio
from chatnest import Bounds, ChatNestApp, MemoryLedger, OpenAIProvider
from chatnest.ledger.base import Limit
from chatnest.ledger.sqlite import SQLiteLedger
from chatnest.testing import Conversation

base_url, where = sys.argv[1:]
ledger = MemoryLedger() if where == "memory" else SQLiteLedger(where)
provider = OpenAIProvider(base_url=base_url, api_key="k")
chat = ChatNestApp(provider=provider, ledger=ledger, bounds=Bounds(ledger_seconds=20))

async def once():
    body = {"messages": [{"role": "user", "content": "Hi"}]}
    async with Conversation(chat, json=body, timeout=30) as c:
        assert (await c.read_all()).endswith(b"event: done\\ndata: \\n\\n"), c.received
    limit = Limit(name="tokens", unit="tokens", window="day", account="addr:127.0.0.1", amount=1)
    (state,) = await ledger.usage((limit,))
    return state.used

print(anyio.run(once), flush=True)
children = []
for _ in range(2):
    child = os.fork()
    if child == 0:
        os.write(1, f"{anyio.run(once)}\\n".encode())
        anyio.run(chat.aclose)
        sys.stderr.flush()
        os._exit(0)
    children.append(child)
    assert os.waitpid(child, 0)[1] == 0
print(anyio.run(once), flush=True)
anyio.run(chat.aclose)
"""


@pytest.mark.parametrize(
    ("where", "used"), [("memory", [12, 24, 24, 24]), ("sqlite", [12, 24, 36, 48])]
)
def test_a_fork_after_use_shares_no_connection_and_no_memory(
    tmp_path, upstream: FakeUpstream, where: str, used: list[int]
):
    """As servers do that load an application once. Books in a file are everybody's."""
    path = "memory" if where == "memory" else str(tmp_path / "books.db")
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", FORKS, upstream.base_url, path],
        cwd=ROOT,
        env={"PYTHONPATH": python_path()},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [int(line) for line in done.stdout.split()] == used
    assert COMPLAINTS.search(done.stderr) is None, done.stderr
    assert upstream.connections == 4, "each on a connection of its own"
