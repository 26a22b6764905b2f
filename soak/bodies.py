"""A thousand bodies of 8 MiB with two images each, at once, at one worker of ``chatnest serve``.

``python -m soak.bodies [BODIES]`` prints what came of it: how the requests ended, how long
/healthz took beside them, the memory of the worker, and what is held afterwards.
"""

import asyncio
import base64
import json
import os
import socket
import sys
import tempfile
from collections import Counter
from contextlib import suppress
from dataclasses import asdict, dataclass
from multiprocessing import Pipe, Process
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter

import uvloop

from benchmarks.upstream import upstream_process
from chatnest.ledger.audit import Audited
from chatnest.ledger.sqlite import SQLiteLedger
from soak.overload import CORES, HEALTH, served
from tests.test_image_size import png

BODY_BYTES = 8_388_608
AT_ONCE_BYTES = 262_144
PATIENCE = 120.0
SMALL = json.dumps({"messages": [{"role": "user", "content": "hi [1 0]"}]}).encode()


@dataclass
class Report:
    """Times in milliseconds, memory in MiB."""

    bodies: int
    ended: dict[str, int]
    seconds: float
    health_p50: float
    health_p99: float
    health_max: float
    memory_before: float
    memory_peak: float
    chat_afterwards: str
    held_afterwards: int


def large_body() -> bytes:
    """A conversation with two images, which are as large as the largest body allows."""
    question = {"type": "text", "text": "What are these? [1 0]"}
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,DATA"}}
    message = {"role": "user", "content": [question, image, image]}
    body = json.dumps({"messages": [message]})
    room = (BODY_BYTES - len(body)) // 8 * 3
    data = base64.b64encode(png(512, 512) + bytes(room - len(png(512, 512)))).decode()
    return body.replace("DATA", data).encode()


async def ask(port: int, number: int, body: bytes) -> str:
    """The status of a request from an address of its own, or how else it ended."""
    source = (f"127.{1 + number // 250}.0.{1 + number % 250}", 0)
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=source)
    except OSError:
        return "unreachable"
    head = f"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
    writer.write(f"{head}Content-Type: application/json\r\nConnection: close\r\n\r\n".encode())
    sending = asyncio.ensure_future(_send(writer, body))
    try:
        async with asyncio.timeout(PATIENCE):
            answer = await reader.read()
    except (OSError, TimeoutError) as exc:
        return type(exc).__name__
    finally:
        sending.cancel()
        writer.close()
    status = answer[9:12].decode() or "nothing"
    code = answer.partition(b'"code":"')[2].partition(b'"')[0].decode()
    if status == "200":
        code = "done" if b"event: done" in answer else code or "cut"
    return f"{status} {code}".strip()


async def _send(writer: asyncio.StreamWriter, body: bytes) -> None:
    with suppress(OSError):
        for start in range(0, len(body), AT_ONCE_BYTES):
            writer.write(body[start : start + AT_ONCE_BYTES])
            await writer.drain()


def pulse(port: int, parent: Connection) -> None:
    """Ask for /healthz every 20 ms until the parent has a word, and give it the seconds of each. In
    a process of its own, since the one that sends the bodies is busy.
    """
    seen: list[float] = []
    while not parent.poll(0.02):
        since = perf_counter()
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(HEALTH)
            client.recv(1)
        seen.append(perf_counter() - since)
    parent.send(seen)


async def until_ready(port: int) -> None:
    for _ in range(600):
        if (how := await ask(port, 0, SMALL)) == "200 done":
            return
        await asyncio.sleep(0.1)
    raise TimeoutError(how)


def memory(pid: int, field: str) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return round(next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024, 1)


async def measure(port: int, pid: int, bodies: int, ledger: Path) -> Report:
    await until_ready(port)
    body, before = large_body(), memory(pid, "VmRSS")
    child, parent = Pipe()
    Process(target=pulse, args=(port, parent)).start()
    since = perf_counter()
    ended = Counter(await asyncio.gather(*(ask(port, n, body) for n in range(1, bodies + 1))))
    seconds = perf_counter() - since
    child.send("over")
    times = sorted(child.recv())
    chat = await ask(port, 0, SMALL)
    books = SQLiteLedger(ledger)
    assert isinstance(books, Audited)
    held = len(await books.audit().holds())
    await books.aclose()
    p50, p99, most = (
        round(times[min(len(times) - 1, int(len(times) * share))] * 1000, 1)
        for share in (0.5, 0.99, 1)
    )
    return Report(
        bodies=bodies,
        ended=dict(ended),
        seconds=round(seconds, 1),
        health_p50=p50,
        health_p99=p99,
        health_max=most,
        memory_before=before,
        memory_peak=memory(pid, "VmHWM"),
        chat_afterwards=chat,
        held_afterwards=held,
    )


def main() -> None:
    bodies = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000
    os.sched_setaffinity(0, {CORES[0]})
    with tempfile.TemporaryDirectory() as folder, upstream_process() as model:
        ledger = Path(folder, "chatnest.db")
        environ = {
            "CHATNEST_CHAT__DEFAULT_PROFILE": "assistant",
            "CHATNEST_CHAT__ALLOWED_PROFILES": "assistant",
            "CHATNEST_LEDGER__URL": f"sqlite:{ledger}",
        }
        with served(model.port, **environ) as (port, pid):
            print(json.dumps(asdict(uvloop.run(measure(port, pid, bodies, ledger))), indent=1))


if __name__ == "__main__":
    main()
