"""A client that hides nothing: bytes over a socket."""

import json
import socket
import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from chatnest.testing import FakeUpstream, parse_events

ASK: dict[str, Any] = {"model": "m", "messages": [], "stream": True}


def request(asked: Any = None, head: str = "", version: str = "1.1") -> bytes:
    body = json.dumps(ASK if asked is None else asked).encode()
    lines = f"POST /v1/chat/completions HTTP/{version}\r\nHost: x\r\n{head}"
    return f"{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body


@contextmanager
def connect(upstream: FakeUpstream) -> Iterator[socket.socket]:
    with closing(socket.create_connection(("127.0.0.1", upstream.port), timeout=20)) as client:
        yield client


def read_until(client: socket.socket, mark: bytes) -> bytes:
    data = b""
    while mark not in data:
        more = client.recv(65536)
        if not more:
            raise EOFError(data)
        data += more
    return data


def read_to_end(client: socket.socket) -> tuple[bytes, type[OSError] | None]:
    """Everything, and how it ended: None for FIN."""
    data = bytearray()
    try:
        while more := client.recv(65536):
            data += more
    except OSError as error:
        return bytes(data), type(error)
    return bytes(data), None


def reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def unchunk(body: bytes) -> list[bytes]:
    chunks = []
    at = 0
    while at < len(body):
        start = body.index(b"\r\n", at) + 2
        end = start + int(body[at : start - 2], 16)
        chunks.append(body[start:end])
        assert body[end : end + 2] == b"\r\n"
        at = end + 2
    return chunks


def exchange(upstream: FakeUpstream, asked: Any = None) -> tuple[bytes, bytes]:
    """Head and body of one whole answer, the chunks joined."""
    with connect(upstream) as client:
        client.sendall(request(asked, "Connection: close\r\n"))
        data, error = read_to_end(client)
    assert error is None
    head, _, body = data.partition(b"\r\n\r\n")
    return head, b"".join(unchunk(body)) if b"chunked" in head else body


def deltas(body: bytes) -> list[Any]:
    """The parsed data of each event but `[DONE]`."""
    return [json.loads(event.data) for event in parse_events(body) if event.data != "[DONE]"]


def text(body: bytes, key: str = "content") -> str:
    choices = [choice for delta in deltas(body) for choice in delta["choices"]]
    return "".join(choice["delta"].get(key) or "" for choice in choices)
