"""Front: refuses chats under overload before a task exists for them."""

import asyncio
import select
import socket
from collections.abc import Awaitable
from functools import partial
from typing import Any, Final

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from chatnest._util.identifiers import new_request_id
from chatnest.asgi.http import NO_SNIFFING, TAKEN, encode_headers
from chatnest.errors import Overloaded
from chatnest.server.door import Door
from chatnest.server.framing import Framing
from chatnest.streams.intake import Intake, Soon
from chatnest.wire import WireFormat

__all__ = ["Front", "answer_at_once", "is_hung_up"]

_HUNG_UP: Final = getattr(select, "POLLRDHUP", 0)
"""Poll flag of a peer that has closed its side. Linux sets it even before earlier data is read."""


class Front:
    """The outermost application. It refuses a chat that its worker cannot take as early as it can.

    The Door at ``listener`` refuses a chat without a parser; ``refuse_at_once`` refuses it after
    its head, before a task. If pages of other origins may read the answer (``by_origin``), the
    application refuses their requests behind CORS, which adds the headers that allow it.
    """

    def __init__(
        self,
        app: ASGIApp,
        intake: Intake,
        path: str,
        listener: socket.socket | None,
        *,
        by_origin: bool,
        format: WireFormat,  # noqa: A002  # the field's word
    ) -> None:
        self._app = app
        self._intake = intake
        self._path = path
        self._listener = listener
        self._by_origin = by_origin
        self._whole, self._begun = (intake, True), (intake, False)  # shared by all requests
        self._pieces = _overloaded(format)
        self._door: Door | None = None

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Run the ASGI application. Not a coroutine, which saves a frame."""
        return self._app(scope, receive, send)

    def refuse_at_once(self, scope: Scope, soon: Soon, *, taken: bool) -> bytes | None:
        """Return a refusal without its status line and Connection, or None to serve the request.

        ``taken``: the Door has already admitted the complete request.
        """
        if scope["method"] != "POST" or scope["path"] != self._path:
            return None
        if self._by_origin and any(name == b"origin" for name, _ in scope["headers"]):
            return None
        if taken or self._intake.take(soon):
            scope["extensions"][TAKEN] = self._whole if taken else self._begun
            return None
        return self._refusal()

    def _refusal(self) -> bytes:
        return new_request_id().encode().join(self._pieces)

    # ------------------------------------------------ the door

    def open(self, protocol: HttpToolsProtocol) -> None:
        """Open the Door, which accepts connections beside uvicorn for protocols like this one."""
        if self._listener is None:
            return
        listener, self._listener = self._listener, None
        state, loop = protocol.server_state, protocol.loop
        make = partial(type(protocol), protocol.config, state, protocol.app_state, _loop=loop)

        def admit(head: bytes) -> bool | bytes | None:
            """Return True to admit a chat, the bytes of its refusal, or None for the protocol."""
            if self._by_origin and b"\norigin:" in head.lower():
                return None
            if self._intake.take(loop.call_soon, whole=True):
                return True
            return _head(state, b"connection: close\r\n") + self._refusal()

        begins = f"POST {self._path} HTTP/1.1\r\n".encode()
        self._door = Door(listener, loop, make, self._intake, begins=begins, admit=admit)
        self._door.open()

    def close(self) -> None:
        """Stop accepting. uvicorn, which is about to shut down, serves the rest."""
        if self._door is not None:
            self._door.close()
        elif self._listener is not None:
            self._listener.close()
            self._listener = None


def answer_at_once(protocol: Framing, cycle: RequestResponseCycle, rest: bytes) -> None:
    """Answer 503, as uvicorn's own ``send`` would. The rest of the request's body is discarded.

    The connection stays open, unless pipelined requests or an expected body follow.
    """
    stays = cycle.keep_alive and not protocol.pipeline and not cycle.waiting_for_100_continue
    connection = b"" if stays else b"connection: close\r\n"
    protocol.transport.write(_head(protocol.server_state, connection) + rest)
    cycle.response_started = cycle.response_complete = True
    if not stays:
        protocol.close_gently()
    protocol.on_response_complete()


def _head(state: ServerState, connection: bytes) -> bytes:
    date = b"".join(b"%b: %b\r\n" % field for field in state.default_headers)
    return b"HTTP/1.1 503 Service Unavailable\r\n" + date + connection


def is_hung_up(transport: asyncio.BaseTransport) -> bool:
    """Return whether the peer has closed its side, even if earlier data is still unread."""
    descriptor: Any = transport.get_extra_info("socket")
    if descriptor is None or not _HUNG_UP:
        return False
    poll = select.poll()
    poll.register(descriptor.fileno(), _HUNG_UP)
    return bool(poll.poll(0))


def _overloaded(format_: WireFormat) -> list[bytes]:
    """The refusal of a format without its status line: the pieces between the request's id."""
    mark = new_request_id()
    problem = format_.problem(Overloaded(), request_id=mark, charged=False)
    fields = [
        (b"content-type", problem.media_type.encode()),
        (b"content-length", str(len(problem.body)).encode()),
        (b"cache-control", b"no-store"),
        *encode_headers(problem.headers),
        NO_SNIFFING,
    ]
    head = b"".join(b"%b: %b\r\n" % field for field in fields)
    return (head + b"\r\n" + problem.body).split(mark.encode())
