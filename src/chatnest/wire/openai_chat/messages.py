"""Messages of a chat completion: from their JSON to a conversation and a system prompt. No I/O."""

from collections.abc import Callable, Sequence
from typing import Final, assert_never

from chatnest.conversation import Message, Part, Reasoning, Refusal, Text, ToolResult
from chatnest.errors import InvalidRequest
from chatnest.requests import NO_QUESTION
from chatnest.wire.caps import MAX_MESSAGES, MAX_PARTS
from chatnest.wire.contents import calls_of, content_of
from chatnest.wire.conversations import Conversation
from chatnest.wire.openai_chat.body import (
    SentAssistant,
    SentMessage,
    SentRefusal,
    SentSystem,
    SentTextPart,
    SentToolResult,
    SentUser,
)
from chatnest.wire.openai_chat.places import PLACES

__all__ = ["messages_of"]

_GAP: Final = "\n\n"
"""Between two texts of the system."""


def messages_of(
    sent: Sequence[SentMessage], url_of: Callable[[str], str]
) -> tuple[tuple[Message, ...], str | None]:
    """The conversation, and the texts of the system as one.

    As in the native format, blank messages and calls without a result are left out, but a blank
    question is refused. ``url_of`` is DataUrls.take.
    """
    if not 1 <= len(sent) <= MAX_MESSAGES:
        raise PLACES.wrong("messages")
    conversation = Conversation()
    system: list[str] = []
    for number, each in enumerate(sent):
        place = f"messages[{number}]"
        match each:
            case SentSystem():
                texts = _texts(each.content, f"{place}.content")
                system += [text for text in texts if text.strip()]
            case SentUser():
                is_last = number == len(sent) - 1
                _add_question(each, f"{place}.content", url_of, conversation, is_last=is_last)
            case SentAssistant():
                if answer := _answer(each, place):
                    conversation.add(Message("assistant", answer))
            case SentToolResult():
                _add_result(each, place, conversation)
            case _:
                assert_never(each)
    if not (messages := conversation.messages()):
        raise InvalidRequest(NO_QUESTION, field="messages")
    return messages, _GAP.join(system) or None


def _add_question(
    sent: SentUser,
    place: str,
    url_of: Callable[[str], str],
    conversation: Conversation,
    *,
    is_last: bool,
) -> None:
    if parts := content_of(sent.content, "user", place, url_of):
        conversation.add(Message("user", tuple(parts)))
    elif is_last:
        raise PLACES.wrong(place)


def _add_result(sent: SentToolResult, place: str, conversation: Conversation) -> None:
    conversation.check_result(sent.tool_call_id, f"{place}.tool_call_id")
    text = "".join(_texts(sent.content, f"{place}.content"))
    conversation.add_result(ToolResult(call_id=sent.tool_call_id, text=text))


def _texts(content: str | Sequence[SentTextPart], place: str) -> list[str]:
    if isinstance(content, str):
        return [content]
    _check_number(content, place)
    return [part.text for part in content]


def _answer(sent: SentAssistant, place: str) -> tuple[Part, ...]:
    """The parts of a message of the assistant. A message with thinking alone is left out."""
    shown = [*_shown(sent.content, f"{place}.content")]
    if sent.refusal and sent.refusal.strip():
        shown.append(Refusal(sent.refusal))
    calls = calls_of(sent.tool_calls or (), f"{place}.tool_calls", PLACES)
    if not shown and not calls:
        return ()
    thinking = [Reasoning(text=sent.reasoning_content)] if sent.reasoning_content else []
    return (*thinking, *shown, *calls)


def _shown(
    content: str | Sequence[SentTextPart | SentRefusal] | None, place: str
) -> list[Text | Refusal]:
    if content is None:
        return []
    if isinstance(content, str):
        return [Text(content)] if content.strip() else []
    _check_number(content, place)
    return [part for each in content if (part := _part(each)).text.strip()]


def _part(sent: SentTextPart | SentRefusal) -> Text | Refusal:
    match sent:
        case SentTextPart(text=text):
            return Text(text)
        case SentRefusal(refusal=text):
            return Refusal(text)
        case _:
            assert_never(sent)


def _check_number(parts: Sequence[object], place: str) -> None:
    if len(parts) > MAX_PARTS:
        raise InvalidRequest(f"{place}: must have at most {MAX_PARTS} parts.")
