"""Frames of the native wire: from bytes to the pieces of an answer. No I/O."""

from typing import Final, TypeVar

import msgspec

from chatnest.client.errors import CutOffError
from chatnest.events import (
    Delta,
    Piece,
    Reasoning,
    ReasoningSignature,
    Source,
    ToolCall,
    ToolCallDelta,
)

__all__ = ["Frame", "Frames", "decoded", "piece_of"]

_T = TypeVar("_T")

_EVENT_BYTES: Final = 4_194_304
"""Maximum bytes of an incomplete event. A larger one counts as a broken connection."""


class Frame(msgspec.Struct, frozen=True):
    """The name, data and number of an event. Events without a number have 0."""

    name: str
    data: str
    number: int


class Frames:
    """Splits bytes in pieces of any size into events of the native wire, whose lines end in LF."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[Frame]:
        """Each event that ``data`` completes. Raises CutOffError."""
        *frames, self._rest = (self._rest + data).split(b"\n\n")
        if len(self._rest) > _EVENT_BYTES:
            raise CutOffError
        try:
            return [_frame(frame.decode()) for frame in frames]
        except ValueError as exc:  # invalid UTF-8, or an id that is not a number
            raise CutOffError from exc


def _frame(text: str) -> Frame:
    fields = dict(line.partition(": ")[::2] for line in text.split("\n"))
    return Frame(fields.get("event", ""), fields.get("data", ""), int(fields.get("id", 0)))


class _Arguments(msgspec.Struct):
    index: int
    arguments: str


def piece_of(frame: Frame) -> Piece | None:
    """The piece of the answer in a frame, or None for all other events. Raises CutOffError."""
    data = frame.data
    match frame.name:
        case "token":
            return Delta(decoded(data, str))
        case "reasoning":
            return Reasoning(decoded(data, str))
        case "reasoning_signature":
            return decoded(data, ReasoningSignature)
        case "tool_call":
            return decoded(data, ToolCall)
        case "tool_arguments":
            found = decoded(data, _Arguments)
            return ToolCallDelta(found.index, found.arguments)
        case "source":
            return decoded(data, Source)
        case _:
            return None


def decoded(data: str, kind: type[_T]) -> _T:
    """JSON of a type. Raises CutOffError for anything else."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (ValueError, RecursionError) as exc:
        raise CutOffError from exc
