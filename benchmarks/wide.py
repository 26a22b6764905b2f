"""Whether a single process holds thousands of streams, and keeps its time with each."""

import asyncio
import sys
from itertools import pairwise

from benchmarks.bench import Bench
from benchmarks.crowd import Crowd, crowd
from benchmarks.load import run
from benchmarks.servers import Server, Setting
from benchmarks.spent import Spent

__all__ = ["Wide"]

_PING = 5.0


class Wide:
    """``lost`` counts streams that were not whole, ``open`` how many were open at once.
    ``ping_ms`` is how far two pings of a stream are from ``ping_interval`` apart, of 99 % of them.
    """

    name = "wide"
    what = (
        "5,000 open streams, a token a second each, `ping_interval = 5`; jitter is how far two "
        "pings of a stream are from 5 s apart"
    )
    fresh = True
    long = True
    setting = Setting(ping=_PING)
    servers = ("chatnest", "chatnest-redis", "express")

    def __call__(self, bench: Bench, server: Server) -> dict[str, float]:
        found: dict[str, float] = run(lambda: self._measure(bench, server))
        return found

    async def _measure(self, bench: Bench, server: Server) -> dict[str, float]:
        number, tokens = (500, 24) if bench.quick else (5_000, 75)
        with crowd(server.port, server.question(tokens, 1_000), tokens) as streams:
            await streams.grow(number)
            most, before = streams.open, streams.seen
            with Spent(server, bench.upstream) as spent:
                await asyncio.sleep(tokens / 3)
            seen = streams.seen - before
            await streams.finish()
            for reason, times in streams.reasons.items():
                print(f"wide {server.name}: {times} lost: {reason}", file=sys.stderr)
            found = {
                "lost": float(streams.lost),
                "open": float(most),
                "us": spent.cpu / seen * 1e6,
                **spent.shares(),
            }
            if jitter := _jitter(streams):
                found["ping_ms"] = jitter[int(len(jitter) * 0.99)]
        return found


def _jitter(streams: Crowd) -> list[float]:
    """Milliseconds, sorted."""
    return sorted(
        abs(after - before - _PING) * 1e3
        for stream in streams.streams
        for before, after in pairwise(stream.pings)
    )
