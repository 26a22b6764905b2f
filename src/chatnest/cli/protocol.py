"""BoundedProtocol: uvicorn's HTTP/1.1 with bounds on heads and on what waits to be sent."""

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["BoundedProtocol"]

_HEAD_BYTES = 65_536
_WRITE_BUFFER = 16_384
"""Bytes that wait in this process for a client that does not read, beside those of the kernel."""
_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-length: 0\r\nconnection: close\r\n\r\n"
)


class BoundedProtocol(HttpToolsProtocol):
    """Answers 431 to a head (request line and fields) of more than 64 KiB, and closes. One that
    comes whole in a single read is taken: it was in the memory already.
    """

    _head: int | None = 0  # bytes of a head that is under way, None within a body
    _ended = False  # whether a head or a body has ended in what is being read

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Called by the event loop."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=_WRITE_BUFFER)

    def data_received(self, data: bytes) -> None:
        """Called by the event loop with at most 256 KiB."""
        self._ended = False
        super().data_received(data)
        if self._head is not None and not self._ended and not self.transport.is_closing():
            self._head += len(data)
            if self._head > _HEAD_BYTES:
                self.transport.write(_TOO_LARGE)
                self.transport.close()

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        self._head = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The end of a head."""
        self._head, self._ended = None, True
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The end of a body: what follows is another head."""
        self._head, self._ended = 0, True
        super().on_message_complete()
