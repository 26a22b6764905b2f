"""Http1Connection: HTTP/1.1 to a model on asyncio, one request at a time, parsed by llhttp.

What it reads for a token is handed on without a Python call for each chunk of it, and nothing is
kept for a response but its pieces. It is as wary of the server as of a client: heads have bounds,
what nobody has asked for ends the connection, and so does everything that is not HTTP.
"""

import asyncio
import os
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from math import inf
from typing import Any, Final

import httptools

from chatnest.providers.base import Taker
from chatnest.providers.http.transport import TransportError

__all__ = ["Http1Connection", "Http1Response"]

_RECEIVE_BUFFER: Final = 32_768
"""Bytes of an answer that wait here while a client does not read; then the kernel's wait."""

_LAST_READ: Final = 65_536
"""Maximum bytes that are read from the kernel when an answer is left before its end."""

_FRAMING_BYTES: Final = 524_288
"""Bytes that may come without one of the body between them: sizes of chunks, and what is said
about them. One read may have half of that, with the head before it.
"""

_TLS_RECORD: Final = 20_480
"""More than the longest (RFC 5246, section 6.2.3). A part of one must not keep the rest away."""

_HEAD_BYTES: Final = 65_536
_MOST_FIELDS: Final = 256
_MOST_HEADS: Final = 16
"""Heads that may come for one request: interim responses (RFC 9110, section 15.2) and the last."""

_KEPT: Final = re.compile(r"(?:^|,)\s*timeout\s*=\s*\"?([0-9]+)\"?\s*(?=,|$)", re.IGNORECASE)
"""In a ``Keep-Alive`` field (RFC 2068, section 19.7.1.1). What is no number says nothing."""


class _Refused(Exception):
    """Raised within the parser, which ends it: the server does what it must not."""


_IDLE, _HEAD, _BODY, _WHOLE = range(4)
"""Stages: nobody waits for an answer; its head, or its body, is to come; it is here to its end."""


