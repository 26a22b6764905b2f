"""Output: the items of one answer, from its first event to its last. No I/O.

An item is announced before its first piece, and closed after its last. Message and thinking are
closed by the next other piece. Calls stay open until the end: their pieces may alternate.
"""

from typing import Any, Final, TypeVar, assert_never

from chatnest.events import (
    Delta,
    Piece,
    Reasoning,
    ReasoningSignature,
    Refusal,
    Source,
    ToolCall,
    ToolCallDelta,
)
from chatnest.wire.openai_responses.growing import Growing
from chatnest.wire.openai_responses.output_items import Call, Event, Message, Part, Thinking
from chatnest.wire.proofs import proof_of, seal

__all__ = ["Output", "TextKind"]

TextKind = type[Delta] | type[Refusal] | type[Reasoning]
"""The kinds of pieces that are text of the item that is open."""

_UNSIGNED: Final = seal({})
"""The content of a block without a signature: the AI SDK returns no blocks without a content."""

_Item = TypeVar("_Item", Message, Thinking, Call)


class Output:
    """The items so far. ``kind`` is the kind of pieces that belong to the text of the open message
    or thinking, and ``growing`` that text.
    """

    __slots__ = ("_calls", "_items", "_open", "_run_id", "growing", "kind")

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._items: list[Message | Thinking | Call] = []
        self._open: Message | Thinking | None = None
        self._calls: dict[int, Call] = {}  # by the index of the tool call
        self.kind: TextKind | None = None
        self.growing: Growing | None = None

    def add(self, piece: Piece) -> list[Event]:
        """The events of a piece. A text itself is not among them: it belongs to ``growing_of``."""
        events: list[Event] = []
        match piece:
            case Delta() | Refusal():
                self._part(type(piece), events)
            case Reasoning():
                self._think(events)
            case ReasoningSignature():
                self._sign(piece, events)
            case ToolCall():
                self._begin_call(piece, events)
            case ToolCallDelta():
                self._close(events)
            case Source():
                self._annotate(piece, events)
            case _:
                assert_never(piece)
        return events

    def growing_of(self, piece: Delta | Refusal | Reasoning | ToolCallDelta) -> Growing | None:
        """The text that a piece belongs to, after ``add``. None for a call that never began."""
        if isinstance(piece, ToolCallDelta):
            call = self._calls.get(piece.index)
            return None if call is None else call.arguments
        return self.growing

    @property
    def has_refusal(self) -> bool:
        """Whether there is a refusal among the items."""
        messages = [item for item in self._items if isinstance(item, Message)]
        return any(part.kind == "refusal" for message in messages for part in message.parts)

    def finish(self, *, is_incomplete: bool, is_cut: bool) -> tuple[list[Event], list[Any]]:
        """The events that close all items, and the items as JSON has them. With ``is_cut`` the
        answer broke off within its last call, which is left out: clients would make it.
        """
        events: list[Event] = []
        last = "incomplete" if is_incomplete else "completed"
        self._close(events, last)
        calls = list(self._calls.values())
        cut = calls.pop() if is_cut and calls else None
        for call in calls:
            events += call.closed("completed")
        items = [item for item in self._items if item is not cut]
        documents = [item.document("completed") for item in items]
        if items and isinstance(items[-1], Message):
            documents[-1]["status"] = last
        return events, documents

    # ------------------------------------------------ pieces

    def _part(self, kind: type[Delta] | type[Refusal], events: list[Event]) -> Part:
        """The part for pieces of this kind, in the message that is open. Opens both if needed."""
        message = self._open
        if isinstance(message, Message):
            if self.kind is kind:
                return message.parts[-1]
            events += message.parts[-1].closed()
        else:
            message = self._open = self._begin(Message(self._new_id("msg"), self._size), events)
        part = Part("output_text" if kind is Delta else "refusal", message)
        message.parts.append(part)
        events.append(part.opened())
        self.kind, self.growing = kind, part.text
        return part

    def _think(self, events: list[Event]) -> None:
        if self.kind is Reasoning:
            return
        block = self._open = self._begin(Thinking(self._new_id("rs"), self._size), events)
        events.append(block.show())
        self.kind, self.growing = Reasoning, block.text

    def _sign(self, signature: ReasoningSignature, events: list[Event]) -> None:
        block = self._open
        if not isinstance(block, Thinking):  # thinking that the provider does not show
            block = self._open = self._begin(Thinking(self._new_id("rs"), self._size), events)
        block.content = seal(proof_of(signature))
        self._close(events)

    def _begin_call(self, piece: ToolCall, events: list[Event]) -> None:
        if piece.index in self._calls:
            self._close(events)
            return
        call = self._begin(Call(self._new_id("fc"), self._size, piece), events)
        self._calls[piece.index] = call

    def _annotate(self, source: Source, events: list[Event]) -> None:
        """Add an annotation to the text that is open. A source before it opens one."""
        part = self._part(Delta, events)
        annotation = {
            "type": "url_citation",
            "url": source.url,
            "title": source.title,
            "start_index": source.start,
            "end_index": source.end,
        }
        fields = {"annotation_index": len(part.annotations), "annotation": annotation}
        part.annotations.append(annotation)
        events.append(("response.output_text.annotation.added", {**part.place, **fields}))

    # ------------------------------------------------ items

    @property
    def _size(self) -> int:
        return len(self._items)

    def _new_id(self, prefix: str) -> str:
        return f"{prefix}_{self._run_id}_{self._size}"

    def _begin(self, item: _Item, events: list[Event]) -> _Item:
        """Announce an item, after the one that is open."""
        self._close(events)
        self._items.append(item)
        events.append(item.opened())
        return item

    def _close(self, events: list[Event], status: str = "completed") -> None:
        """Close the message or the thinking that is open."""
        item, self._open = self._open, None
        self.kind = self.growing = None
        if isinstance(item, Thinking) and item.content is None:
            item.content = _UNSIGNED
        if item is not None:
            events += item.closed(status)
