"""Output: the items of one answer, from its first event to its last. No I/O.

An item is announced before its first piece, and closed after its last. Message and thinking are
closed by the next other piece. Calls stay open until the end: their pieces may alternate.
"""

from typing import Any, Final, assert_never

import msgspec

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
from chatnest.wire.openai_responses.encrypted_content import content_of
from chatnest.wire.openai_responses.growing import Growing

__all__ = ["Event", "Output", "TextKind"]

Event = tuple[str, dict[str, Any]]
"""The name of an event and its fields, without its number."""

TextKind = type[Delta] | type[Refusal] | type[Reasoning]
"""The kinds of pieces that are text of the item that is open."""

_IN_PROGRESS: Final = "in_progress"

_PART: Final = {"output_text": "text", "refusal": "refusal"}
"""The types of a message's parts, and the field of their text."""


class _Part:
    """A part of a message: text, or a refusal."""

    def __init__(self, kind: str, place: dict[str, Any]) -> None:
        self.kind = kind
        self.place = place
        self.annotations: list[dict[str, Any]] = []
        after = b',"logprobs":[]' if kind == "output_text" else b""
        self.text = Growing(f"response.{kind}.delta", place, after=after)

    def document(self, text: object) -> dict[str, Any]:
        document = {"type": self.kind, _PART[self.kind]: text}
        if self.kind == "output_text":
            document |= {"annotations": list(self.annotations), "logprobs": []}
        return document


class _Message:
    """An item: text and refusals."""

    def __init__(self, item_id: str, index: int) -> None:
        self.id = item_id
        self.index = index
        self.parts: list[_Part] = []

    def document(self, status: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "type": "message",
            "status": status,
            "role": "assistant",
            "content": [part.document(part.text.json()) for part in self.parts],
        }


class _Thinking:
    """An item: a block of thinking. ``text`` is None if the provider does not show it."""

    def __init__(self, item_id: str, index: int) -> None:
        self.id = item_id
        self.index = index
        self.text: Growing | None = None
        self.content: str | None = None

    @property
    def place(self) -> dict[str, Any]:
        return {"item_id": self.id, "output_index": self.index, "summary_index": 0}

    def document(self, _: str) -> dict[str, Any]:
        document: dict[str, Any] = {"id": self.id, "type": "reasoning", "summary": []}
        if self.text is not None:
            document["summary"] = [{"type": "summary_text", "text": self.text.json()}]
        if self.content is not None:
            document["encrypted_content"] = self.content
        return document


class _Call:
    """An item: a call of a tool of the client's."""

    def __init__(self, item_id: str, index: int, call: ToolCall) -> None:
        self.id = item_id
        self.index = index
        self.call = call
        self.arguments = Growing(
            "response.function_call_arguments.delta", {"item_id": item_id, "output_index": index}
        )

    def document(self, status: str) -> dict[str, Any]:
        """The item as JSON has it. Its arguments are empty while it is in progress."""
        return {
            "id": self.id,
            "type": "function_call",
            "status": status,
            "call_id": self.call.id,
            "name": self.call.name,
            "arguments": "" if status == _IN_PROGRESS else self.arguments.json(),
        }


