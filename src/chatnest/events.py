"""Events: the values that flow through a stream, from a provider to a wire format. No I/O.

A provider yields Delta, Reasoning, NotReasoning, ToolCall, Usage and Finish. A client gets Start,
Delta, Ping, Done and Failed, in the order ``Start (Delta | Ping)* (Done | Failed)``, or Failed
alone. Reasoning, NotReasoning and ToolCall are counted, and no client gets them yet.

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
    "Ping",
    "ProviderEvent",
    "Reasoning",
    "Start",
    "ToolCall",
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


class Reasoning(msgspec.Struct, frozen=True, gc=False):
    """A piece of the model's thinking, which counts as output. An empty text means that there is
    thinking that the provider does not show.
    """

    text: str

    def __repr__(self) -> str:
        return f"Reasoning(<{len(self.text)} characters>)"


class NotReasoning(msgspec.Struct, frozen=True, gc=False):
    """The answer has ended, and all of its Reasoning turned out to be its text."""


class ToolCall(msgspec.Struct, frozen=True, gc=False):
    """A piece of a tool call, of its name or its arguments, which counts as output."""

    text: str

    def __repr__(self) -> str:
        return f"ToolCall(<{len(self.text)} characters>)"


class Ping(msgspec.Struct, frozen=True, gc=False):
    """A sign of life while there is nothing else to send."""


class Usage(msgspec.Struct, frozen=True, gc=False):
    """The cost of a request, in tokens.

    ``source`` is ``"provider"`` for the model's own figure, ``"estimated"`` for ours.
    ``input_tokens`` includes tokens that were read from a cache or written to one, and
    ``output_tokens`` includes the reasoning.
    """

    input_tokens: int
    output_tokens: int
    source: Literal["provider", "estimated"] = "provider"
    cached_tokens: int = 0
    cache_written_tokens: int = 0
    reasoning_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens


class Finish(msgspec.Struct, frozen=True, gc=False):
    """The model has finished, for a reason: ``stop``, ``length``, ``content_filter``..."""

    reason: str


class Done(msgspec.Struct, frozen=True):
    """The answer is complete. The last event of a stream."""

    finish_reason: str
    usage: Usage


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
    event: Delta | Done | Failed


ProviderEvent = Delta | Reasoning | NotReasoning | ToolCall | Usage | Finish
"""The events of a provider, a closed union. ``match`` it, and end with ``assert_never``: then mypy
finds each place that a new event concerns.
"""

ClientEvent = Start | Delta | Ping | Done | Failed | Numbered
"""The events that a client gets, a closed union as above."""

LastEvent = Done | Failed | Numbered
"""The last event of a stream. A Numbered contains Done or Failed here."""
