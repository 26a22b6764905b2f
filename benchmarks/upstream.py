"""The model: a server in a process of its own that says ``tok~`` as often as a request asks for.

It must never be what is measured, so it has no parser, no task and no timer for a stream: every
answer is made of bytes that were put together beforehand. A request's last message may end in a
plan, ``[tokens gap]``: so many tokens, one each ``gap`` milliseconds; all at once for 0, and for
``hold`` all at once and then silence.
"""

import asyncio
import gc
import json
import re
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from time import monotonic

import uvloop

PLAN = re.compile(rb"\[(\d+) (\d+|hold)\]")
LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


def _chunk(**choice: object) -> bytes:
    usage = choice.pop("usage", None)
    chunk = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": "gpt-4o-mini",
        "system_fingerprint": "fp_1",
        "choices": []
        if usage
        else [{"index": 0, "logprobs": None, "finish_reason": None} | choice],
        "usage": usage,
    }
    return _framed(b"data: " + json.dumps(chunk).encode() + b"\n\n")


def _framed(data: bytes) -> bytes:
    """One chunk of HTTP for one event, as real servers write them."""
    return b"%x\r\n%b\r\n" % (len(data), data)


MARK = b"~"
"""A byte that each token has once and nothing else has: tokens can be counted in any bytes."""
TOKEN = _chunk(delta={"content": f"tok{MARK.decode()}"})
HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
) + _chunk(delta={"role": "assistant", "content": ""})


@cache
def end(tokens: int) -> bytes:
    usage = {"prompt_tokens": 12, "completion_tokens": tokens, "total_tokens": 12 + tokens}
    last = _chunk(delta={}, finish_reason="stop") + _chunk(usage=usage)
    return last + _framed(b"data: [DONE]\n\n") + b"0\r\n\r\n"


@cache
def _whole(tokens: int) -> bytes:
    return HEAD + TOKEN * tokens + end(tokens)


class Wheel:
    """The time of all streams of one gap: one timer, spread over the gap in slots of 1 ms."""

    def __init__(self, gap: int) -> None:
        self._slots: deque[list[Connection]] = deque([] for _ in range(gap))
        self._next = 0
        self._streams = 0
        self._due = 0.0
        self._loop = asyncio.get_running_loop()

    def add(self, stream: "Connection") -> None:
        """The slots are filled in turn, so that the streams' beats do not fall together."""
        if not self._streams:
            self._due = monotonic() + 0.001
            self._loop.call_later(0.001, self._turn)
        self._streams += 1
        self._next = (self._next + 1) % len(self._slots)
        self._slots[self._next].append(stream)

    def _turn(self) -> None:
        now = monotonic()
        while self._due <= now:
            self._due += 0.001
            left = [stream for stream in self._slots[0] if stream.beat()]
            self._streams -= len(self._slots[0]) - len(left)
            self._slots[0] = left
            self._slots.rotate(-1)
            self._next -= 1
        if self._streams:
            self._loop.call_later(0.001, self._turn)  # uvloop would spin on less than 1 ms


class Connection(asyncio.Protocol):
    """One connection of a server's. It may be used again after each answer."""

    wheels: dict[int, Wheel]
    transport: asyncio.Transport

    def __init__(self) -> None:
        self._data = b""
        self._left = self._tokens = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # uvloop's is no subclass of it

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, found, body = self._data.partition(b"\r\n\r\n")
        if not found:
            return
        length = LENGTH.search(head)
        if not length:  # no question, such as for a list of models
            self._data = b""
            self.transport.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
        elif len(body) >= int(length[1]):
            self._data = b""
            self._answer(PLAN.findall(body))

    def _answer(self, plans: list[tuple[bytes, bytes]]) -> None:
        tokens, gap = plans[-1] if plans else (b"1", b"0")
        self._tokens = self._left = int(tokens)
        if gap == b"hold":
            self.transport.write(HEAD + TOKEN * self._tokens)
        elif gap == b"0":
            self.transport.write(_whole(self._tokens))
        else:
            self.transport.write(HEAD)
            wheel = self.wheels.get(int(gap)) or self.wheels.setdefault(int(gap), Wheel(int(gap)))
            wheel.add(self)

    def beat(self) -> bool:
        """One token, or the end. False when there is no more to come."""
        if self.transport.is_closing():
            return False
        self._left -= 1
        self.transport.write(TOKEN if self._left >= 0 else end(self._tokens))
        return self._left >= 0


async def main() -> None:
    Connection.wheels = {}
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Connection, "127.0.0.1", 0, backlog=8_192)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    gc.freeze()
    gc.disable()
    await server.serve_forever()


@dataclass(frozen=True)
class Upstream:
    port: int
    pid: int


@contextmanager
def upstream_process() -> Iterator[Upstream]:
    """The model, on the core of whoever starts it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.upstream"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield Upstream(int(process.stdout.readline()), process.pid)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


if __name__ == "__main__":
    uvloop.run(main())
