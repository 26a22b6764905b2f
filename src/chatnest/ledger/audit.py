"""Audits: what a ledger's books say, what its records add up to, and where they differ. No I/O.

A second seam beside Ledger, for those who look after the books instead of being counted in them.
"""

from collections import defaultdict
from collections.abc import AsyncGenerator, Iterable
from datetime import UTC, date, datetime
from typing import Final, Literal, Protocol, runtime_checkable

import msgspec

from chatnest.errors import ConfigurationError
from chatnest.ledger.base import Line

__all__ = [
    "Adjusted",
    "Adjustment",
    "Audit",
    "Audited",
    "Balance",
    "Drift",
    "LiveHold",
    "TurnRecord",
    "Verdict",
    "ZoneChange",
    "check_kept",
    "judge",
    "verify",
]

_HOUR: Final = 3_600_000
_MOST: Final = 10**12
"""Tokens in one adjustment: beyond it is a slip, and sums stay exact in every store."""

_LONGEST_ID: Final = 200
_LONGEST_REASON: Final = 500

Figure = Literal["settled", "held", "overrun", "expired", "adjusted"]


class Balance(msgspec.Struct, frozen=True, kw_only=True):
    """A counter as the books have it: an account's figures under one limit's name.

    In tokens of one ``day``, or where that is None in streams, of which ``held`` alone counts.
    ``expired`` is the part of ``settled`` that was charged for holds which nobody settled.
    """

    account: str
    name: str
    day: str | None
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
        """What counts against the limit, beside what is held."""
        return max(0, self.settled + self.adjusted)

    @classmethod
    def at(cls, key: str, figures: Iterable[int] = ()) -> "Balance":
        """The balance of a counter's key, with figures in the order of the fields."""
        name, day, account = key.split(":", 2)
        named = dict(zip(cls.__struct_fields__[3:], figures, strict=False))
        return cls(account=account, name=name, day=day or None, **named)


class LiveHold(msgspec.Struct, frozen=True, kw_only=True):
    """A hold that was neither settled nor released. One whose ``expires_at`` is over is charged
    when its account is touched next. Times are milliseconds since the epoch.
    """

    id: str
    tokens: int
    lines: tuple[Line, ...]
    admitted_at: int
    expires_at: int


class TurnRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What a turn cost: ``tokens`` on each of its ``lines``, the keys of the counters that were
    charged. No content of any message.

    With the outcome ``expired`` nobody settled it: the books do not know whose it was, but by its
    lines. ``admitted_at`` is None where the books had forgotten the hold.
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
    lines: tuple[str, ...] = ()


class Adjustment(msgspec.Struct, frozen=True, kw_only=True):
    """A correction by hand: signed ``tokens`` on one counter, with an id that makes a repetition
    harmless, and a reason. ``at`` is the ledger's to fill in.

    Raises ConfigurationError for one that cannot be.
    """

    id: str
    account: str
    name: str
    day: str
    tokens: int
    reason: str
    at: int = 0

    def __post_init__(self) -> None:
        if not self.id or len(self.id) > _LONGEST_ID or not self.id.isprintable():
            raise ConfigurationError(
                f"An adjustment's id has 1 to {_LONGEST_ID} characters, all printable."
            )
        if not self.reason.strip() or len(self.reason) > _LONGEST_REASON:
            raise ConfigurationError(
                f"An adjustment's reason has 1 to {_LONGEST_REASON} characters."
            )
        if not 0 < abs(self.tokens) <= _MOST:
            raise ConfigurationError(
                f"An adjustment is not 0, and at most {_MOST:,} tokens either way."
            )
        if not self.name or set(self.name) & set(':" '):
            raise ConfigurationError(f"{self.name!r} is no name of a limit.")
        _bounds(self.day)

    @property
    def key(self) -> str:
        return f"{self.name}:{self.day}:{self.account}"


class Adjusted(msgspec.Struct, frozen=True, kw_only=True):
    """What came of an adjustment: the one that is recorded under its id, whether this very call
    made it, and how the counter stands.
    """

    adjustment: Adjustment
    first: bool
    balance: Balance


class ZoneChange(msgspec.Struct, frozen=True, kw_only=True):
    """The days of a limit are counted in the zone ``after`` instead of ``before``. ``carried`` is
    the number of accounts whose use of the running day was adjusted in the new one.
    """

    name: str
    before: str
    after: str
    carried: int


