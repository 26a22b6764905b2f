"""EventDecoder: the bytes of an answer to provider events, within bounds. No I/O.

The body is an event stream, or a document in its place: a whole answer, or a refusal. A dialect
reads the data of its events.
"""

from typing import Final, Protocol

from chatnest.errors import UpstreamBadResponse, UpstreamError
from chatnest.events import ProviderEvent, Reasoning
from chatnest.providers.base import Taker
from chatnest.providers.sse import EventSplitter

__all__ = ["MOST_WORDS", "EventDecoder", "EventReader"]

_MOST_BLANKS: Final = 65_536
"""Maximum bytes of blanks before a document: gateways send them against idle timeouts."""

_LONGEST_DOCUMENT: Final = 4_194_304
"""Maximum bytes of a document in place of an event stream."""

MOST_WORDS: Final = 2_048
"""Maximum characters that are kept of text in place of an event."""

_LINES: Final = (b"data", b"event", b"id", b"retry", b":")
"""How nearly all lines of an event stream begin."""

_BOM: Final = b"\xef\xbb\xbf"


class EventReader(Protocol):
    """A dialect's half of a decoder: the data of events in, provider events out.

    ``finished`` is True once the model has said why it stopped. ``words`` is the first text that
    came in place of an event.
    """

    finished: bool
    words: str

    def read(self, payloads: list[bytes], events: list[ProviderEvent], /) -> bool:
        """Append the events of ``payloads`` to ``events``. Returns whether the model has said that
        nothing more follows. Raises UpstreamError.
        """
        ...

    def read_document(self, document: bytes, events: list[ProviderEvent], /) -> bool:
        """The same for a document that came in place of an event stream."""
        ...

    def flush(self, events: list[ProviderEvent], /) -> None:
        """Append what was held back: nothing more follows."""


class EventDecoder:
    """The part of a Decoder that dialects share. A subclass adds ``take`` and ``end``."""

    __slots__ = ("_document", "_early", "_splitter", "_stream_reader", "closed", "failure", "taker")

    taker: Taker[str | Reasoning]

    def __init__(self, splitter: EventSplitter, reader: EventReader) -> None:
        self._splitter = splitter
        self._stream_reader = reader
        self._early: bytes | None = b""  # until it is known what the bytes are
        self._document: bytearray | None = None
        self.failure: UpstreamError | None = None
        self.closed: bool = False

    @property
    def finished(self) -> bool:
        """See Decoder."""
        return self._stream_reader.finished

    def feed(self, data: bytes, /) -> list[ProviderEvent]:
        """Decode more bytes. Raises UpstreamError if they are not an answer of the dialect.

        Events before an error are returned first. The error is then the ``failure``, and is raised
        by the next call. After a finish reason, an error only ends the answer.
        """
        if self.failure is not None:
            raise self.failure
        events: list[ProviderEvent] = []
        try:
            if self._early is not None and not (data := self._look(self._early + data)):
                return events
            if self._document is not None:
                self._keep(self._document, data)
                return events
            payloads = self._splitter.feed(data)
            if not self.closed:
                self.closed = self._stream_reader.read(payloads, events)
        except UpstreamError as exc:
            self._fail(exc, events)
        return events

    def finish(self) -> list[ProviderEvent]:
        """Decode what was held back: the body has ended as it should. Raises as ``feed``."""
        if self.failure is not None:
            raise self.failure
        events: list[ProviderEvent] = []
        try:
            if self._document is not None:
                document, self._document = bytes(self._document), None
                self.closed = self._stream_reader.read_document(document, events)
            elif not self.closed and self._early is None:
                self.closed = self._stream_reader.read(self._splitter.end(), events)
            self._stream_reader.flush(events)
        except UpstreamError as exc:
            self._fail(exc, events)
        return events

    def _look(self, early: bytes) -> bytes:
        """The bytes to decode, once it is known what they are: an event stream or a document. Empty
        before that. Raises UpstreamBadResponse for HTML.
        """
        text = early.removeprefix(_BOM).lstrip()
        if not text or (len(early) < len(_BOM) and _BOM.startswith(early)):
            if len(early) > _MOST_BLANKS:
                raise UpstreamBadResponse
            self._early = early
            return b""
        self._early = None
        if text[:1] in b'{["':
            self._document = bytearray()
            return text
        if text[:1] == b"<":
            raise UpstreamBadResponse
        if not (text.startswith(_LINES) or any(line.startswith(text) for line in _LINES)):
            self._stream_reader.words = text[:MOST_WORDS].decode("utf-8", "replace")
        return early

    def _keep(self, document: bytearray, data: bytes) -> None:
        document += data
        self._splitter.left -= len(data)
        if self._splitter.left < 0 or len(document) > _LONGEST_DOCUMENT:
            raise UpstreamBadResponse

    def _fail(self, error: UpstreamError, events: list[ProviderEvent]) -> None:
        if self._stream_reader.finished:
            self.closed = True
            return
        self.failure = error
        if not events:
            raise error
