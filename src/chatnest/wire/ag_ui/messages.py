"""Messages of a request: from their JSON to a conversation that models accept. No I/O."""

from collections.abc import Callable, Sequence
from typing import Final, assert_never

from chatnest.conversation import Message, Part, Reasoning, Text, ToolCall, ToolResult, joined
from chatnest.errors import InvalidRequest
from chatnest.requests import NO_QUESTION
from chatnest.tokens.tool_bounds import ToolCaps
from chatnest.wire.ag_ui.body import (
    SentActivity,
    SentAssistant,
    SentCall,
    SentDeveloper,
    SentMessage,
    SentReasoning,
    SentSystem,
    SentToolMessage,
    SentUser,
)
from chatnest.wire.ag_ui.parts import parts_of, text_of
from chatnest.wire.ag_ui.places import PLACES
from chatnest.wire.caps import MAX_MESSAGES, MAX_PARTS, is_identifier
from chatnest.wire.conversations import Conversation
from chatnest.wire.proofs import NO_PROOF, thinking_of, unseal

__all__ = ["Reading", "read_messages"]

_CAPS: Final = ToolCaps()


class Reading:
    """The messages of a request while they are read: the conversation, and apart from it the
    instructions, and the ids of all calls.

    A client has the thinking of an answer, and what is between it, in messages of their own. They
    become one message of the assistant.
    """

    def __init__(self, whole: Callable[[str], str]) -> None:
        self.instructions: list[str] = []
        self.call_ids: set[str] = set()
        self._conversation = Conversation()
        self._answer: list[Message] = []
        self._whole = whole

    def add(self, sent: SentMessage, place: str, *, is_last: bool) -> None:
        """Add the next message."""
        match sent:
            case SentUser():
                self._add_question(sent, place, is_last=is_last)
            case SentAssistant() | SentReasoning():
                if parts := self._answer_parts(sent, place):
                    self._answer.append(Message("assistant", tuple(parts)))
            case SentToolMessage():
                self._add_result(sent, place)
            case SentSystem() | SentDeveloper():
                if sent.content.strip():
                    self.instructions.append(sent.content)
            case SentActivity():
                pass
            case _:
                assert_never(sent)

    def messages(self) -> tuple[Message, ...]:
        """The messages, without calls that have no result: the client was stopped before."""
        self._end_answer()
        if not (messages := self._conversation.messages()):
            raise InvalidRequest(NO_QUESTION, field="messages")
        return messages

    def _add_question(self, sent: SentUser, place: str, *, is_last: bool) -> None:
        self._end_answer()
        if parts := parts_of(sent.content, f"{place}.content", self._whole):
            self._conversation.add(Message("user", tuple(parts)))
        elif is_last:
            raise PLACES.wrong(f"{place}.content")

    def _answer_parts(self, sent: SentAssistant | SentReasoning, place: str) -> list[Part]:
        shown = sent.content if isinstance(sent, SentReasoning) else ""
        thinking = _thinking(shown, sent.encrypted_value)
        parts: list[Part] = [] if thinking is None else [thinking]
        if isinstance(sent, SentReasoning):
            return parts
        if sent.content is not None and sent.content.strip():
            parts.append(Text(sent.content))
        calls = sent.tool_calls or ()
        if len(calls) > MAX_PARTS:
            raise PLACES.wrong(f"{place}.toolCalls")
        for number, each in enumerate(calls):
            parts += self._call(each, f"{place}.toolCalls[{number}]")
        return parts

    def _call(self, sent: SentCall, place: str) -> list[Part]:
        """A call, after the thinking whose proof belongs to it."""
        name, arguments = sent.function.name, sent.function.arguments
        if not is_identifier(sent.id):
            raise PLACES.wrong(f"{place}.id")
        if not is_identifier(name):
            raise PLACES.wrong(f"{place}.function.name")
        _CAPS.check_arguments(arguments, f"{place}.function.arguments")
        self.call_ids.add(sent.id)
        call = ToolCall(id=sent.id, name=name, arguments=arguments)
        thinking = _thinking("", sent.encrypted_value)
        return [call] if thinking is None else [thinking, call]

    def _add_result(self, sent: SentToolMessage, place: str) -> None:
        self._end_answer()
        self._conversation.check_result(sent.tool_call_id, f"{place}.toolCallId")
        text = text_of(sent.content, f"{place}.content")
        self._conversation.add_result(
            ToolResult(
                call_id=sent.tool_call_id,
                text=text if text.strip() or not sent.error else sent.error,
                is_error=bool(sent.error),
            )
        )

    def _end_answer(self) -> None:
        """Add the answer that the last messages were, unless it has nothing but thinking."""
        if any(not isinstance(part, Reasoning) for each in self._answer for part in each.parts):
            (answer,) = joined(tuple(self._answer))
            self._check_calls(answer)
            self._conversation.add(answer)
        self._answer.clear()

    def _check_calls(self, answer: Message) -> None:
        calls = [part.id for part in answer.parts if isinstance(part, ToolCall)]
        if len(calls) > MAX_PARTS or len(set(calls)) < len(calls):
            raise InvalidRequest(
                f"messages: the calls of one answer must be at most {MAX_PARTS}, with different "
                "ids."
            )


def read_messages(sent: Sequence[SentMessage], whole: Callable[[str], str]) -> Reading:
    """Read the messages of a request. A blank message is left out, unless it is the last one and
    the user's: many models refuse it. ``whole`` is DataUrls.take.
    """
    if not 1 <= len(sent) <= MAX_MESSAGES:
        raise PLACES.wrong("messages")
    reading = Reading(whole)
    for number, each in enumerate(sent):
        reading.add(each, f"messages[{number}]", is_last=number == len(sent) - 1)
    return reading


def _thinking(text: str, value: str | None) -> Reasoning | None:
    """The block of thinking with this text and this encrypted value, or None if it has neither. A
    value that another server has written is dropped.
    """
    proof = unseal(value or "")
    return thinking_of(text, proof if proof is not None and proof.signature else NO_PROOF)
