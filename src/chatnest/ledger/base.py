"""Ledger: the seam to the books of holds and use, and the values that cross it. No I/O.

Amounts are whole tokens, nano-dollars, requests or streams; times are whole milliseconds since the
epoch, by the ledger's own clock.
"""

import time
from typing import Final, Literal, Protocol

import msgspec

from chatnest.errors import ConfigurationError
from chatnest.ledger.limit import Limit, Unit
from chatnest.ledger.watch import Watch
from chatnest.prices.money import MAX_COST, MAX_PICOS, MAX_TOKENS, nanos_of

__all__ = [
    "Admitted",
    "Charge",
    "Cost",
    "Facts",
    "Hold",
    "Ledger",
    "Limit",
    "LimitState",
    "Line",
    "Refused",
    "Reservation",
    "Settlement",
    "amounts_of",
    "wall_clock",
]


def wall_clock() -> int:
    """Milliseconds since the epoch: the default clock of a ledger."""
    return time.time_ns() // 1_000_000


class Cost(msgspec.Struct, frozen=True, gc=False):
    """The cost of a turn in a unit, by its output: ``fixed + per_output * output``."""

    fixed: int
    per_output: int


_ONE: Final = Cost(1, 0)

_MOST_PER_OUTPUT: Final = nanos_of(MAX_PICOS)
"""Maximum nano-dollars of a token. With the bounds of prices, all products are exact everywhere."""


class Reservation(msgspec.Struct, frozen=True, kw_only=True):
    """A request to hold the cost of an answer under all of its limits, or under none.

    The worker makes ``id`` before its first attempt; it makes every operation idempotent.
    ``output`` is the maximum tokens of the answer. A limit with less left grants less output, down
    to ``min_output``. A token of the input costs one token, like one of the output; ``money`` is
    the cost in nano-dollars at the dearest price that may apply. ``lease`` (TTL) is in
    milliseconds. ``principal`` is who asks: a ledger may keep the usage beside its account.

    Raises ConfigurationError for costs so large that a store could not count them exactly.
    """

    id: str
    limits: tuple[Limit, ...]
    output: int
    min_output: int
    input_tokens: int = 0
    money: Cost = Cost(0, 0)
    lease: int = 30_000
    principal: str = ""

    def __post_init__(self) -> None:
        money, most = self.money, max(self.output, self.min_output)
        if not (
            min(self.output, self.min_output, self.input_tokens, money.per_output, money.fixed) >= 0
            and max(most, self.input_tokens) <= MAX_TOKENS
            and money.per_output <= _MOST_PER_OUTPUT
            and money.fixed + money.per_output * most <= MAX_COST
        ):
            raise ConfigurationError(
                f"reservation: expected at most {MAX_TOKENS:,} tokens, {_MOST_PER_OUTPUT:,} "
                f"nano-dollars a token and {MAX_COST:,} a turn, and nothing below 0, got "
                f"{self.input_tokens:,} tokens and an output of {most:,} for {money!r}. Correct "
                "the price, or lower the maximum output."
            )

    @property
    def tokens(self) -> int:
        """The maximum tokens of input and output together."""
        return self.input_tokens + self.output

    def costs(self) -> dict[Unit, Cost]:
        """The cost in each unit."""
        tokens = Cost(self.input_tokens, 1)
        return {"tokens": tokens, "money": self.money, "requests": _ONE, "streams": _ONE}


def amounts_of(tokens: int, money: int) -> dict[Unit, int]:
    """The amount of each unit that a turn holds or is charged: these, or one."""
    return {"tokens": tokens, "money": money, "requests": 1, "streams": 1}


# A ledger in memory keeps a hundred thousand of the next two, and of their records. They cannot be
# part of a cycle, so ``gc=False`` shortens the pauses of the garbage collector.


