"""ResponseDecoder: the bytes of a streamed response to provider events, within bounds. No I/O."""

import msgspec

from chatnest.errors import EmptyAnswer, UpstreamBadResponse, UpstreamInterrupted
from chatnest.events import Reasoning
from chatnest.providers.event_decoder import EventDecoder
from chatnest.providers.openai_responses.reader import ResponseReader
from chatnest.providers.openai_responses.shapes import PIECE, TEXT
from chatnest.providers.refusals.faults import error_for_words
from chatnest.providers.sse import EventSplitter

__all__ = ["ResponseDecoder"]


class ResponseDecoder(EventDecoder):
    """The Decoder of the Responses API, for an answer of ``model``.

    Unless the model may call ``tools``, an answer with a function call ends in UpstreamBadResponse.
    """

    __slots__ = ("_reader", "_tools")

    def __init__(
        self, splitter: EventSplitter, *, max_events: int, model: str, tools: bool = False
    ) -> None:
        self._reader = ResponseReader(max_events, model)
        super().__init__(splitter, self._reader)
        self._tools = tools

    def take(self, data: bytes, /) -> bool:
        """See Decoder: a fast path for a single event that is a piece of text, or a piece of
        thinking that follows another one.
        """
        size = len(data)
        splitter, reader = self._splitter, self._reader
        payload = splitter.alone(data)
        output = reader.output
        if (
            payload is None
            or self.closed
            or splitter.left < size
            or reader.events_left <= 0
            or output.gap
            or output.half
        ):
            return False
        try:
            piece = PIECE.decode(payload)
        except (msgspec.DecodeError, ValueError, RecursionError):
            return False
        is_text = piece.type == TEXT
        if not (is_text or output.in_thought):
            return False
        if not self.taker.take(piece.delta if is_text else Reasoning(piece.delta)):
            return False
        splitter.left -= size
        reader.events_left -= 1
        reader.seen = True
        if is_text:
            output.said = output.in_part = output.in_item = True
        return True

    def end(self) -> None:
        """See Decoder."""
        reader = self._reader
        if reader.output.calls and not self._tools:
            raise UpstreamBadResponse(facts={"code": "tool_calls"})
        if reader.finished:
            return
        if reader.failed is not None:
            raise reader.failed
        if not reader.output.said and (error := error_for_words(reader.words)) is not None:
            raise error
        if reader.seen:
            raise UpstreamInterrupted
        if self.closed:
            raise EmptyAnswer(spent=False)
        raise UpstreamBadResponse
