"""HTTP by httpx2: on event loops other than asyncio's, through a proxy, and for a client of the
user's own.
"""

import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import httpx2
from anyio import CancelScope
from anyio.lowlevel import checkpoint

from chatnest.providers.base import Taker
from chatnest.providers.http.network import Route
from chatnest.providers.http.transport import (
    CONNECT_SECONDS,
    KEEPALIVE_SECONDS,
    RECEIVE_BUFFER,
    RequestHead,
    TransportError,
)

__all__ = ["Httpx2Response", "Httpx2Transport"]


class Httpx2Transport:
    """A pool of httpx2's own."""

    def __init__(self, head: RequestHead, route: Route) -> None:
        self._head = head
        self._transport = httpx2.AsyncHTTPTransport(
            verify=route.tls if route.tls is not None else True,
            trust_env=False,
            proxy=None if route.proxy is None else httpx2.Proxy(route.proxy),
            socket_options=[(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)],
            limits=httpx2.Limits(
                max_connections=None,
                max_keepalive_connections=None,
                keepalive_expiry=KEEPALIVE_SECONDS,
            ),
        )

    async def post(
        self,
        body: bytes,
        sent: Callable[[], None],
        late: Callable[[Any], None],  # noqa: ARG002  # httpx2 tells nothing of a cancelled request
    ) -> "_OwnResponse":
        to_proxy = False

        async def trace(name: str, info: dict[str, Any]) -> None:
            nonlocal to_proxy
            if name.endswith("send_request_headers.started"):
                to_proxy = info["request"].method == b"CONNECT"  # it asks the model nothing
            if name.endswith("send_request_headers.complete") and not to_proxy:
                sent()
            if name.endswith("receive_response_headers.complete"):
                info["return_value"] = None  # which httpcore2 would log at DEBUG
            if "exception" in info:
                info["exception"] = type(info["exception"]).__name__  # its text quotes what came

        timeout = httpx2.Timeout(None, connect=CONNECT_SECONDS).as_dict()
        try:
            request = httpx2.Request(
                *(self._head.method, self._head.url),
                headers=list(self._head.fields),
                content=body,
                extensions={"timeout": timeout, "trace": trace},
            )
            return _OwnResponse(await self._transport.handle_async_request(request))
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

    def offer(self, taker: Taker[bytes]) -> None:
        """Nothing is: httpx2 says nothing of what arrives, it is asked."""

    def unread(self) -> bytes:
        """It is not known."""
        return b""

    def ended(self) -> bool:
        """It is not known."""
        return False

    async def aclose(self) -> None:
        """Close the connection, unless the body was read to its end."""
        await self._stream.aclose()


class _OwnResponse(Httpx2Response):
    async def aclose(self) -> None:
        await super().aclose()
        # Its generators are suspended within each other, and only the outermost could be closed:
        # reading on, now that there is no connection, ends them all.
        with CancelScope(shield=True), suppress(Exception):
            async for _ in self._pieces:
                await checkpoint()  # there may be thousands
