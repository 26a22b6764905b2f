"""What an open stream holds of memory while the model is silent."""

import asyncio
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.crowd import crowd
from benchmarks.load import run
from benchmarks.servers import USUAL, Server, tree

__all__ = ["Idle"]

_SETTLED = 0.002  # of the memory: with less of a change in a second, it is as it will be
_LOOKS = 15


class Idle:
    """The slope of the memory between two numbers of streams, so that what a server holds anyway
    is not counted. ``kib`` is of pages that no other process has (USS), ``kib_rss`` of all.
    """

    name = "idle"
    what = (
        "streams that have had a token while the model is silent: the slope of the memory that no "
        "other process has (USS), between 500 and 4,000 of them; without the kernel's buffers"
    )
    fresh = True
    long = True
    setting = USUAL
    servers = ("chatnest", "chatnest-redis", "fastapi", "sse-starlette", "express", "nginx", "bare")

    def __call__(self, bench: Bench, server: Server) -> dict[str, float]:
        few, many = (200, 1_000) if bench.quick else (500, 4_000)
        found: dict[str, float] = run(lambda: self._measure(server, few, many))
        return found

    async def _measure(self, server: Server, few: int, many: int) -> dict[str, float]:
        with crowd(server.port, server.question(1, "hold"), 1) as streams:
            await streams.grow(few)
            before = await _settled(server.pid)
            await streams.grow(many)
            after = await _settled(server.pid)
            assert streams.open == many, f"{streams.open} of {many} are open"
        unshared, resident = (
            (b - a) / (many - few) / 1024 for a, b in zip(before, after, strict=True)
        )
        return {"kib": unshared, "kib_rss": resident}


async def _settled(pid: int) -> tuple[int, int]:
    """The memory once it does not change any more, or after a while."""
    found = _memory(pid)
    for _ in range(_LOOKS):
        await asyncio.sleep(1)
        last, found = found, _memory(pid)
        if abs(found[0] - last[0]) < _SETTLED * last[0]:
            break
    return found


def _memory(pid: int) -> tuple[int, int]:
    """Bytes of a process and all below it: unshared and resident."""
    unshared = resident = 0
    for each in tree(pid):
        for line in Path(f"/proc/{each}/smaps_rollup").read_text().splitlines()[1:]:
            name, _, size = line.partition(":")
            if name in {"Private_Clean", "Private_Dirty"}:
                unshared += int(size.split()[0]) * 1024
            elif name == "Rss":
                resident += int(size.split()[0]) * 1024
    return unshared, resident
