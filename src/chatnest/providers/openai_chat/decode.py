"""ChunkDecoder: the bytes of an answer to provider events, within bounds. No I/O.

The payload of an event is OpenAI's ``chat.completion.chunk``. Each chunk is one typed msgspec
decoding: the SDK's own decoder has no bounds and costs ten times as much. A document in place of an
event stream is read as well: a whole answer, or a refusal.
"""

import msgspec

from chatnest.errors import EmptyAnswer, UpstreamBadResponse, UpstreamInterrupted
from chatnest.events import Reasoning
from chatnest.providers.event_decoder import EventDecoder
from chatnest.providers.openai_chat.chunk_reader import ChunkReader
from chatnest.providers.openai_chat.chunks import PIECE, THOUGHT
from chatnest.providers.openai_chat.think_tags import BARE, TagHabit
from chatnest.providers.openai_chat.thinking import ThinkingHabit
from chatnest.providers.refusals.faults import error_for_words
from chatnest.providers.sse import EventSplitter

__all__ = ["ChunkDecoder"]


class ChunkDecoder(EventDecoder):
    """The Decoder of Chat Completions.

    With a ``habit``, the text may begin with thinking in tags. Unless the model may call ``tools``,
    an answer with a tool call ends in UpstreamBadResponse.
    """

    __slots__ = ("_reader", "_tools")

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
        self._reader = ChunkReader(max_chunks, habit, model, thinking)
        super().__init__(splitter, self._reader)
        self._tools = tools

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
