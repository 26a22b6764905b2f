"""Event and its parts: the types that msgspec decodes. No I/O."""

import json
from typing import Annotated, Any, Final, TypeVar

import msgspec

from chatnest.errors import UpstreamBadResponse
from chatnest.providers.dialect import decoded_together

__all__ = [
    "PIECE",
    "THOUGHT",
    "Block",
    "Delta",
    "Event",
    "Message",
    "convert",
    "event_of",
    "pieces_of",
    "thoughts_of",
]

_T = TypeVar("_T")


class Block(msgspec.Struct, gc=False):
    """A block of content. At the start of a stream's block, its text is mostly empty."""

    type: str = ""
    text: str = ""
    thinking: str = ""
    signature: str = ""
    data: str = ""
    id: str = ""
    name: str = ""
    input: Any = None
    content: Any = None
    citations: Any = None


class Delta(msgspec.Struct, gc=False):
    """A piece of a block, or the end of the message."""

    type: str = ""
    text: str = ""
    thinking: str = ""
    signature: str = ""
    partial_json: str = ""
    citation: Any = None
    stop_reason: str | None = None
    stop_details: Any = None


class Message(msgspec.Struct, gc=False):
    """A message: at the start of a stream without its content, or whole."""

    content: list[Block] | None = None
    stop_reason: str | None = None
    stop_details: Any = None
    usage: Any = None


class Event(msgspec.Struct, gc=False):
    """An event of a stream. ``error`` belongs to events of the type ``error``."""

    type: str = ""
    index: int = 0
    delta: Delta | None = None
    content_block: Block | None = None
    message: Any = None
    usage: Any = None
    error: Any = None


class _TextDelta(msgspec.Struct, gc=False, tag_field="type", tag="text_delta"):
    text: Annotated[str, msgspec.Meta(min_length=1)]


class _ThinkingDelta(msgspec.Struct, gc=False, tag_field="type", tag="thinking_delta"):
    thinking: Annotated[str, msgspec.Meta(min_length=1)]


class _Piece(msgspec.Struct, gc=False, tag_field="type", tag="content_block_delta"):
    """An event that is a piece of text and nothing else. Any other event fails to decode."""

    delta: _TextDelta
    usage: None = None
    error: None = None


class _Thought(msgspec.Struct, gc=False, tag_field="type", tag="content_block_delta"):
    """The same for a piece of thinking."""

    delta: _ThinkingDelta
    usage: None = None
    error: None = None


PIECE: Final = msgspec.json.Decoder(_Piece)
"""Decodes an event that is a piece of text and nothing else, and raises for any other."""

THOUGHT: Final = msgspec.json.Decoder(_Thought)
"""The same for a piece of thinking."""

_event: Final = msgspec.json.Decoder(Event)


def pieces_of(payloads: list[bytes]) -> list[str] | None:
    """The texts of events that are pieces of text and nothing else, if all of them are."""
    pieces = decoded_together(PIECE, payloads)
    if pieces is None:
        return None
    return [piece.delta.text for piece in pieces]


def thoughts_of(payloads: list[bytes]) -> list[str] | None:
    """The texts of events that are pieces of thinking and nothing else, if all of them are."""
    thoughts = decoded_together(THOUGHT, payloads)
    if thoughts is None:
        return None
    return [thought.delta.thinking for thought in thoughts]


def event_of(payload: bytes) -> Event:
    """The event in the data of a server-sent event. An event that the typed decoding rejects is
    read again with the standard library, which accepts halves of surrogate pairs, and without
    fields that are null. Raises UpstreamBadResponse.
    """
    try:
        return _event.decode(payload)
    except (msgspec.DecodeError, ValueError, RecursionError):
        pass
    try:
        return convert(json.loads(payload, parse_constant=str), Event)
    except (ValueError, RecursionError) as exc:
        raise UpstreamBadResponse from exc


def convert(value: object, kind: type[_T]) -> _T:
    """A decoded value as a struct. Raises UpstreamBadResponse."""
    if not isinstance(value, dict):
        raise UpstreamBadResponse
    try:
        return msgspec.convert(_without_nulls(value), kind, strict=False)
    except (msgspec.ValidationError, RecursionError) as exc:
        raise UpstreamBadResponse from exc


def _without_nulls(value: object) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    return value
