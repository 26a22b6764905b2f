"""input_items: a conversation as the items of a request to the Responses API. No I/O."""

from collections.abc import Sequence
from typing import Any, Final, assert_never

from chatnest.conversation import (
    Image,
    Message,
    Part,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
)

__all__ = ["DIALECT", "input_items"]

DIALECT: Final = "openai-responses"
"""The ``provider`` of thinking that this dialect can take back."""


def input_items(
    messages: Sequence[Message], *, model: str, image_detail: str
) -> list[dict[str, Any]]:
    """The items of the conversation.

    Messages of the system are items as well: OpenRouter and LM Studio have ignored
    ``instructions``. A text alone is sent as a string, since vLLM rejects parts without all of
    their fields. Only items of thinking have ids, since each server has its own form of ids.
    """
    items: list[dict[str, Any]] = []
    for message in messages:
        parts = message.parts
        if len(parts) == 1 and type(parts[0]) is Text:  # nearly always
            items.append({"type": "message", "role": message.role, "content": parts[0].text})
            continue
        items += _Items(message, model, image_detail).finished()
    return items


class _Items:
    """Builds the items of one message."""

    def __init__(self, message: Message, model: str, image_detail: str) -> None:
        self._role = message.role
        self._model = model
        self._detail = image_detail
        self._items: list[dict[str, Any]] = []
        self._content: list[dict[str, Any]] = []
        for part in message.parts:
            self._add(part)
        self._end_message()

    def finished(self) -> list[dict[str, Any]]:
        """The items. OpenAI rejects thinking without the item that it led to, which is missing if
        the answer was stopped within the thinking.
        """
        while self._items and self._items[-1]["type"] == "reasoning":
            self._items.pop()
        return self._items

    def _add(self, part: Part) -> None:
        match part:
            case Text(text=text):
                self._content.append({"type": self._text_type, "text": text})
            case Image():
                image = {"type": "input_image", "image_url": part.url, "detail": self._detail}
                self._content.append(image)
            case Refusal(text=text):
                self._content.append({"type": "refusal", "refusal": text})
            case ToolCall():
                self._item(
                    "function_call", call_id=part.id, name=part.name, arguments=part.arguments
                )
            case ToolResult():
                self._item("function_call_output", call_id=part.call_id, output=part.text)
            case Reasoning():
                self._add_thinking(part)
            case _:
                assert_never(part)

    @property
    def _text_type(self) -> str:
        return "output_text" if self._role == "assistant" else "input_text"

    def _add_thinking(self, part: Reasoning) -> None:
        if part.signature and (part.provider, part.model) == (DIALECT, self._model):
            summary = [{"type": "summary_text", "text": part.text}] if part.text else []
            named = {"id": part.id} if part.id else {}
            self._item("reasoning", **named, summary=summary, encrypted_content=part.signature)

    def _item(self, kind: str, **fields: Any) -> None:
        self._end_message()
        self._items.append({"type": kind, **fields})

    def _end_message(self) -> None:
        """Append the parts since the last item as a message."""
        parts, self._content = self._content, []
        if not parts:
            return
        content: object = parts
        if all(part["type"] == self._text_type for part in parts):
            content = "".join(part["text"] for part in parts)
        else:
            for part in parts:
                if part["type"] == "output_text":
                    part["annotations"] = []
        self._items.append({"type": "message", "role": self._role, "content": content})
