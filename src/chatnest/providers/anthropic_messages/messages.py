"""Messages: a conversation in the form of Anthropic's API. No I/O.

The system prompt stands apart, and the roles alternate: results of tools are blocks at the
beginning of the next user message. A text block must not be blank.
"""

import re
from collections.abc import Sequence
from typing import Any, Final, assert_never

import msgspec

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
from chatnest.providers.anthropic_messages.reader import DIALECT

__all__ = ["Sent", "raw_object", "sent_messages"]

_Blocks = list[dict[str, Any]]

_NO_ID: Final = re.compile("[^a-zA-Z0-9_-]")
"""Characters that an id of a call must not have. Other providers use them."""

_EMPTY: Final = msgspec.Raw(b"{}")
_object: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_THINKING: Final = ("thinking", "redacted_thinking")


class Sent(msgspec.Struct, frozen=True):
    """The system prompt and the messages. ``may_think`` is False if the last calls of tools were
    made without thinking: a request that begins to think between a call and its result is refused.
    """

    system: str
    messages: list[dict[str, Any]]
    may_think: bool


def sent_messages(messages: Sequence[Message], model: str, *, is_claude: bool) -> Sent:
    """The conversation for one model.

    Thinking goes back to the ``model`` that made it, unchanged and in its place. Claude needs it
    from the turn whose tools are still being called, and accepts it only with its signature. Models
    of other servers may need all of it, also without a signature.
    """
    system = "\n\n".join(message.text for message in messages if message.role == "system")
    begin = _begin_of_turn(messages)
    sent: list[tuple[str, _Blocks]] = []
    may_think = True
    for number, message in enumerate(messages):
        if message.role == "system":
            continue
        role = "assistant" if message.role == "assistant" else "user"
        is_past = is_claude and number < begin
        blocks = _blocks(message, None if is_past else model, is_claude=is_claude)
        if role == "assistant" and number >= begin and may_think:
            may_think = _thinks_first(sent, blocks)
        if sent and sent[-1][0] == role:
            sent[-1] = role, _joined(sent[-1][1], blocks)
        elif blocks:
            sent.append((role, blocks))
    if sent and sent[-1][0] == "assistant":
        _strip_end(sent[-1][1])
    return Sent(
        system.strip() and system,
        [{"role": role, "content": _content(blocks)} for role, blocks in sent if blocks],
        may_think,
    )


def raw_object(text: str) -> msgspec.Raw:
    """A JSON object as it came, to be embedded; ``{}`` for a text that is none."""
    try:
        _object.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return _EMPTY
    return msgspec.Raw(text.encode())


def _begin_of_turn(messages: Sequence[Message]) -> int:
    """The number of the first message after the user's last one. A user message right after results
    of tools belongs to the same turn.
    """
    for number in range(len(messages) - 1, -1, -1):
        after_result = number > 0 and messages[number - 1].role == "tool"
        if messages[number].role == "user" and not after_result:
            return number
    return 0


def _thinks_first(sent: Sequence[tuple[str, _Blocks]], blocks: _Blocks) -> bool:
    """Whether the assistant's first message of a turn begins with thinking, or calls no tool."""
    is_first = not any(block["type"] == "tool_result" for block in (sent[-1][1] if sent else ()))
    calls = any(block["type"] == "tool_use" for block in blocks)
    return not (is_first and calls) or blocks[0]["type"] in _THINKING


def _blocks(message: Message, thinks_for: str | None, *, is_claude: bool) -> _Blocks:
    """The blocks of one message. ``thinks_for`` is the model whose thinking goes back."""
    blocks: _Blocks = []
    for part in message.parts:
        block = _block(part)
        if isinstance(part, Reasoning):
            is_ours = part.provider == DIALECT and part.model == thinks_for
            if not is_ours or (is_claude and not part.signature):
                continue
        if block is not None:
            blocks.append(block)
    return blocks


def _block(part: Part) -> dict[str, Any] | None:
    match part:
        case Text(text=text) | Refusal(text=text):
            return {"type": "text", "text": text} if text.strip() else None
        case Image():
            source = {"type": "base64", "media_type": part.media_type, "data": part.data}
            return {"type": "image", "source": source}
        case ToolCall():
            arguments = raw_object(part.arguments)
            return {"type": "tool_use", "id": _id(part.id), "name": part.name, "input": arguments}
        case ToolResult():
            return _result(part)
        case Reasoning() if part.redacted:
            return {"type": "redacted_thinking", "data": part.signature}
        case Reasoning():
            return {"type": "thinking", "thinking": part.text, "signature": part.signature}
        case _:
            assert_never(part)


def _result(result: ToolResult) -> dict[str, Any]:
    block: dict[str, Any] = {"type": "tool_result", "tool_use_id": _id(result.call_id)}
    if result.text.strip():
        block["content"] = result.text
    if result.is_error:
        block["is_error"] = True
    return block


def _id(call_id: str) -> str:
    return _NO_ID.sub("_", call_id)


def _joined(blocks: _Blocks, more: _Blocks) -> _Blocks:
    """The blocks of two messages of one role. Results of tools come first."""
    both = [*blocks, *more]
    results = [block for block in both if block["type"] == "tool_result"]
    return results + [block for block in both if block["type"] != "tool_result"]


def _strip_end(blocks: _Blocks) -> None:
    """Remove the blanks at the end of a last message of the assistant, which the API refuses."""
    if blocks and blocks[-1]["type"] == "text":
        blocks[-1]["text"] = blocks[-1]["text"].rstrip()


def _content(blocks: _Blocks) -> str | _Blocks:
    """A message of one text is sent as the text, which every server reads."""
    if len(blocks) == 1 and blocks[0]["type"] == "text":
        text: str = blocks[0]["text"]
        return text
    return blocks
