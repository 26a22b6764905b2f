"""Connections: HTTP for a provider of your own, with bounds, proxies, TLS and event streams."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from math import inf
from typing import Final
from urllib.parse import urlencode

from anyio import fail_after
from anyio.lowlevel import checkpoint

from chatnest.errors import (
    ConfigurationError,
    UpstreamInterrupted,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from chatnest.providers.http.bodies import (
    FED_AT_ONCE,
    READS_WITHOUT_BREAK,
    check_coding,
    closing,
    is_compressed,
    read_document,
)
from chatnest.providers.http.inflate import Inflating
from chatnest.providers.http.network import (
    ServerSettings,
    check_headers,
    fault_of_address,
    find_route,
    without_user,
)
from chatnest.providers.http.pool import LoopTransports
from chatnest.providers.http.transport import RequestHead, Response, Transport, TransportError
from chatnest.providers.sse import EventSplitter
from chatnest.turn import ModelCall

__all__ = ["Connections", "EventResponse"]

_FIELDS: Final = {
    "accept": "text/event-stream",
    "accept-encoding": "identity",
    "content-type": "application/json",
}

_FRAMING: Final = frozenset(
    (
        *("connection", "content-length", "host", "te", "trailer", "transfer-encoding"),
        "upgrade",
    )
)
"""Header fields that belong to the connection and the length of a body."""


class Connections:
    """Connections to one URL, kept and reused, on asyncio and trio.

    ``headers`` are header fields of each request; the defaults are those of JSON answered by an
    event stream. ``server`` has the settings of the network, and header and query fields that
    replace or extend the others. ``max_event_bytes`` limits one event, ``max_body_bytes`` a body,
    and ``idle_seconds`` the time without a byte (``ChatNestApp`` has deadlines of its own).
    Redirects are not followed. Raises ConfigurationError.
    """

    def __init__(
        self,
        url: str,
        *,
        method: str = "POST",
        headers: Mapping[str, str] | None = None,
        server: ServerSettings | None = None,
        max_event_bytes: int = 262_144,
        max_body_bytes: int = 67_108_864,
        idle_seconds: float = inf,
    ) -> None:
        if fault := fault_of_address(url):
            raise ConfigurationError(f"url {fault}")
        server = server if server is not None else ServerSettings()
        check_headers(headers or {}, _FRAMING)
        if not method.isalpha() or not method.isascii():
            raise ConfigurationError("method: expected a name such as POST, got other characters.")
        fields = dict(_FIELDS)
        for more in (headers or {}, server.headers):
            fields |= {name.lower(): value for name, value in more.items()}
        if query := urlencode(server.query):
            url = f"{url}{'&' if '?' in url else '?'}{query}"
        self._head = RequestHead(url, tuple(fields.items()), method)
        self._place = without_user(url.partition("?")[0])
        self._route = find_route(url, server)
        self._max_event_bytes = max_event_bytes
        self._max_body_bytes = max_body_bytes
        self._idle_seconds = idle_seconds
        self._transports = LoopTransports(self._make_transport)

    @asynccontextmanager
    async def open(
        self, body: bytes, call: ModelCall | None = None
    ) -> AsyncIterator["EventResponse"]:
        """Send a request, and return the response once its head has arrived.

        Sets ``sent``, ``status``, ``content_type`` and ``place`` of the ``call``. Raises
        UpstreamUnavailable if there is no response. Leaving closes the connection at once, or keeps
        it for the next request if the body was read to its end.
        """
        call = call if call is not None else _no_call()
        call.place = self._place
        response = await self._ask(body, call)
        call.sent, call.status = True, response.status
        call.content_type = response.headers.get("content-type", "")
        try:
            yield EventResponse(
                response,
                EventSplitter(max_event=self._max_event_bytes, max_total=self._max_body_bytes),
                self._idle_seconds,
            )
        finally:
            with closing():
                await response.aclose()

    async def aclose(self) -> None:
        """Close all connections. A later ``open`` makes new ones."""
        await self._transports.aclose()

    async def _ask(self, body: bytes, call: ModelCall) -> Response:
        def sent() -> None:
            call.sent = True

        transport = await self._transports.get()
        try:
            with fail_after(self._idle_seconds):
                return await transport.post(body, sent, lambda _: None)
        except TransportError as exc:
            cause = type(exc.__cause__).__name__  # its text may contain addresses
            raise UpstreamUnavailable(facts={"cause": cause}) from exc
        except TimeoutError as exc:
            raise UpstreamTimeout from exc

    async def _make_transport(self) -> Transport:
        from chatnest.providers.http.connections import make_transport  # noqa: PLC0415  # httpx2

        return make_transport(self._head, self._route)


class EventResponse:
    """A response, and an iterator over its server-sent events.

    Each item has the data of the events that arrived together; an empty list is a sign of life. The
    data of an event named ``error`` is ``{"error": <data>}``. Iterating raises UpstreamInterrupted
    if the body breaks off, UpstreamTimeout if nothing arrives for too long, and UpstreamBadResponse
    beyond a bound. A body may also end early without breaking off: only the dialect can tell.
    """

    def __init__(self, response: Response, splitter: EventSplitter, idle_seconds: float) -> None:
        self.status: int = response.status
        self.headers: Mapping[str, str] = response.headers
        self._response = response
        self._splitter = splitter
        self._idle_seconds = idle_seconds
        self._read = response.read
        if is_compressed(response):
            self._read = Inflating(response.read).read
        self._rest = b""
        self._reads = 0
        self._ended = False

    def __aiter__(self) -> "EventResponse":
        return self

    async def __anext__(self) -> list[bytes]:
        if self._ended:
            raise StopAsyncIteration
        self._reads += 1
        if self._rest or self._reads % READS_WITHOUT_BREAK == 0:
            await checkpoint()
        data = self._rest or await self._next()
        self._rest = data[FED_AT_ONCE:]
        if data:
            return self._splitter.feed(data[:FED_AT_ONCE])
        self._ended = True
        return self._splitter.end()

    async def document(self) -> bytes:
        """The body of an error, at most its first 64 KiB. It may be incomplete. Raises nothing."""
        return await read_document(self._response)

    async def _next(self) -> bytes:
        check_coding(self._response)
        try:
            with fail_after(self._idle_seconds):
                return await self._read()
        except TimeoutError as exc:
            raise UpstreamTimeout from exc
        except Exception as exc:  # a transport, TLS or the inflater may raise anything
            raise UpstreamInterrupted from exc


def _no_call() -> ModelCall:
    return ModelCall(messages=(), max_output_tokens=0, temperature=0.0, request_id="")
