"""AnswerStream: the events of one HTTP response, decoded by a dialect as they arrive."""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Final, Protocol

from anyio import move_on_after
from anyio.lowlevel import checkpoint

from chatnest.errors import UpstreamError, UpstreamInterrupted
from chatnest.events import ProviderEvent, Reasoning
from chatnest.providers.base import ProviderStream, Taker
from chatnest.providers.http.bodies import (
    FED_AT_ONCE,
    READS_WITHOUT_BREAK,
    closing,
    in_steps,
    is_compressed,
)
from chatnest.providers.http.inflate import Inflating
from chatnest.providers.http.transport import Response
from chatnest.turn import ModelCall

__all__ = ["AnswerStream", "Decoder", "OpenedAnswer"]

_DRAIN_SECONDS: Final = 0.05
"""Maximum seconds to read the end of a body after its last event, to reuse the connection."""


class Decoder(Protocol):
    """A dialect's half of an answer: bytes in, provider events out."""

    @property
    def taker(self) -> Taker[str | Reasoning]: ...
    @taker.setter
    def taker(self, taker: Taker[str | Reasoning], /) -> None:
        """The consumer to which ``take`` offers a piece of text or of thinking."""

    @property
    def failure(self) -> UpstreamError | None:
        """The error that follows the events returned so far, if any."""
        ...

    @property
    def finished(self) -> bool:
        """Whether the model has said why it stopped."""
        ...

    @property
    def closed(self) -> bool:
        """Whether the model has said that nothing more follows."""
        ...

    def feed(self, data: bytes, /) -> list[ProviderEvent]:
        """Decode more bytes. Raises UpstreamError."""
        ...

    def finish(self) -> list[ProviderEvent]:
        """Decode what is left when the body has ended. Raises UpstreamError."""
        ...

    def take(self, data: bytes, /) -> bool:
        """See Taker: offer the piece to ``taker`` if ``data`` is one piece and nothing else."""
        ...

    def end(self) -> None:
        """Raise an UpstreamError unless the answer is complete."""


class AnswerStream:
    """A ProviderStream over a response. Inflates a body that is ``compressed``."""

    __slots__ = ("_decoder", "_ended", "_inflating", "_read", "_reads", "_response", "_rest")

    def __init__(self, response: Response, decoder: Decoder, *, compressed: bool = False) -> None:
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
        if self._rest or self._reads % READS_WITHOUT_BREAK == 0:
            await checkpoint()
        try:
            data = self._rest or await self._read()
        except Exception as exc:  # a transport, TLS or the inflater may raise anything
            self._ended = True
            if not decoder.finished:
                raise UpstreamInterrupted from exc
            data = b""
        if data:
            self._rest = data[FED_AT_ONCE:]
            return decoder.feed(data[:FED_AT_ONCE])
        self._ended = True
        if events := decoder.finish():
            return events
        decoder.end()
        raise StopAsyncIteration

    def offer(self, taker: Taker[str | Reasoning]) -> None:
        """See OfferingStream. Compressed bytes are not offered."""
        if self._inflating is None:
            self._decoder.taker = taker
            self._response.offer(self._decoder)

    def unread(self) -> Iterator[Sequence[ProviderEvent]] | None:
        """The events that arrived and were not read, decoded piece by piece; None after the end."""
        decoder = self._decoder
        if self._ended or decoder.closed or decoder.failure is not None:
            return None
        data = self._response.unread()
        if not (data or self._rest):
            return None
        inflated = [data] if self._inflating is None else self._inflating.last(data)
        return _decoded(decoder, in_steps(self._rest, inflated))

    async def drain(self) -> None:
        """Read the end of a body whose last event was read, to reuse the connection."""
        if self._decoder.closed and not self._ended:
            with move_on_after(_DRAIN_SECONDS), suppress(Exception):
                while await self._read():
                    pass


class OpenedAnswer:
    """The context manager of Provider.open. A generator would take six times the memory."""

    __slots__ = ("_ask", "_call", "_decoder", "_response", "_stream")

    def __init__(
        self, call: ModelCall, ask: Callable[[], Awaitable[Response]], decoder: Decoder
    ) -> None:
        self._call = call
        self._ask = ask
        self._decoder = decoder

    async def __aenter__(self) -> ProviderStream:
        self._response = response = await self._ask()
        del self._ask
        compressed = "content-encoding" in response.headers and is_compressed(response)
        self._stream = AnswerStream(response, self._decoder, compressed=compressed)
        return self._stream

    async def __aexit__(self, *_: object) -> None:
        if not self._decoder.closed:
            self._call.unread = self._stream.unread()
        if self._response.release():
            return
        with closing():
            try:
                await self._stream.drain()
            finally:  # a cancellation by asyncio itself ignores the shield
                await self._response.aclose()


def _decoded(decoder: Decoder, pieces: Iterable[bytes]) -> Iterator[Sequence[ProviderEvent]]:
    """The events up to the first piece that cannot be decoded."""
    with suppress(UpstreamError):
        for piece in pieces:
            yield decoder.feed(piece)
        yield decoder.finish()
