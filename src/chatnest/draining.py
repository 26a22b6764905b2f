"""OpenStreams: the streams of an application, and how they end when it does."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import anyio
from anyio import CancelScope, move_on_after
from anyio.lowlevel import RunVar

from chatnest.errors import ServerShutdown
from chatnest.streaming import Stream

__all__ = ["OpenStreams"]

_POLL_SECONDS: Final = 0.02
"""How often a shutdown looks whether the last stream has ended."""


class OpenStreams:
    """Streams that are being written, until ``drain`` ends them. ``settle_seconds`` is what the
    settlements of the last ones may take.
    """

    def __init__(self, settle_seconds: float) -> None:
        self._settle_seconds = settle_seconds
        self._streams: set[Stream] = set()
        self._here: RunVar[_Here] = RunVar(f"chatnest_streams_{id(self)}")
        self._draining = False

    def __len__(self) -> int:
        return len(self._streams)

    def check(self) -> None:
        """Raise ServerShutdown while no new stream may begin."""
        if self._draining:
            raise ServerShutdown

    def reopen(self) -> None:
        """Let new streams begin, after a drain or before."""
        self._draining = False

    @asynccontextmanager
    async def holding(self, stream: Stream) -> AsyncIterator[None]:
        """``stream`` is open meanwhile. If the server has cancelled it, it leaves with all others
        that the server has cancelled, once they are settled: Daphne waits for the first alone.
        """
        here = self._local()
        self._streams.add(stream)
        here.streams.add(stream)
        try:
            yield
        finally:
            self._streams.discard(stream)
            here.streams.discard(stream)
            if stream.cut_off:
                with CancelScope(shield=True), move_on_after(self._settle_seconds):
                    await here.leave_together()

    def _local(self) -> "_Here":
        try:
            return self._here.get()
        except LookupError:
            here = _Here()
            self._here.set(here)
            return here

    async def drain(self, seconds: float) -> None:
        """Let no stream begin, let those that run finish for ``seconds``, then end those left with
        an ``error`` event ``server_shutdown``, and wait until they are settled.
        """
        self._draining = True
        with move_on_after(seconds):
            await self._none_left()
        for stream in list(self._streams):
            stream.stop(ServerShutdown())
        with move_on_after(self._settle_seconds):
            await self._none_left()
        for stream in list(self._streams):
            stream.abandon()  # it does not read what it is told
        with move_on_after(self._settle_seconds):
            await self._none_left()

    async def _none_left(self) -> None:
        while self._streams:  # noqa: ASYNC110  # streams may belong to other event loops
            await anyio.sleep(_POLL_SECONDS)


class _Here:
    """The streams of one event loop."""

    def __init__(self) -> None:
        self.streams: set[Stream] = set()
        self._settled = anyio.Event()

    async def leave_together(self) -> None:
        """Wait for those that were cut off as well. The last lets all go, in the same turn of the
        loop, so that none is left to a loop that ends.
        """
        if any(stream.cut_off for stream in self.streams):
            await self._settled.wait()
        else:
            self._settled.set()
            self._settled = anyio.Event()
