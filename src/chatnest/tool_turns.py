"""Tool turns: calls of tools and their results, which belong together. No I/O."""

from collections.abc import Iterator, Sequence
from itertools import chain
from operator import attrgetter
from typing import assert_never

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

__all__ = ["answered_calls", "turns_of", "without_signatures"]


def turns_of(messages: Sequence[Message]) -> Iterator[tuple[Message, ...]]:
    """The messages in groups. A group is a tool turn, which is all calls and results in a row, or
    one other message.
    """
    turn: list[Message] = []
    for message in messages:
        if any(isinstance(part, ToolCall | ToolResult) for part in message.parts):
            turn.append(message)
            continue
        if turn:
            yield tuple(turn)
            turn = []
        yield (message,)
    if turn:
        yield tuple(turn)


def answered_calls(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The messages without calls that have no result, and without results that have no call before
    them. A message that has nothing else but thinking is left out.

    Providers reject a conversation with half a pair. A client has one after a stop. A result
    belongs to the last call with its id, since some servers give later calls the same ids again.
    """
    called: dict[str, tuple[int, int]] = {}
    kept: set[tuple[int, int]] = set()
    for number, message in enumerate(messages):
        for index, part in enumerate(message.parts):
            place = number, index
            match part:
                case ToolCall(id=id_):
                    called[id_] = place
                case ToolResult(call_id=id_):
                    if (call := called.pop(id_, None)) is not None:
                        kept |= {call, place}
                case Text() | Image() | Reasoning() | Refusal():
                    kept.add(place)
                case _:
                    assert_never(part)
    found: list[Message] = []
    for number, message in enumerate(messages):
        places = enumerate(message.parts)
        parts = tuple([part for index, part in places if (number, index) in kept])
        if len(parts) == len(message.parts):
            found.append(message)
        elif any(not isinstance(part, Reasoning) for part in parts):
            found.append(Message(message.role, parts))
    return tuple(found)


def without_signatures(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The messages without signed thinking. A signature is valid only after the messages that came
    before it, so none of them is left when the beginning of a conversation is cut off.
    """
    if Reasoning not in set(map(type, _parts(messages))):
        return tuple(messages)
    kept: list[Message] = []
    for message in messages:
        parts = tuple(part for part in message.parts if not _is_signed(part))
        if len(parts) == len(message.parts):
            kept.append(message)
        elif parts:
            kept.append(Message(message.role, parts))
    return tuple(kept)


def _parts(messages: Sequence[Message]) -> Iterator[Part]:
    return chain.from_iterable(map(attrgetter("parts"), messages))


def _is_signed(part: Part) -> bool:
    return isinstance(part, Reasoning) and bool(part.signature)
