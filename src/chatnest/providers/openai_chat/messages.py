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

__all__ = ["sent_messages"]


def sent_messages(
    messages: Sequence[Message], *, image_detail: str = "low"
) -> list[dict[str, Any]]:
    """The messages as the dialect has them. Each result of a tool is a message of its own.

    Thinking goes back as ``reasoning_content`` with the calls that it led to: DeepSeek rejects
    calls without it, even where it is empty.
    """
    sent: list[dict[str, Any]] = []
    for message in messages:
        parts = message.parts
        if len(parts) == 1 and type(parts[0]) is Text:  # nearly always
            sent.append({"role": message.role, "content": parts[0].text})
        elif message.role == "tool":
            sent += [_result(part) for part in message.parts if isinstance(part, ToolResult)]
        else:
            sent.append(_Shape(message, image_detail).document())
    return sent


def _result(result: ToolResult) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": result.call_id, "content": result.text}


class _Shape:
    """One message in the making: its text, images, calls and thinking apart."""

    def __init__(self, message: Message, image_detail: str) -> None:
        self._role = message.role
        self._detail = image_detail
        self._content: list[dict[str, Any]] = []
        self._texts: list[str] = []
        self._calls: list[dict[str, Any]] = []
        self._thinking: list[str] = []
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
                function = {"name": part.name, "arguments": part.arguments}
                self._calls.append({"id": part.id, "type": "function", "function": function})
            case Reasoning(text=text):
                self._thinking.append(text)
            case Refusal(text=text):
                self._refusals.append(text)
            case ToolResult(text=text):  # in a message of its own
                pass
            case _:
                assert_never(part)

    def document(self) -> dict[str, Any]:
        """The message."""
        content: object = "".join(self._texts)
        if len(self._content) > len(self._texts):
            content = self._content
        found: dict[str, Any] = {"role": self._role, "content": content}
        if self._refusals and not content:
            found |= {"content": None, "refusal": "".join(self._refusals)}
        if self._calls:
            found["tool_calls"] = self._calls
            if not content:
                found["content"] = None
            if self._thinking:
                found["reasoning_content"] = "".join(self._thinking)
        return found
