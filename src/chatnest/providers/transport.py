"""The HTTP transport under the openai SDK: pooled, unproxied, bounded where the SDK is not.

On asyncio it is aiohttp, which costs a third of what httpx2 does for each read; elsewhere httpx2's
own. Both report when a request's head has left, so that a call which never reached the model can
be told from one that did.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any, Final

import aiohttp
import httpx2

__all__ = ["BODY", "REQUEST_SENT", "Body", "make_http_client"]

REQUEST_SENT: Final[ContextVar[Callable[[], None]]] = ContextVar("chatnest_request_sent")
"""Called when the head of this context's request has left."""

BODY: Final = "chatnest.body"
"""The response extension that is its Body: the client wraps ``response.stream`` once more."""

_ERROR_BYTES: Final = 65_536
"""As much of an error's body as is read; the SDK reads all of what it is given."""

_CONNECT_SECONDS: Final = 10.0
_KEEPALIVE_SECONDS: Final = 30.0


def make_http_client(*, secure: bool) -> httpx2.AsyncClient:
    """A client for the running event loop: nothing from the environment, no redirects, no limit
    on connections (the policies are the limit). ``secure`` where it will speak TLS; trust is the
    operating system's.
    """
    transport: httpx2.AsyncBaseTransport
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        transport = _Httpx2Transport()
    else:
        transport = _AiohttpTransport(secure=secure)
    return httpx2.AsyncClient(
        transport=transport,
        timeout=httpx2.Timeout(None, connect=_CONNECT_SECONDS),
        follow_redirects=False,
        trust_env=False,
    )


def _unnamed(response: httpx2.Response) -> httpx2.Response:
    """A response without what the SDK and httpx2 would do to it, or log of it, by the upstream's
    own words.
    """
    response.headers.pop("x-request-id", None)
    response.headers.pop("content-encoding", None)  # the SDK would inflate it without a bound
    if response.status_code != httpx2.codes.OK:
        response.headers["content-type"] = "application/json"  # nor read it by a charset
    response.extensions.pop("reason_phrase", None)
    return response


class Body(httpx2.AsyncByteStream):
    """A response's body, read piece by piece as it arrives; an error's only to a bound."""

    async def read(self) -> bytes:
        """What has arrived, at least one byte; empty at the end. Raises httpx2.ReadError."""
        raise NotImplementedError  # pragma: no cover  # both kinds below have their own

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = _ERROR_BYTES  # only the SDK iterates, and only over errors
        while left > 0 and (data := await self.read()):
            yield data
            left -= len(data)


# ---------------------------------------------------------------- asyncio


class _AiohttpTransport(httpx2.AsyncBaseTransport):
    def __init__(self, *, secure: bool) -> None:
        trace = aiohttp.TraceConfig()
        trace.on_request_headers_sent.append(_head_sent)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0,
                keepalive_timeout=_KEEPALIVE_SECONDS,
                ssl=httpx2.create_ssl_context(trust_env=False) if secure else True,
            ),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS),
            trace_configs=[trace],
            trust_env=False,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        try:
            response = await self._session.request(
                request.method,
                str(request.url),
                headers=request.headers.multi_items(),
                data=request.content,
                allow_redirects=False,
                trace_request_ctx=REQUEST_SENT.get(None),
            )
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as exc:
            raise httpx2.ConnectError("", request=request) from exc
        except (aiohttp.ClientError, OSError, ValueError) as exc:
            raise httpx2.ReadError("", request=request) from exc
        body = _AiohttpBody(response)
        return _unnamed(
            httpx2.Response(
                response.status,
                headers=response.raw_headers,
                stream=body,
                request=request,
                extensions={BODY: body},
            )
        )

    async def aclose(self) -> None:
        await self._session.close()


async def _head_sent(_: aiohttp.ClientSession, context: SimpleNamespace, __: Any) -> None:
    if context.trace_request_ctx is not None:
        context.trace_request_ctx()


class _AiohttpBody(Body):
    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self._content = response.content

    async def read(self) -> bytes:
        try:
            return await self._content.readany()
        except (aiohttp.ClientError, OSError, ValueError) as exc:
            if left := _unread(self._content):
                return left
            raise httpx2.ReadError("") from exc

    async def aclose(self) -> None:
        # Keeps the connection where the body was read to its end, and closes it at once else.
        self._response.release()


def _unread(content: aiohttp.StreamReader) -> bytes:
    """What had arrived before the connection broke. aiohttp keeps it, and has no public way to it
    any more; without this, an answer that was whole would be lost with the connection's end.
    """
    read = getattr(content, "_read_nowait", None)
    return b"" if read is None else read(-1)


# ---------------------------------------------------------------- any other event loop


class _Httpx2Transport(httpx2.AsyncHTTPTransport):
    def __init__(self) -> None:
        super().__init__(
            trust_env=False,
            limits=httpx2.Limits(
                max_connections=None,
                max_keepalive_connections=None,
                keepalive_expiry=_KEEPALIVE_SECONDS,
            ),
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        notify = REQUEST_SENT.get(None)

        async def trace(name: str, info: dict[str, Any]) -> None:
            if notify is not None and name.endswith("send_request_headers.complete"):
                notify()
            if name.endswith("receive_response_headers.complete"):
                info["return_value"] = None  # which httpcore2 would log at DEBUG

        request.extensions = {**request.extensions, "trace": trace}
        response = _unnamed(await super().handle_async_request(request))
        response.stream = response.extensions[BODY] = _Httpx2Body(response.stream)
        return response


class _Httpx2Body(Body):
    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._pieces = aiter(stream)

    async def read(self) -> bytes:
        return await anext(self._pieces, b"")

    async def aclose(self) -> None:
        await self._stream.aclose()
        # Its generators are suspended within each other, and only the outermost could be closed:
        # reading on, now that there is no connection, ends them all.
        with suppress(Exception):
            async for _ in self._pieces:
                pass
