"""The output items of the Responses API: message, thinking, call. No I/O."""

from typing import Any, Final

import msgspec

from chatnest.events import ToolCall
from chatnest.wire.openai_responses.growing import Growing

__all__ = ["Call", "Event", "Message", "Part", "Thinking"]

Event = tuple[str, dict[str, Any]]
"""The name of an event and its fields, without its number."""

_TEXT: Final = {"output_text": "text", "refusal": "refusal"}
"""The types of a message's parts, and the field of their text."""


class Part:
    """A part of a message: text, or a refusal."""

    def __init__(self, kind: str, message: "Message") -> None:
        self.kind: str = kind
        self.place: dict[str, Any] = {
            "item_id": message.id,
            "output_index": message.index,
            "content_index": len(message.parts),
        }
        self.annotations: list[dict[str, Any]] = []
        after = b',"logprobs":[]' if kind == "output_text" else b""
        self.text: Growing = Growing(f"response.{kind}.delta", self.place, after=after)

    def document(self, text: msgspec.Raw | str) -> dict[str, Any]:
        """The part as JSON has it."""
        document: dict[str, Any] = {"type": self.kind, _TEXT[self.kind]: text}
        if self.kind == "output_text":
            document |= {"annotations": list(self.annotations), "logprobs": []}
        return document

    def opened(self) -> Event:
        """The event before its first piece."""
        return "response.content_part.added", {**self.place, "part": self.document("")}

    def closed(self) -> list[Event]:
        """The events after its last piece."""
        text = self.text.json()
        fields: dict[str, Any] = {**self.place, _TEXT[self.kind]: text}
        if self.kind == "output_text":
            fields["logprobs"] = []
        return [
            (f"response.{self.kind}.done", fields),
            ("response.content_part.done", {**self.place, "part": self.document(text)}),
        ]


class _Item:
    """An item, which is the ``index``th of its response."""

    def __init__(self, item_id: str, index: int) -> None:
        self.id: str = item_id
        self.index: int = index

    def document(self, status: str) -> dict[str, Any]:
        """The item as JSON has it."""
        raise NotImplementedError

    def opened(self) -> Event:
        """The event before all others of the item."""
        item = self.document("in_progress")
        return "response.output_item.added", {"output_index": self.index, "item": item}

    def done(self, status: str) -> Event:
        """The event after all others of the item."""
        item = self.document(status)
        return "response.output_item.done", {"output_index": self.index, "item": item}


class Message(_Item):
    """An item: text and refusals."""

    def __init__(self, item_id: str, index: int) -> None:
        super().__init__(item_id, index)
        self.parts: list[Part] = []

    def document(self, status: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "type": "message",
            "status": status,
            "role": "assistant",
            "content": [part.document(part.text.json()) for part in self.parts],
        }

    def closed(self, status: str) -> list[Event]:
        """The events that close the item and its last part."""
        return [*self.parts[-1].closed(), self.done(status)]


class Thinking(_Item):
    """An item: a block of thinking. ``text`` is None if the provider does not show it, and
    ``content`` its sealed proof, which OpenAI calls encrypted content.
    """

    def __init__(self, item_id: str, index: int) -> None:
        super().__init__(item_id, index)
        self.text: Growing | None = None
        self.content: str | None = None

    @property
    def _place(self) -> dict[str, Any]:
        return {"item_id": self.id, "output_index": self.index, "summary_index": 0}

    def show(self) -> Event:
        """The event before the first piece of its text."""
        self.text = Growing("response.reasoning_summary_text.delta", self._place)
        part = {"type": "summary_text", "text": ""}
        return "response.reasoning_summary_part.added", {**self._place, "part": part}

    def document(self, status: str) -> dict[str, Any]:  # noqa: ARG002  # it has none
        document: dict[str, Any] = {"id": self.id, "type": "reasoning", "summary": []}
        if self.text is not None:
            document["summary"] = [{"type": "summary_text", "text": self.text.json()}]
        if self.content is not None:
            document["encrypted_content"] = self.content
        return document

    def closed(self, status: str) -> list[Event]:
        """The events that close the item and its text."""
        if self.text is None:
            return [self.done(status)]
        text, kind = self.text.json(), "response.reasoning_summary"
        part = {"type": "summary_text", "text": text}
        return [
            (f"{kind}_text.done", {**self._place, "text": text}),
            (f"{kind}_part.done", {**self._place, "part": part}),
            self.done(status),
        ]


class Call(_Item):
    """An item: a call of a tool of the client's."""

    def __init__(self, item_id: str, index: int, call: ToolCall) -> None:
        super().__init__(item_id, index)
        self._call = call
        self._place: dict[str, Any] = {"item_id": item_id, "output_index": index}
        self.arguments: Growing = Growing("response.function_call_arguments.delta", self._place)

    def document(self, status: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "type": "function_call",
            "status": status,
            "call_id": self._call.id,
            "name": self._call.name,
            "arguments": "" if status == "in_progress" else self.arguments.json(),
        }

    def closed(self, status: str) -> list[Event]:
        """The events that close the item and its arguments."""
        whole = {"name": self._call.name, "arguments": self.arguments.json()}
        event = "response.function_call_arguments.done", {**self._place, **whole}
        return [event, self.done(status)]
