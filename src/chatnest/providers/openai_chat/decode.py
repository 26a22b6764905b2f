"""ChunkDecoder: the bytes of an answer to provider events, within bounds. No I/O.

The payload of an event is OpenAI's ``chat.completion.chunk``. Each chunk is one typed msgspec
decoding: the SDK's own decoder has no bounds and costs ten times as much. A document in place of an
event stream is read as well: a whole answer, or a refusal.
"""

from typing import Final

import msgspec

from chatnest.errors import (
    EmptyAnswer,
    UpstreamBadResponse,
    UpstreamError,
    UpstreamInterrupted,
)
from chatnest.events import ProviderEvent, Reasoning
from chatnest.providers.base import Taker
from chatnest.providers.openai_chat.chunk_reader import ChunkReader
from chatnest.providers.openai_chat.chunks import PIECE, THOUGHT
from chatnest.providers.openai_chat.shapes import MOST_WORDS
from chatnest.providers.openai_chat.think_tags import BARE, TagHabit
from chatnest.providers.openai_chat.thinking import ThinkingHabit
from chatnest.providers.refusals.faults import error_for_words
from chatnest.providers.sse import EventSplitter

__all__ = ["ChunkDecoder"]

_MOST_BLANKS: Final = 65_536
"""Maximum bytes of blanks before a document: gateways send them against idle timeouts."""

_LONGEST_DOCUMENT: Final = 4_194_304
"""Maximum bytes of a document in place of an event stream."""

_LINES: Final = (b"data", b"event", b"id", b"retry", b":")
"""How nearly all lines of an event stream begin."""

_BOM: Final = b"\xef\xbb\xbf"


class ChunkDecoder:
    """The Decoder of Chat Completions.

    With a ``habit``, the text may begin with thinking in tags. Unless the model may call ``tools``,
    an answer with a tool call ends in UpstreamBadResponse.
    """

    __slots__ = (
        *("_document", "_early", "_reader", "_splitter", "_tools", "closed", "failure", "taker"),
    )

    taker: Taker[str | Reasoning]

    def __init__(
        self,
        splitter: EventSplitter,
        *,
        max_chunks: int,
        habit: TagHabit | None = None,
        tools: bool = False,
        model: str = "",
        thinking: ThinkingHabit | None = None,
    ) -> None:
        self._splitter = splitter
        self._reader = ChunkReader(max_chunks, habit, model, thinking)
        self._tools = tools
        self._early: bytes | None = b""  # until it is known what the bytes are
        self._document: bytearray | None = None
        self.failure: UpstreamError | None = None
        self.closed: bool = False

    @property
    def finished(self) -> bool:
        """See Decoder."""
        return self._reader.finished

    def take(self, data: bytes, /) -> bool:
        """See Decoder: the short cut for a chunk that arrives alone and is a piece of text, or a
        piece of thinking after another one.
        """
        size = len(data)
        splitter, reader = self._splitter, self._reader
        payload = splitter.alone(data)
        if (
            payload is None
            or self.closed
            or splitter.left < size
            or reader.chunks_left <= 0
            or reader.tags is not None
            or reader.half
        ):
            return False
        piece: str | Reasoning
        try:
            if reader.thinks:
                delta = THOUGHT.decode(payload).choices[0].delta
                piece = Reasoning(delta.reasoning_content or delta.reasoning or "")
                if not piece.text:
                    return False
            else:
                piece = PIECE.decode(payload).choices[0].delta.content
                if reader.habit is not None and (not reader.said or BARE in piece):
                    return False
        except (msgspec.DecodeError, ValueError, RecursionError):
            return False
        if not self.taker.take(piece):
            return False
        splitter.left -= size
        reader.chunks_left -= 1
        reader.said = reader.said or not reader.thinks
        reader.seen = True
        return True

    def feed(self, data: bytes, /) -> list[ProviderEvent]:
        """Decode more bytes. Raises UpstreamError if they are not a chat completion.

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
                self.closed = self._reader.read(payloads, events)
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
                self._read_document(document, events)
            elif not self.closed and self._early is None:
                self.closed = self._reader.read(self._splitter.end(), events)
            self._reader.flush(events)
        except UpstreamError as exc:
            self._fail(exc, events)
        return events

    def end(self) -> None:
        """See Decoder."""
        reader = self._reader
        if reader.called and not (self._tools and reader.calls_are_named):
            raise UpstreamBadResponse(facts={"code": "tool_calls"})
        if reader.finished:
            return
        if not reader.said and (error := error_for_words(reader.words)) is not None:
            raise error
        if reader.seen:
            raise UpstreamInterrupted
        if self.closed:
            raise EmptyAnswer(spent=False)
        raise UpstreamBadResponse

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
        if not text.startswith(_LINES):
            self._reader.words = text[:MOST_WORDS].decode("utf-8", "replace")
        return early

    def _keep(self, document: bytearray, data: bytes) -> None:
        document += data
        self._splitter.left -= len(data)
        if self._splitter.left < 0 or len(document) > _LONGEST_DOCUMENT:
            raise UpstreamBadResponse

    def _read_document(self, document: bytes, events: list[ProviderEvent]) -> None:
        reader = self._reader
        self.closed = reader.read([document], events)
        if not (reader.finished or reader.seen or reader.words):
            raise UpstreamBadResponse
        if (
            reader.said or reader.called
        ) and not reader.finished:  # complete, but without a finish reason
            reader.finish("stop", events)

    def _fail(self, error: UpstreamError, events: list[ProviderEvent]) -> None:
        if self._reader.finished:
            self.closed = True
            return
        self.failure = error
        if not events:
            raise error
