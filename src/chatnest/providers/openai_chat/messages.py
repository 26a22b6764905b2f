"""Messages: a conversation in the form of Chat Completions. No I/O."""

from collections.abc import Sequence
from typing import Any, assert_never

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
from chatnest.providers.openai_chat.signatures import PROVIDER, restored
from chatnest.providers.openai_chat.thinking import ThinkingHabit

__all__ = ["sent_messages"]


def sent_messages(
    messages: Sequence[Message], thinking: ThinkingHabit, *, model: str, image_detail: str = "low"
) -> list[dict[str, Any]]:
    """The messages as the dialect has them. Each result of a tool is a message of its own.

    The role of the system stays ``system``: OpenAI reads it as ``developer`` where it needs that,
    and many servers reject ``developer``. Thinking that another provider or model made is left out.
    The rest goes back with the calls that it led to, and a signature in any case.
    """
    sent: list[dict[str, Any]] = []
    for message in messages:
        parts = message.parts
        if len(parts) == 1 and type(parts[0]) is Text:  # nearly always
            sent.append({"role": message.role, "content": parts[0].text})
        elif message.role == "tool":
            sent += [_result(part) for part in message.parts if isinstance(part, ToolResult)]
        else:
            sent.append(_Shape(message, model, image_detail).document(thinking))
    return sent


def _result(result: ToolResult) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": result.call_id, "content": result.text}


class _Shape:
    """The parts of one message, by kind: text, images, calls and thinking."""

    def __init__(self, message: Message, model: str, image_detail: str) -> None:
        self._role = message.role
        self._model = model
        self._detail = image_detail
        self._content: list[dict[str, Any]] = []
        self._texts: list[str] = []
        self._calls: dict[str, dict[str, Any]] = {}
        self._thinking: list[str] = []
        self._details: list[dict[str, Any]] = []
        self._extra: dict[str, dict[str, Any]] = {}
        self._refusals: list[str] = []
        for part in message.parts:
            self._add(part)

    def _add(self, part: Part) -> None:
        match part:
            case Text(text=text):
                self._texts.append(text)
                self._content.append({"type": "text", "text": text})
            case Image():
                image = {"url": part.url, "detail": self._detail}
                self._content.append({"type": "image_url", "image_url": image})
            case ToolCall():
                self._calls[part.id] = _call(part)
            case Reasoning():
                self._think(part)
            case Refusal(text=text):
                self._refusals.append(text)
            case ToolResult():  # in a message of its own
                pass
            case _:
                assert_never(part)

    def _think(self, block: Reasoning) -> None:
        if block.provider not in {"", PROVIDER} or block.model not in {"", self._model}:
            return
        if not block.signature:
            self._thinking.append(block.text)
        elif block.provider and block.model:
            found = restored(block)
            self._details += found.details
            if found.extra is not None:
                self._extra[found.call_id] = found.extra

    def document(self, thinking: ThinkingHabit) -> dict[str, Any]:
        """The message."""
        content: object = "".join(self._texts)
        if len(self._content) > len(self._texts):
            content = self._content
        found: dict[str, Any] = {"role": self._role, "content": content}
        if self._refusals and not content:
            found |= {"content": None, "refusal": "".join(self._refusals)}
        if self._calls:
            found["tool_calls"] = list(self._calls.values())
            if not content:
                found["content"] = None
        if self._details:
            found["reasoning_details"] = self._details
        elif self._calls and thinking.field and (self._thinking or thinking.is_needed):
            found[thinking.field] = "".join(self._thinking)
        for call_id, extra in self._extra.items():
            place = self._calls.get(call_id) if call_id else found
            if place is not None:
                place["extra_content"] = extra
        return found


def _call(call: ToolCall) -> dict[str, Any]:
    """A call with its arguments as they came. Servers that parse them reject an empty text."""
    arguments = call.arguments if call.arguments.strip() else "{}"
    function = {"name": call.name, "arguments": arguments}
    return {"id": call.id, "type": "function", "function": function}
