"""Usage: the roll-up of the tokens and the cost of turns, by day, principal and model. No I/O.

The step that settles a turn, or charges an expired hold, also writes its row. So the rows are
always the sums of the records. Rows are kept longer than records.
"""

from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from typing import Final, NamedTuple, Protocol, runtime_checkable

import msgspec

from chatnest.errors import ConfigurationError
from chatnest.ledger.base import Charge, Hold
from chatnest.ledger.days import day_of

__all__ = [
    "EXPIRED",
    "FIGURES",
    "KEPT_DAYS",
    "KEPT_MILLISECONDS",
    "NO_GROUPS",
    "OWN",
    "OWN_DAYS",
    "Refusals",
    "UsageBooks",
    "UsageRow",
    "Use",
    "Used",
    "check_currency",
    "day_before",
    "expired_row",
    "expired_use",
    "first_day",
    "gathered",
    "groups_text",
    "hour_of",
    "row_of",
    "use_of",
    "values_of",
]

KEPT_DAYS: Final = 400
"""Days for which a row is kept: a year and a month."""

KEPT_MILLISECONDS: Final = KEPT_DAYS * 86_400_000

EXPIRED: Final = "expired"
"""The outcome of a hold that was never settled."""

NO_GROUPS: Final = "{}"

OWN: Final = ("day", "model")
"""The names by which a principal's own usage is grouped."""

OWN_DAYS: Final = 30
"""Days of a principal's own usage, including today."""


class UsageRow(NamedTuple):
    """The names of a row. ``day`` is in UTC; ``groups`` is a JSON object with sorted keys.

    A turn whose worker never settled it has the outcome ``expired``, and no other names, since only
    a settlement names the caller.
    """

    day: str
    principal: str = ""
    model: str = ""
    profile: str = ""
    outcome: str = ""
    groups: str = NO_GROUPS


class Use(msgspec.Struct, gc=False):
    """The sums of a row. ``tokens`` is the number of charged tokens, and ``money`` is in
    nano-dollars. An expired hold has only these figures, and counts as estimated. ``cached_tokens``
    and ``cache_written_tokens`` are parts of ``input_tokens``, and ``reasoning_tokens`` are a part
    of ``output_tokens``. ``estimated`` is the number of turns whose figures are our own count.
    """

    turns: int = 0
    tokens: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    cache_written_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    money: int = 0
    estimated: int = 0

    def add(self, other: "Use", sign: int = 1) -> None:
        """Add the figures of another use. A ``sign`` of -1 subtracts them."""
        self.turns += sign * other.turns
        self.tokens += sign * other.tokens
        self.input_tokens += sign * other.input_tokens
        self.cached_tokens += sign * other.cached_tokens
        self.cache_written_tokens += sign * other.cache_written_tokens
        self.output_tokens += sign * other.output_tokens
        self.reasoning_tokens += sign * other.reasoning_tokens
        self.money += sign * other.money
        self.estimated += sign * other.estimated


_read_groups = msgspec.json.Decoder(dict[str, str]).decode

FIGURES: Final = Use.__struct_fields__
"""The names of the figures, in their order in all stores."""


class Refusals(msgspec.Struct, frozen=True, order=True):
    """How often a limit refused requests in an hour (UTC), such as ``2026-11-30T14``."""

    hour: str
    limit: str
    count: int


class Used(msgspec.Struct, frozen=True):
    """A row of a report: the values of the names by which it is grouped, and the sums."""

    by: tuple[str, ...]
    use: Use


@runtime_checkable
class UsageBooks(Protocol):
    """A ledger that keeps the roll-up."""

    async def own_usage(self, principal: str, since: str) -> list[Used]:
        """The usage of a principal from the day ``since`` on, by day and model, sorted by both.
        Raises LedgerUnavailable.
        """

    async def count_refusals(self, counts: Mapping[tuple[str, str], int]) -> None:
        """Add ``counts`` of refusals. Their keys are an hour (UTC), such as ``2026-11-30T14``, and
        the name of a limit. Raises LedgerUnavailable.
        """

    async def keep_currency(self, currency: str) -> None:
        """Store the currency of all amounts of money, if the books have none yet.

        Raises ConfigurationError if they have another currency, or LedgerUnavailable.
        """


def row_of(charge: Charge, now: int) -> UsageRow:
    """The row of a turn that is settled at ``now``."""
    return UsageRow(
        day_of(now, "UTC"),
        charge.principal,
        charge.model,
        charge.profile,
        charge.outcome,
        groups_text(charge.facts.groups),
    )


def use_of(charge: Charge) -> Use:
    """The use of one turn."""
    facts = charge.facts
    return Use(
        1,
        charge.tokens,
        charge.input_tokens,
        facts.cached_tokens,
        facts.cache_written_tokens,
        charge.output_tokens,
        facts.reasoning_tokens,
        charge.money,
        int(charge.source == "estimated"),
    )


def expired_row(ended_at: int) -> UsageRow:
    """The row of holds that expired on the day of ``ended_at``."""
    return UsageRow(day_of(ended_at, "UTC"), outcome=EXPIRED)


def expired_use(hold: Hold) -> Use:
    """The use of one hold that expired and was charged in full."""
    return Use(turns=1, tokens=hold.tokens, money=hold.money, estimated=1)


def groups_text(groups: dict[str, str]) -> str:
    """Groups as a JSON object with sorted keys."""
    return msgspec.json.encode(groups, order="deterministic").decode() if groups else NO_GROUPS


def gathered(rows: Iterable[tuple[UsageRow, Use]], by: tuple[str, ...]) -> list[Used]:
    """The sums of rows by these names: fields of a row, or names of groups, such as ``team``.
    The result is sorted by their values, and has no rows without turns.
    """
    sums: dict[tuple[str, ...], Use] = {}
    known: dict[UsageRow, Use] = {}
    for row, use in rows:
        sum_ = known.get(row)
        if sum_ is None:
            sum_ = known[row] = sums.setdefault(values_of(row, by), Use())
        sum_.add(use)
    return [Used(values, use) for values, use in sorted(sums.items()) if use != _NOTHING]


_NOTHING: Final = Use()


def values_of(row: UsageRow, by: tuple[str, ...]) -> tuple[str, ...]:
    """The values of a row for these names; empty for a group that the row does not have."""
    groups: dict[str, str] = {}
    if row.groups != NO_GROUPS:
        groups = _read_groups(row.groups)
    return tuple(
        getattr(row, name) if name in UsageRow._fields else groups.get(name, "") for name in by
    )


def first_day(now: int, days: int) -> str:
    """The first of the last ``days`` days, including today."""
    return day_before(day_of(now, "UTC"), days - 1)


def hour_of(now: int) -> str:
    """The hour of a time in UTC, such as 2026-11-30T14."""
    return f"{day_of(now, 'UTC')}T{now // 3_600_000 % 24:02d}"


def check_currency(kept: str, asked: str) -> None:
    """Raise ConfigurationError if the books have another currency."""
    if kept not in {"", asked}:
        raise ConfigurationError(
            f"currency: expected {kept}, in which the ledger counts money so far, got {asked}. "
            f"Set it to {kept}, or begin a new ledger: amounts are not converted."
        )


def day_before(day: str, days: int) -> str:
    """The day ``days`` days before ``day``."""
    return (date.fromisoformat(day) - timedelta(days=days)).isoformat()
