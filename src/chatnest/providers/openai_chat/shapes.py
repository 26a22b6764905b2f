"""Chunk and its parts: the types that msgspec decodes, and the texts in them. No I/O."""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from chatnest.providers.openai.loose_json import loads

__all__ = [
    "DONE",
    "EMPTY",
    "NOTHING",
    "Choice",
    "Chunk",
    "Delta",
    "OddChunk",
    "Words",
    "mended",
    "thoughts",
]

NOTHING: Final = msgspec.Raw(b"null")
EMPTY: Final = (NOTHING, *map(msgspec.Raw, (b'""', b"{}", b"[]", b"false", b"0")))
DONE: Final = b"[DONE]"


class Delta(msgspec.Struct, gc=False):
    """A part of the message. The field of thinking differs between servers."""

    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    reasoning_details: msgspec.Raw = NOTHING
    thinking: str | None = None
    reasoning_text: str | None = None
    tool_calls: list[msgspec.Raw] | None = None
    function_call: msgspec.Raw = NOTHING
    annotations: msgspec.Raw = NOTHING
    extra_content: msgspec.Raw = NOTHING  # Google's

    @property
    def thought(self) -> str | None:
        """The thinking, or None. Servers repeat it under several names; it counts once."""
        said = self.reasoning_content or self.reasoning or self.thinking or self.reasoning_text
        if said or self.reasoning_details in EMPTY:
            return said or None
        return "".join(thoughts(loads(self.reasoning_details)))

    @property
    def calls(self) -> list[Any]:
        """The pieces of tool calls, as they came. The only call of the older form comes first."""
        calls: list[Any] = [loads(raw) for raw in self.tool_calls or ()]
        if self.function_call not in EMPTY:
            calls.insert(0, {"index": 0, "function": loads(self.function_call)})
        return calls


class Choice(msgspec.Struct, gc=False):
    """An alternative answer. Only the first is read."""

    delta: Delta | None = None
    finish_reason: str | None = None
    message: msgspec.Raw = NOTHING
    usage: msgspec.Raw = NOTHING
    error: msgspec.Raw = NOTHING


class Chunk(msgspec.Struct, gc=False):
    """A chunk of a chat completion."""

    choices: list[Choice] | None = None
    usage: msgspec.Raw = NOTHING
    error: msgspec.Raw = NOTHING
    error_type: msgspec.Raw = NOTHING
    x_groq: msgspec.Raw = NOTHING
    usageMetadata: msgspec.Raw = NOTHING  # noqa: N815  # Google's
    object: msgspec.Raw = NOTHING
    citations: msgspec.Raw = NOTHING  # Perplexity's and xAI's
    search_results: msgspec.Raw = NOTHING  # Perplexity's


class OddChunk(Chunk, gc=False):
    """A chunk of the slow decoding, whose texts may have halves of surrogate pairs."""


class Words(msgspec.Struct):
    """Text in place of a chunk: a sign of life, or an error in words."""

    text: str


def mended(text: str) -> str:
    """Text without halves of surrogate pairs, which UTF-8 has no bytes for."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


_SAID: Final = ("text", "thinking", "reasoning", "summary", "content")


def thoughts(value: object) -> Iterator[str]:
    """Each text in ``value``."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for inner in value:
            yield from thoughts(inner)
    elif isinstance(value, dict):
        for name in _SAID:
            if value.get(name):
                yield from thoughts(value[name])
                return
