"""A server that can send without waiting, as ``chatnest serve`` can, in a Conversation's place, and
a model whose pieces come alone.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self

from chatnest import testing
from chatnest.asgi.http import SEND_NOW
from tests.hostile.floods import END, HEAD, chunk, event
from tests.streams.support import token

__all__ = ["OneByOne", "SendsNow"]

_FINISH = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
_USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":%d}}\n\n'


class SendsNow(testing.Conversation):
    """Takes pieces of a body at once while the client reads. ``sent_now`` are those."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.sent_now: list[bytes] = []
        self.scope["extensions"] = {SEND_NOW: self}

    def is_gone(self) -> bool:
        return False

    def belongs_to(self, send: object) -> bool:
        return send == self._send

    def piece(self, encode: Callable[[Any], bytes], content: Any) -> bool:
        unread = self._stalled and self._room <= 0
        if unread or self.is_disconnected or self._send_error is not None:
            return False
        body = encode(content)
        message = {"type": "http.response.body", "body": body, "more_body": True}
        self._rules.check(message)
        self._room -= len(body)
        self._take_in(message)
        self._notify()
        self.sent_now.append(body)
        return True


class OneByOne:
    """A model, on asyncio, that says its next piece when ``client`` has the one before it: each
    comes alone, while everybody waits, however slow the machine. All but the first, which comes
    with its head. ``bills`` is whether it tells what it cost.
    """

    client: SendsNow

    def __init__(self, *pieces: str, bills: bool = True) -> None:
        self.base_url = ""
        self._pieces = pieces
        self._end = _FINISH + (_USAGE % len(pieces) if bills else b"") + b"data: [DONE]\n\n"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        self.base_url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HEAD)
        with suppress(EOFError):  # it was more than the client may have
            for piece in self._pieces:
                writer.write(chunk(event(piece)))
                await self._arrived(piece)
            writer.write(chunk(self._end) + END)
        with suppress(ConnectionError):
            await reader.read()
        writer.close()

    async def _arrived(self, piece: str) -> None:
        await self.client.until(lambda: token(piece) in self.client.received)
