"""OpenStreams: the streams of an application, and how they end when it does."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final, TypeVar

import anyio
import msgspec
from anyio import CancelScope, move_on_after
from anyio.lowlevel import EventLoopToken, RunVar, current_token

from chatnest._util.loops import call_soon
from chatnest._util.signals import intercepted_signals
from chatnest.errors import ServerShutdown, SlowBody, StreamTimeout
from chatnest.streams.open_stream import Audience, OpenStream
from chatnest.streams.source import Source

__all__ = ["Arrival", "OpenStreams", "at_signal"]

_T = TypeVar("_T")

_POLL_SECONDS: Final = 0.02
"""How often a shutdown looks whether the last stream has ended."""


class OpenStreams:
    """Streams that are being written, and bodies that arrive, until ``drain`` ends them.
    ``settle_seconds`` is what the settlements of the last ones may take.
    """

    def __init__(self, settle_seconds: float) -> None:
        self._settle_seconds = settle_seconds
        self._streams: dict[OpenStream, EventLoopToken] = {}
        self._bodies: dict[CancelScope, EventLoopToken] = {}
        self._here: RunVar[_Here] = RunVar(f"chatnest_streams_{id(self)}")
        self._draining = False
        self.when_draining: list[Callable[[], object]] = []
        """What is called as soon as a drain begins."""

    def __len__(self) -> int:
        return len(self._streams)

    def check(self) -> None:
        """Raise ServerShutdown while no new stream may begin."""
        if self._draining:
            raise ServerShutdown

    def reopen(self) -> None:
        """Let new streams begin, after a drain or before."""
        self._draining = False

    async def run(self, source: Source, audience: Audience) -> None:
        """Write ``source`` to its audience until the end, so that a drain finds it.

        A stream that the server cancels ends together with all others that the server cancels,
        once they are settled: Daphne waits for the first one only.
        """
        stream = OpenStream(source, audience, settle_seconds=self._settle_seconds)
        here = self._local()
        self._streams[stream] = current_token()
        here.streams.add(stream)
        try:
            await stream.run()
        finally:
            self._streams.pop(stream, None)
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

    @contextmanager
    def receiving(self, seconds: float) -> "Iterator[Arrival]":
        """A request is read within this block; raises SlowBody if its body takes longer. A drain
        ends the block, since the request would be refused: raises ServerShutdown then, and when a
        drain began before.
        """
        if self._draining:
            raise ServerShutdown
        scope = CancelScope(deadline=anyio.current_time() + seconds)
        arrival = Arrival(scope)
        self._bodies[scope] = current_token()
        try:
            with scope:
                yield arrival
        finally:
            self._bodies.pop(scope, None)
        if self._draining:
            raise ServerShutdown
        if scope.cancelled_caught:
            hooks = arrival.hook_seconds
            raise SlowBody(seconds) if hooks is None else StreamTimeout(hooks)

    async def drain(self, seconds: float) -> None:
        """Let no stream begin, let those that run finish for ``seconds``, then end those left with
        an ``error`` event ``server_shutdown``, and wait until they are settled.
        """
        self._draining = True
        for act in self.when_draining:
            act()
        _tell(self._bodies, lambda scope: scope.cancel())
        with move_on_after(seconds):
            await self._none_left()
        _tell(self._streams, lambda stream: stream.source.stop(ServerShutdown()))
        with move_on_after(self._settle_seconds):
            await self._none_left()
        _tell(self._streams, lambda stream: stream.abandon())  # they do not read what they are told
        with move_on_after(self._settle_seconds):
            await self._none_left()

    async def _none_left(self) -> None:
        while self._streams or self._bodies:  # noqa: ASYNC110  # they may be of other event loops
            await anyio.sleep(_POLL_SECONDS)


class Arrival(msgspec.Struct):
    """A request that is being read: its body, then the operator's hooks."""

    scope: CancelScope
    hook_seconds: float | None = None

    def allow_hooks(self, seconds: float) -> None:
        """The body is whole, and an async hook runs: it may take ``seconds``."""
        self.scope.deadline = anyio.current_time() + seconds
        self.hook_seconds = seconds


class _Here:
    """The streams of one event loop, which it does not know: it would keep it for ever."""

    def __init__(self) -> None:
        self.streams: set[OpenStream] = set()
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


def _tell(those: dict[_T, EventLoopToken], act: Callable[[_T], object]) -> None:
    """Have each one's own event loop do it: nothing of another loop's may be cancelled from here.
    An event loop that has ended has taken its own with it.
    """
    for one, home in those.copy().items():
        try:
            call_soon(home, act, one)
        except RuntimeError:
            those.pop(one, None)


def at_signal(act: Callable[[], object]) -> AbstractContextManager[None]:
    """Meanwhile, do ``act`` as soon as the process is told to end, and then what the server does
    about it: see intercepted_signals.
    """
    home = current_token()

    def hear(_: int, server_does: Callable[[], object]) -> None:
        call_soon(home, act)
        server_does()

    return intercepted_signals(hear)
