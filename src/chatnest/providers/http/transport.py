"""Transport: one address, one request head, any number of bodies. The seam. No I/O."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Protocol

import msgspec

from chatnest.providers.base import Taker

__all__ = [
    "CONNECT_SECONDS",
    "KEEPALIVE_SECONDS",
    "RECEIVE_BUFFER",
    "RequestHead",
    "Response",
    "Sent",
    "Transport",
    "TransportError",
]

CONNECT_SECONDS: Final = 10.0
"""Maximum seconds to connect."""

KEEPALIVE_SECONDS: Final = 30.0
"""Maximum seconds for which an idle connection is kept."""

RECEIVE_BUFFER: Final = 65_536
"""Bytes of an answer that may wait in the kernel while a client does not read. By default the
kernel's buffers grow to megabytes per connection.
"""


class TransportError(Exception):
    """No response arrived, or it broke off. The cause has the reason."""


class RequestHead(msgspec.Struct, frozen=True):
    """The URL, the header fields and the method. The transport adds the fields of the body."""

    url: str
    fields: tuple[tuple[str, str], ...]
    method: str = "POST"


class Sent(Protocol):
    """The sender's record of a request, such as a ModelCall."""

    sent: bool
    """Whether the request may have reached the server. The transport sets it."""

    headers: Mapping[str, str]
    """Header fields of this request alone, in addition to those of the head."""


class Response(Protocol):
    """A response whose head has arrived. Names of header fields are in lower case."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    @property
    def read(self) -> Callable[[], Awaitable[bytes]]:
        """Returns what has arrived of the body, at least one byte; empty at the end. If the body
        broke off, raises any exception once everything before it was read. (A property, so that
        calling it costs one call.)
        """
        ...

    def offer(self, taker: Taker[bytes]) -> None:
        """Offer bytes that arrive while ``read`` waits to ``taker`` first. ``read`` does not return
        bytes that were taken.
        """

    def unread(self) -> bytes:
        """The bytes of the body that have arrived and were not read. Does not wait. Nothing may be
        read afterwards.
        """
        ...

    def release(self) -> bool:
        """Give the connection back if the body was read to its end, and return True. Otherwise, or
        if this is unknown, change nothing and return False. Does not wait.
        """
        ...

    async def aclose(self) -> None:
        """Keep the connection if the body was read to its end. Otherwise close it at once."""


class Transport(Protocol):
    """Connections of one event loop."""

    async def post(self, body: bytes, call: Sent, late: Callable[[Response], None]) -> Response:
        """Post a body, and set ``call.sent`` when the head of the request has been sent. Raises
        TransportError.

        If it is cancelled after the head of the response has arrived, it may call ``late`` with the
        response, of which only ``unread`` may be used.
        """

    async def aclose(self) -> None:
        """Close all connections."""
