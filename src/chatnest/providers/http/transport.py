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
    "Transport",
    "TransportError",
]

CONNECT_SECONDS: Final = 10.0
KEEPALIVE_SECONDS: Final = 30.0

RECEIVE_BUFFER: Final = 65_536
"""Bytes of an answer that wait in the kernel while a client does not read. Left alone, they grow
to megabytes for each.
"""


class TransportError(Exception):
    """There was no answer, or it broke off; its cause says more."""


class RequestHead(msgspec.Struct, frozen=True):
    """The URL, the header fields and the method. The transport adds the fields of the body."""

    url: str
    fields: tuple[tuple[str, str], ...]
    method: str = "POST"


class Response(Protocol):
    """An answer whose head is there. Field names are found in lower case."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    @property
    def read(self) -> Callable[[], Awaitable[bytes]]:
        """Gives what has arrived of the body, at least one byte; empty at the end. It may raise
        anything where the body breaks off, once all that had come before was given. (A property,
        so that no call lies between.)
        """
        ...

    def offer(self, taker: Taker[bytes]) -> None:
        """From now on, what arrives while ``read`` waits may be offered to ``taker`` first. What it
        has taken is not read any more.
        """

    def unread(self) -> bytes:
        """What has arrived of the body and was not read, without waiting. Nothing is read later."""
        ...

    def ended(self) -> bool:
        """Whether the body is known to have been read to its end."""
        ...

    async def aclose(self) -> None:
        """Keep the connection where the body was read to its end, and close it at once else."""


class Transport(Protocol):
    """Connections of one event loop."""

    async def post(
        self, body: bytes, sent: Callable[[], None], late: Callable[[Response], None]
    ) -> Response:
        """Post a body; ``sent`` is called when the head has left. Raises TransportError.

        Where it is cancelled, and the response's head had arrived by then, ``late`` may be called
        with the response, whose ``unread`` alone is of use.
        """

    async def aclose(self) -> None:
        """Close them."""
