"""MessageReader: the events of one answer to provider events, within bounds. No I/O."""

import json
from typing import Any, Final

from chatnest.errors import UpstreamBadResponse
from chatnest.events import (
    Delta,
    Finish,
    ProviderEvent,
    Reasoning,
    ReasoningSignature,
    Refusal,
    Source,
    ToolCall,
    ToolCallDelta,
)
from chatnest.providers.anthropic_messages.figures import Figures
from chatnest.providers.anthropic_messages.shapes import (
    Block,
    Event,
    Message,
    convert,
    event_of,
    pieces_of,
    thoughts_of,
)
from chatnest.providers.anthropic_messages.shapes import Delta as DeltaOfEvent
from chatnest.providers.event_decoder import MOST_WORDS
from chatnest.providers.pairs import whole_pairs
from chatnest.providers.refusals.error_documents import names_error, read_refusal
from chatnest.providers.refusals.faults import error_for

__all__ = ["DIALECT", "MessageReader"]

DIALECT: Final = "anthropic-messages"
"""The name of the dialect in a ReasoningSignature."""

_LONGEST_REASON: Final = 32
"""Maximum characters of a finish reason."""

_REASONS: Final = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
}
"""Finish reasons for those of the dialect. Others stay the provider's own words."""

_DONE: Final = b"[DONE]"
"""The last data of gateways that end every stream as Chat Completions does."""

_JSON: Final = b'{["<-0123456789'
"""First characters of data that is not a text in place of an event."""


class _Open:
    """A block that has begun: the signature of its thinking, the input of its call as it came with
    the start, until a piece of it arrives, or the sources of its text.
    """

    __slots__ = ("call", "input", "signature", "sources", "start", "type")

    def __init__(self, kind: str, start: int) -> None:
        self.type = kind
        self.start = start
        self.signature = ""
        self.call = -1
        self.input: Any = None
        self.sources: list[tuple[str, str]] = []


