"""Stream: the task group of one response. One task writes events, one sends them, one watches
for the client's leaving, one minds the clock. Whoever ends first decides how it ended.
"""

import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic
from typing import Final

import anyio
from anyio import CancelScope
from starlette.types import Receive, Scope, Send

from chatnest.asgi import encode_headers, respond_problem
from chatnest.bounds import Bounds
from chatnest.errors import (
    ChatNestError,
    ClientGone,
    ConfigurationError,
    InternalError,
    StreamTimeout,
    UpstreamTimeout,
)
from chatnest.events import ClientEvent, Done, Failed, Ping, Start
from chatnest.outbox import Outbox
from chatnest.wire import Wire

__all__ = ["Stream"]

_log = logging.getLogger("chatnest.streaming")

_HEADERS: Final = (
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
)


class Stream:
    """One response to one client.

    ``run`` takes the writer: a coroutine function that calls ``start`` and ``put`` and returns the
    Done event, or raises. Its errors are told to the client: before ``start`` as a problem
    document, afterwards as an ``error`` event. There is one terminal event, and nothing after it;
    a client that has gone is sent nothing at all.
    """

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
        self._wire = wire
        self._bounds = bounds
        self._ping_seconds = ping_seconds
        self._renew_seconds = renew_seconds
        self._request_id = request_id
        self._outbox = Outbox(bounds.outbox_bytes)
        self._work = CancelScope()
        self._tasks = CancelScope()
        self._sending_since: float | None = None
        self._reading_model = False
        self._begun = False
        self._over = False
        self._early_start = math.inf
        self._renew: Callable[[], Awaitable[None]] | None = None
        self.headers: dict[str, str] = {}
        self.stopped: ChatNestError | None = None

    # ------------------------------------------------ for the writer

    def call_model(self) -> None:
        """From here on the model is waited for: a stream that it keeps waiting starts early."""
        self._early_start = monotonic() + self._bounds.early_start_seconds

    def start(self) -> None:
        """The model has taken the request: the response begins, unless it has."""
        self._early_start = math.inf
        self._begin([Start()])
        self._outbox.touched = monotonic()
        self._reading_model = True

    def _begin(self, events: Sequence[ClientEvent]) -> None:
        if not self._begun and not self._over:
            self._begun = True
            self._outbox.offer(events)

    async def put(self, events: Sequence[ClientEvent]) -> None:
        """Hand on what the model said; waits while the client does not read."""
        await self._outbox.put(events)

    def keep(self, renew: Callable[[], Awaitable[None]]) -> None:
        """Call ``renew`` now and then for as long as the stream lives."""
        self._renew = renew

    # ------------------------------------------------ for others

    def stop(self, error: ChatNestError) -> None:
        """End the writer; the client is told ``error``. The first call counts."""
        if self.stopped is None:
            self.stopped = error
            self._work.cancel()

    def abandon(self, cause: str) -> None:
        """End everything: there is nobody to tell."""
        if self.stopped is None:
            self.stopped = ClientGone(cause)
        self._tasks.cancel()

    # ------------------------------------------------ the task group

    async def run(self, write: Callable[["Stream"], Awaitable[Done]]) -> None:
        """Serve the response. Raises nothing that the client or the model has caused."""
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks.cancel_scope
            tasks.start_soon(self._watch)
            tasks.start_soon(self._mind_the_clock)
            tasks.start_soon(self._write, write)
            await self._send_events()
            tasks.cancel_scope.cancel()

    async def _write(self, write: Callable[["Stream"], Awaitable[Done]]) -> None:
        last: Done | Failed
        try:
            with self._work:
                last = await write(self)
        except Exception as exc:  # noqa: BLE001  # the log gets all of it, the client no detail
            last = Failed(self._told(exc))
        if self._work.cancelled_caught:
            last = Failed(self.stopped or InternalError())
        self._reading_model = False
        self._over = True  # nothing may come after the last event, no ping either
        self._outbox.offer([last])

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
        self.abandon("disconnected")

    async def _send_events(self) -> None:
        """The only place that sends. What is waiting goes out as one write."""
        begun = False
        while True:
            events = await self._outbox.take()
            last = events[-1]
            final = isinstance(last, Done | Failed)
            if not begun and isinstance(last, Failed) and len(events) == 1:
                await self._guarded(self._send_problem(last.error))
                return
            if not begun:
                await self._guarded(self._send(self._response_start()))
                begun = True
            body = self._wire.encode(events)
            await self._guarded(
                self._send({"type": "http.response.body", "body": body, "more_body": not final})
            )
            if final:
                return

    async def _guarded(self, sending: Awaitable[None]) -> None:
        self._sending_since = monotonic()
        try:
            await sending
        except Exception as exc:  # noqa: BLE001  # servers raise OSError, RuntimeError and their own
            _log.debug("request %s: send failed: %s", self._request_id, type(exc).__name__)
            self.abandon("send failed")
            await anyio.sleep_forever()  # until the cancellation, in the next instant
        self._sending_since = None

    async def _send_problem(self, error: ChatNestError) -> None:
        await respond_problem(self._scope, self._send, error, self._request_id)

    def _response_start(self) -> dict[str, object]:
        headers = [(b"content-type", self._wire.content_type.encode()), *_HEADERS]
        if self._scope.get("http_version", "1.1").startswith("1"):
            headers.append((b"connection", b"keep-alive"))
        headers += encode_headers(self.headers)
        return {"type": "http.response.start", "status": 200, "headers": headers}

    async def _mind_the_clock(self) -> None:
        """Everything that time brings about: pings, the early start, deadlines, the lease.

        It sleeps until the next of them can be due, so that a token costs no timer.
        """
        now = monotonic()
        deadline = now + self._bounds.stream_seconds
        ping = now + self._ping_seconds
        renewal = now + self._renew_seconds
        while True:
            if now >= deadline:
                deadline = math.inf
                self.stop(StreamTimeout(self._bounds.stream_seconds))
            if now >= self._early_start:
                self._early_start = math.inf
                self._begin([Start(), Ping()])
            if now >= ping:
                ping += self._ping_seconds
                if self._begun and not self._over and self._sending_since is None:
                    self._outbox.offer([Ping()])
            if now >= renewal:
                renewal = now + self._renew_seconds
                if self._renew is not None:
                    await self._renew()
            self._check_both_ends(now)
            due = min(deadline, ping, renewal, self._next_check(now))
            await anyio.sleep(max(0, due - monotonic()))  # it may be due by now
            now = monotonic()

    def _check_both_ends(self, now: float) -> None:
        bounds = self._bounds
        sending = self._sending_since
        if sending is not None and now - sending >= bounds.send_seconds:
            self.abandon("stopped reading")
        quiet = now - self._outbox.touched
        if self._reading_model and not self._outbox.blocked and quiet >= bounds.idle_seconds:
            self._reading_model = False
            self.stop(UpstreamTimeout())

    def _next_check(self, now: float) -> float:
        """When something can be due that is not due yet. What has not begun cannot be due before
        its whole time has passed, so waking by then misses nothing.
        """
        bounds = self._bounds
        sending = now if self._sending_since is None else self._sending_since
        reading = self._reading_model and not self._outbox.blocked
        touched = self._outbox.touched if reading else now
        early = now + bounds.early_start_seconds
        return min(
            sending + bounds.send_seconds,
            touched + bounds.idle_seconds,
            min(self._early_start, early) if not self._begun else math.inf,
        )
