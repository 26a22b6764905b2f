"""Servers in processes of their own, watched from inside and outside; ways to leave."""

import asyncio
import contextlib
import os
import resource
import signal
import socket
import statistics
import struct
import sys
import time
from collections.abc import Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tests.servers.support import Client, Process, ask

ROOT = Path(__file__).parents[2]
CHECKED = {"PYTHONDEVMODE": "1", "PYTHONASYNCIODEBUG": "1", "PYTHONWARNINGS": "error"}
"""What has a server complain of whatever is left behind."""
T = TypeVar("T")
RST = struct.pack("ii", 1, 0)


class Server:
    """A server of ``tests.endurance.app`` in a process."""

    def __init__(self, process: Process, port: int) -> None:
        self.process = process
        self.port = port

    def inside(self) -> dict[str, Any]:
        with Client(self.port) as client:
            document: dict[str, Any] = client.get("/inside").json()
            return document

    def leaks(self) -> dict[str, Any]:
        """As LeakProbe counts and names them."""
        with Client(self.port) as client:
            document: dict[str, Any] = client.get("/leaks").json()
            return document

    def entered(self, phase: str) -> int:
        count: int = self.inside()["entered"].get(phase, 0)
        return count

    def quiet(self, before: dict[str, int], within: float) -> dict[str, Any]:
        """Wait until there is no more of anything than before, but memory and pooled threads."""
        deadline = time.monotonic() + within
        while True:
            seen = self.leaks()
            counts = seen["counts"]
            more = {k: v - before[k] for k, v in counts.items() if v > before[k]}
            more = {k: v for k, v in more.items() if k not in {"rss", "threads"}}
            if not more:
                return seen
            assert time.monotonic() < deadline, more
            time.sleep(0.02)


@contextlib.contextmanager
def uvicorn_process(
    folder: Path, upstream: str, loop: str, http: str, **environ: str
) -> Iterator[Server]:
    """uvicorn; its standard error must be free of complaints when it has ended by SIGTERM."""
    command = ["-m", "tests.endurance.uvicorn_server", loop, http]
    own = {"ENDURANCE_UPSTREAM": upstream, "PYTHONPATH": python_path(), **environ}
    with Process(command, cwd=folder, **own) as process:
        server = Server(process, int(process.find(r"^port (\d+)")[1]))
        process.find("startup complete")
        yield server
        process.signal(signal.SIGTERM)
        process.wait()


def python_path() -> str:
    return os.pathsep.join([str(ROOT), *(p for p in sys.path if p)])


def open_files(wanted: int) -> None:
    """Allow this process, and those that it starts, so many open files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))


def rss(pid: int) -> float:
    """MiB that a process has in memory."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def sockets(pid: int) -> int:
    count = 0
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            count += str(link.readlink()).startswith("socket:")
    return count


def request(phase: str, number: str = "", *, body: bytes | None = None) -> bytes:
    """A chat request for what is to happen."""
    import json

    content = json.dumps(ask(phase)).encode() if body is None else body
    head = [
        "POST /api/chat HTTP/1.1",
        "Host: localhost",
        f"X-Id: {number}",
        "Content-Type: application/json",
        f"Content-Length: {len(content)}",
    ]
    return "\r\n".join([*head, "", ""]).encode() + content


def leave(sock: socket.socket, how: str) -> None:
    """By FIN, by RST, or by an end that goes on reading."""
    if how == "half-close":
        sock.shutdown(socket.SHUT_WR)
        return
    if how == "RST":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST)
    sock.close()


def centiles(seconds: Sequence[float]) -> str:
    """p50, p99 and the most, in milliseconds."""
    p50, p99 = percentile(seconds, 50), percentile(seconds, 99)
    most = max(seconds) * 1000
    return f"p50 {p50:.1f} ms, p99 {p99:.1f} ms, most {most:.1f} ms of {len(seconds):,}"


def percentile(seconds: Sequence[float], percent: int) -> float:
    """In milliseconds."""
    several = [*seconds, *seconds] if len(seconds) == 1 else seconds
    return statistics.quantiles(several, n=100, method="inclusive")[percent - 1] * 1000


def run(what: Coroutine[Any, Any, T]) -> T:
    """On an event loop, for ten minutes at most: what hangs must not hang its test."""
    return asyncio.run(asyncio.wait_for(what, 600))


async def connect(
    port: int, address: str = "127.0.0.1", *, buffer: int | None = None
) -> socket.socket:
    """A connection that does not block."""
    sock = socket.socket()
    sock.setblocking(False)
    if buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    if address != "127.0.0.1":
        sock.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
        sock.bind((address, 0))
    try:
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    except BaseException:
        sock.close()
        raise
    return sock
