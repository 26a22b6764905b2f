"""Stream: the task group of one response. One task writes it, one watches for the client's
leaving, one minds the clock. Whoever ends first decides how it ended.
"""

import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic
from typing import Any, Final

import anyio
from anyio import CancelScope, Event, move_on_after
from starlette.types import Receive, Scope, Send

from chatnest.asgi.http import NO_SNIFFING, encode_headers, is_gone, respond_problem, send_now
from chatnest.bounds import STREAM_SECONDS, Bounds
from chatnest.errors import (
    ChatNestError,
    ClientGone,
    ClientStalled,
    ConfigurationError,
    InternalError,
    ServerShutdown,
    StreamTimeout,
    UpstreamTimeout,
)
from chatnest.events import ClientEvent, Delta, Done, Failed, Ping, Start
from chatnest.wire import Wire

__all__ = ["Stream"]

_log = logging.getLogger("chatnest.streaming")

_HEADERS: Final = (
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
    NO_SNIFFING,
)

# Names of tasks, which anyio would put together for each stream.
_WATCH: Final = f"{__name__}.Stream._watch"
_WRITE: Final = f"{__name__}.Stream._write"


class Stream:
    """One response to one client.

    ``run`` takes the writer: a coroutine function that calls ``start`` and ``put`` and returns the
    Done event, or raises. Its errors are told to the client: before ``start`` as a problem
    document, afterwards as an ``error`` event. There is one terminal event, and nothing after it;
    a client that has gone is sent nothing at all.

    Nothing is queued: the writer waits for each write, so that a client which does not read keeps
    the model from being read.
    """

    __slots__ = (
        *("_began", "_bounds", "_early_start", "_ended", "_handing_on", "_headed", "_over"),
        *("_ping_seconds", "_reading_since", "_receive", "_renew", "_renew_seconds"),
        *("_request_id", "_scope", "_send", "_send_now", "_sending_since", "_sent", "_tasks"),
        *("_waits_for_end", "_wire", "_work", "called", "cut_off", "headers", "stopped"),
    )

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        wire: Wire,
        bounds: Bounds,
        ping_seconds: float,
        renew_seconds: float,
        request_id: str,
    ) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._send_now = send_now(scope, send)
        self._wire = wire
        self._bounds = bounds
        self._ping_seconds = ping_seconds
        self._renew_seconds = renew_seconds
        self._request_id = request_id
        self._work = CancelScope()
        self._tasks = anyio.create_task_group()
        self._ended = False
        self._waits_for_end: Event | None = None
        self._began = False
        self._headed = False
        self._over = False
        self._sending_since: float | None = None
        self._sent: Event | None = None
        self._handing_on = False
        self._reading_since = math.inf
        self._early_start = math.inf
        self._renew: Callable[[], Awaitable[None]] | None = None
        self.called: Callable[[bool], None] | None = None
        """Its place among those that wait for the model; see Intake.place."""
        self.headers: dict[str, str] = {}
        self.stopped: ChatNestError | None = None
        self.cut_off: bool = False
        """Whether the server has cancelled it."""

    # ------------------------------------------------ for the writer

    @property
    def puts_now(self) -> bool:
        """Whether ``put_now`` can succeed."""
        return self._send_now is not None

    async def check_client(self) -> None:
        """Before what costs something: a client that has gone ends its stream here."""
        if isinstance(self.stopped, ClientGone) or is_gone(self._scope):
            await anyio.sleep_forever()  # until `_watch` has seen it, in an instant

    def call_model(self) -> None:
        """From here on the model is waited for: a stream that it keeps waiting starts early, that
        long after the first call. How long it may take to answer is the caller's to bound.
        """
        if self._early_start == math.inf and not self._began:
            self._early_start = monotonic() + self._bounds.early_start_seconds
        self._reading_since = math.inf
        self.leave_place(called=True)

    def leave_place(self, *, called: bool = False) -> None:
        """It does not wait for the model any more, if it did."""
        if self.called is not None:
            self.called(called)
            self.called = None

    def alive(self) -> None:
        """The model answers, though nothing of it is for the client yet."""
        self._reading_since = monotonic()

    async def start(self, first: Sequence[ClientEvent] = ()) -> None:
        """The model answers: the response begins, unless it has, with ``first``. Raises what
        ``stop`` was called with before: a head that is cancelled on its way may be sent or not.
        """
        if self.stopped is not None:
            raise self.stopped
        self._early_start = math.inf
        if self._began:
            await self.put(first)
        else:
            self._began = True
            await self.put([Start(), *first])

    async def put(self, events: Sequence[ClientEvent]) -> None:
        """Hand on what the model said; an empty sequence is a sign of life. Waits while the client
        does not read, and raises what ``stop`` was called with meanwhile.
        """
        if events:
            self._handing_on = True
            await self._emit(events)
            self._handing_on = False
            if self.stopped is not None:
                raise self.stopped
        self._reading_since = monotonic()

    def put_now(self, text: str) -> bool:
        """Whether a piece of the answer was handed on at once. If not, nothing has happened:
        something has to be waited for, or the stream ends.
        """
        if (
            self._send_now is None
            or self._sending_since is not None
            or self.stopped is not None
            or not self._send_now.piece(self._wire.encode, (Delta(text),))
        ):
            return False
        self._reading_since = monotonic()
        return True

    def number(self, next_id: int) -> None:
        """What the next event is numbered, where events are."""
        self._wire.next_id = next_id

    def keep(self, renew: Callable[[], Awaitable[None]]) -> None:
        """Call ``renew`` now and then for as long as the stream lives."""
        self._renew = renew

    # ------------------------------------------------ for others

    def stop(self, error: ChatNestError) -> None:
        """End the writer; the client is told ``error``. The first call counts. A write that is
        under way is finished, so that no frame is cut.
        """
        if self.stopped is None:
            self.stopped = error
            if not self._handing_on:
                self._work.cancel()

    def abandon(self, cause: ClientGone | None = None) -> None:
        """End everything: there is nobody to tell."""
        if self.stopped is None:
            self.stopped = cause if cause is not None else ClientGone()
        self._tasks.cancel_scope.cancel()

    # ------------------------------------------------ the task group

    async def run(self, write: Callable[["Stream"], Awaitable[Done]]) -> None:
        """Serve the response. Raises nothing that the client or the model has caused."""
        async with self._tasks as tasks:
            tasks.start_soon(self._watch, name=_WATCH)
            tasks.start_soon(self._write, write, name=_WRITE)
            try:
                await self._mind_the_clock()
            except anyio.get_cancelled_exc_class():
                self.cut_off = not tasks.cancel_scope.cancel_called
                await self._end_with_the_server()
                raise

    async def _end_with_the_server(self) -> None:
        """Who is cancelled by nobody here is cancelled by a server that ends, as uvicorn does after
        its patience, on asyncio by that task alone: the others can still tell the client.
        """
        if self.stopped is None and not self._over:
            self.stop(ServerShutdown())
            if not self._ended:
                self._waits_for_end = Event()
                with CancelScope(shield=True), move_on_after(self._bounds.settle_seconds):
                    await self._waits_for_end.wait()

    async def _write(self, write: Callable[["Stream"], Awaitable[Done]]) -> None:
        last: Done | Failed
        try:
            try:
                with self._work:
                    last = await write(self)
            except Exception as exc:  # noqa: BLE001  # the log gets all of it, the client no detail
                last = Failed(self._told(exc))
            if self._work.cancelled_caught:
                last = Failed(self.stopped or InternalError())
            self._reading_since = self._early_start = math.inf
            self._over = True  # nothing may come after the last event, no ping either
            if type(last) is Failed and not self._began:
                await self._refuse(last.error)
            else:
                await self._emit([last], more=False)
        finally:
            self._ended = True
            if self._waits_for_end is not None:
                self._waits_for_end.set()
            self._tasks.cancel_scope.cancel()

    def _told(self, failure: Exception) -> ChatNestError:
        """What a client is told: an error that was made for it, else that there was one."""
        if isinstance(failure, ChatNestError) and not isinstance(failure, ConfigurationError):
            return failure
        _log.error("request %s failed", self._request_id, exc_info=failure)
        return InternalError()

    async def _watch(self) -> None:
        """``http.disconnect`` is the only sure sign that a client has left. Acted upon once: some
        servers block for ever when they are asked again.
        """
        try:
            while (await self._receive())["type"] != "http.disconnect":
                pass
        except Exception as exc:  # noqa: BLE001  # of a middleware's or a server's: as good as gone
            _log.debug("request %s: receive failed: %s", self._request_id, type(exc).__name__)
        self.abandon()

    # ------------------------------------------------ the only place that waits for a send

    async def _emit(self, events: Sequence[ClientEvent], *, more: bool = True) -> None:
        """Send events as one write, the first behind the response's head. Two tasks never send at
        a time: a ping of the clock's comes before or after what the writer has.
        """
        while self._sending_since is not None:
            self._sent = Event()
            await self._sent.wait()
        self._sending_since = monotonic()
        try:
            if not self._headed:
                self._headed = True
                await self._send(self._response_start())
            body = self._wire.encode(events)
            await self._send({"type": "http.response.body", "body": body, "more_body": more})
        except Exception as exc:  # noqa: BLE001  # servers raise OSError, RuntimeError and their own
            await self._give_up(exc)
        finally:
            self._sending_since = None
            if self._sent is not None:
                self._sent.set()
                self._sent = None

    async def _refuse(self, error: ChatNestError) -> None:
        """Send a problem document: nothing has begun, so that nothing else is being sent."""
        self._sending_since = monotonic()
        try:
            await respond_problem(self._scope, self._send, error, self._request_id)
        except Exception as exc:  # noqa: BLE001  # as above
            await self._give_up(exc)
        finally:
            self._sending_since = None

    async def _give_up(self, exc: Exception) -> None:
        _log.debug("request %s: send failed: %s", self._request_id, type(exc).__name__)
        self.abandon()
        await anyio.sleep_forever()  # until the cancellation, in the next instant

    def _response_start(self) -> dict[str, Any]:
        headers = [(b"content-type", self._wire.content_type.encode()), *_HEADERS]
        headers += encode_headers(self.headers)
        del self.headers  # nobody sets them any more, and an empty dict would take 64 bytes
        return {"type": "http.response.start", "status": 200, "headers": headers}

    # ------------------------------------------------ the clock

    async def _mind_the_clock(self) -> None:
        """Everything that time brings about: pings, the early start, deadlines, the lease.

        It sleeps until the next of them can be due, so that a token costs no timer.
        """
        now = monotonic()
        deadline = now + (self._bounds.stream_seconds or STREAM_SECONDS)
        ping = now + self._ping_seconds
        renewal = now + self._renew_seconds
        while True:
            if now >= deadline:
                deadline = math.inf
                self.stop(StreamTimeout(self._bounds.stream_seconds or STREAM_SECONDS))
            if now >= self._early_start:
                self._early_start = math.inf
                if not self._began:
                    self._began = True
                    await self._emit_in_time([Start(), Ping()])
            if now >= ping:
                ping += self._ping_seconds
                if self._began and not self._over and self._sending_since is None:
                    await self._emit_in_time([Ping()])
            if now >= renewal:
                renewal = now + self._renew_seconds
                if self._renew is not None:
                    await self._renew()
            self._check_both_ends(monotonic())
            now = monotonic()
            due = min(deadline, ping, renewal, self._next_check(now))
            await anyio.sleep(max(0, due - now))  # it may be due by now
            now = monotonic()

    async def _emit_in_time(self, events: Sequence[ClientEvent]) -> None:
        """Send what is the clock's own, which cannot watch itself meanwhile."""
        with move_on_after(self._bounds.send_seconds) as scope:
            await self._emit(events)
        if scope.cancelled_caught:
            self.abandon(ClientStalled())

    def _check_both_ends(self, now: float) -> None:
        bounds = self._bounds
        sending = self._sending_since
        if sending is not None:
            if now - sending >= bounds.send_seconds:
                self.abandon(ClientStalled())
        elif now - self._reading_since >= bounds.idle_seconds:
            self._reading_since = math.inf
            self.stop(UpstreamTimeout())

    def _next_check(self, now: float) -> float:
        """When something can be due that is not due yet. What has not begun cannot be due before
        its whole time has passed, so waking by then misses nothing.
        """
        bounds = self._bounds
        sending = now if self._sending_since is None else self._sending_since
        early = (
            math.inf if self._began else min(self._early_start, now + bounds.early_start_seconds)
        )
        reading = min(self._reading_since, now) if self._sending_since is None else now
        return min(sending + bounds.send_seconds, reading + bounds.idle_seconds, early)
