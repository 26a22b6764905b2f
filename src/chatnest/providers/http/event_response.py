"""EventResponse: a response whose body is server-sent events, within bounds."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from http import HTTPStatus
from typing import Final

from anyio import fail_after
from anyio.lowlevel import checkpoint

from chatnest.errors import UpstreamError, UpstreamInterrupted, UpstreamTimeout
from chatnest.events import ProviderEvent
from chatnest.providers.base import ProviderStream
from chatnest.providers.http.bodies import (
    FED_AT_ONCE,
    READS_WITHOUT_BREAK,
    check_coding,
    in_steps,
    is_compressed,
    is_readable,
    read_document,
)
from chatnest.providers.http.inflate import Inflating
from chatnest.providers.http.transport import Response
from chatnest.providers.sse import EventSplitter

__all__ = ["Decode", "EventResponse"]

_GOOD: Final = range(HTTPStatus.OK, HTTPStatus.MULTIPLE_CHOICES)

Decode = Callable[[bytes], Iterable[ProviderEvent]]
"""The data of one server-sent event to provider events. Raises an UpstreamError."""


class EventResponse:
    """A response, and an iterator over its server-sent events.

    Each item has the data of the events that arrived together; an empty list is a sign of life. The
    data of an event named ``error`` is ``{"error": <data>}``. Iterating raises UpstreamInterrupted
    if the body breaks off, UpstreamTimeout if nothing arrives for too long, and UpstreamBadResponse
    beyond a bound. A body may also end early without breaking off; only the dialect can notice.
    """

    def __init__(
        self,
        response: Response,
        splitter: EventSplitter,
        decode: Decode | None,
        idle_seconds: float,
    ) -> None:
        self.status: int = response.status
        self.headers: Mapping[str, str] = response.headers
        self._response = response
        self._splitter = splitter
        self._decode = decode
        self._events = None if decode is None else _Events(self, decode)
        self._idle_seconds = idle_seconds
        self._inflating = Inflating(response.read) if is_compressed(response) else None
        self._read = response.read if self._inflating is None else self._inflating.read
        self._rest = b""
        self._reads = 0
        self._ended = False

    @property
    def is_good(self) -> bool:
        """Whether the status is 2xx and the body can be read."""
        return self.status in _GOOD and is_readable(self._response)

    @property
    def events(self) -> ProviderStream:
        """The provider events of the body, by the ``decode`` that ``Connections.open`` was given.
        Events that arrived together with one that cannot be decoded are yielded before the error.
        Raises ValueError without ``decode``.
        """
        if self._events is None:
            raise ValueError("decode: expected a function, got None. Pass one to Connections.open.")
        return self._events

    def __aiter__(self) -> "EventResponse":
        return self

    async def __anext__(self) -> list[bytes]:
        if self._ended:
            raise StopAsyncIteration
        self._reads += 1
        if self._rest or self._reads % READS_WITHOUT_BREAK == 0:
            await checkpoint()
        data = self._rest or await self._next()
        self._rest = data[FED_AT_ONCE:]
        if data:
            return self._splitter.feed(data[:FED_AT_ONCE])
        self._ended = True
        return self._splitter.end()

    async def document(self) -> bytes:
        """The body of an error, at most its first 64 KiB. It may be incomplete. Raises nothing."""
        return await read_document(self._response)

    def unread(self) -> Iterator[Sequence[ProviderEvent]] | None:
        """The events that arrived and were not read, decoded piece by piece. Does not wait. None
        after the end of the body and without ``decode``. Nothing may be read afterwards.
        """
        if self._decode is None or self._ended:
            return None
        data = self._response.unread()
        if not (data or self._rest):
            return None
        inflated = [data] if self._inflating is None else self._inflating.last(data)
        return self._decoded(self._decode, in_steps(self._rest, inflated))

    def _decoded(
        self, decode: Decode, pieces: Iterable[bytes]
    ) -> Iterator[Sequence[ProviderEvent]]:
        with suppress(UpstreamError):
            for piece in pieces:
                for data in self._splitter.feed(piece):
                    yield list(decode(data))
            for data in self._splitter.end():
                yield list(decode(data))

    async def _next(self) -> bytes:
        check_coding(self._response)
        try:
            with fail_after(self._idle_seconds):
                return await self._read()
        except TimeoutError as exc:
            raise UpstreamTimeout from exc
        except Exception as exc:  # a transport, TLS or the inflater may raise anything
            raise UpstreamInterrupted from exc


class _Events:
    """See EventResponse.events."""

    def __init__(self, arrived: EventResponse, decode: Decode) -> None:
        self._arrived = arrived
        self._decode = decode
        self._failure: UpstreamError | None = None

    def __aiter__(self) -> "_Events":
        return self

    async def __anext__(self) -> list[ProviderEvent]:
        if self._failure is not None:
            raise self._failure
        events: list[ProviderEvent] = []
        try:
            for data in await anext(self._arrived):
                events += self._decode(data)
        except UpstreamError as exc:
            if not events:
                raise
            self._failure = exc
        return events
