"""The parts of a scripted answer, in words that belong to no dialect. No I/O."""

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias, TypeVar

__all__ = [
    "Block",
    "Part",
    "RedactedThinking",
    "Refusal",
    "Source",
    "Text",
    "Thinking",
    "TokenUsage",
    "ToolCall",
    "blocks",
    "joined",
    "repeated",
    "words",
]

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class _Streamed:
    text: Sequence[str]
    repeat: float = field(default=1, kw_only=True)
    """Number of times the pieces are sent; `math.inf` never ends."""

    def deltas(self) -> Iterator[str]:
        """Yield the pieces in the order in which they are sent."""
        return repeated(words(self.text), self.repeat)


@dataclass(frozen=True, slots=True)
class Text(_Streamed):
    """Text of the answer. A string is sent word by word; a sequence of strings, piece by piece."""


@dataclass(frozen=True, slots=True)
class Refusal(_Streamed):
    """The model's refusal, as text. The Messages API has no field for it, so it is text there."""


@dataclass(frozen=True, slots=True)
class Thinking(_Streamed):
    """The model's thinking. With the text "", only its signature is sent.

    In the Responses API, consecutive `Thinking` parts are the summary parts of one reasoning item,
    up to the first with a signature. In the Messages API each is a block.
    """

    signature: str | None = field(default=None, kw_only=True)
    """The opaque value that belongs to the text: the `signature` of a thinking block, or the
    `encrypted_content` of a reasoning item. Chat Completions has it in `reasoning_details`."""
    raw: bool = field(default=False, kw_only=True)
    """Send the thinking itself in the Responses API (`reasoning_text`), instead of a summary."""


@dataclass(frozen=True, slots=True)
class RedactedThinking:
    """Thinking that is encrypted and has no text.

    It is a `redacted_thinking` block in the Messages API, a reasoning item without a summary in
    the Responses API, and an entry of `reasoning_details` in Chat Completions.
    """

    data: str


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function call. `arguments` is JSON text, sent in pieces as `Text` is."""

    id: str
    name: str
    arguments: Sequence[str] = "{}"
    repeat: float = field(default=1, kw_only=True)
    """Number of times the pieces are sent; `math.inf` never ends."""

    def deltas(self) -> Iterator[str]:
        """Yield the pieces in the order in which they are sent."""
        return repeated(words(self.arguments), self.repeat)


@dataclass(frozen=True, slots=True)
class Source:
    """A web page that the text before it refers to."""

    url: str
    title: str = ""
    start: int = field(default=0, kw_only=True)
    """Index of the first character that the source belongs to."""
    end: int | None = field(default=None, kw_only=True)
    """Index after the last character; None is the end of the text."""


Part: TypeAlias = Text | Refusal | Thinking | RedactedThinking | ToolCall | Source


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """The tokens of an answer, by class. The classes are not checked against each other.

    `input` counts all input tokens and `output` all output tokens: `cached` and `cache_written`
    are part of `input`, `reasoning` is part of `output`. `cache_written_1h` is the part of
    `cache_written` that Messages keeps for an hour; the other APIs do not report it.
    """

    input: int
    output: int
    cached: int = field(default=0, kw_only=True)
    cache_written: int = field(default=0, kw_only=True)
    reasoning: int = field(default=0, kw_only=True)
    cache_written_1h: int = field(default=0, kw_only=True)


class Block(NamedTuple):
    """A part that opens and closes, with the sources that belong to it."""

    part: Text | Refusal | Thinking | RedactedThinking | ToolCall
    sources: tuple[Source, ...] = ()

    def annotations(self, text: str) -> Iterator[tuple[Source, int]]:
        """Yield each source and the index at which it ends in `text`."""
        for source in self.sources:
            yield source, len(text) if source.end is None else source.end


def blocks(parts: Iterable[Part]) -> list[Block]:
    """Attach each source to the text before it; an empty text if there is none."""
    found: list[Block] = []
    for part in parts:
        if not isinstance(part, Source):
            found.append(Block(part))
            continue
        if not found or not isinstance(found[-1].part, Text):
            found.append(Block(Text("")))
        found[-1] = Block(found[-1].part, (*found[-1].sources, part))
    return found


def joined(part: Text | Refusal | Thinking | ToolCall) -> tuple[str, int]:
    """Return all deltas of a part as one string, and their number. Raises if they never end."""
    if math.isinf(part.repeat):
        raise OverflowError(f"repeat: expected a number of times for a whole answer, got {part!r}")
    deltas = list(part.deltas())
    return "".join(deltas), len(deltas)


def words(text: Sequence[str]) -> tuple[str, ...]:
    """Cut a string into words, each with the space before it. Other sequences stay as they are."""
    if isinstance(text, str):
        return tuple(re.findall(r"\s*\S+\s*$|\s*\S+|\s+", text))
    return tuple(text)


def repeated(items: tuple[_T, ...], times: float) -> Iterator[_T]:
    """Yield `items` a number of times; `math.inf` never ends."""
    if math.isinf(times):
        return itertools.cycle(items)
    return itertools.chain.from_iterable(itertools.repeat(items, int(times)))
