"""BoundedProtocol: uvicorn's HTTP/1.1, with bounds on what a client may send and how slowly, with
bodies that are never read as requests, and with less memory for a connection that is silent.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

import httptools
from starlette.types import Send
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from chatnest.asgi.heads import MOST_FIELDS
from chatnest.asgi.http import NO_SNIFFING, SEND_NOW
from chatnest.server.connections import Connections, Queue
from chatnest.server.front import Front, answer_at_once, is_hung_up
from chatnest.server.http10 import Unchunked

__all__ = ["BoundedProtocol"]

_T = TypeVar("_T")

_HEAD_BYTES = 65_536
_URL_BYTES: Final = 8_192
"""Maximum bytes of a URL, which uvicorn decodes: as long as one should be supported (RFC 9110,
section 4.1).
"""
_WRITE_BUFFER = 16_384
"""Bytes that wait in this process for a client that does not read, beside those of the kernel."""
_HEAD_SECONDS: Final = 10.0
"""Seconds from a connection, or from the first byte of a later request, to the end of its head."""
_REST_SECONDS: Final = 10.0
"""Seconds for the rest of a body after its request was answered."""
_MOST_PIPELINED: Final = 64
"""Requests that wait on one connection for the answers to those before them."""

_IDLE, _BODY = -1, -2
_REFUSAL: Final = b"HTTP/1.1 %b\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_TOO_LARGE: Final = _REFUSAL % b"431 Request Header Fields Too Large"
_URL_TOO_LONG: Final = _REFUSAL % b"414 URI Too Long"
_TOO_SLOW: Final = _REFUSAL % b"408 Request Timeout"

_connections: Final = WeakKeyDictionary[ServerState, Connections]()
"""The table of each server; uvicorn makes one ServerState in each worker."""


class BoundedProtocol(HttpToolsProtocol):
    """Answers 431 to a head (request line and fields) of more than 64 KiB or 128 fields, 414 to a
    URL of more than 8 KiB, and closes. A head of few fields that comes whole in a single read is
    taken, however long they are: it was in the memory already.

    A request to upgrade to anything but a WebSocket is served as if it had not asked: httptools
    would skip its body and take what follows for a request. Trailers are dropped, lest they count
    as fields that a proxy has let through.

    What an open connection rarely needs is made when it does, which is 3 KiB for each of those that
    wait for a model.
    """

    # Attributes above uvicorn's own would have CPython give each connection a dict of its own.
    __slots__ = ("_deaf", "_ended", "_head", "_running", "_table", "queue", "taken", "url")

    _deaf: bool  # whether nothing more is read as HTTP
    _ended: bool  # whether a head or a body has ended in what is being read
    _head: int  # bytes of a head that is under way, or _IDLE between requests, or _BODY
    _running: RequestResponseCycle | None  # the one that is answered, which others may be behind
    _table: Connections
    queue: Queue | None
    taken: bool  # whether its first request, a chat, may begin
    expect_100_continue: bool
    flow: FlowControl
    headers: Any
    parser: httptools.HttpRequestParser
    pipeline: Any
    url: bytes

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        head_seconds: float = _HEAD_SECONDS,
        rest_seconds: float = _REST_SECONDS,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        table = _connections.get(server_state)
        if table is None:
            table = _connections[server_state] = Connections(
                self.loop,
                head_seconds=head_seconds,
                rest_seconds=rest_seconds,
                idle=self.timeout_keep_alive,
            )
        self._table = table
        self.queue = None
        self.taken = False
        self._running = None
        if isinstance(self.app, Front):
            self.app.open(self)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Called by the event loop."""
        self._head, self._deaf = _IDLE, False
        super().connection_made(transport)
        self.flow = _Flow(transport)
        self.pipeline = ()  # as it is for most, all the time
        transport.set_write_buffer_limits(high=_WRITE_BUFFER)
        self._table.move(self, self._table.heads)
        if (connected := transport.get_extra_info("socket")) is not None:
            self._table.make_room(self, connected.fileno())

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop."""
        self._table.move(self, None)
        super().connection_lost(exc)
        cycle, self._running = self._running, None
        if cycle is not None and cycle is not self.cycle:  # uvicorn tells the newest alone
            cycle.disconnected = True
            cycle.message_event.set()

    def data_received(self, data: bytes) -> None:
        """Called by the event loop with at most 256 KiB."""
        if self._deaf:
            return
        self._ended = False
        try:
            self._feed(data)
        except httptools.HttpParserError as exc:
            self._refuse(getattr(exc.__context__, "answer", None))
            return
        if self.transport.is_closing():
            return
        if self._head >= 0 and not self._ended:
            self._head += len(data)
            if self._head > _HEAD_BYTES:
                self._refuse(_TOO_LARGE)
        elif self._head == _BODY and self.queue is None:
            self._table.move(self, self._table.bodies)

    # ------------------------------------------------ framing

    def _feed(self, data: bytes | memoryview) -> None:
        """To the parser, which stops behind the head of a request that asks for an upgrade. It
        would go on with another request there; instead it reads the same head without ``Upgrade``,
        and then what follows as that request's body (RFC 9110, section 7.8: a server may ignore
        the field).
        """
        while True:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as exc:
                if self._should_upgrade():
                    self.handle_websocket_upgrade()
                    return
                data = memoryview(data)[exc.args[0] :]
                head = self._head_without_upgrade()
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's
                self.parser.feed_data(head)
            else:
                return

    def _head_without_upgrade(self) -> bytes:
        method, version = self.parser.get_method(), self.parser.get_http_version()
        lines = [b"%b %b HTTP/%b" % (method, self.url, version.encode())]
        lines += [b"%b: %b" % field for field in self.headers if field[0] != b"upgrade"]
        return b"\r\n".join([*lines, b"", b""])

    def _should_upgrade(self) -> bool:
        """Not beside an answer that is under way: its bytes and those of a WebSocket would mix."""
        cycle: Any = self.cycle  # None of the first request
        return (cycle is None or cycle.response_complete) and super()._should_upgrade()

    def handle_websocket_upgrade(self) -> None:
        """The connection is another protocol's from here on."""
        self._table.move(self, None)
        super().handle_websocket_upgrade()

    def _refuse(self, answer: bytes | None = None) -> None:
        """Read no more, and say so (400 without ``answer``) if no other answer is in the way."""
        self._deaf = True
        cycle: Any = self.cycle
        is_free = cycle is None or cycle.response_complete
        if self._head == _BODY and (is_free or self.pipeline or cycle.response_started):
            self.transport.close()  # this request has its answer, or another one is under way
        elif self._head == _BODY or is_free:
            self._say_and_close(answer)
        else:  # whole requests came before: they are served, and no more
            cycle.keep_alive = False

    def _say_and_close(self, answer: bytes | None) -> None:
        self._table.move(self, None)
        if answer is None:
            message = "Invalid HTTP request received."
            self.logger.warning(message)
            self.send_400_response(message)
        else:
            self.transport.write(answer)
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
        if self.queue is self._table.idle:
            self._table.move(self, self._table.heads)
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A part of it."""
        self.url += url
        if len(self.url) > _URL_BYTES:
            raise _NotServed(_URL_TOO_LONG)

    def on_header(self, name: bytes, value: bytes) -> None:
        """One field, or a trailer, which is forgotten. uvicorn's, with a bound on their number."""
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        if len(self.headers) >= MOST_FIELDS:
            raise _NotServed(_TOO_LARGE)
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The end of a head."""
        self._ended = True
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise _NotServed
            if not self._should_upgrade():
                return  # it comes again without the field
        before: Any = self.cycle  # None of the first request
        if len(self.pipeline) >= _MOST_PIPELINED:
            raise _NotServed
        if not self.pipeline and before and not before.response_complete:
            self.pipeline = deque()  # the next request has come before this one's answer
        if self.expect_100_continue and self.parser.get_http_version() == "1.0":
            self.expect_100_continue = False  # RFC 9110, section 10.1.1
        super().on_headers_complete()
        self._head = _BODY
        if self.cycle is before:
            return  # a WebSocket's
        # What was refused at once has an answer already.
        self._table.move(self, self._table.rests if self.cycle.response_complete else None)
        self.cycle.message_event = _Event()  # type: ignore[assignment]  # all that is used of it
        self.headers = _NO_TRAILERS
        if self.expect_100_continue:
            # An answer before the body leaves open whether the body comes.
            self.cycle.keep_alive = False

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """A task, unless the application refuses the request at once."""
        scope: Any = cycle.scope
        scope["extensions"] = {SEND_NOW: self.flow}
        if scope["http_version"] == "1.0":
            scope["extensions"] = {SEND_NOW: None}  # a piece is a chunk
            transport: Any = Unchunked(cycle.transport)
            cycle.transport, cycle.keep_alive = transport, False
        taken, self.taken = self.taken, False
        refusal = None
        if isinstance(app, Front):
            refusal = app.refuse_at_once(scope, self.loop.call_soon, taken=taken)
        if refusal is None:
            self._running = cycle
            super()._start_asgi_task(cycle, app)
        else:
            answer_at_once(self, cycle, refusal)

    def on_message_complete(self) -> None:
        """The end of a body: what follows is another head."""
        self._head, self._ended = _IDLE, True
        if self.parser.should_upgrade():
            return
        table, cycle = self._table, self.cycle
        if self.queue is not None:
            self._table.move(self, table.idle if cycle.response_complete else None)
        if not cycle.response_complete:
            cycle.more_body = False
            cycle.message_event.set()

    # ------------------------------------------------ time

    def on_response_complete(self) -> None:
        """The end of an answer. uvicorn's, but for a timer of each connection's own."""
        self.server_state.total_requests += 1
        self._running = None
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
            return
        table = self._table
        if self._head == _BODY:
            table.move_to_rest(self)
        else:
            table.move(self, table.idle if self._head == _IDLE else table.heads)

    def expire(self) -> None:
        """Called when its deadline has passed."""
        if self.transport.is_closing():
            return
        if self._head >= 0:
            self.transport.write(_TOO_SLOW)
        self.transport.close()

    def abort(self) -> None:
        """Called when its descriptor is needed."""
        self.transport.abort()


class _NotServed(Exception):
    """A request that is refused with ``answer``; without one as if it were no HTTP."""

    def __init__(self, answer: bytes | None = None) -> None:
        super().__init__()
        self.answer = answer


class _NoTrailers(list[tuple[bytes, bytes]]):
    """Where fields behind a body go."""

    __slots__ = ()

    def append(self, _: tuple[bytes, bytes]) -> None:
        """Forget it. It never went through a proxy's rules for fields, such as who is asking."""


_NO_TRAILERS: Final = _NoTrailers()


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

    def is_gone(self) -> bool:
        """See SendNow."""
        return self._transport.is_closing() or is_hung_up(self._transport)

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
