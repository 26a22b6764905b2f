"""Answer: the fake upstream's response to one request, faults included. No I/O."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from chatnest.testing.upstream.faulty import FaultyDelivery
from chatnest.testing.upstream.parts import Part, Refusal, Text, TokenUsage, ToolCall, words

__all__ = ["Answer", "content_of", "reason_of", "usage_of"]

_INPUT_TOKENS = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer(FaultyDelivery):
    """The fake upstream's response to one request. The default is a short, complete answer.

    The path of the request chooses the API that the answer is sent in: Chat Completions, Responses
    or Messages. A request without ``"stream": true`` gets the answer as one JSON object. The class
    methods build the faults; `Delivery` has the fields for the way in which the bytes are sent.
    """

    pieces: tuple[str, ...] = ("Hello", " world", "!")
    """The deltas of the text. `max_tokens` of the request does not shorten them."""
    repeat: float = 1
    """Number of times the pieces are sent; `math.inf` never ends. Parts have a `repeat` of their
    own."""
    refusal: bool = False
    """Send the pieces as a refusal."""
    parts: Sequence[Part] | None = None
    """The content, instead of `pieces`. Each delta of a part counts as a piece."""
    finish_reason: str | None = "auto"
    """The finish reason: "stop", "length", "content_filter", "tool_calls" or "refusal", in the
    words of the API. Another word is sent as it is. "auto" follows from the content. With None no
    finish reason is sent, but the last event is (``[DONE]``, `message_stop`)."""
    usage: TokenUsage | tuple[int, int] | Literal["auto"] | None = "auto"
    """The usage, or input and output tokens; "auto" is (9, number of pieces); None is never sent.
    Chat Completions sends it only if the request asks for it."""
    usage_fields: Mapping[str, Any] = field(default_factory=dict)
    """More fields of the usage, such as ``{"cost": 0.0012}`` of OpenRouter."""
    service_tier: str | None = None
    """The service tier that the response names; None is the standard tier of the API."""

    usage_on_every_chunk: bool = False
    """Chat Completions: send usage with each chunk, requested or not, as vLLM can; completion
    tokens grow."""
    null_first_delta: bool = False
    """Chat Completions: send ``"content": null`` in the first delta, as llama.cpp does."""
    thinking_field: Literal["reasoning_content", "reasoning", "thinking"] = "reasoning_content"
    """Chat Completions: the name of the field for thinking, which the API itself does not have."""
    reasoning_details: bool = False
    """Chat Completions: send thinking and its signature in ``reasoning_details`` too, as
    OpenRouter does. Otherwise signatures and encrypted thinking are left out."""

    @classmethod
    def text(cls, text: str, **fields: Any) -> Self:
        """Send `text` word by word."""
        return cls(pieces=words(text), **fields)

    @classmethod
    def tokens(cls, count: int, piece: str = " a", **fields: Any) -> Self:
        """Send `count` equal pieces, for example more than `max_tokens`, or a million tiny ones."""
        return cls(pieces=(piece,), repeat=count, **fields)

    @classmethod
    def endless(cls, piece: str = " a", **fields: Any) -> Self:
        """Send pieces for as long as the client reads."""
        return cls(pieces=(piece,), repeat=math.inf, **fields)


def reason_of(answer: Answer) -> str | None:
    """Return the finish reason of an answer, which follows from its parts if it is "auto"."""
    if answer.finish_reason != "auto":
        return answer.finish_reason
    kinds = {type(part) for part in content_of(answer)}
    if ToolCall in kinds:
        return "tool_calls"
    return "refusal" if Refusal in kinds else "stop"


def usage_of(answer: Answer, sent: int) -> TokenUsage:
    """Return the usage of an answer of which `sent` pieces have been sent."""
    usage = answer.usage
    if isinstance(usage, TokenUsage):
        return usage
    return TokenUsage(*usage) if isinstance(usage, tuple) else TokenUsage(_INPUT_TOKENS, sent)


def content_of(answer: Answer) -> Sequence[Part]:
    """Return the parts of an answer."""
    if answer.parts is not None:
        return answer.parts
    return ((Refusal if answer.refusal else Text)(answer.pieces, repeat=answer.repeat),)
