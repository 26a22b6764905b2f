"""MessageDecoder: the bytes of an answer to provider events, within bounds. No I/O.

The payload of an event is an object with a ``type``. A document in place of an event stream is read
as well: a whole message, or a refusal.
"""

from typing import Final

import msgspec

from chatnest.errors import EmptyAnswer, UpstreamBadResponse, UpstreamInterrupted
from chatnest.events import Reasoning
from chatnest.providers.anthropic_messages.reader import MessageReader
from chatnest.providers.anthropic_messages.shapes import PIECE, THOUGHT
from chatnest.providers.event_decoder import EventDecoder
from chatnest.providers.refusals.faults import error_for_words
from chatnest.providers.sse import EventSplitter

__all__ = ["MessageDecoder"]

_NAME: Final = b"event: content_block_delta\n"
"""The line before the data of a piece. It repeats the ``type`` in the data."""


class MessageDecoder(EventDecoder):
    """The Decoder of Anthropic's Messages. ``model`` is the upstream name of the model, which goes
    into the signatures of its thinking.
    """

    __slots__ = ("_reader",)

    def __init__(self, splitter: EventSplitter, *, model: str, max_events: int) -> None:
        self._reader = MessageReader(model, max_events)
        super().__init__(splitter, self._reader)

    def take(self, data: bytes, /) -> bool:
        """See Decoder: the short cut for an event that arrives alone and is a piece of the open
        block, of text or of thinking.
        """
        splitter, reader = self._splitter, self._reader
        payload = splitter.alone(data.removeprefix(_NAME))
        if (
            payload is None
            or self.closed
            or splitter.left < len(data)
            or reader.events_left <= 0
            or reader.half
            or not (reader.plain or reader.thinks)
        ):
            return False
        try:
            if reader.plain:
                text = PIECE.decode(payload).delta.text
            else:
                text = THOUGHT.decode(payload).delta.thinking
        except (msgspec.DecodeError, ValueError, RecursionError):
            return False
        if not self.taker.take(text if reader.plain else Reasoning(text)):
            return False
        splitter.left -= len(data)
        reader.events_left -= 1
        if reader.plain:
            reader.length += len(text)
        reader.said = True
        return True

    def end(self) -> None:
        """See Decoder."""
        reader = self._reader
        if reader.finished:
            return
        if not reader.said and (error := error_for_words(reader.words)) is not None:
            raise error
        if reader.said or (reader.seen and not self.closed):
            raise UpstreamInterrupted
        if self.closed:
            raise EmptyAnswer(spent=False)
        raise UpstreamBadResponse
