"""OpenStreams: the streams of an application, and how they end when it does."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import anyio
from anyio import CancelScope, move_on_after
from anyio.lowlevel import EventLoopToken, current_token

from chatnest.errors import ServerShutdown
from chatnest.streaming import Stream

__all__ = ["OpenStreams"]

_T = TypeVar("_T")

_POLL_SECONDS: Final = 0.02
"""How often a shutdown looks whether the last stream has ended."""


class OpenStreams:
    """Streams that are being written, and bodies that arrive, until ``drain`` ends them.
    ``settle_seconds`` is what the settlements of the last ones may take.
    """

    def __init__(self, settle_seconds: float) -> None:
        self._settle_seconds = settle_seconds
        self._streams: dict[Stream, EventLoopToken] = {}
        self._bodies: dict[CancelScope, EventLoopToken] = {}
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

    @contextmanager
    def holding(self, stream: Stream) -> Iterator[None]:
        """``stream`` is open meanwhile."""
        self._streams[stream] = current_token()
        try:
            yield
        finally:
            self._streams.pop(stream, None)

    @contextmanager
    def receiving(self) -> Iterator[None]:
        """A body arrives meanwhile. A drain cuts it short, since what it asks for would be refused:
        raises ServerShutdown then, and when one began before.
        """
        self.check()
        scope = CancelScope()
        self._bodies[scope] = current_token()
        try:
            with scope:
                yield
        finally:
            self._bodies.pop(scope, None)
        self.check()

    async def drain(self, seconds: float) -> None:
        """Let no stream begin, let those that run finish for ``seconds``, then end those left with
        an ``error`` event ``server_shutdown``, and wait until they are settled.
        """
        self._draining = True
        _tell(self._bodies, lambda scope: scope.cancel())
        with move_on_after(seconds):
            await self._none_left()
        _tell(self._streams, lambda stream: stream.stop(ServerShutdown()))
        with move_on_after(self._settle_seconds):
            await self._none_left()
        _tell(self._streams, lambda stream: stream.abandon())  # they do not read what they are told
        with move_on_after(self._settle_seconds):
            await self._none_left()

    async def _none_left(self) -> None:
        while self._streams or self._bodies:  # noqa: ASYNC110  # they may be of other event loops
            await anyio.sleep(_POLL_SECONDS)


def _tell(those: dict[_T, EventLoopToken], act: Callable[[_T], object]) -> None:
    """Have each one's own event loop do it: nothing of another loop's may be cancelled from here.
    An event loop that has ended has taken its own with it.
    """
    for one, home in those.copy().items():
        loop: Any = home.native_token
        soon = getattr(loop, "call_soon_threadsafe", None) or loop.run_sync_soon
        try:
            soon(act, one)
        except RuntimeError:
            those.pop(one, None)
