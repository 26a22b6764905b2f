"""Ledger: the seam to the books of holds and use, and the values that cross it. No I/O.

Amounts are whole tokens, requests or streams; times are whole milliseconds since the epoch, by the
ledger's own clock.
"""

import time
from collections.abc import Mapping
from typing import Final, Literal, Protocol

import msgspec

from chatnest.errors import ConfigurationError

__all__ = [
    "Admitted",
    "Charge",
    "Hold",
    "Ledger",
    "Limit",
    "LimitState",
    "Line",
    "Refused",
    "Reservation",
    "Settlement",
    "wall_clock",
]


def wall_clock() -> int:
    """Milliseconds since the epoch: the default clock of a ledger."""
    return time.time_ns() // 1_000_000


_UNITS: Final[Mapping[str, Literal["requests", "tokens", "streams"]]] = {
    "rate": "requests",
    "budget": "tokens",
    "concurrency": "streams",
}


_UTC: Final = "UTC"
_DAY: Final = 86_400
"""The window of a budget, in seconds: a calendar day, however long it is."""


def _unused(limit: "Limit") -> str:
    if limit.kind not in _UNITS:
        return f"{limit!r}: kind: expected one of {', '.join(_UNITS)}, got {limit.kind!r}."
    if limit.kind == "budget":
        return (
            f"{limit!r}: window: expected {_DAY} for a budget, which is counted by the calendar "
            f"day, got {limit.window}. Leave window out; there are no budgets of weeks or months."
        )
    if limit.kind == "rate":
        return (
            f"{limit!r}: timezone: expected none for a rate, got {limit.timezone!r}. Leave "
            "timezone out."
        )
    return (
        f"{limit!r}: window and timezone: expected neither for a concurrency limit, "
        "got one. Leave both out."
    )


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """One limit that a request must fit under.

    ``rate``: at most ``limit`` requests in a sliding window of ``window`` seconds. ``budget``: at
    most ``limit`` tokens in a calendar day of ``timezone``; all budgets of one name must have the
    same timezone. ``concurrency``: at most ``limit`` streams at a time. Counters belong to
    ``account`` and ``name``, not to the limit's size, so that a change of size never opens a second
    budget. The figures of a ``hidden`` limit appear in no header field, refusal or ``/limits``.

    Raises ConfigurationError for invalid values, and for a ``window`` or ``timezone`` that the kind
    does not use.
    """

    name: str
    kind: Literal["rate", "budget", "concurrency"]
    account: str
    limit: int
    window: int = 86_400
    timezone: str = "UTC"
    hidden: bool = False

    def __post_init__(self) -> None:
        limit, window = self.limit, self.window
        if not self.name or ":" in self.name or '"' in self.name:
            raise ConfigurationError(
                f"{self!r}: name: expected a non-empty text without colons or double quotes, "
                f"got {self.name!r}."
            )
        if type(limit) is not int or limit < 0 or type(window) is not int or window < 1:
            raise ConfigurationError(
                f"{self!r}: limit and window: expected integers, limit >= 0 and window >= 1."
            )
        if self.kind == "rate":
            unused = self.timezone != _UTC
        elif self.kind == "budget":
            unused = window != _DAY
        else:
            unused = window != _DAY or self.timezone != _UTC
        if unused or self.kind not in _UNITS:
            raise ConfigurationError(_unused(self))

    @property
    def unit(self) -> Literal["requests", "tokens", "streams"]:
        return _UNITS[self.kind]


class Reservation(msgspec.Struct, frozen=True, kw_only=True):
    """A request to hold tokens and streams under all of its limits, or under none.

    The worker makes ``id`` before its first attempt; it makes every operation idempotent.
    ``tokens`` is the worst case of the upstream call. A budget with less left grants less, down to
    ``min_tokens``. ``lease`` (TTL) is in milliseconds.
    """

    id: str
    limits: tuple[Limit, ...]
    tokens: int
    min_tokens: int
    lease: int = 30_000


# A ledger in memory keeps a hundred thousand of the next two, and of their records. They cannot be
# part of a cycle, so ``gc=False`` shortens the pauses of the garbage collector.


class Line(msgspec.Struct, frozen=True, gc=False):
    """A counter that a hold counts on: with its tokens, or as one stream."""

    key: str
    unit: Literal["tokens", "streams"]


class Hold(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An admitted reservation: ``tokens`` on each line of that unit, one stream on the others.

    It contains all that a settlement needs, so that a ledger can settle a hold it has forgotten.
    """

    id: str
    tokens: int
    lines: tuple[Line, ...]


class Charge(msgspec.Struct, frozen=True, kw_only=True):
    """The cost of a turn, and how it was determined. No content of messages.

    Budgets are charged ``tokens``; ``source`` is where that figure is from.
    """

    tokens: int
    input_tokens: int = 0
    output_tokens: int = 0
    source: Literal["provider", "estimated", "none"] = "none"
    outcome: str = "done"
    principal: str = ""
    profile: str = ""
    model: str = ""


class LimitState(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a limit. ``resets_at`` is the next time at which use expires by itself."""

    limit: Limit
    used: int
    held: int
    resets_at: int | None

    @property
    def remaining(self) -> int:
        return max(0, self.limit.limit - self.used - self.held)


class Admitted(msgspec.Struct, frozen=True, kw_only=True):
    """The reservation is held. ``now`` is the ledger's time of the answer."""

    hold: Hold
    states: tuple[LimitState, ...]
    now: int


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """The reservation is refused, and nothing was counted.

    ``state`` is the limit that refused, or None if the id belongs to a hold that has ended.
    ``retry_after`` is in milliseconds; a retry after it succeeds, unless other requests come first.
    ``by_held`` is true if the tokens are held by running answers, and not used up.
    """

    state: LimitState | None
    retry_after: int
    now: int
    by_held: bool = False


class Settlement(msgspec.Struct, frozen=True, kw_only=True):
    """The end of a hold: the ``tokens`` charged, and whether this call ended it ``first``."""

    tokens: int
    first: bool


class Ledger(Protocol):
    """The books of accounts. Every operation is atomic, and idempotent by the hold's id.

    Every operation raises LedgerUnavailable if the books cannot be reached. The call may have taken
    effect all the same.
    """

    async def reserve(self, reservation: Reservation) -> Admitted | Refused:
        """Check all limits and hold under all of them, or under none, in one step.

        Raises ZoneConflict if the books count a budget's name in another time zone.
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
