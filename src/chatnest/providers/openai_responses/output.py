"""Output: the pieces of an answer, each once, even if a server repeats them. No I/O."""

from typing import Any, Final

from chatnest.events import (
    Delta,
    ProviderEvent,
    Reasoning,
    ReasoningSignature,
    Refusal,
    Source,
)
from chatnest.providers.openai_responses.calls import Calls
from chatnest.providers.openai_responses.input_items import DIALECT
from chatnest.providers.openai_responses.shapes import Event, fields_of, items_of, text_in
from chatnest.providers.pairs import whole_pairs

__all__ = ["Output"]

_BLANK_LINE: Final = "\n\n"


class Output:
    """Pieces from events. The same text comes as deltas, as a whole part, within its item and in
    the last response. Some servers leave out some of these.

    ``said`` is whether there was text or a refusal, ``refused`` whether there was a refusal, and
    ``in_part`` and ``in_item`` whether there was text since the last whole part or item.
    ``in_thought`` is whether there was thinking since its last whole part or item, so that a piece
    of it needs no blank line. ``gap`` is whether a blank line precedes the next text, and ``half``
    is half of a surrogate pair.
    """

    __slots__ = (
        *(
            "_block",
            "_model",
            "_over",
            "_sources",
            "_thought",
            "_thought_gap",
            "calls",
        ),
        *("gap", "half", "in_item", "in_part", "in_thought", "refused", "said"),
    )

    def __init__(self, model: str) -> None:
        self._model = model
        self.calls: Calls = Calls()
        self.said: bool = False
        self.refused: bool = False
        self.in_part: bool = False
        self.in_item: bool = False
        self.gap: bool = False
        self.half: str = ""
        self._over: set[str] = set()  # ids of messages
        self._sources: set[Source] = set()
        self._thought = False  # whether there was any thinking
        self.in_thought: bool = False
        self._block = False  # whether a block of thinking is open
        self._thought_gap = False

    # ------------------------------------------------ text

    def text(self, text: str, events: list[ProviderEvent]) -> None:
        """A piece of text."""
        if text := self._whole(text):
            events.append(Delta(text))

    def refusal(self, text: str, events: list[ProviderEvent]) -> None:
        """A piece of a refusal."""
        if text := self._whole(text):
            self.refused = True
            events.append(Refusal(text))

    def part_done(self, event: Event, field: str, events: list[ProviderEvent]) -> None:
        """A whole part, which is used if no pieces of it have arrived."""
        if not self.in_part:
            add = self.refusal if field == "refusal" else self.text
            add(text_in(event.get(field)), events)
        self.in_part = False

    def annotation(self, annotation: dict[str, Any], events: list[ProviderEvent]) -> None:
        """A citation of a page. Other annotations are ignored."""
        url = annotation.get("url")
        if not isinstance(url, str) or not url:
            return
        title = annotation.get("title")
        start, end = annotation.get("start_index"), annotation.get("end_index")
        known = isinstance(start, int) and isinstance(end, int) and 0 <= start <= end
        source = Source(
            url,
            title if isinstance(title, str) else "",
            *((start, end) if known else (0, 0)),
        )
        if source not in self._sources:
            self._sources.add(source)
            events.append(source)

    def _whole(self, text: str) -> str:
        if text and (self.half or not _is_whole(text)):
            text, self.half = whole_pairs(self.half + text)
        if text:
            if self.gap:
                text, self.gap = _BLANK_LINE + text, False
            self.said = self.in_part = self.in_item = True
        return text

    # ------------------------------------------------ thinking

    def thought(self, text: str, events: list[ProviderEvent]) -> None:
        """A piece of thinking."""
        if text:
            if self._thought_gap:
                text, self._thought_gap = _BLANK_LINE + text, False
            self._thought = self.in_thought = self._block = True
            events.append(Reasoning(_replaced(text)))

    def thought_part(self) -> None:
        """A part of a summary begins."""
        self._thought_gap = self._block
        self.in_thought = False

    def thought_done(self, text: str, events: list[ProviderEvent]) -> None:
        """A whole part of thinking, which is used if no pieces of it have arrived."""
        if not self.in_thought:
            self.thought(text, events)
        self.in_thought = False

    def _thinking_done(self, item: dict[str, Any], events: list[ProviderEvent]) -> None:
        if not self._block:
            parts = items_of(item.get("summary")) or items_of(item.get("content"))
            self.thought(_BLANK_LINE.join(filter(None, map(text_in, parts))), events)
        if not self._block:  # the provider does not show it
            events.append(Reasoning(""))
        self._thought = True
        signature, own_id = item.get("encrypted_content"), item.get("id")
        if isinstance(signature, str) and signature:
            own_id = own_id if isinstance(own_id, str) else ""
            events.append(ReasoningSignature(signature, DIALECT, self._model, id=own_id))
        self._block = self.in_thought = self._thought_gap = False

    # ------------------------------------------------ items

    def item_added(self, event: Event, item: dict[str, Any], events: list[ProviderEvent]) -> None:
        """An item begins. Texts of two messages have a blank line between them."""
        match item.get("type"):
            case "message":
                self.gap = self.said
                self.in_part = self.in_item = False
            case "function_call":
                self.calls.added(event, item, events)
            case "reasoning":
                self._block = self.in_thought = self._thought_gap = False
            case _:  # tools of the server, and others
                pass

    def item_done(self, event: Event, item: dict[str, Any], events: list[ProviderEvent]) -> None:
        """A whole item. Its parts that have arrived before are ignored."""
        match item.get("type"):
            case "message":
                self._message_done(item, events)
            case "function_call":
                self.calls.item_done(event, item, events)
            case "reasoning":
                self._thinking_done(item, events)
            case _:
                pass

    def _message_done(self, item: dict[str, Any], events: list[ProviderEvent]) -> None:
        content, item_id = item.get("content"), text_in(item.get("id"))
        if isinstance(content, str):
            content = [{"type": "output_text", "text": content}]
        is_new = not self.in_item and item_id not in self._over
        if item_id:
            self._over.add(item_id)
        for part in items_of(content):
            if is_new and part.get("type") == "refusal":
                self.refusal(text_in(part.get("refusal")), events)
            elif is_new and part.get("type") in ("output_text", "text"):
                self.text(text_in(part), events)
            for annotation in items_of(part.get("annotations")):
                self.annotation(annotation, events)
        self.in_part = self.in_item = False
        self.gap = False

    def last(self, response: dict[str, Any], events: list[ProviderEvent]) -> None:
        """The items of the last response. Servers that stream repeat all items there, and not
        always under the same ids. So items are used only if none of their kind has arrived before.
        """
        fresh = {
            "message": not self.said,
            "function_call": not self.calls,
            "reasoning": not self._thought,
        }
        for index, item in enumerate(items_of(response.get("output"))):
            if fresh.get(str(item.get("type"))):
                event = {"output_index": index}
                self.item_added(event, item, events)
                self.item_done(event, item, events)
        text = fields_of(response).get("output_text")
        if not self.said and isinstance(text, str):
            self.text(text, events)

    def flush(self, events: list[ProviderEvent]) -> None:
        """Append the pieces that were held back, at the end of the answer."""
        self.calls.flush(events)
        if self.half:
            self.half = ""
            events.append(Delta("\ufffd"))


def _is_whole(text: str) -> bool:
    """Whether a text has no halves of surrogate pairs."""
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def _replaced(text: str) -> str:
    """A text whose halves of surrogate pairs are U+FFFD."""
    return (
        text
        if _is_whole(text)
        else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    )
