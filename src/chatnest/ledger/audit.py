"""Audit: the seam for operators, who read and correct a ledger's books. No I/O."""

from collections.abc import AsyncGenerator, Iterable, Mapping
from types import MappingProxyType
from typing import Final, Literal, Protocol, runtime_checkable

import msgspec

from chatnest.errors import ConfigurationError
from chatnest.ledger.base import Facts, Line
from chatnest.ledger.books import GRANTED, unit_of_scale
from chatnest.ledger.days import span_of
from chatnest.ledger.limit import MOST, Unit
from chatnest.ledger.usage import Refusals, UsageRow, Used
from chatnest.ledger.watch import Crossing

__all__ = [
    "Adjusted",
    "Adjustment",
    "Audit",
    "Audited",
    "Balance",
    "Drift",
    "Figure",
    "LiveHold",
    "TurnRecord",
    "UsageDrift",
    "Verdict",
    "ZoneChange",
    "check_kept",
    "check_total",
    "usage_key",
]

_MOST: Final[Mapping[Unit, int]] = {"tokens": 10**12, "requests": 10**12, "money": MOST}
"""Maximum of one adjustment in its unit. More is a typing error, and sums stay exact."""

_LONGEST_ID: Final = 200
"""Maximum characters of an adjustment's id."""

_LONGEST_REASON: Final = 500
"""Maximum characters of an adjustment's reason."""

_NO_SCALES: Final[Mapping[str, str]] = MappingProxyType({})

Figure = Literal["settled", "held", "overrun", "expired", "adjusted"]


class Balance(msgspec.Struct, frozen=True, kw_only=True):
    """A counter in the books: the figures of an account under one limit's name.

    Figures are in ``unit``, for one ``day``; money is in nano-dollars. If ``day`` is None they are
    streams, and only ``held`` is used. ``expired`` is the part of ``settled`` that was charged for
    expired holds. The day ``"ever"`` has the sums of the days that are no longer kept one by one,
    and ``"granted"`` what grants have added, as ``adjusted``.
    """

    account: str
    name: str
    day: str | None
    unit: Unit = "tokens"
    settled: int = 0
    held: int = 0
    overrun: int = 0
    expired: int = 0
    adjusted: int = 0

    @property
    def key(self) -> str:
        return f"{self.name}:{self.day or ''}:{self.account}"

    @property
    def used(self) -> int:
        """The figure that counts against the limit, in addition to ``held``."""
        return max(0, self.settled + self.adjusted) if self.day != GRANTED else 0

    @classmethod
    def at(
        cls, key: str, figures: Iterable[int] = (), scales: Mapping[str, str] = _NO_SCALES
    ) -> "Balance":
        """The balance of a counter's key. ``figures`` are in the order of the fields; ``scales``
        are those of the books, by name.
        """
        name, day, account = key.split(":", 2)
        named = dict(zip(cls.__struct_fields__[4:], figures, strict=False))
        unit = unit_of_scale(scales.get(name, "")) if day else "streams"
        return cls(account=account, name=name, day=day or None, unit=unit, **named)


class LiveHold(msgspec.Struct, frozen=True, kw_only=True):
    """A hold that was neither settled nor released. After ``expires_at`` it is charged as soon as
    its account is touched. Times are milliseconds since the epoch.
    """

    id: str
    tokens: int
    lines: tuple[Line, ...]
    admitted_at: int
    expires_at: int
    money: int = 0


class TurnRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The cost of a turn: ``tokens``, ``money`` (nano-dollars) or one request on each of its
    ``lines``, the keys of the counters that were charged. No content of messages.

    The outcome ``expired`` means that the turn was never settled; only its lines show whose it was.
    ``admitted_at`` is None if the books had forgotten the hold.
    """

    id: str
    tokens: int
    held: int
    settled_at: int
    admitted_at: int | None
    outcome: str
    source: str
    input_tokens: int = 0
    output_tokens: int = 0
    principal: str = ""
    profile: str = ""
    model: str = ""
    held_money: int = 0
    money: int = 0
    facts: Facts = Facts()
    lines: tuple[str, ...] = ()


class Adjustment(msgspec.Struct, frozen=True, kw_only=True):
    """A correction by an operator: a signed ``amount`` on one counter, in its unit, with a reason,
    and an id that makes it idempotent. On the day ``"granted"`` it adds to a lifetime limit. The
    ledger sets ``at``.

    Raises ConfigurationError for an invalid value.
    """

    id: str
    account: str
    name: str
    day: str
    amount: int
    reason: str
    at: int = 0

    def __post_init__(self) -> None:
        if not self.id or len(self.id) > _LONGEST_ID or not self.id.isprintable():
            raise ConfigurationError(
                f"id: expected 1 to {_LONGEST_ID} printable characters, got {self.id!r}. Give the "
                "adjustment another id."
            )
        if not self.reason.strip() or len(self.reason) > _LONGEST_REASON:
            raise ConfigurationError(
                f"reason: expected 1 to {_LONGEST_REASON} characters, got {len(self.reason)}. Give "
                "the adjustment a short reason."
            )
        if not 0 < abs(self.amount) <= MOST:
            raise ConfigurationError(
                f"amount: expected a number other than 0, from {-MOST:,} to {MOST:,}, got "
                f"{self.amount:,}."
            )
        if not self.name or set(self.name) & set(':" '):
            raise ConfigurationError(
                f"name: expected the name of a limit, got {self.name!r}. Leave out colons and "
                "spaces."
            )
        if self.day != GRANTED:
            span_of(self.day)

    @property
    def key(self) -> str:
        return f"{self.name}:{self.day}:{self.account}"


class Adjusted(msgspec.Struct, frozen=True, kw_only=True):
    """The result of an adjustment: the adjustment recorded under its id, whether this call made it,
    and the balance of the counter.
    """

    adjustment: Adjustment
    first: bool
    balance: Balance


class ZoneChange(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a change of a limit's zone from ``before`` to ``after``."""

    name: str
    before: str
    after: str


