"""An HTTP/2 client that reads what has arrived and no more; prior knowledge, one stream."""

import json
import socket
from typing import Any, Self

import h2.config
import h2.connection
import h2.events

from tests.servers.support import PATIENCE


class H2Client:
    """One request over one connection."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self._h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="ascii"))
        self._h2.initiate_connection()
        self.status = ""
        self.body = b""
        self._over = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def post(self, path: str, document: Any) -> None:
        fields = [(":method", "POST"), (":path", path), (":authority", "test")]
        fields += [(":scheme", "http"), ("content-type", "application/json")]
        self._h2.send_headers(1, fields)
        self._h2.send_data(1, json.dumps(document).encode(), end_stream=True)
        self._socket.sendall(self._h2.data_to_send())

    def until(self, mark: bytes) -> bytes:
        """The body, once ``mark`` is in it. Raises EOFError if it never comes."""
        while mark not in self.body:
            self._read()
        return self.body

    def read_all(self) -> bytes:
        while not self._over:
            self._read()
        return self.body

    def reset(self) -> None:
        """End the stream alone (RFC 9113, section 5.4.2)."""
        self._h2.reset_stream(1, 8)
        self._socket.sendall(self._h2.data_to_send())

    def _read(self) -> None:
        data = b"" if self._over else self._socket.recv(65_536)
        if not data:
            raise EOFError(self.body)
        for event in self._h2.receive_data(data):
            if isinstance(event, h2.events.ResponseReceived):
                headers: dict[Any, Any] = dict(event.headers or ())
                self.status = headers[":status"]
            elif isinstance(event, h2.events.DataReceived):
                self.body += event.data or b""
            self._over |= isinstance(event, h2.events.StreamEnded | h2.events.StreamReset)
        self._socket.sendall(self._h2.data_to_send())
