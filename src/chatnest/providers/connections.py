"""Transports over HTTP: pooled, unproxied, for the running event loop.

On asyncio it is aiohttp, which costs a third of what httpx2 does for each read; elsewhere httpx2's
own. Both report when a request's head has left, so that a call which never reached the model can
be told from one that did. Redirects are not followed, and nothing is inflated.
"""

import asyncio
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from types import SimpleNamespace
from typing import Any, Final

import aiohttp
import httpx2
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import RawResponseMessage
from anyio import CancelScope
from anyio.lowlevel import checkpoint
from multidict import CIMultiDict
from yarl import URL

from chatnest.providers.transport import RequestHead, Transport, TransportError

__all__ = ["Httpx2Response", "make_transport"]

_PARSED_AT_ONCE: Final = 16_384
_MOST_HEADS: Final = 16
"""Heads that may come at once, of interim responses (RFC 9110, section 15.2) and the last one."""

_RECEIVE_BUFFER: Final = 65_536
"""Bytes of an answer that wait in the kernel, and again here, while a client does not read. Left
alone, the kernel's grows to megabytes for each.
"""

_Response = tuple[RawResponseMessage, aiohttp.StreamReader]

_CONNECT_SECONDS: Final = 10.0
_KEEPALIVE_SECONDS: Final = 30.0


