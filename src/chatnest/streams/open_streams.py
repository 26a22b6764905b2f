"""OpenStreams: the open streams of an application, and how a shutdown ends them."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final, TypeVar

import anyio
import msgspec
from anyio import CancelScope, move_on_after
from anyio.lowlevel import EventLoopToken, RunVar, current_token

from chatnest._util.loops import call_soon
from chatnest._util.signals import intercepted_signals
from chatnest.errors import ChatNestError, ServerShutdown, SlowBody, StreamTimeout
from chatnest.streams.open_stream import Audience, OpenStream
from chatnest.streams.source import Source

__all__ = ["Arrival", "OpenStreams", "at_signal"]

_T = TypeVar("_T")

_POLL_SECONDS: Final = 0.02
"""Seconds between two checks of a shutdown whether the last stream has ended."""


class OpenStreams:
    """Streams that are being written and requests that are being read, until ``drain`` ends them.
    ``settle_seconds`` limits the settlements of the last streams.
    """

    def __init__(self, settle_seconds: float) -> None:
        self._settle_seconds = settle_seconds
        self._streams: dict[OpenStream, EventLoopToken] = {}
        self._bodies: dict[CancelScope, EventLoopToken] = {}
        self._here: RunVar[_Here] = RunVar(f"chatnest_streams_{id(self)}")
        self._draining = False
        self.when_draining: list[Callable[[], object]] = []
        """Functions to call when a drain begins."""

    def __len__(self) -> int:
        return len(self._streams)

    def check(self) -> None:
        """Raise ServerShutdown during a drain and after it."""
        if self._draining:
            raise ServerShutdown

    def reopen(self) -> None:
        """Allow new streams again, after a drain."""
        self._draining = False

    async def run(self, source: Source, audience: Audience) -> None:
        """Run a stream of ``source`` to its end. A drain can end it.

        Streams that the server cancels return together, after all of them are settled: Daphne waits
        only for the first one.
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

    def sources(self) -> list[Source]:
        """The sources of all open streams."""
        return [stream.source for stream in list(self._streams)]

    def stop(self, source: Source, error: ChatNestError) -> None:
        """End the stream of a source with ``error``, from any event loop."""
        for stream, loop in list(self._streams.items()):
            if stream.source is source:
                _in_their_loops({stream: loop}, lambda each: each.source.stop(error))

    def _local(self) -> "_Here":
        try:
            return self._here.get()
        except LookupError:
            here = _Here()
            self._here.set(here)
            return here

    @contextmanager
    def receiving(self, seconds: float) -> "Iterator[Arrival]":
        """Read a request within this block, in at most ``seconds``. A drain ends the block.

        Raises SlowBody after ``seconds``, and ServerShutdown during a drain and after it.
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
        """Refuse new streams, and give open ones ``seconds`` to finish. Then end those that are
        left with an ``error`` event ``server_shutdown``, and wait until they are settled.
        """
        self._draining = True
        for act in self.when_draining:
            act()
        _in_their_loops(self._bodies, lambda scope: scope.cancel())
        with move_on_after(seconds):
            await self._none_left()
        _in_their_loops(self._streams, lambda stream: stream.source.stop(ServerShutdown()))
        with move_on_after(self._settle_seconds):
            await self._none_left()
        # The streams that are left cannot send the error: their clients do not read.
        _in_their_loops(self._streams, lambda stream: stream.abandon())
        with move_on_after(self._settle_seconds):
            await self._none_left()

    async def _none_left(self) -> None:
        while self._streams or self._bodies:  # noqa: ASYNC110  # some may be on other event loops
            await anyio.sleep(_POLL_SECONDS)


class Arrival(msgspec.Struct):
    """A request that is being read: its body, then the operator's hooks."""

    scope: CancelScope
    hook_seconds: float | None = None

    def allow_hooks(self, seconds: float) -> None:
        """An async hook runs: it may take ``seconds``."""
        self.scope.deadline = anyio.current_time() + seconds
        self.hook_seconds = seconds

    def expect_body(self, deadline: float) -> None:
        """A hook has ended, and more of the body is expected until ``deadline``."""
        self.scope.deadline = deadline
        self.hook_seconds = None


class _Here:
    """The streams of one event loop. Holds no reference to the loop, which would otherwise never be
    freed.
    """

    def __init__(self) -> None:
        self.streams: set[OpenStream] = set()
        self._settled = anyio.Event()

    async def leave_together(self) -> None:
        """Wait for all other streams that the server has cancelled. They return in the same turn
        of the loop, so that none is left when the loop ends.
        """
        if any(stream.cut_off for stream in self.streams):
            await self._settled.wait()
        else:
            self._settled.set()
            self._settled = anyio.Event()


def _in_their_loops(items: dict[_T, EventLoopToken], act: Callable[[_T], object]) -> None:
    """Call ``act`` with each item in the item's own event loop, since a cancellation does not work
    from another loop. Items of a loop that has ended are removed.
    """
    for item, loop in items.copy().items():
        try:
            call_soon(loop, act, item)
        except RuntimeError:
            items.pop(item, None)


def at_signal(act: Callable[[], object]) -> AbstractContextManager[None]:
    """Within this block, a signal to terminate calls ``act``, and then the server's own handler.
    See intercepted_signals.
    """
    loop = current_token()

    def handle(_: int, server_does: Callable[[], object]) -> None:
        call_soon(loop, act)
        server_does()

    return intercepted_signals(handle)
