"""Clients: raw sockets on one event loop, which read to the end and count frames of tokens."""

import asyncio
import json
from dataclasses import dataclass, replace

import uvloop

BODY = json.dumps({"messages": [{"role": "user", "content": "Hello, how are you?"}]}).encode()


@dataclass(frozen=True)
class Workload:
    """``streams`` at a time until there were ``total``; the upstream sends ``tokens`` a stream,
    with ``gap`` seconds between. The cost counts for each token, or for each request.
    """

    name: str
    streams: int
    total: int
    tokens: int
    gap: float = 0.0
    per: str = "token"

    def scaled(self, share: float) -> "Workload":
        total = max(1, int(self.total * share))
        return replace(self, total=total, streams=min(self.streams, total))


WORKLOADS = {
    "paced": Workload("paced", streams=200, total=200, tokens=200, gap=0.02),
    "burst": Workload("burst", streams=50, total=50, tokens=2_000),
    "short": Workload("short", streams=50, total=2_000, tokens=1, per="request"),
}


def run_load(port: int, workload: Workload, upstream: int) -> int:
    """Units of work that were done. Raises AssertionError for a stream that was not whole."""
    return uvloop.run(_run(port, workload, upstream))


async def _run(port: int, workload: Workload, upstream: int) -> int:
    await _tell(upstream, workload)
    left = iter(range(workload.total))

    async def client() -> int:
        seen = 0
        for _ in left:
            seen += await _one(port)
        return seen

    counts = await asyncio.gather(*(client() for _ in range(workload.streams)))
    assert sum(counts) == workload.total * workload.tokens, (workload, sum(counts))
    return workload.total * (workload.tokens if workload.per == "token" else 1)


async def _tell(upstream: int, workload: Workload) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", upstream)
    writer.write(f"PLAN {workload.tokens} {workload.gap}\r\n\r\n".encode())
    await reader.read()
    writer.close()


async def _one(port: int) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        b"POST /api/chat HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
    )
    seen = tail = 0
    rest = b""
    while data := await reader.read(65_536):
        rest = rest[-tail:] + data if tail else data
        seen += rest.count(b'"tok"')
        tail = 4  # shorter than what is counted, so that nothing is counted twice
    writer.close()
    return seen
