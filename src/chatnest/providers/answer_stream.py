"""AnswerStream: the events of one response, as they arrive."""

from collections.abc import Sequence
from typing import Final

from anyio import move_on_after
from anyio.lowlevel import checkpoint

from chatnest.errors import UpstreamInterrupted
from chatnest.events import ProviderEvent
from chatnest.providers.decode import ChunkDecoder
from chatnest.providers.transport import Response, TransportError

__all__ = ["AnswerStream"]

_FED_AT_ONCE: Final = 32_768
"""Bytes that are decoded without a break: a flood of them must not keep the event loop."""

_READS_WITHOUT_BREAK: Final = 64
"""Of a body in tiny chunks, where no read has to wait: they must not keep it either."""

_DRAIN_SECONDS: Final = 0.05
"""For the end of a body after its last event, so that the connection can be used again."""


class AnswerStream:
    """Iterates over what arrived together. Raises an UpstreamError where the answer breaks off."""

    def __init__(self, response: Response, decoder: ChunkDecoder) -> None:
        self._read_more = response.read
        self._decoder = decoder
        self._ended = False
        self._rest = b""
        self._reads = 0

    def __aiter__(self) -> "AnswerStream":
        return self

    async def __anext__(self) -> Sequence[ProviderEvent]:
        self._decoder.check()
        if self._decoder.closed or self._ended:
            self._decoder.end()
            raise StopAsyncIteration
        data = self._rest or await self._read()
        if data:
            self._rest = data[_FED_AT_ONCE:]
            if self._rest:
                await checkpoint()
                data = data[:_FED_AT_ONCE]
            return self._decoder.feed(data)
        self._ended = True
        self._decoder.end()
        raise StopAsyncIteration

    async def drain(self) -> None:
        """Read the end of a body whose last event was read; the connection is then reusable."""
        if self._decoder.closed:
            with move_on_after(_DRAIN_SECONDS):
                while not self._ended and await self._read():
                    pass

    async def _read(self) -> bytes:
        self._reads += 1
        if self._reads % _READS_WITHOUT_BREAK == 0:
            await checkpoint()
        try:
            return await self._read_more()
        except TransportError as exc:
            self._ended = True
            if self._decoder.finished:
                return b""
            raise UpstreamInterrupted from exc
