"""HTTP/1.0 responses, which have no chunks: a body of unknown length ends with the connection."""

from typing import Any, Final

__all__ = ["Unchunked"]

_CHUNKED: Final = b"transfer-encoding: chunked\r\n"


class Unchunked:
    """The transport of one HTTP/1.0 response: unwraps the chunks that uvicorn writes.

    uvicorn sends a body without a length in chunks, one write for each event; HTTP/1.0 does not
    allow that (RFC 9112, section 6.1). Everything else passes through.
    """

    __slots__ = ("_chunked", "_headed", "_transport")

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._headed = False
        self._chunked = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Write a head, or uvicorn's bytes for one event of the body."""
        if not self._headed:
            self._headed = not data.startswith(b"HTTP/1.1 100 ")
            self._chunked = self._headed and _CHUNKED in data
            data = data.replace(_CHUNKED, b"") if self._chunked else data
        elif self._chunked:
            size, _, rest = data.partition(b"\r\n")
            data = rest[: int(size, 16)] if size else b""
        if data:
            self._transport.write(data)