class Http1Connection(asyncio.Protocol):
    """``ask`` sends a request and gives the response, once its head is there. A response that was
    read to its end gives the connection back: ``on_free`` is called where it can be used again,
    and ``on_lost`` when it has ended. ``idle_since`` is when the last response was whole, by the
    event loop's clock; ``kept_for`` is for how many seconds from then the server keeps the
    connection, where it said so.
    """

    __slots__ = (
        *("_cause", "_fields", "_fields_left", "_head_left", "_heads_left", "_loop", "_on_free"),
        *("_on_lost", "_parser", "_paused", "_pieces", "_reusable", "_size", "_stage", "_status"),
        *("_taker", "_transport", "_until_end", "_waiter", "_wire", "idle_since", "kept_for"),
        "on_body",
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
        self._wire: Any = None  # what is below TLS
        self._stage = _IDLE
        self._cause: Exception | None = None  # why nothing can come any more
        self._waiter: asyncio.Future[None] | None = None
        self._taker: Taker[bytes] | None = None
        self._pieces: list[bytes] = []
        self._size = 0
        self._paused = False
        self.idle_since: float = 0.0
        self.kept_for: float = inf
        self.on_body: Any = self._pieces.append  # the parser's, so that no frame of ours is needed
        self._parser: Any = httptools.HttpResponseParser(self)
        # A client has to understand folded fields and may understand the others (RFC 9112, sections
        # 2.2, 5.2, 6.3 and 7.1.1). There is one request at a time, so that nothing can be smuggled.
        self._parser.set_dangerous_leniencies(
            lenient_headers=True,
            lenient_chunked_length=True,
            lenient_optional_cr_before_lf=True,
            lenient_spaces_after_chunk_size=True,
        )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        self._transport = self._wire = transport

    def secured(self, transport: Any) -> None:
        """The wire has TLS on it now, which has a buffer of its own, of 256 KiB and more."""
        self._transport = transport
        transport.set_read_buffer_limits(_RECEIVE_BUFFER, _TLS_RECORD)

    @property
    def usable(self) -> bool:
        """Whether a request may be sent."""
        return self._stage == _IDLE and self._cause is None and not self._transport.is_closing()

    # ------------------------------------------------ for the request

    async def ask(
        self,
        request: bytes,
        sent: Callable[[], None],
        late: "Callable[[Http1Response], None]" = lambda _: None,
    ) -> "Http1Response":
        """Send a request, and wait for the head of its response. Raises TransportError. See
        Transport.post for ``late``.
        """
        self._stage = _HEAD
        self._head_left, self._heads_left = _HEAD_BYTES, _MOST_HEADS
        self._transport.write(request)
        sent()
        try:
            while self._stage == _HEAD and self._cause is None:
                self._waiter = waiter = self._loop.create_future()
                await waiter
        except BaseException:
            if self._stage == _HEAD and self._cause is None:
                with suppress(Exception):  # the request is over, whatever becomes of this
                    self._read_last()
            if self._stage != _HEAD:
                late(Http1Response(self, self._status, self._fields))
            self.abort()
            raise
        if self._stage == _HEAD:
            raise TransportError from self._cause
        return Http1Response(self, self._status, self._fields)

    async def read(self) -> bytes:
        """What has arrived of the body, at least a byte; empty at its end. Raises TransportError
        where it breaks off, after all that had come before.
        """
        pieces = self._pieces
        while not pieces:
            if self._stage == _WHOLE:
                return b""
            if self._cause is not None:
                raise TransportError from self._cause
            self._waiter = waiter = self._loop.create_future()
            await waiter
        data = pieces.pop() if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self._size = 0
        if self._paused:
            self._read_on()
        return data

    def offer(self, taker: Taker[bytes]) -> None:
        """Until the response is released; see Response."""
        self._taker = taker

    def ended(self) -> bool:
        """Whether the body was read to its end."""
        return self._stage == _WHOLE and not self._pieces

    def unread(self) -> bytes:
        """What has arrived of the body: what waits here, and one last read of the kernel's, which
        does not wait. Over TLS that is as much of it as can be deciphered.
        """
        self._taker = None
        if self._stage == _BODY and self._cause is None:
            with suppress(Exception):  # the answer is over, whatever becomes of this
                self._read_last()
        data = b"".join(self._pieces)
        self._pieces.clear()
        self._size = 0
        return data

    def _read_last(self) -> None:
        data = os.read(self._wire.get_extra_info("socket").fileno(), _LAST_READ)
        if self._transport is self._wire:
            self.data_received(data)
            return
        tls = self._wire.get_protocol()  # which hands on what it has deciphered
        self._transport.resume_reading()
        while data:
            buffer = tls.get_buffer(len(data))
            part, data = data[: len(buffer)], data[len(buffer) :]
            buffer[: len(part)] = part
            tls.buffer_updated(len(part))

    def release(self) -> None:
        """Nobody reads the response any more. It may have come before the request had left: the
        server has no use for the rest then, and may not read it.
        """
        self._taker = None
        usable = self._stage == _WHOLE and self._reusable and self._cause is None
        if not usable or self._wire.get_write_buffer_size():
            self.abort()
            return
        self._stage = _IDLE
        self._pieces.clear()
        self._size = 0
        if self._paused:
            self._read_on()
        self._on_free(self)

    def abort(self) -> None:
        """Close it now, whatever is under way."""
        self._break_off(ConnectionAbortedError())

    def _read_on(self) -> None:
        self._paused = False
        self._transport.resume_reading()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():  # it may have been cancelled
            waiter.set_result(None)

    # ------------------------------------------------ called by the event loop

    def data_received(self, data: bytes) -> None:
        if self._cause is not None:
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as exc:
            exc.__context__ = None  # its frames, and the exception's own, know this object
            self._break_off(exc.with_traceback(None))
        waiter = self._waiter
        if (
            waiter is not None
            and self._taker is not None
            and len(self._pieces) == 1
            and self._stage == _BODY
            and self._taker.take(self._pieces[0])
        ):
            self._pieces.clear()
            self._size = 0
            return
        if self._stage == _HEAD:
            self._head_left -= len(data)
            if self._head_left < 0:
                self._break_off(_Refused())
        self._size += len(data)
        if self._size > _RECEIVE_BUFFER and not self._paused:
            self._overflow()
        if waiter is not None:
            self._wake()

    def _overflow(self) -> None:
        """Read on once there was room. What waits for a piece, or for a head, has to be read."""
        if self._pieces:
            self._paused = True
            self._transport.pause_reading()
        elif self._size > _FRAMING_BYTES:
            self._break_off(_Refused())

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is None and self._cause is None and self._stage == _BODY and self._until_end:
            self._stage = _WHOLE
        self._cause = self._cause or exc or ConnectionResetError()
        self._parser = self.on_body = None  # both know this object
        self._wake()
        self._on_lost(self)

    def _break_off(self, cause: Exception) -> None:
        self._cause = self._cause or cause
        self._transport.abort()
        self._wake()

    # ------------------------------------------------ called by the parser

    def on_message_begin(self) -> None:
        if self._stage != _HEAD or self._heads_left == 0:
            raise _Refused
        self._heads_left -= 1
        self._fields_left = _MOST_FIELDS
        self._fields: dict[str, str] = {}

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of the head, or behind the body; the first of a name counts."""
        self._fields_left -= 1
        if self._fields_left < 0:
            raise _Refused
        if self._stage == _HEAD:
            self._fields.setdefault(name.decode("latin-1").lower(), value.decode("latin-1"))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status == HTTPStatus.SWITCHING_PROTOCOLS:
            raise _Refused
        if status >= HTTPStatus.OK:  # what is below is interim
            self._status = status
            self._reusable = self._parser.should_keep_alive()
            self.kept_for = _seconds_kept(self._fields.get("keep-alive", ""))
            self._until_end = not self._fields.keys() & {"content-length", "transfer-encoding"}
            self._stage = _BODY

    def on_message_complete(self) -> None:
        if self._stage == _BODY:
            self._stage = _WHOLE
            self.idle_since = self._loop.time()


def _seconds_kept(field: str) -> float:
    """The least that it says."""
    return min(map(float, _KEPT.findall(field)), default=inf)


class Http1Response:
    """An answer whose head is there; see Response."""

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

    def ended(self) -> bool:
        return self._connection is None or self._connection.ended()

    async def aclose(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.release()
