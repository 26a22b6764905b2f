"""BoundedProtocol: uvicorn's HTTP/1.1 with limits on the size and speed of requests.

It also frames bodies safely, and needs less memory for a silent connection.
"""

import asyncio
from collections import deque
from typing import Any, Final
from weakref import WeakKeyDictionary

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from uvicorn.server import ServerState

from chatnest.asgi.http import SEND_NOW
from chatnest.server.connections import Connections, Queue
from chatnest.server.flow import Event, Flow
from chatnest.server.framing import BODY, CLOSING, IDLE, NO_TRAILERS, TOO_LARGE, Framing, Refused
from chatnest.server.front import Front, answer_at_once
from chatnest.server.http10 import Unchunked

__all__ = ["BoundedProtocol"]

_HEAD_BYTES = 65_536
"""Maximum bytes of a head that arrives in several reads."""
_WRITE_BUFFER = 16_384
"""Maximum bytes buffered in this process for a slow client, beside the kernel's buffer."""
_HEAD_SECONDS: Final = 10.0
"""Maximum seconds from a connection, or a later request's first byte, to the end of its head."""
_REST_SECONDS: Final = 10.0
"""Maximum seconds for the rest of a body after its request was answered."""
_MOST_PIPELINED: Final = 64
"""Maximum requests that wait on one connection for earlier answers (pipelining)."""

_connections: Final = WeakKeyDictionary[ServerState, Connections]()
"""The table of each server. uvicorn creates one ServerState in each worker."""


class BoundedProtocol(Framing):
    """Answers 431 to a head of more than 64 KiB or 128 fields, and 414 to a URL above 8 KiB.

    Either response closes the connection. A head (request line and fields) that arrives in a single
    read may be longer, because it is in memory already, but the limit on its fields still applies.

    A request for an upgrade to anything but a WebSocket is served as if it had not asked, because
    httptools would skip its body and parse the next bytes as a request. Trailers are dropped: a
    proxy does not filter them, so they must not count as fields.

    Objects that few connections need are created on demand, which saves 3 KiB for each connection
    that waits for a model.
    """

    # Attributes beyond uvicorn's own would make CPython give each connection a dict of its own.
    __slots__ = ("_ended", "_running", "taken")

    _ended: bool  # whether a head or a body ended in the current read
    _running: RequestResponseCycle | None  # the request that is being answered
    flow: Flow
    headers: Any
    pipeline: Any
    queue: Queue | None
    taken: bool  # whether the Door has admitted the first request, a chat

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
        self._head, self._ignores_input = IDLE, False
        super().connection_made(transport)
        self.flow = Flow(transport)
        self.pipeline = ()  # most connections never need a deque
        transport.set_write_buffer_limits(high=_WRITE_BUFFER)
        self._table.move(self, self._table.heads)
        if (connected := transport.get_extra_info("socket")) is not None:
            self._table.make_room(self, connected.fileno())

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop."""
        self._table.move(self, None)
        super().connection_lost(exc)
        cycle, self._running = self._running, None
        if cycle is not None and cycle is not self.cycle:  # uvicorn notifies the newest one only
            cycle.disconnected = True
            cycle.message_event.set()

    def data_received(self, data: bytes) -> None:
        """Called by the event loop with at most 256 KiB."""
        if self._ignores_input:
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
                self._refuse(TOO_LARGE)
        elif self._head == BODY and self.queue is None:
            self._table.move(self, self._table.bodies)

    # ------------------------------------------------ requests

    def on_message_begin(self) -> None:
        """Called by the parser at the first byte of a request."""
        self._head = 0
        if self.queue is self._table.idle:
            self._table.move(self, self._table.heads)
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Called by the parser at the end of a head. Starts the request, or queues it."""
        self._ended = True
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise Refused
            if not self._should_upgrade():
                return  # the parser gets the head again, without Upgrade
        before: Any = self.cycle  # None before the first request
        if len(self.pipeline) >= _MOST_PIPELINED:
            raise Refused
        if not self.pipeline and before and not before.response_complete:
            self.pipeline = deque()  # the next request arrived before the end of this answer
        if self.expect_100_continue and self.parser.get_http_version() == "1.0":
            self.expect_100_continue = False  # RFC 9110, section 10.1.1
        self._head = BODY
        super().on_headers_complete()
        if self.cycle is before:
            return  # a WebSocket's head creates no cycle
        # A request that was refused at once is answered already.
        self._table.move(self, self._table.rests if self.cycle.response_complete else None)
        self.cycle.message_event = Event()  # type: ignore[assignment]  # has the methods in use
        self.headers = NO_TRAILERS
        if self.expect_100_continue:
            # After an answer without 100, the client may or may not send the body.
            self.close_after(self.cycle)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Start a task for a request, unless the application refuses the request at once."""
        scope: Any = cycle.scope
        scope["extensions"] = {SEND_NOW: self.flow}
        is_old = scope["http_version"] == "1.0"
        if is_old or not cycle.keep_alive:
            self.close_after(cycle)
        if is_old:
            scope["extensions"] = {SEND_NOW: None}  # it would write chunks
            transport: Any = Unchunked(cycle.transport)
            cycle.transport = transport
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
        """Called by the parser at the end of a body."""
        if self._head == CLOSING:
            self.transport.close()
            return
        self._head, self._ended = IDLE, True
        if self.parser.should_upgrade():
            return
        table, cycle = self._table, self.cycle
        if self.queue is not None:
            self._table.move(self, table.idle if cycle.response_complete else None)
        if not cycle.response_complete:
            cycle.more_body = False
            cycle.message_event.set()

    # ------------------------------------------------ responses and deadlines

    def on_response_complete(self) -> None:
        """Called at the end of a response. As uvicorn's, without a timer for each connection."""
        self.server_state.total_requests += 1
        self._running = None
        if self._head == CLOSING or self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
            return
        table = self._table
        if self._head == BODY:
            table.move_to_rest(self)
        else:
            table.move(self, table.idle if self._head == IDLE else table.heads)
