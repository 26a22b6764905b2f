"""BoundedProtocol: uvicorn's HTTP/1.1 with bounds on heads and on what waits to be sent, and with
less memory for a connection that is silent.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from starlette.types import Send
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from chatnest.asgi import NO_SNIFFING, SEND_NOW

__all__ = ["BoundedProtocol"]

_T = TypeVar("_T")

_HEAD_BYTES = 65_536
_WRITE_BUFFER = 16_384
"""Bytes that wait in this process for a client that does not read, beside those of the kernel."""
_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-length: 0\r\nconnection: close\r\n\r\n"
)


class BoundedProtocol(HttpToolsProtocol):
    """Answers 431 to a head (request line and fields) of more than 64 KiB, and closes. One that
    comes whole in a single read is taken: it was in the memory already.

    What an open connection rarely needs is made when it does, which is 3 KiB for each of those that
    wait for a model.
    """

    # Attributes above uvicorn's own would have CPython give each connection a dict of its own.
    __slots__ = ("_ended", "_head", "url")

    _ended: bool  # whether a head or a body has ended in what is being read
    _head: int | None  # bytes of a head that is under way, None within a body
    flow: FlowControl
    pipeline: Any

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Called by the event loop."""
        self._head = 0
        super().connection_made(transport)
        self.flow = _Flow(transport)
        self.pipeline = ()  # as it is for most, all the time
        transport.set_write_buffer_limits(high=_WRITE_BUFFER)

    def data_received(self, data: bytes) -> None:
        """Called by the event loop with at most 256 KiB."""
        self._ended = False
        super().data_received(data)
        if self._head is not None and not self._ended and not self.transport.is_closing():
            self._head += len(data)
            if self._head > _HEAD_BYTES:
                self.transport.write(_TOO_LARGE)
                self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """The answer to bytes that are not HTTP: uvicorn's, with nosniff."""
        fields = [
            *self.server_state.default_headers,
            NO_SNIFFING,
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", b"%d" % len(msg)),
            (b"connection", b"close"),
        ]
        head = b"".join(b"%b: %b\r\n" % field for field in fields)
        self.transport.write(b"HTTP/1.1 400 Bad Request\r\n%b\r\n%b" % (head, msg.encode()))
        self.transport.close()

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        self._head = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The end of a head."""
        self._head, self._ended = None, True
        before: Any = self.cycle  # None of the first request
        if not self.pipeline and before and not before.response_complete:
            self.pipeline = deque()  # the next request has come before this one's answer
        super().on_headers_complete()
        if self.cycle is not before:
            self.cycle.message_event = _Event()  # type: ignore[assignment]  # all that is used of it
            extensions: Any = {SEND_NOW: self.flow}
            self.scope["extensions"] = extensions

    def on_message_complete(self) -> None:
        """The end of a body: what follows is another head."""
        self._head, self._ended = 0, True
        super().on_message_complete()


class _Flow(FlowControl):
    """uvicorn's, with an event only while somebody waits for a client that does not read; it knows
    when nobody has to, and so is SendNow, too.
    """

    __slots__ = ("_transport", "_writable", "read_paused", "write_paused")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._writable: asyncio.Event | None = None
        self.read_paused = False
        self.write_paused = False

    def belongs_to(self, send: Send) -> bool:
        """See SendNow."""
        return getattr(getattr(send, "__self__", None), "flow", None) is self

    def piece(self, encode: Callable[[_T], bytes], content: _T) -> bool:
        """See SendNow. uvicorn's own ``send`` does the same for a body of unknown length."""
        if self.write_paused or self._transport.is_closing():
            return False
        body = encode(content)
        self._transport.write(b"%x\r\n%b\r\n" % (len(body), body))
        return True

    async def drain(self) -> None:
        """Wait until the client reads again."""
        if self.write_paused:
            if self._writable is None:
                self._writable = asyncio.Event()
            await self._writable.wait()

    def pause_writing(self) -> None:
        """Called by the event loop."""
        self.write_paused = True

    def resume_writing(self) -> None:
        """Called by the event loop, and at the connection's end."""
        self.write_paused = False
        if self._writable is not None:
            self._writable.set()
            self._writable = None


class _Event:
    """asyncio.Event in a fifth of its memory. It has no deque, and one waiter for most of the time:
    whoever watches for the client's leaving.
    """

    __slots__ = ("_is_set", "_waiters")

    def __init__(self) -> None:
        self._is_set = False
        self._waiters: tuple[asyncio.Future[None], ...] = ()

    def set(self) -> None:
        self._is_set = True
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    def clear(self) -> None:
        self._is_set = False

    async def wait(self) -> None:
        if self._is_set:
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiters += (waiter,)
        try:
            await waiter
        finally:
            self._waiters = tuple(each for each in self._waiters if each is not waiter)