class Drift(msgspec.Struct, frozen=True, kw_only=True):
    """A figure of a counter, ``recorded`` in the books, that its records do not add up to."""

    account: str
    name: str
    day: str | None
    figure: Figure
    recorded: int
    recomputed: int

    @property
    def key(self) -> str:
        return f"{self.name}:{self.day or ''}:{self.account}"


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a verification.

    ``unsure`` says in sentences what could not be verified, ``old`` how many counters differ that
    may do so: they are of days whose records are being forgotten.
    """

    checked: int
    drifts: tuple[Drift, ...]
    unsure: tuple[str, ...] = ()
    old: int = 0


class Audit(Protocol):
    """A ledger's books, for those who look after them. Reading changes nothing.

    Any of these raises LedgerUnavailable when the books cannot be reached.
    """

    async def now(self) -> int:
        """The ledger's time, in milliseconds since the epoch."""

    async def balances(self, account: str | None = None) -> list[Balance]:
        """The counters of one account, or all, by account, day and name."""

    async def holds(self) -> list[LiveHold]:
        """All live holds, the oldest first."""

    def records(self, since: int) -> AsyncGenerator[TurnRecord | Adjustment, None]:
        """What was settled, expired or adjusted at ``since`` (ms) or later, oldest first."""

    async def adjust(self, adjustment: Adjustment) -> Adjusted:
        """Correct a counter, once for each id of an account.

        Raises ConfigurationError for a day that has not begun, or is not kept any more.
        """

    async def change_zone(self, name: str, zone: str) -> ZoneChange:
        """Count the days of the budget ``name`` in another time zone from now on, so that nobody
        has a second budget by it. Raises ConfigurationError.
        """

    async def adopt(self) -> str:
        """Make what is at the store's address the books from now on, also for servers that run.
        Gives a sentence about what was found.
        """

    async def verdict(self) -> Verdict:
        """Compare all counters with what the records add up to."""


@runtime_checkable
class Audited(Protocol):
    """A ledger whose books others than its own process can read."""

    def audit(self) -> Audit:
        """The same books, for an audit."""


# ---------------------------------------------------------------- verification


def verify(
    balances: Iterable[Balance],
    holds: Iterable[LiveHold],
    records: Iterable[TurnRecord],
    adjustments: Iterable[Adjustment],
) -> list[Drift]:
    """Where the books differ from what holds, records and adjustments add up to.

    All of one instant. A record stands for all that its hold was charged on its lines.
    """
    sums: defaultdict[str, dict[Figure, int]] = defaultdict(
        lambda: {"settled": 0, "held": 0, "overrun": 0, "expired": 0, "adjusted": 0}
    )
    for hold in holds:
        for line in hold.lines:
            sums[line.key]["held"] += hold.tokens if line.unit == "tokens" else 1
    for record in records:
        for key in record.lines:
            if _counts_tokens(key):
                sums[key]["settled"] += record.tokens
                sums[key]["overrun"] += max(0, record.tokens - record.held)
                sums[key]["expired"] += record.tokens if record.outcome == "expired" else 0
    for adjustment in adjustments:
        sums[adjustment.key]["adjusted"] += adjustment.tokens
    books = {balance.key: balance for balance in balances}
    return [
        drift
        for key in sorted({*books, *sums})
        for drift in _drifts(books.get(key) or Balance.at(key), sums[key])
    ]


def _drifts(balance: Balance, sums: dict[Figure, int]) -> Iterable[Drift]:
    for figure, recomputed in sums.items():
        recorded: int = getattr(balance, figure)
        if recorded != recomputed:
            yield Drift(
                account=balance.account,
                name=balance.name,
                day=balance.day,
                figure=figure,
                recorded=recorded,
                recomputed=recomputed,
            )


def judge(
    checked: int, drifts: Iterable[Drift], *, kept_since: int, gaps: Iterable[str] = ()
) -> Verdict:
    """A verdict from differences: those that forgotten records explain are no drifts.

    Records are there from ``kept_since`` (ms) on. ``gaps`` are sentences that say where some are
    missing all the same; where nothing differs, they did not matter. What is held is known without
    records.
    """
    certain, old, unsure = [], set(), []
    gaps = tuple(gaps)
    for drift in drifts:
        if drift.figure == "held":
            certain.append(drift)
        elif drift.day is not None and _bounds(drift.day)[0] < kept_since:
            old.add(drift.key)
        elif gaps:
            unsure.append(f"{drift.key}: {drift.figure} may differ by records that are missing.")
        else:
            certain.append(drift)
    return Verdict(
        checked=checked,
        drifts=tuple(certain),
        unsure=(*gaps, *unsure) if unsure else (),
        old=len(old),
    )


def check_kept(adjustment: Adjustment, now: int, keep: int) -> None:
    """Raise ConfigurationError for a day that has begun nowhere yet, or is not kept any more."""
    begins, ends = _bounds(adjustment.day)
    if begins > now:
        raise ConfigurationError(f"The day {adjustment.day} has not begun.")
    if ends < now - keep:
        raise ConfigurationError(
            f"The day {adjustment.day} is too long ago: its figures are not kept any more."
        )


def _bounds(day: str) -> tuple[int, int]:
    """When a calendar day begins first, and ends last, wherever on earth; in ms."""
    try:
        found = date.fromisoformat(day)
    except ValueError:
        found = None
    if found is None or found.isoformat() != day:
        raise ConfigurationError(f"{day!r} is no day, such as 2026-11-22.")
    midnight = int(datetime(found.year, found.month, found.day, tzinfo=UTC).timestamp() * 1000)
    return midnight - 14 * _HOUR, midnight + 36 * _HOUR


def _counts_tokens(key: str) -> bool:
    """Counters of tokens have a day, those of streams have none."""
    return key.split(":", 2)[1] != ""
