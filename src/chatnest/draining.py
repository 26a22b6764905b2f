"""OpenStreams: the streams of an application, and how they end when it does."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final, TypeVar

import anyio
from anyio import CancelScope, move_on_after
from anyio.lowlevel import EventLoopToken, current_token

from chatnest.errors import ServerShutdown
from chatnest.streaming import Stream

__all__ = ["OpenStreams", "at_signal"]

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
        try:
            _soon(home, act, one)
        except RuntimeError:
            those.pop(one, None)


def _soon(home: EventLoopToken, act: Callable[..., object], *arguments: object) -> None:
    """From any thread, and from a signal's handler. Raises RuntimeError if the loop has ended."""
    loop: Any = home.native_token
    soon = getattr(loop, "call_soon_threadsafe", None) or loop.run_sync_soon
    soon(act, *arguments)


@contextmanager
def at_signal(act: Callable[[], object]) -> Iterator[None]:
    """Meanwhile, do ``act`` as soon as the process is told to end, and then what the server does
    about it. A signal that the server takes no notice of is left alone; so is every signal outside
    of the main thread, which alone gets them.
    """
    home = current_token()
    former: dict[int, Callable[[int, FrameType | None], object]] = {}

    def handle(number: int, frame: FrameType | None) -> None:
        _soon(home, act)
        former[number](number, frame)

    if threading.current_thread() is threading.main_thread():
        for number in map(int, (signal.SIGTERM, signal.SIGINT)):
            server_does = signal.getsignal(number)
            if callable(server_does):
                former[number] = server_does
                signal.signal(number, handle)
    try:
        yield
    finally:
        for number, server_does in former.items():
            if signal.getsignal(number) is handle:
                signal.signal(number, server_does)
