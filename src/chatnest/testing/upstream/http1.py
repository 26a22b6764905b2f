"""The server side of HTTP/1, as far as a fake upstream needs it. No I/O."""

from dataclasses import dataclass
from http import HTTPStatus

__all__ = ["HeadOfRequest", "Request", "RequestReader", "chunk", "response_head"]

END_OF_CHUNKS = b"0\r\n\r\n"

_PHRASES = {status.value: status.phrase for status in HTTPStatus}


@dataclass(frozen=True, slots=True)
class HeadOfRequest:
    """Request line and headers. Header names are in lower case; the last of a repeated one wins."""

    method: str
    path: str
    version: str
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class Request:
    """A complete request: its head and its body."""

    head: HeadOfRequest
    body: bytes

    @property
    def keep_alive(self) -> bool:
        """Whether the client may send another request over the same connection."""
        wish = self.head.headers.get("connection", "").lower()
        return wish != "close" and (self.head.version == "HTTP/1.1" or wish == "keep-alive")


class RequestReader:
    """An incremental parser from bytes to requests. Bodies have a Content-Length or are chunked."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._head: HeadOfRequest | None = None

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the connection."""
        self._buffer += data

    def next(self) -> Request | None:
        """Return the next request if it is complete. Raises `ValueError` if it is not HTTP."""
        if self._head is None:
            self._head = self._take_head()
        if self._head is None:
            return None
        body = self._take_body(self._head.headers)
        if body is None:
            return None
        request, self._head = Request(self._head, body), None
        return request

    def _take_head(self) -> HeadOfRequest | None:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return None
        first, *lines = self._take(end + 4)[:-4].decode("latin-1").split("\r\n")
        method, target, version = first.split(" ")
        pairs = (line.split(":", 1) for line in lines)
        headers = {name.lower(): value.strip() for name, value in pairs}
        return HeadOfRequest(method, target.partition("?")[0], version, headers)

    def _take_body(self, headers: dict[str, str]) -> bytes | None:
        if "chunked" in headers.get("transfer-encoding", "").lower():
            return self._take_chunked()
        length = int(headers.get("content-length", "0"))
        return self._take(length) if len(self._buffer) >= length else None

    def _take_chunked(self) -> bytes | None:
        body, at = bytearray(), 0
        while (end := self._buffer.find(b"\r\n", at)) >= 0:
            size = int(bytes(self._buffer[at:end]).partition(b";")[0], 16)
            at = end + 2 + size + 2
            if len(self._buffer) < at:
                return None
            body += self._buffer[end + 2 : at - 2]
            if size == 0:
                self._take(at)
                return bytes(body)
        return None

    def _take(self, size: int) -> bytes:
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data


def response_head(status: int, headers: dict[str, str]) -> bytes:
    """Return the status line and headers, ready to be written."""
    lines = [
        f"HTTP/1.1 {status} {_PHRASES.get(status, 'Unknown')}",
        *(f"{k}: {v}" for k, v in headers.items()),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def chunk(data: bytes) -> bytes:
    """Return `data` as one chunk of a chunked body. `data` must not be empty."""
    return b"%x\r\n%b\r\n" % (len(data), data)
