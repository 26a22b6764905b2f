"""Rates: the price of one token of each class, and the classes of a turn's tokens. No I/O."""

import msgspec

from chatnest.events import Usage

__all__ = ["NOTHING", "Rates", "Schedule", "Tokens"]


class Tokens(msgspec.Struct, frozen=True, gc=False):
    """The tokens of a turn in disjoint classes. ``written`` and ``written_1h`` were written to a
    cache, the latter for an hour. ``overlap`` is whether the figures had to be corrected, because a
    part exceeded its whole.
    """

    uncached: int
    cached: int
    written: int
    written_1h: int
    output: int
    reasoning: int
    overlap: bool = False

    @classmethod
    def of(cls, usage: Usage) -> "Tokens":
        """The classes of a usage. Negative figures count as 0. If the parts of the input add up
        to more than the input, the tokens written to a cache count in full, because they are the
        dearest.
        """
        taken, given = max(0, usage.input_tokens), max(0, usage.output_tokens)
        written = min(max(0, usage.cache_written_tokens), taken)
        written_1h = min(max(0, usage.cache_written_1h_tokens), written)
        cached = min(max(0, usage.cached_tokens), taken - written)
        reasoning = min(max(0, usage.reasoning_tokens), given)
        parts = usage.cached_tokens, usage.cache_written_tokens, usage.cache_written_1h_tokens
        return cls(
            uncached=taken - written - cached,
            cached=cached,
            written=written - written_1h,
            written_1h=written_1h,
            output=given - reasoning,
            reasoning=reasoning,
            overlap=(*parts, usage.reasoning_tokens) != (cached, written, written_1h, reasoning),
        )

    @property
    def input(self) -> int:
        """All tokens of the input."""
        return self.uncached + self.cached + self.written + self.written_1h


class Rates(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The price of one token of each class, in pico-dollars. A class without its own price
    has the price of ``input``, ``cache_write`` or ``output``.
    """

    input: int
    cached_input: int
    cache_write: int
    cache_write_1h: int
    output: int
    reasoning: int

    @property
    def dearest_input(self) -> int:
        """The dearest price of a token of the input."""
        return max(self.input, self.cached_input, self.cache_write, self.cache_write_1h)

    @property
    def dearest_output(self) -> int:
        """The dearest price of a token of the output."""
        return max(self.output, self.reasoning)

    def cost(self, tokens: Tokens) -> int:
        """The cost of tokens, in pico-dollars."""
        return (
            tokens.uncached * self.input
            + tokens.cached * self.cached_input
            + tokens.written * self.cache_write
            + tokens.written_1h * self.cache_write_1h
            + tokens.output * self.output
            + tokens.reasoning * self.reasoning
        )

    def estimated(self, tokens: Tokens) -> int:
        """The cost of tokens that we have counted ourselves, in pico-dollars. It is unknown
        which of them an automatic cache has stored, and which were thinking.
        """
        taken = max(self.input, self.cache_write)
        return tokens.input * taken + (tokens.output + tokens.reasoning) * self.dearest_output


NOTHING = Rates(input=0, cached_input=0, cache_write=0, cache_write_1h=0, output=0, reasoning=0)
"""The rates of a free model."""


class Schedule(msgspec.Struct, frozen=True):
    """Rates by the length of the input. ``steps`` has pairs of a number of tokens and the rates for
    longer inputs, in ascending order, beginning with 0. The last step that the input exceeds prices
    the whole request.
    """

    steps: tuple[tuple[int, Rates], ...]

    def rates(self, input_tokens: int) -> Rates:
        """The rates of a request with an input of this length."""
        found = self.steps[0][1]
        for above, rates in self.steps[1:]:
            if input_tokens > above:
                found = rates
        return found
