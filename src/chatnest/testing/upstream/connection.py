"""One connection to the fake upstream: plays answers, and notices a disconnect at once."""

import asyncio
import json
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any, Literal, cast

from chatnest.testing.upstream.answers import Answer
from chatnest.testing.upstream.dialects.chat import Chat
from chatnest.testing.upstream.http1 import Request, RequestReader
from chatnest.testing.upstream.plan import Step, plan
from chatnest.testing.upstream.record import Record, SeenRequest

__all__ = ["Connection"]

_TURN = 64
_RST = struct.pack("ii", 1, 0)
_MODELS = Answer(
    body=b'{"object":"list","data":[{"id":"fake","object":"model","created":0,"owned_by":"us"}]}'
)


class Connection(asyncio.Protocol):
    """Plays the steps of one answer after the other.

    The transport's own buffer stays empty: the bytes written are the bytes the kernel took, and
    an endless answer waits for its reader instead of filling memory (backpressure). Reading never
    stops, so the connection notices FIN and RST even when it does not write.
    """

    def __init__(self, record: Record, peers: set["Connection"]) -> None:
        self._record = record
        self._peers = peers
        self._reader = RequestReader()
        self._transport: asyncio.Transport
        self._seen: SeenRequest | None = None
        self._steps: Iterator[Step] = iter(())
        self._step = Step()
        self._due = 0.0
        self._timer: asyncio.Handle | None = None
        self._writable = True
        self._held = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Part of `asyncio.Protocol`."""
        # uvloop's transports are not a subclass of asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=0)
        self._peers.add(self)
        self._record.connections += 1
        self._record.open_sockets += 1
        if self._record.closes_on_accept():
            transport.close()
        self._record.notify()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's name
        """Part of `asyncio.Protocol`."""
        self._peers.discard(self)
        self._record.open_sockets -= 1
        self._end("aborted")
        self._record.notify()

    def eof_received(self) -> None:
        """Part of `asyncio.Protocol`. A half-close counts as a disconnect."""
        self._end("aborted")
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Part of `asyncio.Protocol`."""
        self._reader.feed(data)
        if self._seen is None:
            self._next_request()

    def pause_writing(self) -> None:
        """Part of `asyncio.Protocol`."""
        self._writable = False

    def resume_writing(self) -> None:
        """Part of `asyncio.Protocol`."""
        self._writable = True
        self._wake()

    def release(self) -> None:
        """Continue after a stall or a silence."""
        if self._held:
            self._held = False
            self._wake()

    def abort(self) -> None:
        """Close the connection, even in the middle of an answer."""
        self._transport.abort()

    def _next_request(self) -> None:
        try:
            request = self._reader.next()
        except ValueError:
            self._transport.abort()
            return
        if request is not None:
            self._begin(request)

    def _begin(self, request: Request) -> None:
        head = request.head
        parsed = _parse(request.body)
        self._seen = seen = SeenRequest(
            head.method, head.path, head.headers, request.body, parsed, time.monotonic()
        )
        self._record.requests.append(seen)
        fields = parsed if isinstance(parsed, dict) else {}
        dialect = self._record.dialects.get(seen.path, Chat)
        self._steps = plan(self._answer(seen), request, fields, dialect)
        self._due = asyncio.get_running_loop().time()
        self._record.notify()
        self._play()

    def _answer(self, seen: SeenRequest) -> Answer:
        match seen.method, seen.path:
            case "POST", path if path in self._record.dialects and not isinstance(seen.json, dict):
                return Answer.error(400)
            case "POST", path if path in self._record.dialects:
                return self._record.take(seen)
            case "GET", "/v1/models":
                return _MODELS
        return Answer.error(404)

    def _play(self) -> None:
        self._timer = None
        for _ in range(_TURN):
            step = next(self._steps, None)
            if step is None:
                self._finish("go_on")
                return
            if step.delay and self._wait(step):
                return
            if not self._perform(step):
                return
        self._wake()

    def _wait(self, step: Step) -> bool:
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._due = max(self._due + step.delay, now)
        if self._due <= now:
            return False
        self._step = step
        self._timer = loop.call_at(self._due, self._on_time)
        return True

    def _on_time(self) -> None:
        if self._perform(self._step):
            self._play()

    def _wake(self) -> None:
        if self._timer is None and self._seen is not None and self._writable and not self._held:
            self._timer = asyncio.get_running_loop().call_soon(self._play)

    def _perform(self, step: Step) -> bool:
        """Do one step. Return whether the next may follow at once."""
        seen = self._seen
        assert seen is not None  # noqa: S101 - a step always belongs to a request
        if step.data:
            self._transport.write(step.data)
            if self._transport.is_closing():  # the write met an RST; connection_lost follows
                return False
            seen.bytes_written += len(step.data)
            seen.pieces_sent += step.pieces
            self._record.notify()
        if step.act in {"close", "reset"}:
            self._finish(step.act)
            return False
        self._held = step.act == "hold"
        return self._writable and not self._held

    def _finish(self, act: Literal["go_on", "hold", "close", "reset"]) -> None:
        self._end("served")
        if act == "close":
            self._transport.close()
        elif act == "reset":
            _linger_zero(self._transport)
            self._transport.abort()
        else:
            self._next_request()

    def _end(self, state: Literal["served", "aborted"]) -> None:
        """Record the final state of the request, once."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._seen is None:
            return
        self._seen.state = state
        self._seen.closed_at = time.monotonic()
        self._seen = None
        if state == "served":
            self._record.served += 1
        else:
            self._record.aborted += 1
        self._record.notify()


def _parse(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


def _linger_zero(transport: asyncio.Transport) -> None:
    connection: socket.socket = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
