"""make_transport: kept connections to one address, for the running event loop.

On asyncio the connections are chatnest's own, at a quarter of httpx2's cost per request. On trio
and through a proxy they are httpx2's. Both record when a request was sent, so that a call that
never reached the model costs nothing. Neither follows redirects or inflates a body.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import httpx2
from aiohappyeyeballs import AddrInfoType, start_connection
from anyio import fail_after
from anyio.lowlevel import checkpoint

from chatnest.providers.http.http1 import Http1Connection, Http1Response
from chatnest.providers.http.httpx2 import Httpx2Transport
from chatnest.providers.http.network import Route, system_trust
from chatnest.providers.http.transport import (
    CONNECT_SECONDS,
    KEEPALIVE_SECONDS,
    RECEIVE_BUFFER,
    RequestHead,
    Sent,
    Transport,
    TransportError,
)

__all__ = ["make_transport"]

_ADDRESS_SECONDS: Final = 10.0
"""Seconds for which the resolved addresses of a name are used."""

_NEXT_ADDRESS_SECONDS: Final = 0.25
"""Seconds after which the next address is tried as well (RFC 8305, section 5)."""

_KEEPALIVE_MARGIN: Final = 1.0
"""Seconds before the end of the server's ``Keep-Alive`` at which an idle connection is closed, so
that the server cannot close it while a request is on its way.
"""


def make_transport(head: RequestHead, route: Route | None = None) -> Transport:
    """A transport for the running event loop. It does not limit connections: the policies do.
    Without a ``route``, it connects directly and trusts the operating system's certificates.
    """
    route = route if route is not None else Route()
    if route.proxy is not None:
        return Httpx2Transport(head, route)
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return Httpx2Transport(head, route)
    return _Connections(head, route, loop)


class _Connections:
    """See Transport. The last connection that was used is used first, so that the surplus of a rush
    expires.
    """

    def __init__(self, head: RequestHead, route: Route, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._address = _Address(head.url, route, loop)
        self._head = self._address.head(head)
        self._open: set[Http1Connection] = set()
        self._idle: dict[Http1Connection, float] = {}  # with its end, the longest idle one first
        self._expiry: asyncio.TimerHandle | None = None
        self._closed = False

    async def post(
        self, body: bytes, call: Sent, late: Callable[[Http1Response], None]
    ) -> Http1Response:
        kept = self._take()
        connection = kept or await self._connect()
        try:
            more = _lines(call.headers) if call.headers else b""
            request = b"%b%d\r\n%b\r\n%b" % (self._head, len(body), more, body)
            return await connection.ask(request, call, late)
        except TransportError:
            if kept is not None:
                self._drop_idle()  # idle for longer, they would fail a retry as well
            raise

    async def aclose(self) -> None:
        self._closed = True
        if self._expiry is not None:
            self._expiry.cancel()
        for connection in self._open:
            connection.abort()
        while self._open:
            await checkpoint()

    def _take(self) -> Http1Connection | None:
        while self._idle:
            connection, end = self._idle.popitem()
            if connection.usable and self._loop.time() < end:
                return connection
            connection.abort()
        return None

    def _drop_idle(self) -> None:
        while self._idle:
            self._idle.popitem()[0].abort()

    async def _connect(self) -> Http1Connection:
        try:
            with fail_after(CONNECT_SECONDS):
                connection = await self._address.connect(
                    lambda: Http1Connection(self._loop, self._keep, self._forget)
                )
        except (OSError, ValueError) as exc:
            raise TransportError from exc
        if not connection.usable:  # it has ended, and `on_lost` was called before it is in `_open`
            connection.abort()
            raise TransportError from ConnectionResetError()
        self._open.add(connection)
        return connection

    def _keep(self, connection: Http1Connection) -> None:
        responses = connection.responses
        kept_for = min(KEEPALIVE_SECONDS, responses.kept_for - _KEEPALIVE_MARGIN)
        end = responses.whole_at + kept_for
        left = end - self._loop.time()
        if self._closed or left <= 0:
            connection.abort()
            return
        self._idle[connection] = end
        if self._expiry is None:
            self._expiry = self._loop.call_later(left, self._expire)

    def _forget(self, connection: Http1Connection) -> None:
        self._open.discard(connection)
        self._idle.pop(connection, None)

    def _expire(self) -> None:
        """Close the connections at their end. One behind another that is kept for longer waits for
        that, or for the server to close it.
        """
        self._expiry = None
        for connection, end in list(self._idle.items()):
            left = end - self._loop.time()
            if left > 0:
                self._expiry = self._loop.call_later(left, self._expire)
                return
            del self._idle[connection]
            connection.abort()


def _lines(headers: Mapping[str, str]) -> bytes:
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode("latin-1")


class _Address:
    """The address of a URL: resolves its name, connects, and begins TLS."""

    def __init__(self, url: str, route: Route, loop: asyncio.AbstractEventLoop) -> None:
        parts = httpx2.URL(url)
        self._target = parts.raw_path
        self._netloc = parts.netloc
        self._loop = loop
        self._host = parts.raw_host.decode("ascii")
        self._tls: ssl.SSLContext | None = None
        if parts.scheme == "https":
            self._tls = route.tls if route.tls is not None else system_trust()
            self._tls.set_alpn_protocols(["http/1.1"])
        self._port = parts.port or (443 if self._tls else 80)
        self._resolving = asyncio.Lock()
        self._addresses: Sequence[AddrInfoType] = ()
        self._known_until = 0.0

    def head(self, head: RequestHead) -> bytes:
        """The head of a request, up to the length of its body."""
        method = head.method.encode("ascii")
        lines = [b"%b %b HTTP/1.1" % (method, self._target), b"Host: %b" % self._netloc]
        lines += [f"{name}: {value}".encode("latin-1") for name, value in head.fields]
        return b"\r\n".join((*lines, b"Content-Length: "))

    async def connect(self, protocol: Callable[[], Http1Connection]) -> Http1Connection:
        """Connect, and return what ``protocol`` made. Raises OSError or ValueError."""
        sock = await start_connection(
            await self._resolve(),
            happy_eyeballs_delay=_NEXT_ADDRESS_SECONDS,
            interleave=1,
            socket_factory=_make_socket,
        )
        try:
            wire, connection = await self._loop.create_connection(protocol, sock=sock)
        except BaseException:
            sock.close()
            raise
        if self._tls is not None:
            await self._secure(self._tls, wire, connection)
        return connection

    async def _secure(
        self, tls: ssl.SSLContext, wire: asyncio.Transport, connection: Http1Connection
    ) -> None:
        """Begin TLS on a connected socket. An event loop that connects and begins TLS at once loses
        the socket if it is cancelled before the handshake, and the next one reuses its number.
        """
        if wire.is_closing():  # uvloop would begin the handshake regardless
            raise ConnectionResetError
        try:
            secured = await self._loop.start_tls(
                *(wire, connection, tls),
                server_hostname=self._host,
                ssl_handshake_timeout=CONNECT_SECONDS,  # uvloop keeps a cancelled one until then
            )
        except BaseException:
            wire.abort()
            raise
        if secured is None:
            raise ConnectionResetError
        connection.secured(secured)

    async def _resolve(self) -> Sequence[AddrInfoType]:
        """The addresses of the name. One task resolves it while the others wait."""
        async with self._resolving:
            if self._loop.time() >= self._known_until:
                self._addresses = await self._loop.getaddrinfo(
                    self._host, self._port, type=socket.SOCK_STREAM
                )
                self._known_until = self._loop.time() + _ADDRESS_SECONDS
        return self._addresses


def _make_socket(address: AddrInfoType) -> socket.socket:
    family, kind, protocol, _, _ = address
    sock = socket.socket(family, kind, protocol)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    return sock
