"""Bytes of an answer to provider events, within bounds. No I/O.

The payload of an event is OpenAI's ``chat.completion.chunk``. One typed msgspec decoding per chunk:
the SDK's own decoder has no bounds and costs ten times as much. A document in place of a stream is
read as well: it is an answer, or a refusal.
"""

from typing import Final

import msgspec

from chatnest.errors import (
    EmptyAnswer,
    UpstreamBadResponse,
    UpstreamError,
    UpstreamInterrupted,
)
from chatnest.events import Delta, Finish, ProviderEvent, Reasoning, ToolCall
from chatnest.providers.base import Taker
from chatnest.providers.openai_chat.chunks import PIECE, decode_all, decode_pieces, refusal_in
from chatnest.providers.openai_chat.faults import error_for_words
from chatnest.providers.openai_chat.figures import usage_in
from chatnest.providers.openai_chat.odd_chunks import spoken
from chatnest.providers.openai_chat.shapes import DONE, MOST_WORDS, NOTHING, Chunk, OddChunk, Words
from chatnest.providers.openai_chat.shapes import Delta as DeltaOfChunk
from chatnest.providers.openai_chat.think_tags import BARE, FIRST_OF_TAGS, TagHabit, ThinkTags
from chatnest.providers.sse import EventSplitter

__all__ = ["ChunkDecoder"]

_LONGEST_REASON: Final = 32
_NO_REASONS: Final = ("null", "none")
"""As a string, which some servers send until there is one."""
_MOST_BLANKS: Final = 65_536
"""Bytes of blanks before a document: gateways send them against idle timeouts."""
_LONGEST_DOCUMENT: Final = 4_194_304
_NO_DELTAS: Final = DeltaOfChunk(), DeltaOfChunk(content="")
_LINES: Final = (b"data", b"event", b"id", b"retry", b":")
"""How a line of an event stream begins; nearly all of them do."""
_BOM: Final = b"\xef\xbb\xbf"