class Drift(msgspec.Struct, frozen=True, kw_only=True):
    """A figure of a counter that differs from its records: ``recorded`` in the books, and
    ``recomputed`` from the records.
    """

    account: str
    name: str
    day: str | None
    figure: Figure
    recorded: int
    recomputed: int

    @property
    def key(self) -> str:
        return f"{self.name}:{self.day or ''}:{self.account}"


class UsageDrift(msgspec.Struct, frozen=True, kw_only=True):
    """A figure of the roll-up that differs from its records: ``recorded`` in the row, and
    ``recomputed`` from the records.
    """

    row: UsageRow
    figure: str
    recorded: int
    recomputed: int

    @property
    def key(self) -> str:
        return usage_key(self.row)


def usage_key(row: UsageRow) -> str:
    """A text for a row of the roll-up. No counter has such a key."""
    return f"usage {msgspec.json.encode(row).decode()}"


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a verification.

    ``unsure`` has a sentence for each figure that could not be verified. ``old`` is the number of
    counters whose differences are expected, because records of their days were forgotten. ``usage``
    has the differences of the roll-up, of whose rows ``rows`` were compared.
    """

    checked: int
    drifts: tuple[Drift, ...]
    unsure: tuple[str, ...] = ()
    old: int = 0
    usage: tuple[UsageDrift, ...] = ()
    rows: int = 0


class Audit(Protocol):
    """A ledger's books, for operators. Reading changes nothing.

    Every operation raises LedgerUnavailable if the books cannot be reached.
    """

    async def now(self) -> int:
        """The ledger's time, in milliseconds since the epoch."""

    async def balances(self, account: str | None = None) -> list[Balance]:
        """The counters of one account, or of all, sorted by account, day and name."""

    async def holds(self) -> list[LiveHold]:
        """All live holds, oldest first."""

    def records(self, since: int) -> AsyncGenerator[TurnRecord | Adjustment, None]:
        """The settlements, expiries and adjustments since ``since`` (ms), oldest first."""

    async def warnings(self) -> list[Crossing]:
        """The thresholds that accounts have reached, oldest first, delivered or not."""

    async def adjust(self, adjustment: Adjustment) -> Adjusted:
        """Correct a counter. Idempotent by the account and the adjustment's id.

        Raises ConfigurationError for a day that has not begun, or is no longer kept, and for an
        amount that is too large for the unit.
        """

    async def change_zone(self, name: str, zone: str) -> ZoneChange:
        """Count the days of the budget ``name`` in another time zone from now on. A day of the old
        zone counts in each day of the new one that it reaches into, so that no account gets a
        second budget. Raises ConfigurationError.
        """

    async def adopt(self) -> str:
        """Make the store at the ledger's address the books from now on, also for running servers.
        Returns a sentence about what was found.
        """

    async def usage(self, since: str, by: tuple[str, ...]) -> list[Used]:
        """The roll-up from the day ``since`` on, in sums by the names ``by``: fields of a row, or
        names of groups. Sorted by their values.
        """

    async def refusals(self, since: str) -> list[Refusals]:
        """The refusals by limits from the day ``since`` on, by hour and limit."""

    async def currency(self) -> str:
        """The currency of all amounts of money; empty if the books have counted none."""

    async def verdict(self) -> Verdict:
        """Compare all counters with the sums of their records."""


@runtime_checkable
class Audited(Protocol):
    """A ledger whose books other processes can read."""

    def audit(self) -> Audit:
        """The same books, for an audit."""


def check_total(adjustment: Adjustment, before: int) -> None:
    """Raise ConfigurationError for an amount with which the adjustments of a counter, or the grants
    of an account, would no longer be exact in every store. ``before`` is their sum.
    """
    total = before + adjustment.amount
    if abs(total) > MOST:
        raise ConfigurationError(
            f"amount: expected adjustments of at most {MOST:,} together, got {total:,} with the "
            f"{before:,} of before. Correct the amount."
        )


def check_kept(adjustment: Adjustment, now: int, keep: int, scale: str) -> None:
    """Raise ConfigurationError for a day that has not begun anywhere, or is no longer kept, and for
    an amount that is too large for the unit of ``scale``. ``now`` and ``keep`` are in milliseconds.
    """
    if adjustment.day == GRANTED and not scale:  # the first one may come before the first turn
        return
    unit = unit_of_scale(scale)
    most = _MOST.get(unit, 0)
    if abs(adjustment.amount) > most:
        raise ConfigurationError(
            f"amount: expected at most {most:,} {unit}, got {adjustment.amount:,}. Make several "
            "adjustments if it is right."
        )
    if adjustment.day == GRANTED:
        return
    begins, ends = span_of(adjustment.day)
    if begins > now:
        raise ConfigurationError(
            f"day: expected a day that has begun, got {adjustment.day}. Adjust today, or wait."
        )
    if ends < now - keep:
        raise ConfigurationError(
            f"day: expected a day that is still kept, got {adjustment.day}, which is too long ago. "
            "Adjust a later day."
        )
