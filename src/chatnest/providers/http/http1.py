"""Http1Connection: requests over HTTP/1.1 on asyncio, one at a time.

A connection writes requests, bounds what waits for a slow reader, and offers a part of a body that
arrives alone to a taker. ``responses`` parses what arrives.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from chatnest.providers.base import Taker
from chatnest.providers.http.responses import (
    BODY,
    HEAD,
    HTTP_ERRORS,
    IDLE,
    WHOLE,
    RefusedResponse,
    ResponseParser,
)
from chatnest.providers.http.transport import Sent, TransportError

__all__ = ["Http1Connection", "Http1Response"]

_RECEIVE_BUFFER: Final = 32_768
"""Bytes of a body that wait here while the client does not read; more wait in the kernel."""

_LAST_READ: Final = 65_536
"""Maximum bytes that are read from the kernel when a response is left before its end."""

_FRAMING_BYTES: Final = 524_288
"""Maximum bytes without a byte of the body: chunk sizes and extensions. One read may have half of
that, with the head before it.
"""

_TLS_RECORD: Final = 20_480
"""Bytes that TLS may buffer: more than its longest record (RFC 5246, section 6.2.3), since an
incomplete record would block the rest.
"""


class Http1Connection(asyncio.Protocol):
    """``ask`` sends a request and returns the response once its head has arrived.

    A response that was read to its end frees the connection: ``on_free`` is called when the next
    request may be sent, and ``on_lost`` when the connection has ended.
    """

    __slots__ = (
        *("_cause", "_loop", "_on_free", "_on_lost", "_paused", "_pieces", "_size", "_taker"),
        *("_transport", "_waiter", "_wire", "responses"),
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        on_free: "Callable[[Http1Connection], None]",
        on_lost: "Callable[[Http1Connection], None]",
    ) -> None:
        self._loop = loop
        self._on_free = on_free
        self._on_lost = on_lost
        self._transport: Any = None
        self._wire: Any = None  # the transport below TLS
        self._cause: Exception | None = None  # the reason why nothing more can arrive
        self._waiter: asyncio.Future[None] | None = None
        self._taker: Taker[bytes] | None = None
        self._size = 0
        self._paused = False
        self.responses: ResponseParser = ResponseParser(loop.time)
        self._pieces = self.responses.pieces

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        self._transport = self._wire = transport

    def secured(self, transport: Any) -> None:
        """Use TLS from now on. Its transport would buffer 256 KiB and more by default."""
        self._transport = transport
        transport.set_read_buffer_limits(_RECEIVE_BUFFER, _TLS_RECORD)

    @property
    def usable(self) -> bool:
        """Whether a request may be sent."""
        idle = self.responses.stage == IDLE and self._cause is None
        return idle and not self._transport.is_closing()

    async def ask(
        self,
        request: bytes,
        call: Sent,
        late: "Callable[[Http1Response], None]" = lambda _: None,
    ) -> "Http1Response":
        """Send a request and wait for the head of its response. See Transport.post for ``call`` and
        ``late``. Raises TransportError.
        """
        responses = self.responses
        responses.expect()
        self._transport.write(request)
        call.sent = True
        try:
            while responses.stage == HEAD and self._cause is None:
                self._waiter = waiter = self._loop.create_future()
                await waiter
        except BaseException:
            if responses.stage == HEAD and self._cause is None:
                self._read_last()
            if responses.stage != HEAD:
                late(Http1Response(self, responses.status, responses.fields))
            self.abort()
            raise
        if responses.stage == HEAD:
            raise TransportError from self._cause
        return Http1Response(self, responses.status, responses.fields)

    def abort(self) -> None:
        """Close the connection now."""
        self._break_off(ConnectionAbortedError())

    async def read(self) -> bytes:
        """See Response. Raises TransportError if the body broke off."""
        pieces = self._pieces
        while not pieces:
            if self.responses.stage == WHOLE:
                return b""
            if self._cause is not None:
                raise TransportError from self._cause
            self._waiter = waiter = self._loop.create_future()
            await waiter
        data = pieces.pop() if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self._size = 0
        if self._paused:
            self._resume()
        return data

    def offer(self, taker: Taker[bytes]) -> None:
        """See Response."""
        self._taker = taker

    def unread(self) -> bytes:
        """See Response: the waiting pieces, and one last read from the kernel, which does not wait.
        Over TLS, the last read ends at the last complete record.
        """
        self._taker = None
        if self.responses.stage == BODY and self._cause is None:
            self._read_last()
        data = b"".join(self._pieces)
        self._pieces.clear()
        self._size = 0
        return data

    def release(self) -> None:
        """End the response: free the connection if the response is complete, else close it.

        A response may be complete before its request was sent: the server then has no use for the
        rest, and may never read it, so the connection is closed.
        """
        responses = self.responses
        self._taker = None
        usable = responses.stage == WHOLE and responses.is_reusable and self._cause is None
        if not usable or self._wire.get_write_buffer_size():
            self.abort()
            return
        responses.stage = IDLE
        self._pieces.clear()
        self._size = 0
        if self._paused:
            self._resume()
        self._on_free(self)

    def _read_last(self) -> None:
        with suppress(Exception):  # the exchange is over, and an error changes nothing
            data = os.read(self._wire.get_extra_info("socket").fileno(), _LAST_READ)
            if self._transport is self._wire:
                self.data_received(data)
            else:
                self._transport.resume_reading()
                _decipher(self._wire.get_protocol(), data)

    def _resume(self) -> None:
        self._paused = False
        self._transport.resume_reading()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():  # it may have been cancelled
            waiter.set_result(None)

    def data_received(self, data: bytes) -> None:
        """See OfferingStream for the short cut of a piece that arrives alone."""
        if self._cause is not None:
            return
        responses = self.responses
        try:
            responses.feed(data)
        except HTTP_ERRORS as exc:
            exc.__context__ = None  # the frames of both refer to this object
            self._break_off(exc.with_traceback(None))
        waiter = self._waiter
        if (
            waiter is not None
            and self._taker is not None
            and len(self._pieces) == 1
            and responses.stage == BODY
            and self._taker.take(self._pieces[0])
        ):
            self._pieces.clear()
            self._size = 0
            return
        if responses.stage == HEAD and responses.is_too_long(len(data)):
            self._break_off(RefusedResponse())
        self._size += len(data)
        if self._size > _RECEIVE_BUFFER and not self._paused:
            self._overflow()
        if waiter is not None:
            self._waiter = None
            if not waiter.done():  # it may have been cancelled
                waiter.set_result(None)

    def _overflow(self) -> None:
        """Stop reading until ``read`` is called, if there is something to read."""
        if self._pieces:
            self._paused = True
            self._transport.pause_reading()
        elif self._size > _FRAMING_BYTES:
            self._break_off(RefusedResponse())

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is None and self._cause is None:
            self.responses.end()
        self._cause = self._cause or exc or ConnectionResetError()
        self.responses.close()
        self._wake()
        self._on_lost(self)

    def _break_off(self, cause: Exception) -> None:
        self._cause = self._cause or cause
        self._transport.abort()
        self._wake()


def _decipher(tls: Any, data: bytes) -> None:
    """Feed asyncio's TLS protocol, which calls ``data_received`` with the plain text."""
    while data:
        buffer = tls.get_buffer(len(data))
        part, data = data[: len(buffer)], data[len(buffer) :]
        buffer[: len(part)] = part
        tls.buffer_updated(len(part))


class Http1Response:
    """See Response."""

    __slots__ = ("_connection", "headers", "offer", "read", "status")

    def __init__(
        self, connection: Http1Connection, status: int, headers: Mapping[str, str]
    ) -> None:
        self.status: int = status
        self.headers: Mapping[str, str] = headers
        self.read: Callable[[], Awaitable[bytes]] = connection.read
        self.offer: Callable[[Taker[bytes]], None] = connection.offer
        self._connection: Http1Connection | None = connection

    def unread(self) -> bytes:
        return b"" if self._connection is None else self._connection.unread()

    def release(self) -> bool:
        connection = self._connection
        if connection is not None:
            responses = connection.responses
            if responses.stage != WHOLE or responses.pieces:
                return False
            self._connection = None
            connection.release()
        return True

    async def aclose(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.release()
