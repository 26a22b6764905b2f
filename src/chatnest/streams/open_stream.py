"""OpenStream: the task group of one stream. One task writes, one watches for the disconnect, one
minds the clock. The task that ends first decides how the stream ends.
"""

import logging
from collections.abc import Callable
from time import monotonic
from typing import Final, Protocol

import anyio
from anyio import CancelScope, Event, move_on_after

from chatnest.errors import ClientGone, InternalError, ServerShutdown
from chatnest.streams.source import Source

__all__ = ["Audience", "OpenStream"]

_log = logging.getLogger("chatnest.streaming")

# Names of tasks. Without them, anyio would build the names again for each stream.
_WATCH: Final = f"{__name__}.OpenStream.watch"
_WRITE: Final = f"{__name__}.OpenStream.write"


class Audience(Protocol):
    """The reader of a stream: a Response, or a Run with its own readers."""

    def attend(self, watch: Callable[[], None], /) -> None:
        """Call ``watch`` when there is no reader, or at once: it starts the task that is below. It
        does nothing after the end of the stream.
        """

    async def watch(self, gone: Callable[[], None], /) -> None:
        """Call ``gone`` after the last reader has disconnected."""

    async def tend(self, now: float, /) -> float:
        """Do what is due at ``now``. Returns the latest time of the next call. Raises ClientGone
        after the last reader has disconnected.
        """
        ...


class OpenStream:
    """A source that writes to its audience, within its deadlines.

    ``settle_seconds`` limits the settlement of a stream that the server cancels.
    """

    __slots__ = (
        *("_audience", "_ended", "_settle_seconds", "_tasks", "_waits_for_end"),
        *("cut_off", "source"),
    )

    def __init__(self, source: Source, audience: Audience, *, settle_seconds: float) -> None:
        self.source: Source = source
        self._audience = audience
        self._settle_seconds = settle_seconds
        self._tasks = anyio.create_task_group()
        self._ended = False
        self._waits_for_end: Event | None = None
        self.cut_off: bool = False
        """Whether the server has cancelled this stream."""

    def abandon(self, cause: ClientGone | None = None) -> None:
        """End all tasks at once, since there is no reader."""
        self.source.give_up(cause if cause is not None else ClientGone())
        self._tasks.cancel_scope.cancel()

    async def run(self) -> None:
        """Write until the end. Errors of clients and models end the stream and are not raised."""
        async with self._tasks as tasks:
            self._audience.attend(self._watch)
            tasks.start_soon(self.source.write, self._end, name=_WRITE)
            try:
                await self._mind_the_clock()
            except ClientGone as gone:
                self.abandon(gone)
            except Exception:  # noqa: BLE001  # a custom format may raise anything
                _log.exception("request failed: request=%s", self.source.request_id)
                self.source.stop(InternalError())
            except anyio.get_cancelled_exc_class():
                self.cut_off = not tasks.cancel_scope.cancel_called
                if self.cut_off:
                    await self._end_with_the_server()
                raise

    def _watch(self) -> None:
        """Watch for the disconnect of the last reader, in a task of its own."""
        if not self._tasks.cancel_scope.cancel_called:
            self._tasks.start_soon(self._audience.watch, self.abandon, name=_WATCH)

    def _end(self) -> None:
        """The source has ended, even if it was cancelled or could not send its last event."""
        self._ended = True
        if self._waits_for_end is not None:
            self._waits_for_end.set()
        self._tasks.cancel_scope.cancel()

    async def _end_with_the_server(self) -> None:
        """End a stream that its server cancels, as uvicorn does after its timeout. asyncio cancels
        the server's task alone, so the other tasks can still send the client an error.
        """
        if self.source.stopped is None:
            self.source.stop(ServerShutdown())
            if not self._ended:
                self._waits_for_end = Event()
                with CancelScope(shield=True), move_on_after(self._settle_seconds):
                    await self._waits_for_end.wait()

    async def _mind_the_clock(self) -> None:
        """Call ``tend`` for pings, the early start, deadlines and renewals.

        Sleeps until the next one can be due, so that a token sets no timer.
        """
        now = monotonic()
        while True:
            due = await self.source.tend(now)
            due = min(due, await self._audience.tend(now))
            await anyio.sleep(max(0, due - monotonic()))
            now = monotonic()
