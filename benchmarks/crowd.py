"""Crowd: many streams that are open at once, each on a connection of its own."""

import asyncio
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

from benchmarks.load import Reader

__all__ = ["Crowd", "crowd"]

_PING = b"event: ping\n"
_OPENING = 64  # at once: a crowd comes one after another, it does not storm in
_PATIENCE = 120.0  # seconds


class Member(Reader):
    """A reader that remembers its first token, and when there were pings."""

    def __init__(self, crowd: "Crowd") -> None:
        super().__init__(crowd.end)
        self.begun = asyncio.Event()
        self.pings: list[float] = []

    def data_received(self, data: bytes) -> None:
        if _PING in data:
            self.pings.append(perf_counter())
        super().data_received(data)
        if self.seen:
            self.begun.set()


class Crowd:
    """Streams of ``tokens`` each; ``lost`` are those that ended otherwise."""

    def __init__(self, port: int, request: bytes, tokens: int) -> None:
        self._port = port
        self._request = request
        self._tokens = tokens
        self._empty = asyncio.Event()
        self._closed = False
        self.streams: list[Member] = []
        self.ended = self.lost = 0
        self.reasons: Counter[str] = Counter()

    @property
    def open(self) -> int:
        return len(self.streams) - self.ended

    @property
    def seen(self) -> int:
        return sum(stream.seen for stream in self.streams)

    async def grow(self, number: int) -> None:
        """Until so many have come, and each has had its first token."""
        missing = iter(range(number - len(self.streams)))

        async def open_some() -> None:
            for _ in missing:
                await self._open()

        async with asyncio.timeout(_PATIENCE):
            await asyncio.gather(*(open_some() for _ in range(_OPENING)))

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        _, stream = await loop.create_connection(lambda: Member(self), "127.0.0.1", self._port)
        self.streams.append(stream)
        self._empty.clear()
        stream.ask(self._request)
        await stream.begun.wait()

    def end(self, stream: Reader) -> None:
        """A stream has no more to come, whole or not."""
        assert isinstance(stream, Member)
        self.ended += 1
        if not self._closed and (stream.lost or stream.seen != self._tokens):
            self.lost += 1
            self.reasons[_reason(stream)] += 1
        stream.begun.set()
        stream.transport.close()
        if not self.open:
            self._empty.set()

    async def finish(self) -> None:
        """Until the last has ended."""
        async with asyncio.timeout(_PATIENCE):
            await self._empty.wait()

    def close(self) -> None:
        self._closed = True
        for stream in self.streams:
            stream.transport.abort()


def _reason(stream: Reader) -> str:
    """What was the matter with a stream: the code of a refusal, else what there is."""
    said = re.search(r'"code": ?"(\w+)"', str(stream.lost))
    return said[1] if said else f"{type(stream.lost).__name__} {stream.lost}"


@contextmanager
def crowd(port: int, request: bytes, tokens: int) -> Iterator[Crowd]:
    """A crowd that leaves at the end."""
    found = Crowd(port, request, tokens)
    try:
        yield found
    finally:
        found.close()
