"""Events of the Responses API from their JSON, in every shape that servers send. No I/O."""

from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal

import msgspec

from chatnest.errors import UpstreamBadResponse
from chatnest.events import Delta, Reasoning
from chatnest.providers.dialect import decoded_together
from chatnest.providers.event_decoder import MOST_WORDS
from chatnest.providers.openai.loose_json import loads

__all__ = [
    "DONE",
    "PIECE",
    "TEXT",
    "Event",
    "decode_pieces",
    "events_in",
    "fields_of",
    "items_of",
    "text_in",
]

DONE: Final = b"[DONE]"

_SCALARS: Final = (b"null", b"true", b"false", b"NaN")

Event = dict[str, Any]


class _Piece(msgspec.Struct, gc=False):
    """An event that is a piece of text or of thinking. Any other event fails to decode."""

    type: Literal[
        "response.output_text.delta",
        "response.reasoning_summary_text.delta",
        "response.reasoning_text.delta",
    ]
    delta: Annotated[str, msgspec.Meta(min_length=1)]


TEXT: Final = "response.output_text.delta"
"""The type of a piece of text."""

PIECE: Final = msgspec.json.Decoder(_Piece)
"""Decodes an event that is a piece of text or of thinking, and raises for any other."""


def decode_pieces(payloads: list[bytes], *, in_thought: bool) -> list[Delta | Reasoning] | None:
    """The pieces in events, if all are pieces of text or, when ``in_thought``, of thinking."""
    found = decoded_together(PIECE, payloads)
    if found is None:
        return None
    pieces: list[Delta | Reasoning] = []
    for piece in found:
        if piece.type == TEXT:
            pieces.append(Delta(piece.delta))
        elif in_thought:
            pieces.append(Reasoning(piece.delta))
        else:
            return None
    return pieces


def events_in(payload: bytes) -> Iterator[Event | str]:
    """The events of a payload, or text in place of an event. If a server omits the blank lines
    between events, a payload has several of them. Raises UpstreamBadResponse.
    """
    text = payload.strip()
    if not text:
        return
    try:
        yield _event(text)
    except UpstreamBadResponse:
        lines = text.split(b"\n")
        if len(lines) == 1:
            raise
        for line in filter(None, map(bytes.strip, lines)):
            yield _event(line)


def _event(text: bytes) -> Event | str:
    if text == DONE or (text[:1] not in b'{["-0123456789' and text not in _SCALARS):
        return text[:MOST_WORDS].decode("utf-8", "replace")
    try:
        found = msgspec.json.decode(text)
    except (msgspec.DecodeError, ValueError, RecursionError):
        found = loads(text)
    if isinstance(found, str):
        return found[:MOST_WORDS]
    if not isinstance(found, dict):
        raise UpstreamBadResponse
    return found


def text_in(value: object) -> str:
    """The text of a delta or a part. Some servers wrap it. Raises UpstreamBadResponse."""
    if isinstance(value, dict):
        value = value.get("text", "")
    if value is None:
        return ""
    if not isinstance(value, str):
        raise UpstreamBadResponse
    return value


def fields_of(value: object) -> dict[str, Any]:
    """An object, or an empty one if it is missing. Raises UpstreamBadResponse for another type."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UpstreamBadResponse
    return value


def items_of(value: object) -> list[dict[str, Any]]:
    """The objects of a list, or none if it is missing. Raises UpstreamBadResponse."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise UpstreamBadResponse
    return [item for item in value if isinstance(item, dict)]
