"""Clients: HTTP/1.1 on bare protocols of one event loop, which count tokens in the bytes."""

import asyncio
import gc
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any

import uvloop

from benchmarks.upstream import MARK

__all__ = ["Lost", "Reader", "calm", "question", "read_all", "run"]

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_END = b"0\r\n\r\n"


class Lost(AssertionError):
    """An answer that was not whole."""


def question(
    tokens: int, gap: int | str = 0, path: str = "/api/chat", *, key: str | None = None
) -> bytes:
    """A request whose answer the upstream will plan so; elsewhere than at a chat of ours, in
    OpenAI's form. With a ``key``, the answer is a run.
    """
    content = f"Hello, how are you? [{tokens} {gap}]"
    fields = {"model": "gpt-4o-mini", "stream": True} if path != "/api/chat" else {}
    body = json.dumps({"messages": [{"role": "user", "content": content}], **fields}).encode()
    keyed = b"" if key is None else b"Idempotency-Key: %b\r\n" % key.encode()
    return (
        b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n%b"
        b"Content-Length: %d\r\n\r\n%b" % (path.encode(), keyed, len(body), body)
    )


class Reader(asyncio.Protocol):
    """One connection, one answer at a time. ``on_end`` is called at the end of each; it may ask
    again, or close. ``lost`` says what was the matter with an answer that had no end.
    """

    transport: asyncio.Transport

    def __init__(self, on_end: Callable[["Reader"], None], status: int = 200) -> None:
        self._on_end = on_end
        self._status = b"HTTP/1.1 %d " % status
        self._idle = True
        self._in_head = False
        self._left: int | None = None
        self._rest = b""
        self.seen = 0
        self.asked = self.first = 0.0
        self.lost: BaseException | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # uvloop's is no subclass of it

    def ask(self, request: bytes) -> None:
        self._idle, self._in_head = False, True
        self._rest = b""
        self.seen = 0
        self.asked = perf_counter()
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            head, found, data = (self._rest + data).partition(b"\r\n\r\n")
            if not head.startswith(self._status) and len(head) > len(self._status):
                self._end(Lost(head + b"\r\n\r\n" + data[:400]))
                return
            if not found:
                self._rest = head
                return
            self._in_head = False
            self._rest = b""
            length = _LENGTH.search(head)
            self._left = int(length[1]) if length else None
        if count := data.count(MARK):
            if not self.seen:
                self.first = perf_counter()
            self.seen += count
        if self._left is None:
            self._rest = (self._rest + data[-5:])[-5:]
            if self._rest == _END:
                self._end(None)
        else:
            self._left -= len(data)
            if not self._left:
                self._end(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._idle:
            self._end(exc or Lost("the connection has ended within an answer"))

    def _end(self, lost: BaseException | None) -> None:
        self._idle = True
        if lost is not None:
            self.lost = lost
            self.transport.abort()
        self._on_end(self)


async def read_all(
    port: int,
    request: bytes | Callable[[], bytes],
    *,
    total: int,
    at_once: int,
    tokens: int,
    status: int = 200,
) -> None:
    """Ask ``total`` times over ``at_once`` connections, which are kept. A function returns the
    next request. Raises Lost for an answer that is not whole.
    """
    next_request = request if callable(request) else lambda: request
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    left = total
    unasked = total - at_once

    def on_end(reader: Reader) -> None:
        nonlocal left, unasked
        left -= 1
        lost = reader.lost
        if lost is None and reader.seen != tokens:
            lost = Lost(f"{reader.seen} tokens of {tokens}")
        if lost is not None:
            if not done.done():
                done.set_exception(lost)
        elif unasked:
            unasked -= 1
            reader.ask(next_request())
        else:
            reader.transport.close()
        if not left and not done.done():
            done.set_result(None)

    readers = []
    for _ in range(at_once):
        _, reader = await loop.create_connection(lambda: Reader(on_end, status), "127.0.0.1", port)
        readers.append(reader)
    for reader in readers:
        reader.ask(next_request())
    try:
        await done
    finally:
        for reader in readers:
            reader.transport.abort()


def run(main: Callable[[], Any]) -> Any:
    """What the coroutine function ``main`` returns, on an event loop of its own."""
    with calm():
        return uvloop.run(main())


@contextmanager
def calm() -> Iterator[None]:
    """Without the collector of garbage, which would stop the clients now and then."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
