"""Response: one client of a stream: its head, its frames, its pings, its disconnect."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from enum import Enum, auto
from time import monotonic
from typing import Any, Final

import msgspec
from anyio import Event, move_on_after
from starlette.types import Receive, Scope, Send

from chatnest.asgi.http import NO_SNIFFING, encode_headers, is_gone, respond, send_now
from chatnest.bounds import Bounds
from chatnest.errors import ClientGone, ClientStalled
from chatnest.events import (
    ClientEvent,
    Delta,
    Failed,
    LastEvent,
    Numbered,
    Ping,
    Reasoning,
    Start,
)
from chatnest.wire.base import StreamInfo, WireFormat

__all__ = ["Response", "State"]

_log = logging.getLogger("chatnest.streaming")

_HEADERS: Final = (
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
    NO_SNIFFING,
)


class State(Enum):
    """The state of a response."""

    WAITING = auto()
    """Nothing was sent: an error is a problem document with its own status."""
    STREAMING = auto()
    """The head was sent: an error is an event."""
    OVER = auto()
    """The last event is being sent, or was. Nothing may follow it, not even a ping."""
    GONE = auto()
    """A write failed: nothing can be sent any more."""


_WAITING, _STREAMING, _OVER, _GONE = State


class Response:
    """One client of a source. See Output.

        waiting ── emit(), or the early start ──► streaming ── finish() ──► over
           │                                         └── a write fails ──► gone
           └── finish(Failed): a problem document ──────────────────────► over

    Two tasks never send at the same time: the clock sends a ping before or after what the source
    writes. A server that can send without waiting (SendNow) makes ``put_now`` possible. ``place``
    is the chat's place among those that wait for the model: see Intake.place.
    """

    __slots__ = (
        *(
            "_bounds",
            "_early_start",
            "_format",
            "_frames",
            "_headers",
            "_info",
            "_ping_at",
            "_ping_seconds",
            "_place",
        ),
        *("_receive", "_request_id", "_scope", "_send", "_send_now", "_sending_since", "_sent"),
        *("_state", "begun", "puts_now"),
    )

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        format: WireFormat,  # noqa: A002  # the field's word
        info: StreamInfo,
        bounds: Bounds,
        ping_seconds: float,
        headers: Mapping[str, str] | None = None,
        place: Callable[[bool], None] | None = None,
    ) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._send_now = send_now(scope, send)
        self._format = format
        self._info = info
        self._frames = format.frames(info)
        self._bounds = bounds
        self._ping_seconds = ping_seconds
        self._ping_at = monotonic() + ping_seconds
        self._request_id = info.request_id
        self._headers = dict(headers or {})
        self._place = place
        self._state = _WAITING
        self.begun: bool = False
        self.puts_now: bool = self._send_now is not None
        self._sending_since: float | None = None
        self._sent: Event | None = None
        self._early_start = math.inf

    # ------------------------------------------------ for a source

    def is_gone(self) -> bool:
        return is_gone(self._scope)

    def add_headers(self, fields: Mapping[str, str]) -> None:
        if self._state is _WAITING:
            self._headers.update(fields)

    def join_run(self, run_id: str) -> None:
        """Note, before anything is sent, that the events are those of another request's run."""
        self._frames = self._format.frames(msgspec.structs.replace(self._info, run_id=run_id))

    def expect_start(self) -> None:
        """See Output. The time for the early start counts from the first call."""
        if self._early_start == math.inf and self._state is _WAITING:
            self._early_start = monotonic() + self._bounds.early_start_seconds
        if self._place is not None:
            self._place(True)  # by position
            self._place = None

    def leave_place(self) -> None:
        """Give back the place of a chat that ends before it has called the model."""
        if self._place is not None:
            self._place(False)  # as above
            self._place = None

    def put_now(self, event: Delta | Reasoning | Numbered) -> bool:
        try:
            return (
                self._send_now is not None
                and self._sending_since is None
                and self._state is _STREAMING
                and self._send_now.piece(self._frames.encode, (event,))
            )
        except Exception:  # noqa: BLE001  # a custom format may raise anything; emit() reports it
            return False

    async def emit(self, events: Sequence[ClientEvent], *, more: bool = True) -> None:
        """Send events in one write. The first write begins with the head."""
        while self._sending_since is not None:
            self._sent = Event()
            await self._sent.wait()
        body = self._frames.encode(events)
        self._sending_since = monotonic()
        try:
            if self._state is _WAITING:
                self._state, self.begun = _STREAMING, True
                await self._send(self._response_start())
            if body or not more:
                await self._send({"type": "http.response.body", "body": body, "more_body": more})
        except Exception as exc:  # noqa: BLE001  # servers raise OSError, RuntimeError and their own
            raise self._gone(exc) from None
        finally:
            self._sending_since = None
            if self._sent is not None:
                self._sent.set()
                self._sent = None

    async def finish(self, event: LastEvent) -> None:
        """Send the last event, or the problem document of an error that came before the first."""
        if self._state is _GONE:
            return
        try:
            last = event.event if type(event) is Numbered else event
            if self._state is _WAITING and type(last) is Failed:
                self._state = _OVER
                await self._refuse(last)
            else:
                if self._state is _STREAMING:
                    self._state = _OVER
                await self.emit([event], more=False)
        except ClientGone:
            pass
        except Exception:  # noqa: BLE001  # a custom format may raise anything
            _log.exception("request failed: request=%s", self._request_id)

    # ------------------------------------------------ for the task group

    def attend(self, watch: Callable[[], None]) -> None:
        """See Audience."""
        watch()

    async def watch(self, gone: Callable[[], None]) -> None:
        """Call ``gone`` once the client has disconnected. ``http.disconnect`` is the only sure
        sign, and it is received once: some servers block forever when they are asked again.
        """
        try:
            while (await self._receive())["type"] != "http.disconnect":
                pass
        except Exception as exc:  # noqa: BLE001  # raised by a middleware or a server: a disconnect
            _log.debug("request %s: receive failed: %s", self._request_id, type(exc).__name__)
        gone()

    async def tend(self, now: float) -> float:
        """See Audience: sends the early start and pings. Raises ClientStalled for a write that
        takes longer than ``send_seconds``.
        """
        bounds = self._bounds
        if self._state is _WAITING and now >= self._early_start:
            await self._emit_in_time([Start(), Ping()])
        if now >= self._ping_at:
            self._ping_at += self._ping_seconds
            if self._state is _STREAMING and self._sending_since is None:
                await self._emit_in_time([Ping()])
        now = monotonic()
        sending = now if self._sending_since is None else self._sending_since
        if now - sending >= bounds.send_seconds:
            raise ClientStalled
        early = math.inf
        if self._state is _WAITING:
            early = min(self._early_start, now + bounds.early_start_seconds)
        return min(self._ping_at, sending + bounds.send_seconds, early)

    # ------------------------------------------------ inside

    async def _emit_in_time(self, events: Sequence[ClientEvent]) -> None:
        """Send events of the clock, with a timeout: the clock cannot watch its own writes."""
        with move_on_after(self._bounds.send_seconds) as scope:
            await self.emit(events)
        if scope.cancelled_caught:
            raise ClientStalled

    async def _refuse(self, failed: Failed) -> None:
        """Send a problem document. The response has not begun, so no other write is in progress."""
        problem = self._format.problem(
            failed.error, request_id=self._request_id, charged=failed.charged
        )
        self._sending_since = monotonic()
        try:
            await respond(self._scope, self._send, problem)
        except Exception as exc:  # noqa: BLE001  # as above
            raise self._gone(exc) from None
        finally:
            self._sending_since = None

    def _gone(self, exc: Exception) -> ClientGone:
        _log.debug("request %s: send failed: %s", self._request_id, type(exc).__name__)
        self._state = _GONE
        return ClientGone()

    def _response_start(self) -> dict[str, Any]:
        headers = [(b"content-type", self._format.content_type.encode()), *_HEADERS]
        if self._format.headers:
            headers += encode_headers(self._format.headers)
        own: Mapping[str, str] | None = getattr(self._frames, "headers", None)
        if own:
            headers += encode_headers(own)
        headers += encode_headers(self._headers)
        del self._headers, self._info  # not needed any more, and an empty dict takes 64 bytes
        return {"type": "http.response.start", "status": 200, "headers": headers}
