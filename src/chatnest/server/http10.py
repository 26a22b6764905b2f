"""Answers to HTTP/1.0, which has no chunks: a body of unknown length ends with the connection."""

from typing import Any, Final

__all__ = ["Unchunked"]

_CHUNKED: Final = b"transfer-encoding: chunked\r\n"


class Unchunked:
    """The transport of one answer. It takes the chunks apart that uvicorn makes of a body without
    a length (RFC 9112, section 6.1), one write at a time; everything else passes through.
    """

    __slots__ = ("_chunked", "_headed", "_transport")

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._headed = False
        self._chunked = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """One head, or what uvicorn writes for one event of the body."""
        if not self._headed:
            self._headed = not data.startswith(b"HTTP/1.1 100 ")
            self._chunked = self._headed and _CHUNKED in data
            data = data.replace(_CHUNKED, b"") if self._chunked else data
        elif self._chunked:
            size, _, rest = data.partition(b"\r\n")
            data = rest[: int(size, 16)] if size else b""
        if data:
            self._transport.write(data)
