"""Ledger: who holds and has used how much. The seam, and the values that cross it. No I/O.

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
    """Milliseconds since the epoch, in UTC: the clock of a ledger that is given none."""
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
            f"{limit!r}: window: a budget is counted by the calendar day, so expected {_DAY}, got "
            f"{limit.window}. Leave window out; there are no budgets of weeks or months."
        )
    if limit.kind == "rate":
        return f"{limit!r}: timezone: a rate's window has none. Leave timezone out."
    return f"{limit!r}: a concurrency has no window and no timezone. Leave both out."


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """One limit that a request must fit under.

    ``rate``: at most ``limit`` requests in any window of ``window`` seconds. ``budget``: at most
    ``limit`` tokens in a calendar day of ``timezone``, of which a ledger keeps one for each name.
    ``concurrency``: at most ``limit`` streams at a time. What is counted belongs to ``account`` and
    ``name``, whatever the limit's size, so that a change of size never opens a second budget. A
    ``hidden`` one is the service's own affair: its figures are in no header field, refusal or
    ``/limits``. Raises ConfigurationError for anything else, and for a ``window`` or ``timezone``
    that the kind has no use for: what cannot be counted would limit nothing.
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
            raise ConfigurationError(f"{self!r} is no limit: its name has a colon or a quote")
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
    """A wish to hold: all limits at once, or nothing.

    ``id`` is made by the worker before its first attempt and makes every operation idempotent.
    ``tokens`` is the worst case of what will be sent upstream; a budget with less left grants
    less, down to ``min_tokens``. ``lease`` is in milliseconds.
    """

    id: str
    limits: tuple[Limit, ...]
    tokens: int
    min_tokens: int
    lease: int = 30_000


# A ledger in memory keeps a hundred thousand of these two, and of their records. They know nothing
# that could know them: the garbage collector, which stops everything meanwhile, need not look.


class Line(msgspec.Struct, frozen=True, gc=False):
    """One counter that a hold weighs on: by its tokens, or as one stream."""

    key: str
    unit: Literal["tokens", "streams"]


class Hold(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What was admitted: ``tokens`` on every line of that unit, one stream on the others.

    It is enough to charge by, also for a ledger that has forgotten the reservation.
    """

    id: str
    tokens: int
    lines: tuple[Line, ...]


class Charge(msgspec.Struct, frozen=True, kw_only=True):
    """What a turn cost, and how it came to that. No content of any message.

    ``tokens`` is what the budgets are charged, ``source`` whose figure that is.
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
    """How a limit stands. ``resets_at`` is when something comes back without anybody's doing."""

    limit: Limit
    used: int
    held: int
    resets_at: int | None

    @property
    def remaining(self) -> int:
        return max(0, self.limit.limit - self.used - self.held)


class Admitted(msgspec.Struct, frozen=True, kw_only=True):
    """The hold stands. ``now`` is the ledger's time of the answer."""

    hold: Hold
    states: tuple[LimitState, ...]
    now: int


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing was counted anywhere.

    ``state`` is the limit that refused, or None where the id belongs to a hold that has ended.
    ``retry_after`` is in milliseconds: who waits that long gets in, unless somebody else came
    first. ``by_held`` says that running answers, not used-up tokens, stand in the way.
    """

    state: LimitState | None
    retry_after: int
    now: int
    by_held: bool = False


class Settlement(msgspec.Struct, frozen=True, kw_only=True):
    """How a hold ended: ``tokens`` charged, and whether this very call did it."""

    tokens: int
    first: bool


class Ledger(Protocol):
    """Where accounts are kept. Every operation is atomic, and idempotent by the hold's id.

    Any of them raises LedgerUnavailable when the books cannot be reached; what came of that call
    is then unknown.
    """

    async def reserve(self, reservation: Reservation) -> Admitted | Refused:
        """Check every limit and hold all of them, or none, in one step.

        Raises ZoneConflict for a budget whose name the books count in another time zone.
        """

    async def renew(self, hold: Hold, lease: int) -> None:
        """Keep a live hold for ``lease`` milliseconds from now on."""

    async def settle(self, hold: Hold, charge: Charge) -> Settlement:
        """Replace the hold by what it really cost. Also corrects a hold that had expired."""

    async def release(self, reservation: Reservation) -> None:
        """Make sure that a reservation whose answer was lost holds nothing, now or later."""

    async def usage(self, limits: tuple[Limit, ...]) -> tuple[LimitState, ...]:
        """How these limits stand, in their order. Changes nothing. Raises ZoneConflict."""

    def now(self) -> int:
        """The ledger's time, as well as this process knows it without asking."""

    async def check(self) -> None:
        """Raise LedgerUnavailable unless the books can be written."""

    async def aclose(self) -> None:
        """Finish what was begun, and let go of files, threads and connections."""