class ChunkDecoder:
    """Provider events out of the bytes of one answer.

    ``finished`` is True once the model has said why it stopped; ``closed`` once it has said that
    nothing more comes. ``taker`` is for ``take``. With a ``habit``, thinking may stand in the text,
    between tags. ``tools`` says whether the model may call tools: without, a call of one ends in
    UpstreamBadResponse.
    """

    __slots__ = (
        *("_called", "_chunks_left", "_document", "_early", "_habit", "_half", "_refused", "_said"),
        *("_seen", "_splitter", "_tags", "_tools", "_words", "closed", "failure", "finished"),
        "taker",
    )

    taker: Taker[str]

    def __init__(
        self,
        splitter: EventSplitter,
        *,
        max_chunks: int,
        habit: TagHabit | None = None,
        tools: bool = False,
    ) -> None:
        self._splitter = splitter
        self._chunks_left = max_chunks
        self._habit = habit
        self._tags: ThinkTags | None = None
        self._tools = tools
        self._early: bytes | None = b""  # until it shows what the bytes are
        self._document: bytearray | None = None
        self._half = ""
        self._words = ""
        self._seen = self._said = self._refused = self._called = False
        self.failure: UpstreamError | None = None
        self.finished: bool = False
        self.closed: bool = False

    def feed(self, data: bytes) -> list[ProviderEvent]:
        """What ``data`` completes; raises UpstreamError where it is not a chat completion.

        What came before the fault is given first: then it is the ``failure``, and raised again.
        Once the model has said why it stopped, nothing spoils the answer any more.
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
                self._note(payloads, events)
        except UpstreamError as exc:
            self._fail(exc, events)
        return events

    def finish(self) -> list[ProviderEvent]:
        """The bytes have ended as they should: what was waiting for more. Raises as ``feed``."""
        if self.failure is not None:
            raise self.failure
        events: list[ProviderEvent] = []
        try:
            if self._document is not None:
                document, self._document = bytes(self._document), None
                self._note([document], events)
                if not (self.finished or self._seen or self._words):
                    raise UpstreamBadResponse
                if self._said and not self.finished:  # whole, though it does not say why it ended
                    self._finish("stop", events)
            elif not self.closed and self._early is None:
                self._note(self._splitter.end(), events)
            self._flush(events)
        except UpstreamError as exc:
            self._fail(exc, events)
        return events

    def take(self, data: bytes, /) -> bool:
        """See Taker: takes a piece of the answer that comes alone, if ``taker`` does."""
        size = len(data)
        splitter = self._splitter
        payload = splitter.alone(data)
        if (
            payload is None
            or self.closed
            or splitter.left < size
            or self._chunks_left <= 0
            or self._tags is not None
            or self._half
        ):
            return False
        try:
            text = PIECE.decode(payload).choices[0].delta.content
        except (msgspec.DecodeError, ValueError, RecursionError):
            return False
        if self._habit is not None and (not self._said or BARE in text):
            return False
        if not self.taker.take(text):
            return False
        splitter.left -= size
        self._chunks_left -= 1
        self._said = self._seen = True
        return True

    def end(self) -> None:
        """The answer has ended: raises an UpstreamError unless it is whole."""
        if self._called and not self._tools:
            raise UpstreamBadResponse(facts={"code": "tool_calls"})
        if self.finished:
            return
        if not self._said and (error := error_for_words(self._words)) is not None:
            raise error
        if self._seen:
            raise UpstreamInterrupted
        if self.closed:
            raise EmptyAnswer(spent=False)
        raise UpstreamBadResponse

    # ------------------------------------------------ what the bytes are

    def _look(self, early: bytes) -> bytes:
        """Empty until it shows: an event stream, a document, or HTML."""
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
            self._words = text[:MOST_WORDS].decode("utf-8", "replace")
        return early

    def _keep(self, document: bytearray, data: bytes) -> None:
        document += data
        self._splitter.left -= len(data)
        if self._splitter.left < 0 or len(document) > _LONGEST_DOCUMENT:
            raise UpstreamBadResponse

    def _fail(self, error: UpstreamError, events: list[ProviderEvent]) -> None:
        if self.finished:
            self.closed = True
            return
        self.failure = error
        if not events:
            raise error

    # ------------------------------------------------ chunks

    def _note(  # noqa: C901  # a frame less for each batch
        self, payloads: list[bytes], events: list[ProviderEvent]
    ) -> None:
        habit = self._habit
        last = DONE in payloads
        if last:
            payloads = payloads[: payloads.index(DONE)]
        elif payloads and self._tags is None and not self._half and (habit is None or self._said):
            texts = decode_pieces(payloads)
            if texts is not None and len(texts) <= self._chunks_left:
                self._chunks_left -= len(texts)
                self._seen = True
                for text in texts:
                    if habit is None or BARE not in text:
                        events.append(Delta(text))
                    else:
                        self._say(text, events)
                self._said = True
                return
        try:
            for chunk, payload in decode_all(payloads):
                self._chunks_left -= 1
                if self._chunks_left < 0:
                    raise UpstreamBadResponse
                self._note_chunk(chunk, payload, events)
                if self.closed:
                    break
        except RecursionError as exc:
            raise UpstreamBadResponse from exc
        self.closed = self.closed or last
        if self.closed and (self._half or self._tags is not None):
            self._flush(events)

    def _note_chunk(
        self, chunk: Chunk | Words, payload: bytes, events: list[ProviderEvent]
    ) -> None:
        if isinstance(chunk, Words):
            self._words = self._words or chunk.text
            self.closed = chunk.text == DONE.decode()
            return
        choices = chunk.choices
        usage = chunk.usage  # with every chunk, and null but for the last
        if (
            chunk.error != NOTHING
            or chunk.error_type != NOTHING
            or (choices[0].error != NOTHING if choices else usage == NOTHING)
        ) and (refusal := refusal_in(chunk, payload)) is not None:
            if self.finished:
                return
            raise refusal
        if choices:
            self._seen = True
            choice = choices[0]
            delta = choice.delta
            if delta is None and choice.message != NOTHING and not self._said:
                delta = spoken(choice.message)
            if delta is not None and delta not in _NO_DELTAS:
                self._note_delta(delta, type(chunk) is OddChunk, events)
            if choice.finish_reason and not self.finished:
                self._finish(choice.finish_reason, events)
            usage = usage if usage != NOTHING else choice.usage
        if usage == NOTHING:
            usage = chunk.usageMetadata if chunk.x_groq == NOTHING else _inner(chunk.x_groq)
        if usage != NOTHING and (figure := usage_in(usage)):
            self._seen = True
            events.append(figure)

    def _note_delta(self, delta: DeltaOfChunk, odd: bool, events: list[ProviderEvent]) -> None:
        if (
            delta.reasoning_content
            or delta.reasoning
            or delta.tool_calls
            or delta.reasoning_details != NOTHING
            or delta.function_call != NOTHING
            or delta.thinking
            or delta.reasoning_text
        ):
            self._note_unseen(delta, events)
        if text := delta.content or delta.refusal:
            self._refused = self._refused or not delta.content
            if odd or self._half:
                text, self._half = _whole_pairs(self._half + text)
            if text and self._tags is None and self._habit is None:
                self._said = True
                events.append(Delta(text))
            elif text:
                self._say(text, events)

    def _note_unseen(self, delta: DeltaOfChunk, events: list[ProviderEvent]) -> None:
        if (thought := delta.thought) is not None:
            events.append(Reasoning(thought))
            if not self._said:
                self._habit = None  # thinking has a field of its own here
        if (call := delta.call) is not None:
            self._called = True
            events.append(ToolCall(call))

    def _say(self, text: str, events: list[ProviderEvent]) -> None:
        habit = self._habit
        if habit is not None:
            if not self._said and (
                habit.bare or text.lstrip()[:1] in FIRST_OF_TAGS or BARE in text
            ):
                self._habit, self._tags = None, ThinkTags(habit)
            elif text.strip() == BARE:  # what came before was shown already
                habit.learn(bare=True)
                self._habit = None
                return
        self._said = True
        if self._tags is None:
            events.append(Delta(text))
            return
        events += self._tags.feed(text)
        self._drop_tags()

    def _finish(self, reason: str, events: list[ProviderEvent]) -> None:
        if self._half or self._tags is not None:
            self._flush(events)
        if reason.lower() in _NO_REASONS:
            return
        self.finished = True
        events.append(Finish("refusal" if self._refused else reason[:_LONGEST_REASON]))

    def _flush(self, events: list[ProviderEvent]) -> None:
        """What waited for more that does not come."""
        if self._half:
            self._half = ""
            self._say("\ufffd", events)
        if self._tags is not None:
            events += self._tags.end()
            self._drop_tags()

    def _drop_tags(self) -> None:
        if self._tags is not None and self._tags.over:
            self._tags = None


def _inner(raw: msgspec.Raw) -> msgspec.Raw:
    """The usage in Groq's own object."""

    class Own(msgspec.Struct):
        usage: msgspec.Raw = NOTHING

    try:
        return msgspec.json.decode(raw, type=Own).usage
    except (msgspec.DecodeError, ValueError, RecursionError):
        return NOTHING


def _whole_pairs(text: str) -> tuple[str, str]:
    """Text without halves of surrogate pairs, and the first half at its end, whose other may come.
    A half without the other is U+FFFD.
    """
    half = ""
    if "\ud800" <= text[-1] <= "\udbff":
        text, half = text[:-1], text[-1]
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"), half
