"""Source: a task that writes events to an output, until it ends or is stopped."""

import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic
from typing import Any

import anyio
from anyio import CancelScope

from chatnest._util.loops import soon_here
from chatnest.endings import cause_of
from chatnest.errors import (
    ChatNestError,
    ClientGone,
    InternalError,
    StreamTimeout,
    UpstreamTimeout,
)
from chatnest.events import ClientEvent, Failed, LastEvent, Start
from chatnest.streams.output import Output

__all__ = ["Source"]

_log = logging.getLogger("chatnest.streaming")


class Source:
    """Writes the events of ``work`` to an output. ``work`` calls ``start`` and ``put``, and returns
    the last event. An exception of ``work`` becomes a Failed.

    Nothing is queued: ``put`` waits for each write, so a client that does not read keeps the model
    from being read.

        writing ── work returned or raised ──────────► ended
           └────── stop(error): the work is cancelled ──► ended by that error

    A stop takes effect after a write in progress, so no frame is cut. Only the first stop counts.
    After ``seconds`` the source stops itself with StreamTimeout; after
    ``idle_seconds`` between two pieces, with UpstreamTimeout.
    """

    __slots__ = (
        *("_deadline", "_emitting", "_idle_seconds", "_scope", "_seconds", "_work"),
        *("output", "quiet_since", "request_id", "stopped"),
    )

    def __init__(
        self,
        output: Output,
        work: Callable[[Any], Awaitable[LastEvent]],
        *,
        request_id: str,
        seconds: float,
        idle_seconds: float = math.inf,
    ) -> None:
        self.output: Output = output
        self.request_id: str = request_id
        self._work = work
        self._seconds = seconds
        self._deadline = monotonic() + seconds
        self._idle_seconds = idle_seconds
        self._scope = CancelScope()
        self._emitting = False
        self.quiet_since: float = math.inf
        """The time of the last piece, while the next one is expected; otherwise infinity."""
        self.stopped: ChatNestError | None = None

    # ------------------------------------------------ for the work

    async def check_client(self) -> None:
        """Wait here for the cancellation if the client has disconnected. Call this before anything
        that costs money.
        """
        if isinstance(self.stopped, ClientGone) or self.output.is_gone():
            await anyio.sleep_forever()  # until the disconnect arrives and cancels this

    async def start(self, first: Sequence[ClientEvent] = ()) -> None:
        """Put the events of ``first``, after a Start unless the output has begun.

        Raises the error of an earlier ``stop``: a cancelled write of the head may or may not have
        reached the client.
        """
        if self.stopped is not None:
            raise self.stopped
        await self.put(first if self.output.begun else [Start(), *first])

    async def put(self, events: Sequence[ClientEvent]) -> None:
        """Hand on events; an empty sequence is a sign of life. Waits while the client does not
        read. Raises ClientGone, or the error of a ``stop`` that came during the write.
        """
        if events:
            self._emitting = True
            await self.output.emit(events)
            self._emitting = False
            if self.stopped is not None:
                raise self.stopped
        self.quiet_since = monotonic()

    # ------------------------------------------------ for others

    def stop(self, error: ChatNestError) -> None:
        """End the work. The client gets ``error`` as the last event."""
        if self.stopped is None:
            self.stopped = error
            if not self._emitting:
                self._scope.cancel()

    def give_up(self, cause: ClientGone) -> None:
        """Note why the task of this source is about to be cancelled."""
        if self.stopped is None:
            self.stopped = cause

    async def tend(self, now: float) -> float:
        """Do what is due at ``now``, and return when something can be due again, at the latest."""
        if now >= self._deadline:
            self._deadline = math.inf
            self.stop(StreamTimeout(self._seconds))
        if self._emitting:
            return min(self._deadline, now + self._idle_seconds)
        if now - self.quiet_since >= self._idle_seconds:
            self.quiet_since = math.inf
            self.stop(UpstreamTimeout())
        return min(self._deadline, min(self.quiet_since, now) + self._idle_seconds)

    # ------------------------------------------------ the task

    async def write(self, ended: Callable[[], object]) -> None:
        """Do the work, hand on the last event, and call ``ended`` in any case."""
        try:
            last: LastEvent
            try:
                with self._scope:
                    last = await self._work(self)
            except Exception as exc:  # noqa: BLE001  # such as from a policy; logged in full
                error = cause_of(exc) or InternalError()
                if error is not exc:
                    _log.exception("request failed: request=%s", self.request_id)
                last = self.failed(error)
            if self._scope.cancelled_caught:
                last = self.failed(self.stopped or InternalError())
            self.quiet_since = math.inf
            await self.output.finish(last)
        except BaseException as exc:
            # A task group keeps the error of a cancelled task until the next collection of garbage,
            # and with its traceback these frames, the request and its images.
            soon_here()(exc.with_traceback, None)
            raise
        finally:
            ended()

    def failed(self, error: ChatNestError) -> Failed:
        """The last event of a source that ended by ``error``."""
        return Failed(error)
