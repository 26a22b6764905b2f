"""Messages of a request: from their JSON to a conversation that models accept. No I/O."""

from collections.abc import Callable, Sequence
from typing import Final

from chatnest.conversation import Message, Part, Reasoning, Text, ToolResult
from chatnest.errors import InvalidRequest
from chatnest.requests import NO_QUESTION
from chatnest.wire.caps import MAX_MESSAGES, MAX_PARTS
from chatnest.wire.contents import calls_of, content_of
from chatnest.wire.conversations import Conversation
from chatnest.wire.native.body import SentMessage, SentReasoning
from chatnest.wire.native.places import PLACES
from chatnest.wire.proofs import thinking_of

__all__ = ["messages_of"]

_BELONGS: Final = {
    "tool_calls": "assistant",
    "reasoning": "assistant",
    "tool_call_id": "tool",
    "is_error": "tool",
}
"""The role whose messages may have a field."""


def messages_of(sent: Sequence[SentMessage], url_of: Callable[[str], str]) -> tuple[Message, ...]:
    """The messages that say something. Many models refuse a blank message, so a blank one in the
    history would make every later request of its conversation fail. chat-nest's client keeps an
    empty answer, for example, when it was stopped before its first token.

    A result follows the message with its call, and there is one for each call. A call without a
    result is left out: the client was stopped before it had one. ``url_of`` is DataUrls.take.
    """
    if not 1 <= len(sent) <= MAX_MESSAGES:
        raise PLACES.wrong("messages")
    plain: list[Message] = []  # nearly always, all of them
    is_blank = False
    for each in sent:
        content, role = each.content, each.role
        if (
            type(content) is not str
            or role == "tool"
            or each.tool_calls is not None
            or each.reasoning is not None
            or each.tool_call_id is not None
            or each.is_error is not None
        ):
            return _with_parts(sent, url_of)
        if not (is_blank := not content.strip()):
            plain.append(Message(role, (Text(content),)))
    if is_blank and sent[-1].role == "user":
        raise PLACES.wrong(f"messages[{len(sent) - 1}].content")
    if not plain:
        raise InvalidRequest(NO_QUESTION, field="messages")
    return tuple(plain)


def _with_parts(sent: Sequence[SentMessage], url_of: Callable[[str], str]) -> tuple[Message, ...]:
    """The messages of a conversation that has more than texts."""
    conversation = Conversation()
    for number, each in enumerate(sent):
        place = f"messages[{number}]"
        _check_fields(each, place)
        if each.role == "tool":
            call_id = each.tool_call_id
            if call_id is None:
                raise PLACES.wrong(f"{place}.tool_call_id")
            conversation.check_result(call_id, f"{place}.tool_call_id")
            text = _result_text(each, place, url_of)
            conversation.add_result(
                ToolResult(call_id=call_id, text=text, is_error=bool(each.is_error))
            )
            continue
        parts = _parts(each, place, url_of)
        if parts:
            conversation.add(Message(each.role, parts))
        elif each.role == "user" and number == len(sent) - 1:
            raise PLACES.wrong(f"{place}.content")
    if not (messages := conversation.messages()):
        raise InvalidRequest(NO_QUESTION, field="messages")
    return messages


def _check_fields(sent: SentMessage, place: str) -> None:
    """Raise InvalidRequest for a field of another role."""
    for name, role in _BELONGS.items():
        if sent.role != role and getattr(sent, name) is not None:
            raise InvalidRequest(f"{place}.{name}: belongs to messages of the role '{role}'.")


def _parts(sent: SentMessage, place: str, url_of: Callable[[str], str]) -> tuple[Part, ...]:
    """The parts of a message of the user or the assistant, without blank texts."""
    content = sent.content
    thinking = _thinking(sent.reasoning or (), f"{place}.reasoning")
    calls = calls_of(sent.tool_calls or (), f"{place}.tool_calls", PLACES)
    if content is None and not calls:
        raise PLACES.wrong(f"{place}.content")
    shown = content_of(content, sent.role, f"{place}.content", url_of)
    return (*thinking, *shown, *calls) if shown or calls else ()


def _result_text(sent: SentMessage, place: str, url_of: Callable[[str], str]) -> str:
    """The text of a result, which may be empty."""
    if sent.content is None:
        raise PLACES.wrong(f"{place}.content")
    if isinstance(sent.content, str):
        return sent.content
    parts = content_of(sent.content, sent.role, f"{place}.content", url_of)
    return "".join(part.text for part in parts if isinstance(part, Text))


def _thinking(sent: Sequence[SentReasoning], place: str) -> list[Reasoning]:
    """The blocks of thinking. Their provider checks the signatures."""
    if len(sent) > MAX_PARTS:
        raise PLACES.wrong(place)
    blocks = [thinking_of(each.text, each) for each in sent]
    return [block for block in blocks if block is not None]
