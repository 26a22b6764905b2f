"""The model: a server in a process of its own that says ``tok`` as often as it was told."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import uvloop


def _chunk(**choice: object) -> bytes:
    usage = choice.pop("usage", None)
    chunk = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": "gpt-4o-mini",
        "system_fingerprint": "fp_1",
        "choices": [{"index": 0, "logprobs": None, "finish_reason": None, **choice}],
        "usage": usage,
    }
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


TOKEN = _chunk(delta={"content": "tok"})
ROLE = _chunk(delta={"role": "assistant", "content": ""})
STOP = _chunk(delta={}, finish_reason="stop")
USAGE = {"prompt_tokens": 10, "completion_tokens": 1, "total_tokens": 11}
END = STOP + _chunk(usage=USAGE, delta={}) + b"data: [DONE]\n\n"
HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)


def _framed(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Model:
    def __init__(self) -> None:
        self.tokens, self.gap = 1, 0.0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if head.startswith(b"PLAN "):
                    _, tokens, gap = head.split()
                    self.tokens, self.gap = int(tokens), float(gap)
                    writer.close()
                    return
                length = next(
                    int(line.partition(b":")[2])
                    for line in head.lower().split(b"\r\n")
                    if line.startswith(b"content-length:")
                )
                await reader.readexactly(length)
                await self._answer(writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def _answer(self, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + _framed(ROLE))
        token = _framed(TOKEN)
        if self.gap:
            for _ in range(self.tokens):
                await asyncio.sleep(self.gap)
                writer.write(token)
        else:
            for first in range(0, self.tokens, 100):
                writer.write(token * min(100, self.tokens - first))
                await writer.drain()
        writer.write(_framed(END) + b"0\r\n\r\n")
        await writer.drain()


async def main() -> None:
    server = await asyncio.start_server(Model().serve, "127.0.0.1", 0, backlog=4096)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


@dataclass(frozen=True)
class Upstream:
    port: int


@contextmanager
def upstream_process() -> Iterator[Upstream]:
    """The model, on the core of whoever starts it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.upstream"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield Upstream(int(process.stdout.readline()))
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


if __name__ == "__main__":
    uvloop.run(main())