def make_transport(head: RequestHead) -> Transport:
    """A transport for the running event loop: nothing from the environment, no limit on
    connections (the policies are the limit), and the operating system's trust.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _Httpx2Transport(head)
    return _AiohttpTransport(head)


# ---------------------------------------------------------------- asyncio


class _AiohttpTransport:
    def __init__(self, head: RequestHead) -> None:
        self._url = URL(head.url, encoded=True)
        trace = aiohttp.TraceConfig()
        trace.on_request_headers_sent.append(_head_sent)
        secure = self._url.scheme == "https"
        connector = aiohttp.TCPConnector(
            limit=0,
            keepalive_timeout=_KEEPALIVE_SECONDS,
            socket_factory=_make_socket,
            ssl=httpx2.create_ssl_context(trust_env=False) if secure else True,
        )
        connection: type[ResponseHandler] = _BoundedConnection
        factory = partial(connection, loop=asyncio.get_running_loop())
        connector._factory = factory  # noqa: SLF001  # there is no public way to it
        self._session = aiohttp.ClientSession(
            connector=connector,
            headers=CIMultiDict(head.fields),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS),
            trace_configs=[trace],
            trust_env=False,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            read_bufsize=_RECEIVE_BUFFER // 4,  # it is paused at twice that
        )

    async def post(self, body: bytes, sent: Callable[[], None]) -> "_AiohttpResponse":
        try:
            response = await self._session.post(
                self._url, data=body, allow_redirects=False, trace_request_ctx=sent
            )
        except (aiohttp.ClientError, OSError, ValueError) as exc:
            raise TransportError from exc
        return _AiohttpResponse(response)

    async def aclose(self) -> None:
        await self._session.close()


def _make_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    family, kind, protocol, _, _ = address
    sock = socket.socket(family, kind, protocol)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
    return sock


async def _head_sent(_: aiohttp.ClientSession, context: SimpleNamespace, __: Any) -> None:
    context.trace_request_ctx()


class _BoundedConnection(ResponseHandler):
    """aiohttp's connection, but for three things that an upstream could do: keep the event loop
    busy for seconds by a flood of heads, keep a reader waiting by a body that is broken, and have
    what it sends unasked taken for the answer to the next request.
    """

    _awaited = 0  # responses that are still to come

    def set_response_params(self, **params: Any) -> None:
        """Called by aiohttp before each request."""
        self._awaited = 1
        super().set_response_params(**params)

    def feed_data(self, data: _Response, size: int = 0) -> None:
        """Called for each head."""
        if data[0].code >= HTTPStatus.OK:  # what is below is interim
            self._awaited -= 1
        if self._awaited < 0 or len(self._buffer) >= _MOST_HEADS:
            self._break_off()
        elif self._exception is None:
            super().feed_data(data, size)

    def data_received(self, data: bytes) -> None:
        """Called by the event loop, and by aiohttp with nothing to go on after a pause."""
        for start in range(0, len(data) or 1, _PARSED_AT_ONCE):
            super().data_received(data[start : start + _PARSED_AT_ONCE])
            if self._exception is not None:
                body = self._payload
                if body is not None and body.exception() is None:
                    body.set_exception(aiohttp.ClientPayloadError(), self._exception)
                break

    def _break_off(self) -> None:
        if self._awaited >= 0:  # else what was asked for has come, and can still be read
            self._buffer.clear()
        self.set_exception(aiohttp.ServerDisconnectedError())
        if self.transport is not None:
            self.transport.abort()


class _AiohttpResponse:
    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        self._response = response
        self.read = response.content.readany

    def rest(self) -> bytes:
        """Aiohttp keeps it, and has no public way to it any more. Without this, an answer that was
        whole would be lost with the connection's end.
        """
        read = getattr(self._response.content, "_read_nowait", None)
        return b"" if read is None else read(-1)

    def ended(self) -> bool:
        return self._response.content.at_eof()

    async def aclose(self) -> None:
        self._response.release()


# ---------------------------------------------------------------- any other event loop


class _Httpx2Transport:
    def __init__(self, head: RequestHead) -> None:
        self._head = head
        self._transport = httpx2.AsyncHTTPTransport(
            trust_env=False,
            socket_options=[(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)],
            limits=httpx2.Limits(
                max_connections=None,
                max_keepalive_connections=None,
                keepalive_expiry=_KEEPALIVE_SECONDS,
            ),
        )

    async def post(self, body: bytes, sent: Callable[[], None]) -> "_Httpx2Response":
        async def trace(name: str, info: dict[str, Any]) -> None:
            if name.endswith("send_request_headers.complete"):
                sent()
            if name.endswith("receive_response_headers.complete"):
                info["return_value"] = None  # which httpcore2 would log at DEBUG
            if "exception" in info:
                info["exception"] = type(info["exception"]).__name__  # its text quotes what came

        timeout = httpx2.Timeout(None, connect=_CONNECT_SECONDS).as_dict()
        try:
            request = httpx2.Request(
                *("POST", self._head.url),
                headers=list(self._head.fields),
                content=body,
                extensions={"timeout": timeout, "trace": trace},
            )
            return _Httpx2Response(await self._transport.handle_async_request(request))
        except (httpx2.HTTPError, OSError, ValueError) as exc:
            raise TransportError from exc

    async def aclose(self) -> None:
        await self._transport.aclose()


class Httpx2Response:
    """An answer of httpx2's, whoever sent the request."""

    def __init__(self, response: httpx2.Response) -> None:
        self.status: int = response.status_code
        self.headers: Mapping[str, str] = response.headers
        stream: Any = response.stream
        self._stream = stream
        self._pieces = aiter(stream)

    async def read(self) -> bytes:
        """What has arrived, at least one byte; empty at the end."""
        piece: bytes = await anext(self._pieces, b"")
        return piece

    def rest(self) -> bytes:
        """Nothing is kept of a body that broke off."""
        return b""

    def ended(self) -> bool:
        """It is not known."""
        return False

    async def aclose(self) -> None:
        """Close the connection, unless the body was read to its end."""
        await self._stream.aclose()


class _Httpx2Response(Httpx2Response):
    async def aclose(self) -> None:
        await super().aclose()
        # Its generators are suspended within each other, and only the outermost could be closed:
        # reading on, now that there is no connection, ends them all.
        with CancelScope(shield=True), suppress(Exception):
            async for _ in self._pieces:
                await checkpoint()  # there may be thousands
