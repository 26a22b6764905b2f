"""ChunkReader: the chunks of one answer to provider events, within bounds. No I/O."""

from typing import Final

import msgspec

from chatnest.errors import UpstreamBadResponse
from chatnest.events import Delta, Finish, ProviderEvent, Reasoning, Refusal
from chatnest.providers.openai.figures import usage_in
from chatnest.providers.openai_chat.chunks import (
    decode_all,
    decode_pieces,
    decode_thoughts,
    refusal_in,
)
from chatnest.providers.openai_chat.odd_chunks import spoken
from chatnest.providers.openai_chat.reasons import CUT, reason_of
from chatnest.providers.openai_chat.shapes import DONE, NOTHING, Chunk, OddChunk, Words
from chatnest.providers.openai_chat.shapes import Delta as DeltaOfChunk
from chatnest.providers.openai_chat.think_tags import BARE, FIRST_OF_TAGS, TagHabit, ThinkTags
from chatnest.providers.openai_chat.thinking import ThinkingHabit
from chatnest.providers.openai_chat.unseen import Unseen
from chatnest.providers.pairs import whole_pairs
from chatnest.providers.served import SERVED, Served

__all__ = ["ChunkReader"]

_TAG_OF_GOOGLE: Final = "<thought>"
_NO_DELTAS: Final = DeltaOfChunk(), DeltaOfChunk(content="")


class ChunkReader:
    """Provider events from the payloads of one answer.

    ``seen`` is True after the first chunk with a choice or a usage, ``said`` after the first text,
    ``called`` after a tool call, and ``finished`` after a finish reason. ``words`` is the first
    text that came in place of a chunk. ``tags`` and ``half`` hold back text: within thinking, and
    half of a surrogate pair. With a ``habit``, the text may begin with thinking in tags.
    ``thinks`` is True while thinking arrives. ``thinking`` learns the field of the thinking.
    """

    __slots__ = (
        *("_closed", "_model", "_refused", "_served", "_unseen", "called", "chunks_left"),
        *("finished", "habit", "half", "said", "seen", "tags", "thinking", "thinks", "words"),
    )

    def __init__(
        self,
        max_chunks: int,
        habit: TagHabit | None,
        model: str = "",
        thinking: ThinkingHabit | None = None,
    ) -> None:
        self.chunks_left: int = max_chunks
        self.habit: TagHabit | None = habit
        self.tags: ThinkTags | None = None
        self.half: str = ""
        self.words: str = ""
        self.seen: bool = False
        self.said: bool = False
        self.called: bool = False
        self.thinks: bool = False
        self.thinking: ThinkingHabit | None = thinking
        self.finished: bool = False
        self._refused = False
        self._closed = False
        self._model = model
        self._served: Served | None = None
        self._unseen: Unseen | None = None

    @property
    def calls_are_named(self) -> bool:
        """Whether each tool call has a name."""
        calls = self._unseen.calls if self._unseen is not None else None
        return calls is None or calls.are_named

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
            if self.thinks and self._read_thoughts(payloads, events):
                return False
            texts = decode_pieces(payloads)
            if texts is not None and len(texts) <= self.chunks_left:
                self.chunks_left -= len(texts)
                self.seen = True
                self.thinks = False
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

    def _read_thoughts(self, payloads: list[bytes], events: list[ProviderEvent]) -> bool:
        """Append the events of chunks that are pieces of thinking and nothing else, if all are."""
        thoughts = decode_thoughts(payloads)
        if thoughts is None or len(thoughts) > self.chunks_left:
            return False
        self.chunks_left -= len(thoughts)
        events += map(Reasoning, thoughts)
        return True

    def read_document(self, document: bytes, events: list[ProviderEvent]) -> bool:
        """The same for a document: a completion without a finish reason is whole."""
        closed = self.read([document], events)
        if not (self.finished or self.seen or self.words):
            raise UpstreamBadResponse
        if (self.said or self.called) and not self.finished:
            self.finish("stop", events)
        return closed

    def _read_chunk(  # noqa: C901  # each field once
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
            if delta is None and choice.message != NOTHING and not (self.said or self.called):
                delta = spoken(choice.message)
            if delta is not None and delta not in _NO_DELTAS:
                self._read_delta(delta, type(chunk) is OddChunk, events)
            if (
                chunk.citations != NOTHING
                or chunk.search_results != NOTHING
                or (delta is not None and delta.annotations != NOTHING)
            ):
                self._beside().read_sources(chunk, delta, events)
            if choice.finish_reason and not self.finished:
                self.finish(choice.finish_reason, events)
            usage = usage if usage != NOTHING else choice.usage
        if usage == NOTHING:
            usage = chunk.usageMetadata if chunk.x_groq == NOTHING else _inner(chunk.x_groq)
        if usage != NOTHING and (figure := usage_in(usage)):
            self.seen = True
            served = self._served
            if served is None or not choices or choices[0].finish_reason:
                try:  # once, and again at the end; here and not in a method, for a frame less
                    served = SERVED.decode(payload)
                except (msgspec.DecodeError, ValueError, RecursionError):
                    served = Served.loosely(payload)
                self._served = served
            events.append(
                msgspec.structs.replace(
                    figure,
                    response_id=served.id or "",
                    model=served.model or "",
                    service_tier=served.service_tier or "",
                )
            )

    def _read_delta(  # as above
        self, delta: DeltaOfChunk, odd: bool, events: list[ProviderEvent]
    ) -> None:
        self.thinks = False
        if (
            delta.reasoning_content
            or delta.reasoning
            or delta.reasoning_details != NOTHING
            or delta.thinking
            or delta.reasoning_text
        ) and self._beside().read_thinking(delta, self.thinking, events):
            self.thinks = True
            if not self.said:
                self.habit = None  # this server sends thinking in a field of its own
        is_thought = delta.extra_content != NOTHING and self._beside().read_extra(delta, events)
        if text := delta.content:
            if odd or self.half:
                text, self.half = whole_pairs(self.half + text)
            if is_thought and self.tags is None:
                self._think(text, events)
            elif text and self.tags is None and self.habit is None:
                self.said = True
                events.append(Delta(text))
            elif text:
                self._say(text, events)
        if delta.refusal:
            self._refused = self._refused or not delta.content
            self.said = True
            events.append(Refusal(_whole(delta.refusal) if odd else delta.refusal))
        if delta.tool_calls or delta.function_call != NOTHING:
            self.called = self._beside().read_calls(delta, events)

    def _beside(self) -> Unseen:
        if self._unseen is None:
            self._unseen = Unseen(self._model)
        return self._unseen

    def _think(self, text: str, events: list[ProviderEvent]) -> None:
        """Append thinking in place of text, which Google marks, and puts in tags as well."""
        if text.lstrip().startswith(_TAG_OF_GOOGLE) and not self.said:
            self.tags = ThinkTags(TagHabit(""))
            self._say(text, events)
        else:
            events.append(Reasoning(text))

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

    def finish(self, word: str, events: list[ProviderEvent]) -> None:
        """Append what was held back, and a Finish for the word of the server."""
        if self.half or self.tags is not None:
            self.flush(events)
        is_usual = word == "stop" and not self.called
        reason = word if is_usual else reason_of(word, called=self.called)
        if not reason:
            return
        if self._unseen is not None and self._unseen.calls is not None:
            self._unseen.calls.end(events, is_cut=reason == CUT)
        self.finished = True
        events.append(Finish("refusal" if self._refused and not self.called else reason))

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


def _whole(text: str) -> str:
    """Text without halves of surrogate pairs."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
