"""Connections: HTTP for a provider of your own, with bounds, proxies, TLS and event streams."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from math import inf
from typing import Final
from urllib.parse import urlencode

from anyio import fail_after

from chatnest.errors import ConfigurationError, UpstreamTimeout, UpstreamUnavailable
from chatnest.providers.http.bodies import closing
from chatnest.providers.http.event_response import Decode, EventResponse
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
from chatnest.requests import ModelRequest
from chatnest.turn import ModelCall

__all__ = ["Connections"]

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
            raise ConfigurationError(f"url: {fault}, got {without_user(url.partition('?')[0])!r}.")
        server = server if server is not None else ServerSettings()
        check_headers(headers or {}, _FRAMING)
        if not method.isalpha() or not method.isascii():
            raise ConfigurationError("method: expected letters such as POST, got other characters.")
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
        self, body: bytes, call: ModelCall | None = None, decode: Decode | None = None
    ) -> AsyncIterator[EventResponse]:
        """Send a request, and return the response once its head has arrived.

        Sets ``sent``, ``status``, ``content_type`` and ``place`` of the ``call``. Raises
        UpstreamUnavailable if there is no response. Leaving closes the connection at once, or keeps
        it for the next request if the body was read to its end.

        ``decode`` returns the provider events of one server-sent event's data, for
        ``EventResponse.events``. If the answer is left before its end, or the request is cancelled,
        ``call.unread`` decodes what had already arrived, so that it is charged.
        """
        call = call if call is not None else _no_call()
        call.place = self._place
        response = await self._ask(body, call, decode)
        call.sent, call.status = True, response.status
        call.content_type = response.headers.get("content-type", "")
        answer = self._answer(response, decode)
        try:
            yield answer
        finally:
            if answer.is_good:
                call.unread = answer.unread()
            with closing():
                await response.aclose()

    async def aclose(self) -> None:
        """Close all connections. A later ``open`` makes new ones."""
        await self._transports.aclose()

    def _answer(self, response: Response, decode: Decode | None) -> EventResponse:
        splitter = EventSplitter(max_event=self._max_event_bytes, max_total=self._max_body_bytes)
        return EventResponse(response, splitter, decode, self._idle_seconds)

    async def _ask(self, body: bytes, call: ModelCall, decode: Decode | None) -> Response:
        def late(response: Response) -> None:
            answer = self._answer(response, decode)
            if answer.is_good:
                call.unread = answer.unread()

        transport = await self._transports.get()
        try:
            with fail_after(self._idle_seconds):
                return await transport.post(body, call, late)
        except TransportError as exc:
            cause = type(exc.__cause__).__name__  # its text may contain addresses
            raise UpstreamUnavailable(facts={"cause": cause}) from exc
        except TimeoutError as exc:
            raise UpstreamTimeout from exc

    async def _make_transport(self) -> Transport:
        from chatnest.providers.http.connections import make_transport  # noqa: PLC0415  # httpx2

        return make_transport(self._head, self._route)


def _no_call() -> ModelCall:
    request = ModelRequest(messages=(), max_output_tokens=0, temperature=0.0)
    return ModelCall(request=request, request_id="")
