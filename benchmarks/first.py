"""How long a first token is held up, beyond what the model itself takes."""

import asyncio
import statistics
from time import perf_counter

from benchmarks.bench import Bench
from benchmarks.crowd import Crowd, crowd
from benchmarks.load import Reader, run
from benchmarks.servers import USUAL, Server

__all__ = ["First"]

_SHARE = 0.7  # of the server's core, with streams in the background
_NEAR = 0.05
_MOST = 600  # streams in the background, or the load's core would be what is measured
_LONG = 3_900  # tokens, for those in the background: 78 seconds


class First:
    """Questions to the server and to the model itself in turn; ``ms`` is what lies between their
    medians with nothing else to do, ``ms_busy`` with a core that is busy for 70 %.
    """

    name = "first"
    what = (
        "questions to the server and to the model itself in turn: milliseconds between the medians "
        "of their first tokens, alone, and with a crowd behind that keeps the core busy for 70 %"
    )
    fresh = True
    long = True
    setting = USUAL
    servers: tuple[str, ...] = ()

    def __call__(self, bench: Bench, server: Server) -> dict[str, float]:
        found: dict[str, float] = run(lambda: self._measure(bench, server))
        return found

    async def _measure(self, bench: Bench, server: Server) -> dict[str, float]:
        number = 100 if bench.quick else 300
        await _added(bench, server, number // 2)
        found = {"ms": await _added(bench, server, number)}
        with crowd(server.port, server.question(_LONG, 20), _LONG) as background:
            await _occupy(server, background)
            before, start = server.cpu_seconds(), perf_counter()
            added = await _added(bench, server, number)
            share = (server.cpu_seconds() - before) / (perf_counter() - start)
            found["share"] = share
            if abs(share - _SHARE) <= 3 * _NEAR:
                found["ms_busy"] = added
        return found


async def _occupy(server: Server, background: Crowd) -> None:
    """Let the server's core be busy for its share, as nearly as the crowd can have it."""
    number = 20
    for _ in range(6):
        await background.grow(number)
        await asyncio.sleep(0.3)
        before, start = server.cpu_seconds(), perf_counter()
        await asyncio.sleep(1.2)
        share = (server.cpu_seconds() - before) / (perf_counter() - start)
        wanted = min(_MOST, int(number * _SHARE / share))
        if share >= _SHARE - _NEAR or wanted <= number:
            break
        # Not all at once: a busier server may take less for each token, or more.
        number += max(1, int((wanted - number) * 0.8))


async def _added(bench: Bench, server: Server, number: int) -> float:
    """Milliseconds between the medians of the server's first tokens and the model's own."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    request = server.question(1)
    times = []
    readers = []
    for port in (server.port, bench.upstream.port):
        _, reader = await loop.create_connection(
            lambda: Reader(lambda _: ended.set()), "127.0.0.1", port
        )
        readers.append(reader)
        times.append([0.0 for _ in range(number)])
    for index in range(number):
        for reader, found in zip(readers, times, strict=True):
            ended.clear()
            reader.ask(request)
            await ended.wait()
            if reader.lost:
                raise reader.lost
            found[index] = reader.first - reader.asked
            await asyncio.sleep(0.005)
    for reader in readers:
        reader.transport.close()
    ours, models = (statistics.median(found) for found in times)
    return (ours - models) * 1e3
