"""ChunkReader: the chunks of one answer to provider events, within bounds. No I/O."""

from typing import Final

import msgspec

from chatnest.errors import UpstreamBadResponse
from chatnest.events import Delta, Finish, ProviderEvent, Reasoning, ToolCallDelta
from chatnest.providers.openai_chat.chunks import decode_all, decode_pieces, refusal_in
from chatnest.providers.openai_chat.figures import usage_in
from chatnest.providers.openai_chat.odd_chunks import spoken
from chatnest.providers.openai_chat.shapes import DONE, NOTHING, Chunk, OddChunk, Words
from chatnest.providers.openai_chat.shapes import Delta as DeltaOfChunk
from chatnest.providers.openai_chat.think_tags import BARE, FIRST_OF_TAGS, TagHabit, ThinkTags
from chatnest.providers.pairs import whole_pairs

__all__ = ["ChunkReader"]

_LONGEST_REASON: Final = 32
"""Maximum characters of a finish reason."""

_NO_REASONS: Final = ("null", "none")
"""Finish reasons of servers that send a string before there is a reason."""

_NO_DELTAS: Final = DeltaOfChunk(), DeltaOfChunk(content="")


class ChunkReader:
    """Provider events from the payloads of one answer.

    ``seen`` is True after the first chunk with a choice or a usage, ``said`` after the first text,
    ``called`` after a tool call, and ``finished`` after a finish reason. ``words`` is the first
    text that came in place of a chunk. ``tags`` and ``half`` hold back text: within thinking, and
    half of a surrogate pair. With a ``habit``, the text may begin with thinking in tags.
    """

    __slots__ = (
        *("_closed", "_refused", "called", "chunks_left", "finished", "habit", "half", "said"),
        *("seen", "tags", "words"),
    )

    def __init__(self, max_chunks: int, habit: TagHabit | None) -> None:
        self.chunks_left: int = max_chunks
        self.habit: TagHabit | None = habit
        self.tags: ThinkTags | None = None
        self.half: str = ""
        self.words: str = ""
        self.seen: bool = False
        self.said: bool = False
        self.called: bool = False
        self.finished: bool = False
        self._refused = False
        self._closed = False

    def read(  # noqa: C901  # a frame less for each batch
        self, payloads: list[bytes], events: list[ProviderEvent]
    ) -> bool:
        """Append the events of ``payloads`` to ``events``. Returns whether the model has said that
        nothing more follows. Raises UpstreamError.
        """
        habit = self.habit
        last = DONE in payloads
        if last:
            payloads = payloads[: payloads.index(DONE)]
        elif payloads and self.tags is None and not self.half and (habit is None or self.said):
            texts = decode_pieces(payloads)
            if texts is not None and len(texts) <= self.chunks_left:
                self.chunks_left -= len(texts)
                self.seen = True
                for text in texts:
                    if habit is None or BARE not in text:
                        events.append(Delta(text))
                    else:
                        self._say(text, events)
                self.said = True
                return False
        try:
            for chunk, payload in decode_all(payloads):
                self.chunks_left -= 1
                if self.chunks_left < 0:
                    raise UpstreamBadResponse
                self._read_chunk(chunk, payload, events)
                if self._closed:
                    break
        except RecursionError as exc:
            raise UpstreamBadResponse from exc
        self._closed = self._closed or last
        if self._closed and (self.half or self.tags is not None):
            self.flush(events)
        return self._closed

    def _read_chunk(
        self, chunk: Chunk | Words, payload: bytes, events: list[ProviderEvent]
    ) -> None:
        if isinstance(chunk, Words):
            self.words = self.words or chunk.text
            self._closed = chunk.text == DONE.decode()
            return
        choices = chunk.choices
        usage = chunk.usage  # some servers send it with every chunk, null before the last
        if (
            chunk.error != NOTHING
            or chunk.error_type != NOTHING
            or (choices[0].error != NOTHING if choices else usage == NOTHING)
        ) and (refusal := refusal_in(chunk, payload)) is not None:
            if self.finished:
                return
            raise refusal
        if choices:
            self.seen = True
            choice = choices[0]
            delta = choice.delta
            if delta is None and choice.message != NOTHING and not self.said:
                delta = spoken(choice.message)
            if delta is not None and delta not in _NO_DELTAS:
                self._read_delta(delta, type(chunk) is OddChunk, events)
            if choice.finish_reason and not self.finished:
                self.finish(choice.finish_reason, events)
            usage = usage if usage != NOTHING else choice.usage
        if usage == NOTHING:
            usage = chunk.usageMetadata if chunk.x_groq == NOTHING else _inner(chunk.x_groq)
        if usage != NOTHING and (figure := usage_in(usage)):
            self.seen = True
            events.append(figure)

    def _read_delta(self, delta: DeltaOfChunk, odd: bool, events: list[ProviderEvent]) -> None:
        if (
            delta.reasoning_content
            or delta.reasoning
            or delta.tool_calls
            or delta.reasoning_details != NOTHING
            or delta.function_call != NOTHING
            or delta.thinking
            or delta.reasoning_text
        ):
            self._read_unseen(delta, events)
        if text := delta.content or delta.refusal:
            self._refused = self._refused or not delta.content
            if odd or self.half:
                text, self.half = whole_pairs(self.half + text)
            if text and self.tags is None and self.habit is None:
                self.said = True
                events.append(Delta(text))
            elif text:
                self._say(text, events)

    def _read_unseen(self, delta: DeltaOfChunk, events: list[ProviderEvent]) -> None:
        if (thought := delta.thought) is not None:
            events.append(Reasoning(thought))
            if not self.said:
                self.habit = None  # this server sends thinking in a field of its own
        if (call := delta.call) is not None:
            self.called = True
            events.append(ToolCallDelta(0, call))

    def _say(self, text: str, events: list[ProviderEvent]) -> None:
        habit = self.habit
        if habit is not None:
            if not self.said and (habit.bare or text.lstrip()[:1] in FIRST_OF_TAGS or BARE in text):
                self.habit, self.tags = None, ThinkTags(habit)
            elif text.strip() == BARE:  # the text before the tag was sent already
                habit.learn(bare=True)
                self.habit = None
                return
        self.said = True
        if self.tags is None:
            events.append(Delta(text))
            return
        events += self.tags.feed(text)
        self._drop_tags()

    def finish(self, reason: str, events: list[ProviderEvent]) -> None:
        """Append what was held back, and a Finish."""
        if self.half or self.tags is not None:
            self.flush(events)
        if reason.lower() in _NO_REASONS:
            return
        self.finished = True
        events.append(Finish("refusal" if self._refused else reason[:_LONGEST_REASON]))

    def flush(self, events: list[ProviderEvent]) -> None:
        """Append what was held back: nothing more follows."""
        if self.half:
            self.half = ""
            self._say("\ufffd", events)
        if self.tags is not None:
            events += self.tags.end()
            self._drop_tags()

    def _drop_tags(self) -> None:
        if self.tags is not None and self.tags.over:
            self.tags = None


def _inner(raw: msgspec.Raw) -> msgspec.Raw:
    """The usage in Groq's ``x_groq`` object."""

    class Own(msgspec.Struct):
        usage: msgspec.Raw = NOTHING

    try:
        return msgspec.json.decode(raw, type=Own).usage
    except (msgspec.DecodeError, ValueError, RecursionError):
        return NOTHING
