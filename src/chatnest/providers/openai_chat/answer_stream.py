"""AnswerStream: the events of one response, as they arrive."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain
from typing import Final

from anyio import move_on_after
from anyio.lowlevel import checkpoint

from chatnest.errors import UpstreamError, UpstreamInterrupted
from chatnest.events import ProviderEvent
from chatnest.providers.base import Taker
from chatnest.providers.http.inflate import Inflating
from chatnest.providers.http.transport import Response
from chatnest.providers.openai_chat.decode import ChunkDecoder

__all__ = ["AnswerStream"]

_FED_AT_ONCE: Final = 32_768
"""Bytes that are decoded without a break: a flood of them must not keep the event loop."""

_READS_WITHOUT_BREAK: Final = 64
"""Of a body in tiny chunks, where no read has to wait: they must not keep it either."""

_DRAIN_SECONDS: Final = 0.05
"""For the end of a body after its last event, so that the connection can be used again."""


class AnswerStream:
    """Iterates over what arrived together. Raises an UpstreamError where the answer breaks off.
    ``compressed`` bodies are inflated.
    """

    __slots__ = ("_decoder", "_ended", "_inflating", "_read", "_reads", "_response", "_rest")

    def __init__(
        self, response: Response, decoder: ChunkDecoder, *, compressed: bool = False
    ) -> None:
        self._response = response
        self._inflating = Inflating(response.read) if compressed else None
        self._read = response.read if self._inflating is None else self._inflating.read
        self._decoder = decoder
        self._ended = False
        self._rest = b""
        self._reads = 0

    def __aiter__(self) -> "AnswerStream":
        return self

    async def __anext__(self) -> Sequence[ProviderEvent]:
        decoder = self._decoder
        if decoder.failure is not None:
            raise decoder.failure
        if decoder.closed or self._ended:
            decoder.end()
            raise StopAsyncIteration
        self._reads += 1
        if self._rest or self._reads % _READS_WITHOUT_BREAK == 0:
            await checkpoint()
        try:
            data = self._rest or await self._read()
        except Exception as exc:  # whatever it raises, the answer has broken off
            self._ended = True
            if not decoder.finished:
                raise UpstreamInterrupted from exc
            data = b""
        if data:
            self._rest = data[_FED_AT_ONCE:]
            return decoder.feed(data[:_FED_AT_ONCE])
        self._ended = True
        if events := decoder.finish():
            return events
        decoder.end()
        raise StopAsyncIteration

    def offer(self, taker: Taker[str]) -> None:
        """See ProviderStream. Compressed bytes are not offered."""
        if self._inflating is None:
            self._decoder.taker = taker
            self._response.offer(self._decoder)

    def unread(self) -> Iterator[Sequence[ProviderEvent]] | None:
        """What has arrived of an answer that is left before its end, decoded piece by piece."""
        decoder = self._decoder
        if self._ended or decoder.closed or decoder.failure is not None:
            return None
        data = self._response.unread()
        if not (data or self._rest):
            return None
        inflated = [data] if self._inflating is None else self._inflating.last(data)
        return _decoded(decoder, chain([self._rest], inflated))

    async def drain(self) -> None:
        """Read the end of a body whose last event was read; the connection is then reusable."""
        if self._decoder.closed and not self._ended and not self._response.ended():
            with move_on_after(_DRAIN_SECONDS), suppress(Exception):
                while await self._read():
                    pass


def _decoded(decoder: ChunkDecoder, pieces: Iterable[bytes]) -> Iterator[Sequence[ProviderEvent]]:
    """Events, up to what is no chat completion."""
    with suppress(UpstreamError):
        for piece in pieces:
            for start in range(0, len(piece), _FED_AT_ONCE):
                yield decoder.feed(piece[start : start + _FED_AT_ONCE])
        yield decoder.finish()