class Output:
    """The items so far. ``kind`` is the kind of pieces that belong to the text of the open message
    or thinking, and ``growing`` that text.
    """

    __slots__ = ("_calls", "_items", "_open", "_run_id", "growing", "kind")

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._items: list[_Message | _Thinking | _Call] = []
        self._open: _Message | _Thinking | None = None
        self._calls: dict[int, _Call] = {}
        self.kind: TextKind | None = None
        self.growing: Growing | None = None

    def add(self, piece: Piece) -> list[Event]:
        """The events of a piece. A text itself is not among them: it belongs to ``growing_of``."""
        match piece:
            case Delta() | Refusal():
                return self._begin_part(type(piece))
            case Reasoning():
                return self._begin_thinking()
            case ReasoningSignature():
                return self._sign(piece)
            case ToolCall():
                return self._begin_call(piece)
            case ToolCallDelta():
                return self._close()
            case Source():
                return self._annotate(piece)
            case _:
                assert_never(piece)

    @property
    def has_refusal(self) -> bool:
        """Whether there is a refusal among the items."""
        messages = [item for item in self._items if isinstance(item, _Message)]
        return any(part.kind == "refusal" for message in messages for part in message.parts)

    def growing_of(self, piece: Delta | Refusal | Reasoning | ToolCallDelta) -> Growing | None:
        """The text that a piece belongs to, after ``add``. None for a call that never began."""
        if isinstance(piece, ToolCallDelta):
            call = self._calls.get(piece.index)
            return None if call is None else call.arguments
        return self.growing

    def finish(self, *, is_incomplete: bool, is_cut: bool) -> tuple[list[Event], list[Any]]:
        """The events that close all items, and the items as JSON has them. With ``is_cut`` the
        answer broke off within its last call, which is left out: clients would make it.
        """
        last = "incomplete" if is_incomplete else "completed"
        events = self._close(last)
        calls = list(self._calls.values())
        cut = calls.pop() if is_cut and calls else None
        for call in calls:
            events += _closed_call(call)
        items = [item for item in self._items if item is not cut]
        documents = [item.document("completed") for item in items]
        if items and isinstance(items[-1], _Message):
            documents[-1]["status"] = last
        return events, documents

    # ------------------------------------------------ pieces

    def _begin_part(self, kind: type[Delta] | type[Refusal]) -> list[Event]:
        """Open a message, and within it a part for pieces of this kind, as far as they are not."""
        if self.kind is kind:
            return []
        message = self._open
        if isinstance(message, _Message):
            events = self._close_part(message)
        else:
            events = self._close()
            message = _Message(self._new_id("msg"), len(self._items))
            events.append(self._add_item(message, message.document(_IN_PROGRESS)))
            self._open = message
        place = {
            "item_id": message.id,
            "output_index": message.index,
            "content_index": len(message.parts),
        }
        part = _Part("output_text" if kind is Delta else "refusal", place)
        message.parts.append(part)
        events.append(("response.content_part.added", {**place, "part": part.document("")}))
        self.kind, self.growing = kind, part.text
        return events

    def _begin_thinking(self) -> list[Event]:
        if self.kind is Reasoning:
            return []
        events = self._close()
        block = self._open_block(events)
        block.text = Growing("response.reasoning_summary_text.delta", block.place)
        part = {"type": "summary_text", "text": ""}
        events.append(("response.reasoning_summary_part.added", {**block.place, "part": part}))
        self.kind, self.growing = Reasoning, block.text
        return events

    def _open_block(self, events: list[Event]) -> _Thinking:
        block = self._open = _Thinking(self._new_id("rs"), len(self._items))
        events.append(self._add_item(block, block.document("")))
        return block

    def _sign(self, signature: ReasoningSignature) -> list[Event]:
        events: list[Event] = []
        block = self._open
        if not isinstance(block, _Thinking):
            events += self._close()
            block = self._open_block(events)
        block.content = content_of(signature)
        return events + self._close()

    def _begin_call(self, piece: ToolCall) -> list[Event]:
        events = self._close()
        if piece.index not in self._calls:
            call = _Call(self._new_id("fc"), len(self._items), piece)
            events.append(self._add_item(call, call.document(_IN_PROGRESS)))
            self._calls[piece.index] = call
        return events

    def _annotate(self, source: Source) -> list[Event]:
        """Add an annotation to the text that is open. A source before it opens one."""
        events = self._begin_part(Delta)
        message = self._open
        assert isinstance(message, _Message)  # noqa: S101  # for mypy: a part is open
        part = message.parts[-1]
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
        return events

    # ------------------------------------------------ items

    def _new_id(self, prefix: str) -> str:
        return f"{prefix}_{self._run_id}_{len(self._items)}"

    def _add_item(self, item: _Message | _Thinking | _Call, document: dict[str, Any]) -> Event:
        self._items.append(item)
        return "response.output_item.added", {"output_index": item.index, "item": document}

    def _close(self, status: str = "completed") -> list[Event]:
        """Close the message or the thinking that is open."""
        item, self._open = self._open, None
        match item:
            case None:
                return []
            case _Message():
                events = self._close_part(item)
            case _Thinking():
                events = _closed_block(item)
                self.kind = self.growing = None
                if item.content is None:
                    item.content = content_of(None)
            case _:
                assert_never(item)
        events.append(_done(item.index, item.document(status)))
        return events

    def _close_part(self, message: _Message) -> list[Event]:
        self.kind = self.growing = None
        part = message.parts[-1]
        text: msgspec.Raw = part.text.json()
        fields: dict[str, Any] = {**part.place, _PART[part.kind]: text}
        if part.kind == "output_text":
            fields["logprobs"] = []
        return [
            (f"response.{part.kind}.done", fields),
            ("response.content_part.done", {**part.place, "part": part.document(text)}),
        ]


def _closed_block(block: _Thinking) -> list[Event]:
    if block.text is None:
        return []
    text, kind = block.text.json(), "response.reasoning_summary"
    part = {"type": "summary_text", "text": text}
    return [
        (f"{kind}_text.done", {**block.place, "text": text}),
        (f"{kind}_part.done", {**block.place, "part": part}),
    ]


def _closed_call(call: _Call) -> list[Event]:
    fields = {
        "item_id": call.id,
        "output_index": call.index,
        "name": call.call.name,
        "arguments": call.arguments.json(),
    }
    return [
        ("response.function_call_arguments.done", fields),
        _done(call.index, call.document("completed")),
    ]


def _done(index: int, document: dict[str, Any]) -> Event:
    return "response.output_item.done", {"output_index": index, "item": document}
