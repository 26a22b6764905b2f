"""The protocol of ``chatnest serve`` on a transport that is a list of bytes.

Every way to cut the same bytes into reads can so be tried.
"""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from chatnest.server.protocol import BoundedProtocol

Seen = tuple[str, str, bytes]
"""Method, path and body of a request."""


class Wire(asyncio.Transport):
    """What a protocol writes to, and what it is read from until it is closed on both sides."""

    def __init__(self, protocol: Any, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.protocol = protocol
        self.written = b""
        self._closed = False
        self._half_closed = False
        self.paused = False
        self._loop = loop
        protocol.connection_made(self)

    def write(self, data: Any) -> None:
        assert not self.closed
        self.written += data

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self._half_closed = True

    @property
    def closed(self) -> bool:
        """Whether nothing more can be written, although it may still be read."""
        return self._closed or self._half_closed

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._loop.call_soon(self.protocol.connection_lost, None)

    abort = close

    def is_closing(self) -> bool:
        return self._closed

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    async def feed(self, *parts: bytes) -> None:
        """Each as one read, as soon as what it leads to has happened."""
        for part in parts:
            for _ in range(20):
                await asyncio.sleep(0)
                if not self.paused:
                    break
            if self._closed or self.paused:
                break
            self.protocol.data_received(part)
        for _ in range(20):
            await asyncio.sleep(0)

    @property
    def statuses(self) -> list[int]:
        """Of the answers, whose bodies here never look like one."""
        return [int(part[:3]) for part in self.written.split(b"HTTP/1.1 ")[1:]]


class Recorder:
    """An application that notes what it is asked, reads the body, and answers. Below ``/early`` it
    answers first, and reads nothing.
    """

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.fields: list[list[bytes]] = []
        self.release: asyncio.Event | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        at = len(self.seen)
        self.seen.append((scope["method"], scope["path"], b""))
        body = b""
        if not scope["path"].startswith("/early"):
            more = True
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return
                body += message["body"]
                more = message["more_body"]
                self.seen[at] = (scope["method"], scope["path"], body)
        self.fields.append([name for name, _ in scope["headers"]])
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [(b"content-length", b"2")],
            }
        )
        if self.release is not None:
            await self.release.wait()
        await send({"type": "http.response.body", "body": b"ok"})


def wire(app: Any, kind: Any = BoundedProtocol, **options: Any) -> Wire:
    """A new connection to ``app``."""
    config = uvicorn.Config(app, ws="none", log_config=None, interface="asgi3", proxy_headers=False)
    loop = asyncio.get_running_loop()
    config.load()
    return Wire(kind(config, ServerState(), {}, loop, **options), loop)


def cuts(data: bytes) -> Iterator[list[bytes]]:
    """Whole, byte by byte, and in two at every place."""
    yield [data]
    yield [data[n : n + 1] for n in range(len(data))]
    for n in range(1, len(data)):
        yield [data[:n], data[n:]]


async def played(app: Callable[[], Recorder], parts: list[bytes]) -> tuple[Recorder, Wire]:
    """What an application sees, and what comes back."""
    recorder = app()
    connection = wire(recorder)
    await connection.feed(*parts)
    return recorder, connection
