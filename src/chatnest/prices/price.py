"""Price: the price of a model from a date on, and the costs of requests by it. No I/O."""

from collections.abc import Collection, Mapping
from datetime import date
from functools import cached_property
from hashlib import sha256
from itertools import chain
from operator import itemgetter
from typing import Final, Literal, NamedTuple

import msgspec

from chatnest.events import Usage
from chatnest.prices.money import MAX_CHARGE, MAX_COST, MAX_TOKENS, nanos_of
from chatnest.prices.rates import NOTHING, Schedule, Tokens

__all__ = ["FREE", "STANDARD_TIERS", "Bill", "CostBound", "Note", "Price"]

STANDARD_TIERS: Final = frozenset({"", "auto", "default", "standard", "on_demand", "on-demand"})
"""Names of service tiers by which providers mean the standard price."""

_VERSION_DIGITS: Final = 12
"""Hexadecimal digits of a version."""

Note = Literal["unknown_tier", "overlapping_tokens", "capped"]
"""A finding about a bill: a service tier without a price, parts of a usage that exceed their
whole, or a sum above $1,000.
"""


class CostBound(NamedTuple):
    """The most that a request may cost, in nano-dollars: ``fixed + per_output * output``."""

    fixed: int
    per_output: int

    def cost(self, output_tokens: int) -> int:
        """The most with this output. Raises ValueError above the bounds of a ledger."""
        cost = self.fixed + self.per_output * output_tokens
        if not 0 <= output_tokens <= MAX_TOKENS or cost > MAX_COST:
            raise ValueError(f"a request of {cost} nano-dollars is above the maximum")
        return cost

    @property
    def most_output(self) -> int:
        """The largest output whose cost is within the bounds of a ledger."""
        if not self.per_output:
            return MAX_TOKENS
        return min(MAX_TOKENS, (MAX_COST - self.fixed) // self.per_output)


class Bill(msgspec.Struct, frozen=True):
    """The cost of a turn in nano-dollars. ``tier`` is the service tier by which it was priced, and
    empty for the standard price. ``notes`` are the findings.
    """

    nanos: int
    tier: str = ""
    notes: tuple[Note, ...] = ()


class Price(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """The price of a model, from ``since`` on (UTC). ``tiers`` has the prices of service
    tiers other than the standard one, by name. ``Prices.of`` reads prices from a configuration.
    """

    standard: Schedule
    tiers: Mapping[str, Schedule] = {}
    since: date | None = None

    @property
    def is_free(self) -> bool:
        """Whether the model costs nothing, by its configuration."""
        return self == msgspec.structs.replace(FREE, since=self.since)

    @cached_property
    def version(self) -> str:
        """A short name of this price and its date for records: equal for equal prices."""
        schedules = {"": self.standard, **self.tiers}
        document = [
            str(self.since or ""),
            [[name, _numbers(each)] for name, each in sorted(schedules.items())],
        ]
        return sha256(msgspec.json.encode(document)).hexdigest()[:_VERSION_DIGITS]

    def bound(self, input_tokens: int, *, tiers: Collection[str] | None = None) -> CostBound:
        """The most that a request may cost, by the dearest price that may apply to it.

        ``input_tokens`` is an upper bound of its input. ``tiers`` are the service tiers, beside the
        standard one, that may serve it; None means all that have a price. A tier without a price is
        ignored here. Raises ValueError above a billion tokens.
        """
        if not 0 <= input_tokens <= MAX_TOKENS:
            raise ValueError(f"an input of {input_tokens} tokens is above the maximum")
        taken = given = 0
        for above, of_input, of_output in self._ceilings if tiers is None else self._of(tiers):
            if above and input_tokens <= above:
                break
            taken, given = of_input, of_output
        return CostBound(nanos_of(input_tokens * taken), given)

    def charge(self, usage: Usage, tier: str | None = None) -> int:
        """The cost of a turn in nano-dollars: see bill."""
        return self.bill(usage, tier).nanos

    def bill(self, usage: Usage, tier: str | None = None) -> Bill:
        """The cost of a turn, by the classes of its tokens, rounded up once.

        ``tier`` is the service tier that has served it; None means that of the usage. A tier
        without a price is priced as the dearest one. A usage that we have estimated is priced as if
        all its input had been written to a cache. A sum above $1,000 is a fault, and is
        charged as $1,000.
        """
        tokens = Tokens.of(usage)
        served = (usage.service_tier if tier is None else tier).strip().lower()
        notes: list[Note] = ["overlapping_tokens"] if tokens.overlap else []
        if served in self.tiers:
            candidates = [served]
        elif served in STANDARD_TIERS:
            candidates = [""]
        else:
            candidates = ["", *self.tiers]
            notes.append("unknown_tier")
        picos, name = max([(self._cost(each, usage, tokens), each) for each in candidates])
        nanos = nanos_of(picos)
        if nanos > MAX_CHARGE:
            nanos = MAX_CHARGE
            notes.append("capped")
        return Bill(nanos, name, tuple(notes))

    def _cost(self, tier: str, usage: Usage, tokens: Tokens) -> int:
        schedule = self.tiers[tier] if tier else self.standard
        rates = schedule.rates(tokens.input)
        return rates.estimated(tokens) if usage.source == "estimated" else rates.cost(tokens)

    @cached_property
    def _ceilings(self) -> tuple[tuple[int, int, int], ...]:
        return self._of(self.tiers)

    def _of(self, tiers: Collection[str]) -> tuple[tuple[int, int, int], ...]:
        """The dearest prices by the length of the input, of a token of it in pico-dollars, and of
        one of the output in nano-dollars. A length is an upper bound, so all prices of shorter
        inputs may apply as well.
        """
        schedules = [self.standard, *(self.tiers[name] for name in tiers if name in self.tiers)]
        steps = sorted(chain.from_iterable(each.steps for each in schedules), key=itemgetter(0))
        found: dict[int, tuple[int, int]] = {}
        taken = given = 0
        for above, rates in steps:
            taken, given = max(taken, rates.dearest_input), max(given, rates.dearest_output)
            found[above] = taken, given
        return tuple([(above, of_in, nanos_of(of_out)) for above, (of_in, of_out) in found.items()])


FREE: Final = Price(standard=Schedule(((0, NOTHING),)))
"""The price of a model that costs nothing."""


def _numbers(schedule: Schedule) -> list[tuple[int, ...]]:
    return [(above, *msgspec.structs.astuple(rates)) for above, rates in schedule.steps]
