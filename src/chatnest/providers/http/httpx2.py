"""Httpx2Transport: HTTP on trio and through a proxy; Httpx2Response: also for the user's client."""

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
    Sent,
    TransportError,
)

__all__ = ["Httpx2Response", "Httpx2Transport"]


class Httpx2Transport:
    """See Transport."""

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
        call: Sent,
        late: Callable[[Any], None],  # noqa: ARG002  # httpx2 drops the response of a cancelled request
    ) -> "_OwnResponse":
        to_proxy = False

        async def trace(name: str, info: dict[str, Any]) -> None:
            nonlocal to_proxy
            if name.endswith("send_request_headers.started"):
                to_proxy = info["request"].method == b"CONNECT"  # it does not reach the model
            if name.endswith("send_request_headers.complete") and not to_proxy:
                call.sent = True
            if name.endswith("receive_response_headers.complete"):
                info["return_value"] = None  # httpcore2 would log it at DEBUG
            if "exception" in info:
                info["exception"] = type(info["exception"]).__name__  # its text quotes the response

        timeout = httpx2.Timeout(None, connect=CONNECT_SECONDS).as_dict()
        try:
            request = httpx2.Request(
                *(self._head.method, self._head.url),
                headers=[*self._head.fields, *call.headers.items()],
                content=body,
                extensions={"timeout": timeout, "trace": trace},
            )
            return _OwnResponse(await self._transport.handle_async_request(request))
        except (httpx2.HTTPError, OSError, ValueError) as exc:
            raise TransportError from exc

    async def aclose(self) -> None:
        await self._transport.aclose()


class Httpx2Response:
    """See Response. Any httpx2 client may have sent the request."""

    def __init__(self, response: httpx2.Response) -> None:
        self.status: int = response.status_code
        self.headers: Mapping[str, str] = response.headers
        stream: Any = response.stream
        self._stream = stream
        self._pieces = aiter(stream)

    async def read(self) -> bytes:
        """See Response."""
        piece: bytes = await anext(self._pieces, b"")
        return piece

    def offer(self, taker: Taker[bytes]) -> None:
        """Do nothing: httpx2 only reads when it is asked."""

    def unread(self) -> bytes:
        """Nothing: httpx2 has no buffer that can be read without waiting."""
        return b""

    def release(self) -> bool:
        """Return False: the end of the body is unknown."""
        return False

    async def aclose(self) -> None:
        """See Response."""
        await self._stream.aclose()


class _OwnResponse(Httpx2Response):
    async def aclose(self) -> None:
        await super().aclose()
        # httpx2's generators are suspended within each other, and only the outermost can be closed.
        # Reading on, without a connection, ends all of them.
        with CancelScope(shield=True), suppress(Exception):
            async for _ in self._pieces:
                await checkpoint()  # there may be thousands