class MessageReader:
    """Provider events from the data of one answer's server-sent events.

    ``seen`` is True after the first event of a message, and ``said`` after the first output.
    ``plain`` is whether the open block is text, and ``thinks`` whether it is thinking, so that a
    piece of it needs no other event.
    ``length`` is the number of characters of the text so far. See EventReader for the rest.
    """

    __slots__ = (
        *(
            "_calls",
            "_count",
            "_figures",
            "_model",
            "_open",
            "events_left",
            "finished",
            "half",
            "length",
        ),
        *("plain", "said", "seen", "thinks", "words"),
    )

    def __init__(self, model: str, max_events: int) -> None:
        self._model = model
        self._figures = Figures()
        self._open: dict[int, _Open] = {}
        self._calls: dict[int, int] = {}
        self._count = 0
        self.events_left: int = max_events
        self.half: str = ""
        self.length: int = 0
        self.words: str = ""
        self.plain: bool = False
        self.thinks: bool = False
        self.seen: bool = False
        self.said: bool = False
        self.finished: bool = False

    def read(self, payloads: list[bytes], events: list[ProviderEvent]) -> bool:
        """See EventReader."""
        if (texts := self._texts(payloads)) is not None:
            self.events_left -= len(texts)
            if self.events_left < 0:
                raise UpstreamBadResponse
            self.said = True
            self._add(texts, events)
            return False
        for payload in payloads:
            self.events_left -= 1
            if self.events_left < 0:
                raise UpstreamBadResponse
            data = payload.strip()
            if data == _DONE:
                self._end(events)
                return True
            if data and data[:1] not in _JSON:
                self.words = self.words or data[:MOST_WORDS].decode("utf-8", "replace")
            elif data and self._read_event(event_of(data), data, events):
                return True
        return False

    def _texts(self, payloads: list[bytes]) -> list[str] | None:
        """The texts of the payloads if all of them are pieces of the open block."""
        if self.half:
            return None
        if self.plain:
            return pieces_of(payloads)
        return thoughts_of(payloads) if self.thinks else None

    def read_document(self, document: bytes, events: list[ProviderEvent]) -> bool:
        """See EventReader: a whole message, from a gateway that does not stream."""
        try:
            found = json.loads(document, parse_constant=str)
        except (ValueError, RecursionError) as exc:
            raise UpstreamBadResponse from exc
        if not isinstance(found, dict):
            raise UpstreamBadResponse
        if not isinstance(found.get("content"), list):
            raise error_for(read_refusal(document)) if names_error(found) else UpstreamBadResponse
        message = convert(found | {"content": None}, Message)
        self.seen = True
        for index, block in enumerate(found["content"]):
            self._start(index, convert(block, Block), events)
            self._stop(index, events)
        self._finish(message.stop_reason, message.stop_details, events)
        self._figures.add_start(found)
        self._add_usage(message.usage, events)
        self._end(events)
        return True

    def flush(self, events: list[ProviderEvent]) -> None:
        """See EventReader."""
        if self.half:
            self.half = ""
            events.append(Delta("\ufffd") if self.plain else Reasoning("\ufffd"))
            self.length += self.plain

    def _read_event(self, event: Event, payload: bytes, events: list[ProviderEvent]) -> bool:
        """Append the events of one event. Returns whether it was the last one."""
        self.seen = self.seen or bool(event.type)
        match event.type:
            case "content_block_delta" if event.delta is not None:
                self._read_delta(event.index, event.delta, events)
            case "content_block_start" if event.content_block is not None:
                self._start(event.index, event.content_block, events)
            case "content_block_stop":
                self._stop(event.index, events)
            case "message_start" if isinstance(event.message, dict):
                self._figures.add_start(event.message)
            case "message_delta":
                if (delta := event.delta) is not None:
                    self._finish(delta.stop_reason, delta.stop_details, events)
                self._add_usage(event.usage, events)
            case "message_stop":
                self._end(events)
                return True
            case "error" | "" if event.type or event.error:
                raise error_for(read_refusal(payload))
            case _:  # a ping, or an event of a later version
                pass
        return False

    def _start(self, index: int, block: Block, events: list[ProviderEvent]) -> None:
        self.flush(events)
        for other, begun in list(self._open.items()):
            if other == index or begun.call < 0:
                self._stop(other, events)  # its end is missing
        opened = self._open[index] = _Open(block.type, self.length)
        self._calls.pop(index, None)
        self._enter(block.type)
        match block.type:
            case "text":
                self._say(block.text, events)
                if isinstance(block.citations, list):
                    opened.sources += filter(None, map(_page, block.citations))
            case "thinking":
                opened.signature = block.signature
                self.said = True
                events.append(Reasoning(block.thinking))
            case "redacted_thinking":
                self.said = True
                events.append(ReasoningSignature(block.data, DIALECT, self._model, redacted=True))
            case "tool_use":
                self.said = True
                call = opened.call = self._calls[index] = self._count
                opened.input = {} if block.input is None else block.input
                events.append(ToolCall(call, block.id or f"call_{call}", block.name))
                self._count += 1
            case "web_search_tool_result" if isinstance(block.content, list):
                for url, title in filter(None, map(_page, block.content)):
                    events.append(Source(url, title))
            case _:  # a tool of the server's, or a block of a later version
                pass

    def _enter(self, kind: str) -> None:
        self.plain, self.thinks = kind == "text", kind == "thinking"

    def _read_delta(self, index: int, delta: DeltaOfEvent, events: list[ProviderEvent]) -> None:
        opened = self._open.get(index)
        match delta.type:
            case "text_delta":
                if opened is None:  # without its start
                    opened = self._open[index] = _Open("text", self.length)
                self._enter(opened.type)
                self._say(delta.text, events)
            case "thinking_delta":
                if opened is None:
                    opened = self._open[index] = _Open("thinking", self.length)
                self._enter(opened.type)
                self._think(delta.thinking, events)
            case "input_json_delta" if index in self._calls and delta.partial_json:
                if opened is not None:
                    opened.input = None
                events.append(ToolCallDelta(self._calls[index], _valid(delta.partial_json)))
            case "signature_delta" | "citations_delta" if opened is not None:
                opened.signature += delta.signature
                opened.sources += filter(None, [_page(delta.citation)])
            case _:
                pass

    def _stop(self, index: int, events: list[ProviderEvent]) -> None:
        self.flush(events)
        self.plain = self.thinks = False
        opened = self._open.pop(index, None)
        if opened is None:
            return
        if opened.type == "thinking":
            events.append(ReasoningSignature(opened.signature, DIALECT, self._model))
        if opened.input is not None:  # its arguments came whole, or it has none
            events.append(ToolCallDelta(opened.call, _arguments(opened.input)))
        for url, title in opened.sources:
            events.append(Source(url, title, opened.start, self.length))

    def _finish(self, reason: str | None, details: object, events: list[ProviderEvent]) -> None:
        if not reason or self.finished:
            return
        for index in list(self._open):
            self._stop(index, events)
        if reason == "refusal" and isinstance(details, dict):
            explanation = details.get("explanation")
            if isinstance(explanation, str) and explanation:
                events.append(Refusal(_valid(explanation)))
        self.finished = True
        events.append(Finish(_REASONS.get(reason, reason[:_LONGEST_REASON])))

    def _end(self, events: list[ProviderEvent]) -> None:
        """Finish an answer that ended regularly, without a reason."""
        if self.said:
            self._finish("tool_use" if self._count else "end_turn", None, events)

    def _add_usage(self, found: object, events: list[ProviderEvent]) -> None:
        if isinstance(found, dict):
            self._figures.add(found)
            if (usage := self._figures.usage()) is not None:
                events.append(usage)

    def _say(self, text: str, events: list[ProviderEvent]) -> None:
        if text and (self.half or not text.isascii()):
            text, self.half = whole_pairs(self.half + text)
        if text:
            self.said = True
            self.length += len(text)
            events.append(Delta(text))

    def _add(self, texts: list[str], events: list[ProviderEvent]) -> None:
        """Append pieces of the open block."""
        if not all(map(str.isascii, texts)):
            for text in texts:
                (self._say if self.plain else self._think)(text, events)
        elif self.plain:
            self.length += sum(map(len, texts))
            events += map(Delta, texts)
        else:
            events += map(Reasoning, texts)

    def _think(self, text: str, events: list[ProviderEvent]) -> None:
        self.said = True
        if text and (self.half or not text.isascii()):
            text, self.half = whole_pairs(self.half + text)
        if text:
            events.append(Reasoning(text))


def _arguments(value: object) -> str:
    """The arguments that came with the start of a call. The dialect has an empty object there."""
    if isinstance(value, dict):
        value = json.dumps(value, ensure_ascii=False)
    return _valid(value) if isinstance(value, str) and value else "{}"


def _valid(text: str) -> str:
    """Text without halves of surrogate pairs."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _page(value: object) -> tuple[str, str] | None:
    """The address and the title in a citation or a search result, or None without an address."""
    if not isinstance(value, dict):
        return None
    url, title = value.get("url"), value.get("title")
    if not isinstance(url, str) or not url:
        return None
    return _valid(url), _valid(title) if isinstance(title, str) else ""
