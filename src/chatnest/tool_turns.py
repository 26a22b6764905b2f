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

__all__ = ["turns_of", "whole_pairs", "without_signatures"]


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


def whole_pairs(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The messages without calls that have no result, and without results that have no call or
    come before it. A message that has nothing else is left out.

    Providers reject a conversation with half a pair. A client has one after a stop.
    """
    waiting: set[str] = set()
    answered: set[str] = set()
    for part in _parts(messages):
        if isinstance(part, ToolCall):
            waiting.add(part.id)
        if isinstance(part, ToolResult) and part.call_id in waiting:
            answered.add(part.call_id)
    calls, results = set(answered), set(answered)  # not seen yet
    kept: list[Message] = []
    for message in messages:
        parts = tuple([part for part in message.parts if _is_next(part, calls, results)])
        if len(parts) == len(message.parts):
            kept.append(message)
        elif any(not isinstance(part, Reasoning) for part in parts):
            kept.append(Message(message.role, parts))
    return tuple(kept)


def _is_next(part: Part, calls: set[str], results: set[str]) -> bool:
    """Whether a part stays: a call once, its result once and after it, and everything else."""
    match part:
        case ToolCall(id=id_):
            is_next = id_ in calls
            calls.discard(id_)
        case ToolResult(call_id=id_):
            is_next = id_ in results and id_ not in calls
            if is_next:
                results.discard(id_)
        case Text() | Image() | Reasoning() | Refusal():
            is_next = True
        case _:
            assert_never(part)
    return is_next


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
