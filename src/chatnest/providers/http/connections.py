"""Connections to one address, kept and used again, for the running event loop.

On asyncio they are ours, and cost a quarter of what httpx2's do for a request; elsewhere, and
through a proxy, they are httpx2's own. Both report when a request has left, so that a call which
never reached the model can be told from one that did. Redirects are not followed, and nothing is
inflated.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable, Sequence
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
    Transport,
    TransportError,
)

__all__ = ["make_transport"]

_ADDRESS_SECONDS: Final = 10.0
"""For which a name's addresses are taken as they were."""

_NEXT_ADDRESS_SECONDS: Final = 0.25
"""After which another address is tried beside the first (RFC 8305, section 5)."""

_KEEPALIVE_MARGIN: Final = 1.0
"""By which an idle connection ends before the server would end it, whose ``Keep-Alive`` says when:
a request must not meet that on its way.
"""


def make_transport(head: RequestHead, route: Route | None = None) -> Transport:
    """A transport for the running event loop, without a limit on connections: the policies are the
    limit. Without a ``route`` it goes straight to the address, with the operating system's trust.
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
    """The last one that was used is used first, so that what a rush needed can expire."""

    def __init__(self, head: RequestHead, route: Route, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._place = _Place(head.url, route, loop)
        self._head = self._place.head(head)
        self._open: set[Http1Connection] = set()
        self._idle: dict[Http1Connection, None] = {}  # the longest idle one first
        self._expiry: asyncio.TimerHandle | None = None
        self._closed = False

    async def post(
        self, body: bytes, sent: Callable[[], None], late: Callable[[Http1Response], None]
    ) -> Http1Response:
        kept = self._take()
        connection = kept or await self._connect()
        try:
            request = b"%b%d\r\n\r\n%b" % (self._head, len(body), body)
            return await connection.ask(request, sent, late)
        except TransportError:
            if kept is not None:
                self._drop_idle()  # they have been idle for longer: a retry must not meet the same
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
            connection, _ = self._idle.popitem()
            if connection.usable and self._seconds_left(connection) > 0:
                return connection
            connection.abort()
        return None

    def _drop_idle(self) -> None:
        while self._idle:
            self._idle.popitem()[0].abort()

    async def _connect(self) -> Http1Connection:
        try:
            with fail_after(CONNECT_SECONDS):
                connection = await self._place.connect(
                    lambda: Http1Connection(self._loop, self._keep, self._forget)
                )
        except (OSError, ValueError) as exc:
            raise TransportError from exc
        if not connection.usable:  # it has ended already: nobody would tell of its end any more
            connection.abort()
            raise TransportError from ConnectionResetError()
        self._open.add(connection)
        return connection

    def _keep(self, connection: Http1Connection) -> None:
        left = self._seconds_left(connection)
        if self._closed or left <= 0:
            connection.abort()
            return
        self._idle[connection] = None
        if self._expiry is None:
            self._expiry = self._loop.call_later(left, self._expire)

    def _forget(self, connection: Http1Connection) -> None:
        self._open.discard(connection)
        self._idle.pop(connection, None)

    def _expire(self) -> None:
        """Those behind one that is kept for longer wait for its end, or the server's."""
        self._expiry = None
        for connection in list(self._idle):
            left = self._seconds_left(connection)
            if left > 0:
                self._expiry = self._loop.call_later(left, self._expire)
                return
            del self._idle[connection]
            connection.abort()

    def _seconds_left(self, connection: Http1Connection) -> float:
        kept_for = min(KEEPALIVE_SECONDS, connection.kept_for - _KEEPALIVE_MARGIN)
        return connection.idle_since + kept_for - self._loop.time()


class _Place:
    """Where an address leads, and how to get there."""

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
        """Of a request, up to the length of its body."""
        method = head.method.encode("ascii")
        lines = [b"%b %b HTTP/1.1" % (method, self._target), b"Host: %b" % self._netloc]
        lines += [f"{name}: {value}".encode("latin-1") for name, value in head.fields]
        return b"\r\n".join((*lines, b"Content-Length: "))

    async def connect(self, protocol: Callable[[], Http1Connection]) -> Http1Connection:
        """A connection with ``protocol``, which is returned. Raises OSError or ValueError."""
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
        """Apart from the connecting: an event loop that does both loses the wire where it is
        cancelled before the handshake begins, and the next socket has the same number.
        """
        if wire.is_closing():  # uvloop would begin the handshake all the same
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
        """One asks, while the others wait for the same."""
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
