"""Events: the values that flow through a stream, from a provider to a wire format. No I/O.

A provider yields pieces of the answer, NotReasoning, Usage and Finish. A client gets Start, pieces,
Ping, Done and Failed, in the order ``Start (Piece | Ping)* (Done | Failed)``, or Failed alone. Each
wire format decides which pieces its clients see.

Events are msgspec Structs, and most of them are not tracked by the garbage collector: there is one
Delta for every token.
"""

from typing import Literal

import msgspec

__all__ = [
    "ClientEvent",
    "Delta",
    "Done",
    "Failed",
    "Finish",
    "LastEvent",
    "NotReasoning",
    "Numbered",
    "Piece",
    "Ping",
    "ProviderEvent",
    "Reasoning",
    "ReasoningSignature",
    "Refusal",
    "Source",
    "Start",
    "ToolCall",
    "ToolCallDelta",
    "Usage",
]

from chatnest.errors import ChatNestError


class Start(msgspec.Struct, frozen=True, gc=False):
    """The model has taken the request."""


class Delta(msgspec.Struct, frozen=True, gc=False):
    """A piece of the answer, as the model cut it. It is never empty. Its repr hides the text."""

    text: str

    def __repr__(self) -> str:
        return f"Delta(<{len(self.text)} characters>)"


class Reasoning(msgspec.Struct, frozen=True, gc=False, tag="reasoning"):
    """A piece of the model's thinking, which counts as output. An empty text means that there is
    thinking that the provider does not show. A ReasoningSignature, or any other piece, ends a block
    of thinking.
    """

    text: str

    def __repr__(self) -> str:
        return f"Reasoning(<{len(self.text)} characters>)"


class NotReasoning(msgspec.Struct, frozen=True, gc=False):
    """The answer has ended, and all of its Reasoning turned out to be its text."""


class ReasoningSignature(msgspec.Struct, frozen=True, gc=False, tag="signature"):
    """Proof of a block of thinking for its provider: a signature, or the thinking in encrypted
    form. The block is all the Reasoning since the last other piece, if any.

    ``provider`` and ``model`` are the only ones that accept it: the name of a dialect, such as
    ``anthropic-messages``, and the upstream name of the model. ``redacted`` is thinking that the
    provider does not show. ``id`` is the provider's id of the block, if it has one.
    """

    signature: str
    provider: str
    model: str
    redacted: bool = False
    id: str = ""

    def __repr__(self) -> str:
        return f"ReasoningSignature(<{len(self.signature)} characters>, {self.provider!r})"


class Refusal(msgspec.Struct, frozen=True, gc=False, tag="refusal"):
    """A piece of the text with which the model refuses to answer."""

    text: str

    def __repr__(self) -> str:
        return f"Refusal(<{len(self.text)} characters>)"


class ToolCall(msgspec.Struct, frozen=True, gc=False, tag="tool_call"):
    """The model begins to call a tool of the client's. ``index`` counts the calls of an answer from
    0, and ``id`` names this one in the conversation. Its arguments follow as ToolCallDeltas.
    """

    index: int
    id: str
    name: str


class ToolCallDelta(msgspec.Struct, frozen=True, gc=False, tag="tool_arguments"):
    """A piece of the arguments of the tool call ``index``, as the model cut it. The pieces of two
    calls may alternate.
    """

    index: int
    text: str

    def __repr__(self) -> str:
        return f"ToolCallDelta({self.index}, <{len(self.text)} characters>)"


class Source(msgspec.Struct, frozen=True, gc=False, tag="source"):
    """A page that the answer refers to. ``start`` and ``end`` are the characters of the text that
    it belongs to, if they are known; otherwise both are 0.
    """

    url: str
    title: str = ""
    start: int = 0
    end: int = 0

    def __repr__(self) -> str:
        return f"Source(<{len(self.url)} characters>)"


class Ping(msgspec.Struct, frozen=True, gc=False):
    """A sign of life while there is nothing else to send."""


class Usage(msgspec.Struct, frozen=True, gc=False):
    """The cost of a request, in tokens.

    ``source`` is ``"provider"`` for the model's own figure, ``"estimated"`` for ours.
    ``input_tokens`` includes tokens that were read from a cache or written to one, and
    ``output_tokens`` includes the reasoning. ``cache_written_tokens`` includes those that were
    written for an hour. The rest is what the provider says, where it does: ``service_tier`` and
    ``model`` are those that have served the request, ``response_id`` is its name of the response,
    and ``stated_cost`` is its own price in nano-dollars.
    """

    input_tokens: int
    output_tokens: int
    source: Literal["provider", "estimated"] = "provider"
    cached_tokens: int = 0
    cache_written_tokens: int = 0
    reasoning_tokens: int = 0
    cache_written_1h_tokens: int = 0
    service_tier: str = ""
    model: str = ""
    response_id: str = ""
    stated_cost: int | None = None

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens


class Finish(msgspec.Struct, frozen=True, gc=False):
    """The model has finished, for a reason: ``stop``, ``length``, ``content_filter``..."""

    reason: str


class Done(msgspec.Struct, frozen=True):
    """The answer is complete. The last event of a stream.

    ``incomplete`` is whether the answer broke off within the arguments of a tool call: then its
    last call must not be made.
    """

    finish_reason: str
    usage: Usage
    incomplete: bool = False


class Failed(msgspec.Struct, frozen=True):
    """The answer is incomplete, or never began. The last event of a stream.

    ``charged`` is whether the turn was charged any tokens.
    """

    error: ChatNestError
    charged: bool = False


class Numbered(msgspec.Struct, frozen=True, gc=False):
    """An event of a run, with its number. A reader resumes after it. An event without a number
    concerns one response only.
    """

    number: int
    event: "Piece | Done | Failed"


Piece = Delta | Reasoning | ReasoningSignature | Refusal | ToolCall | ToolCallDelta | Source
"""A piece of an answer, in the order of arrival. A closed union: ``match`` it, and end with
``assert_never``. Then mypy finds each place that a new event concerns.
"""

ProviderEvent = Piece | NotReasoning | Usage | Finish
"""The events of a provider, a closed union as above."""

ClientEvent = Start | Piece | Ping | Done | Failed | Numbered
"""The events that a client gets, a closed union as above."""

LastEvent = Done | Failed | Numbered
"""The last event of a stream. A Numbered contains Done or Failed here."""