class Line(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A place that a hold counts on, with its amount of the unit: a counter or, with a ``serial``
    above 0, a bucket of a sliding window.
    """

    key: str
    unit: Unit
    serial: int = -1


class Hold(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An admitted reservation: ``tokens`` or ``money`` (nano-dollars) on each line of that unit,
    and one on the others. ``output`` is the maximum tokens of the answer. ``watched`` are the
    windows of its admission whose limits have ``warn_at``.

    It contains all that a settlement needs, so that a ledger can settle a hold it has forgotten.
    """

    id: str
    tokens: int
    lines: tuple[Line, ...]
    money: int = 0
    output: int = 0
    watched: tuple[Watch, ...] = ()


class Facts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The facts of a record beside the cost. ``price`` is the version of the price that was
    charged, and ``stated`` what the provider says that it cost, in nano-dollars.
    """

    groups: dict[str, str] = {}
    plan: str = ""
    wanted: int = 0
    granted: int = 0
    served_model: str = ""
    tier: str = ""
    cached_tokens: int = 0
    cache_written_tokens: int = 0
    reasoning_tokens: int = 0
    price: str = ""
    stated: int = 0
    response_id: str = ""


class Charge(msgspec.Struct, frozen=True, kw_only=True):
    """The cost of a turn, and how it was determined. No content of messages.

    Limits are charged ``tokens``, ``money`` (nano-dollars), or one request; ``source`` is where the
    figures are from.
    """

    tokens: int
    money: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    source: Literal["provider", "estimated", "none"] = "none"
    outcome: str = "done"
    principal: str = ""
    profile: str = ""
    model: str = ""
    facts: Facts = Facts()


class LimitState(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The state of a limit. ``resets_at`` is the next time at which use expires by itself.
    ``granted`` is what grants have added to its amount.
    """

    limit: Limit
    used: int
    held: int
    resets_at: int | None
    granted: int = 0

    @property
    def remaining(self) -> int:
        return max(0, self.limit.amount + self.granted - self.used - self.held)


class Admitted(msgspec.Struct, frozen=True, kw_only=True):
    """The reservation is held. ``now`` is the ledger's time of the answer. ``over`` are the names
    of the shadow limits that would have refused it.
    """

    hold: Hold
    states: tuple[LimitState, ...]
    now: int
    over: tuple[str, ...] = ()


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """The reservation is refused, and nothing was counted.

    ``state`` is the limit that refused, or None if the id belongs to a hold that has ended.
    ``retry_after`` is in milliseconds; a retry after it succeeds, unless other requests come first,
    running answers hold a part of another limit, or the clock is set back. It is None if waiting
    does not help: the limit is too small for the request. ``by_held`` is true if running answers
    hold the amount that is missing; then ``retry_after`` is a guess.
    """

    state: LimitState | None
    retry_after: int | None
    now: int
    by_held: bool = False


class Settlement(msgspec.Struct, frozen=True, kw_only=True):
    """The end of a hold: the ``tokens`` and ``money`` charged, and whether this call ended it
    ``first``.
    """

    tokens: int
    first: bool
    money: int = 0


class Ledger(Protocol):
    """The books of accounts. Every operation is atomic, and idempotent by the hold's id.

    Every operation raises LedgerUnavailable if the books cannot be reached. The call may
    have taken effect nevertheless.
    """

    async def reserve(self, reservation: Reservation) -> Admitted | Refused:
        """Check all limits and hold under all of them, or under none, in one step.

        Raises ZoneConflict if the books count a limit's name in another time zone, or unit.
        """

    async def renew(self, hold: Hold, lease: int) -> None:
        """Renew the lease of a live hold: it ends ``lease`` milliseconds from now."""

    async def settle(self, hold: Hold, charge: Charge) -> Settlement:
        """Replace the hold by its actual cost. Also corrects the charge of an expired hold."""

    async def release(self, reservation: Reservation) -> None:
        """Make sure that a reservation holds nothing, now or later, even if its answer was lost."""

    async def usage(self, limits: tuple[Limit, ...]) -> tuple[LimitState, ...]:
        """The states of these limits, in their order. Changes nothing. Raises ZoneConflict."""

    def now(self) -> int:
        """The ledger's time, as far as this process knows it without I/O."""

    async def check(self) -> None:
        """Raise LedgerUnavailable unless the books can be written."""

    async def aclose(self) -> None:
        """Finish what was begun, and close files, threads and connections."""
