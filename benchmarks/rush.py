"""How long a first token takes when a hundred clients ask at the same moment."""

import asyncio
import statistics
from functools import partial

from benchmarks.bench import Bench
from benchmarks.load import Lost, Reader, run
from benchmarks.servers import Server, Setting
from benchmarks.spent import Spent

__all__ = ["Rush", "rush"]

_STREAMS = 100
_TOKENS = 25
_GAP = 20
_CALM = 0.1
"""Seconds between the connections and the questions, so that the server has accepted them all."""

_PATIENCE = 60.0  # seconds


class Rush:
    """``ms`` is the median time from a question to its first token, ``p99_ms`` that of the
    slowest but 1 %. Each rush has new connections, which are open before its first question.
    """

    name = "rush"
    what = (
        "100 streams that start at the same moment, 25 tokens each, one every 20 ms: milliseconds "
        "from a question to its first token, the median and p99; the connections are open before"
    )
    fresh = False
    long = False
    setting = Setting()
    servers: tuple[str, ...] = ()

    def __call__(self, bench: Bench, server: Server) -> dict[str, float]:
        request = server.question(_TOKENS, _GAP)
        spent = Spent(server, bench.upstream)
        times: list[float] = []
        for _ in range(3 if bench.quick else 10):
            with spent:
                times += run(partial(rush, server.port, request))
        return {
            "ms": statistics.median(times) * 1e3,
            "p99_ms": sorted(times)[int(len(times) * 0.99)] * 1e3,
            **spent.shares(),
        }


async def rush(port: int, request: bytes) -> list[float]:
    """Seconds to the first token of each stream. Raises Lost for an answer that is not whole."""
    loop = asyncio.get_running_loop()
    left = asyncio.Semaphore(0)
    readers = []
    for _ in range(_STREAMS):
        _, reader = await loop.create_connection(
            lambda: Reader(lambda _: left.release()), "127.0.0.1", port
        )
        readers.append(reader)
    try:
        await asyncio.sleep(_CALM)
        for reader in readers:
            reader.ask(request)
        async with asyncio.timeout(_PATIENCE):
            for _ in readers:
                await left.acquire()
    finally:
        for reader in readers:
            reader.transport.abort()
    for reader in readers:
        if reader.lost or reader.seen != _TOKENS:
            raise reader.lost or Lost(f"{reader.seen} tokens of {_TOKENS}")
    return [reader.first - reader.asked for reader in readers]
