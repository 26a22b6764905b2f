"""Crowds of clients on one event loop, before ``chatnest serve`` in a process."""

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from chatnest.testing import FakeUpstream
from tests.endurance.support import connect
from tests.servers.support import Process, ask

CONFIG = """
[profiles.balanced]
max_output_tokens = 1000000000
min_output_tokens = 1
max_tokens_per_request = 1000100000
requests_per_minute = 1000000
max_concurrent_streams = 100000
daily_token_limit = 10000000000000
[hard_caps]
max_output_tokens = 1000000000
max_tokens_per_request = 1000100000
requests_per_minute = 1000000
daily_token_limit = 10000000000000
[identity]
header = "X-User"
[bounds]
ledger_seconds = 20.0
lag_seconds = 60.0
answer_bytes = 100000000
"""
DONE = b"event: done"


@contextlib.contextmanager
def serving(folder: Path, upstream: str, **environ: str) -> Iterator[tuple[Process, int]]:
    """``chatnest serve`` for crowds, and its port."""
    (folder / "own.toml").write_text(CONFIG, encoding="utf-8")
    own = {"CHATNEST_PROVIDER__BASE_URL": upstream, "OPENAI_API_KEY": "k", **environ}
    command = ["-m", "chatnest", "serve", "--port", "0", "--config", "own.toml"]
    with Process(command, cwd=folder, **own) as process:
        yield process, process.ready()


async def asking(
    port: int, user: str, number: int = 0, *, buffer: int | None = None
) -> socket.socket:
    """A client that has asked, and has read nothing yet."""
    sock = await connect(port, f"127.0.0.{2 + number % 200}", buffer=buffer)
    content = json.dumps(ask(user)).encode()
    head = [
        "POST /api/chat HTTP/1.1",
        "Host: localhost",
        f"X-User: {user}",
        "Content-Type: application/json",
        f"Content-Length: {len(content)}",
    ]
    data = "\r\n".join([*head, "", ""]).encode() + content
    await asyncio.get_running_loop().sock_sendall(sock, data)
    return sock


async def whole(port: int, user: str, number: int = 0) -> bool:
    """Read a stream; whether it was told to its end."""
    loop = asyncio.get_running_loop()
    tail = b""
    try:
        with await asking(port, user, number) as sock:
            while data := await loop.sock_recv(sock, 65_536):
                tail = (tail + data)[-200:]
                if DONE in tail:
                    return True
    except OSError:
        pass
    return False


class Healthy:
    """Clients that read one stream after the other until they are told to stop."""

    def __init__(self, port: int, count: int) -> None:
        self.whole = 0
        self.lost = 0
        self._port = port
        self._count = count
        self._stop = False

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(self._count):
                group.create_task(self._one(number))

    async def _one(self, number: int) -> None:
        while not self._stop:
            if await whole(self._port, "healthy", number):
                self.whole += 1
            else:
                self.lost += 1

    def stop(self) -> None:
        self._stop = True


class Progress:
    """When each answer of the upstream was last read on, as seen from outside."""

    def __init__(self, upstream: FakeUpstream, user: str) -> None:
        self._upstream = upstream
        self._user = user
        self._looked_at = 0
        self._written: dict[int, tuple[int, float]] = {}

    def look(self) -> None:
        requests = self._upstream.requests
        for number in range(self._looked_at, len(requests)):
            if requests[number].json["messages"][-1]["content"] == self._user:
                self._written[number] = (-1, 0.0)
        self._looked_at = len(requests)
        now = time.monotonic()
        for number, (written, _) in self._written.items():
            seen = requests[number]
            if seen.state == "open" and seen.bytes_written != written:
                self._written[number] = (seen.bytes_written, now)

    def ended(self) -> list[float]:
        """Of those that were left unread: seconds from the last progress to their end."""
        requests = self._upstream.requests
        return [
            closed - at
            for number, (_, at) in self._written.items()
            if (closed := requests[number].closed_at) is not None
        ]

    def stalled(self) -> tuple[float, float]:
        """When the last of them stalled, and when the first was ended."""
        requests = self._upstream.requests
        closed = [at for number in self._written if (at := requests[number].closed_at) is not None]
        return max(at for _, at in self._written.values()), min(closed)
