"""What flows through a stream: from a provider to a wire format, one meaning each. No I/O.

A provider yields Delta, Usage and Finish; Reasoning, NotReasoning and ToolCall are for the books
alone so far. The client is shown Start, Delta, Ping, Done and
Failed, in the order ``Start (Delta | Ping)* (Done | Failed)``, or Failed alone. They are msgspec
Structs without garbage-collector tracking, since one Delta is made for every token.
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
    """A piece of the answer, as the model cut it; never empty, and not in its repr."""

    text: str

    def __repr__(self) -> str:
        return f"Delta(<{len(self.text)} characters>)"


class Reasoning(msgspec.Struct, frozen=True, gc=False):
    """A piece of the model's thinking, which counts as output. It may be empty: a sign of some that
    is not shown.
    """

    text: str

    def __repr__(self) -> str:
        return f"Reasoning(<{len(self.text)} characters>)"


class NotReasoning(msgspec.Struct, frozen=True, gc=False):
    """All Reasoning of this answer was its text, as it turned out at its end."""


class ToolCall(msgspec.Struct, frozen=True, gc=False):
    """A piece of a tool's call, its name or its arguments, which counts as output."""

    text: str

    def __repr__(self) -> str:
        return f"ToolCall(<{len(self.text)} characters>)"


class Ping(msgspec.Struct, frozen=True, gc=False):
    """Nothing happened, and the stream lives."""


class Usage(msgspec.Struct, frozen=True, gc=False):
    """What the request cost, in tokens.

    ``source`` is ``"provider"`` for the model's own figure, ``"estimated"`` for ours. The input is
    all of it, with what was read from a cache and what was written to it; the output is all of it,
    with the reasoning.
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
    """The model says that it is finished, and why: ``stop``, ``length``, ``content_filter``..."""

    reason: str


class Done(msgspec.Struct, frozen=True):
    """The answer is whole. Terminal."""

    finish_reason: str
    usage: Usage


class Failed(msgspec.Struct, frozen=True):
    """The answer is not whole, or never began. Terminal.

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
"""What a provider yields: a closed union. ``match`` it, and end with ``assert_never``: then mypy
finds each place that a new event concerns.
"""

ClientEvent = Start | Delta | Ping | Done | Failed | Numbered
"""What a client is sent: a closed union, as above."""

LastEvent = Done | Failed | Numbered
"""The last of them; a Numbered with Done or Failed."""
