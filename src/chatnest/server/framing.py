"""Framing: the parser's side of a connection, with limits on heads, upgrades, and refusals."""

import asyncio
from typing import Any, Final

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from chatnest.asgi.heads import MOST_FIELDS
from chatnest.asgi.http import NO_SNIFFING
from chatnest.server.connections import Connections, Queue
from chatnest.server.last_answer import LastAnswer

__all__ = ["BODY", "CLOSING", "IDLE", "NO_TRAILERS", "TOO_LARGE", "Framing", "Refused"]

_URL_BYTES: Final = 8_192
"""Maximum bytes of a URL. uvicorn decodes it. RFC 9110, section 4.1, recommends about as much."""

IDLE, BODY, CLOSING = -1, -2, -3
"""States of a connection: between two requests, between a head and the end of its body, and after
its last answer, while the client still sends.
"""

_REFUSAL: Final = b"HTTP/1.1 %b\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
TOO_LARGE: Final = _REFUSAL % b"431 Request Header Fields Too Large"
"""The response to a head with too many bytes or fields."""
_URL_TOO_LONG: Final = _REFUSAL % b"414 URI Too Long"
_TOO_SLOW: Final = _REFUSAL % b"408 Request Timeout"


class Refused(Exception):
    """The request is refused with ``answer``, or like invalid HTTP without an answer."""

    def __init__(self, answer: bytes | None = None) -> None:
        super().__init__()
        self.answer: bytes | None = answer


class Framing(HttpToolsProtocol):
    """Feeds the parser, and refuses requests that are invalid, too large or too slow."""

    # Attributes beyond uvicorn's own would make CPython give each connection a dict of its own.
    __slots__ = ("_head", "_ignores_input", "_table", "queue", "url")

    _head: int  # bytes of an incomplete head, or one of the states above
    _ignores_input: bool  # whether further bytes are dropped
    _table: Connections
    queue: Queue | None
    expect_100_continue: bool
    flow: Any
    headers: Any
    parser: httptools.HttpRequestParser
    pipeline: Any
    transport: asyncio.Transport
    url: bytes

    def _feed(self, data: bytes | memoryview) -> None:
        """Feed the parser, and ignore upgrades.

        The parser stops after the head of a request for an upgrade, and would continue with a new
        request. Here it parses the same head again without ``Upgrade``, and then the rest as that
        request's body. A server may ignore the field (RFC 9110, section 7.8).
        """
        while True:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as exc:
                if self._should_upgrade():
                    self.handle_websocket_upgrade()
                    return
                data = memoryview(data)[exc.args[0] :]
                head = self._head_without_upgrade()
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's
                self.parser.feed_data(head)
            else:
                return

    def _head_without_upgrade(self) -> bytes:
        method, version = self.parser.get_method(), self.parser.get_http_version()
        lines = [b"%b %b HTTP/%b" % (method, self.url, version.encode())]
        lines += [b"%b: %b" % field for field in self.headers if field[0] != b"upgrade"]
        return b"\r\n".join([*lines, b"", b""])

    def _should_upgrade(self) -> bool:
        """Return whether to switch to a WebSocket. During an answer the two would mix."""
        cycle: Any = self.cycle  # None before the first request
        return (cycle is None or cycle.response_complete) and super()._should_upgrade()

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection to the WebSocket protocol."""
        self._table.move(self, None)
        super().handle_websocket_upgrade()

    def on_url(self, url: bytes) -> None:
        """Take a part of the URL."""
        self.url += url
        if len(self.url) > _URL_BYTES:
            raise Refused(_URL_TOO_LONG)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field, or drop a trailer. As uvicorn's method, with a limit on their number."""
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        if len(self.headers) >= MOST_FIELDS:
            raise Refused(TOO_LARGE)
        self.headers.append((name, value))

    # ------------------------------------------------ closing

    def close_gently(self) -> None:
        """Close after what was written. Before that, drop what the client still sends.

        The kernel resets a connection that is closed with unread bytes, and a reset takes the
        answer from a client, or from a proxy, that has not read it yet (RFC 9112, section 9.6).
        """
        if self._head == IDLE or not self.transport.can_write_eof():
            self.transport.close()
        elif self._head != CLOSING and not self.transport.is_closing():
            self._table.move_to_rest(self)
            self._head, self._ignores_input = CLOSING, True
            self.transport.write_eof()
            self.flow.resume_reading()

    def close_after(self, cycle: Any) -> None:
        """Close the connection gently after the answer of ``cycle``."""
        cycle.keep_alive = False
        cycle.transport = LastAnswer(cycle.transport, self.close_gently)

    # ------------------------------------------------ refusals

    def _refuse(self, answer: bytes | None = None) -> None:
        """Stop reading. Send ``answer``, or a 400, unless another response is in the way."""
        self._ignores_input = True
        cycle: Any = self.cycle
        is_free = cycle is None or cycle.response_complete
        if self._head == BODY and is_free:
            self.close_gently()  # this request has its response
        elif self._head == BODY and (self.pipeline or cycle.response_started):
            self.transport.close()  # this response, or another one, is being sent
        elif self._head == BODY or is_free:
            self._respond_and_close(answer)
        else:  # serve the complete requests that came before, then close
            self.close_after(cycle)

    def _respond_and_close(self, answer: bytes | None) -> None:
        self._table.move(self, None)
        if answer is None:
            message = "Invalid HTTP request received."
            self.logger.warning(message)
            self.send_400_response(message)
        else:
            self.transport.write(answer)
            self.close_gently()

    def send_400_response(self, msg: str) -> None:
        """Send uvicorn's response to bytes that are not HTTP, with nosniff."""
        fields = [
            *self.server_state.default_headers,
            NO_SNIFFING,
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", b"%d" % len(msg)),
            (b"connection", b"close"),
        ]
        head = b"".join(b"%b: %b\r\n" % field for field in fields)
        self.transport.write(b"HTTP/1.1 400 Bad Request\r\n%b\r\n%b" % (head, msg.encode()))
        self.close_gently()

    def expire(self) -> None:
        """Close the connection because its deadline has passed, with a 408 if a head has begun."""
        if self.transport.is_closing():
            return
        if self._head >= 0:
            self.transport.write(_TOO_SLOW)
        self.transport.close()

    def abort(self) -> None:
        """Close the connection because its descriptor is needed."""
        self.transport.abort()


class _NoTrailers(list[tuple[bytes, bytes]]):
    """The headers while a body is read: they drop trailers."""

    __slots__ = ()

    def append(self, _: tuple[bytes, bytes]) -> None:
        """Drop a trailer. A proxy does not filter trailers, so they must not set an identity."""


NO_TRAILERS: Final = _NoTrailers()
"""The headers of a request whose head is complete."""
