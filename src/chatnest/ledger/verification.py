"""Verification: compares the counters of the books with the sums of their records. No I/O."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Final

from chatnest.ledger.audit import (
    Adjustment,
    Balance,
    Drift,
    Figure,
    LiveHold,
    TurnRecord,
    UsageDrift,
    Verdict,
)
from chatnest.ledger.base import amounts_of
from chatnest.ledger.books import EVER, GRANTED, unit_of_scale
from chatnest.ledger.days import day_of, end_of, span_of
from chatnest.ledger.usage import FIGURES, UsageRow, Use, groups_text

__all__ = ["Recount", "judge", "recounted", "usage_drifts", "verify"]


_DAY: Final = 86_400_000


def verify(
    balances: Iterable[Balance],
    holds: Iterable[LiveHold],
    records: Iterable[TurnRecord],
    adjustments: Iterable[Adjustment],
    scales: Mapping[str, str],
) -> list[Drift]:
    """The figures of the books that differ from the sums of holds, records and adjustments.

    All arguments are of the same instant. A record is the whole charge of its hold on its lines.
    ``scales`` are those of the books, by the names of limits.
    """
    sums: defaultdict[str, dict[Figure, int]] = defaultdict(
        lambda: {"settled": 0, "held": 0, "overrun": 0, "expired": 0, "adjusted": 0}
    )
    for hold in holds:
        for line in hold.lines:
            if line.serial < 0:
                sums[line.key]["held"] += amounts_of(hold.tokens, hold.money)[line.unit]
    for record in records:
        for key in record.lines:
            name, day, _ = key.split(":", 2)
            if not day:  # streams are held and not charged
                continue
            unit = unit_of_scale(scales.get(name, ""))
            charged = amounts_of(record.tokens, record.money)[unit]
            held = amounts_of(record.held, record.held_money)[unit]
            sums[key]["settled"] += charged
            sums[key]["overrun"] += max(0, charged - held)
            sums[key]["expired"] += charged if record.outcome == "expired" else 0
    for adjustment in adjustments:
        sums[adjustment.key]["adjusted"] += adjustment.amount
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


class Recount:
    """The roll-up by the records."""

    def __init__(self) -> None:
        self.rows: dict[UsageRow, Use] = {}

    def add(self, record: TurnRecord) -> None:
        """Count a record in its row."""
        facts = record.facts
        row = UsageRow(
            day_of(record.settled_at, "UTC"),
            record.principal,
            record.model,
            record.profile,
            record.outcome,
            groups_text(facts.groups),
        )
        use = Use(
            1,
            record.tokens,
            record.input_tokens,
            facts.cached_tokens,
            facts.cache_written_tokens,
            record.output_tokens,
            facts.reasoning_tokens,
            record.money,
            int(record.source == "estimated"),
        )
        self.rows.setdefault(row, Use()).add(use)

    def watching(self, records: Iterable[TurnRecord]) -> Iterable[TurnRecord]:
        """Count records while a verification reads them."""
        for record in records:
            self.add(record)
            yield record


def recounted(records: Iterable[TurnRecord]) -> dict[UsageRow, Use]:
    """The roll-up by these records."""
    recount = Recount()
    for record in records:
        recount.add(record)
    return recount.rows


def usage_drifts(
    kept: Mapping[UsageRow, Use], recount: Mapping[UsageRow, Use], since: int
) -> list[UsageDrift]:
    """The figures of the roll-up that differ from the sums of the records. Days that began before
    ``since`` (ms) may lack records, and are left out.
    """
    none = Use()
    return [
        UsageDrift(row=row, figure=figure, recorded=recorded, recomputed=recomputed)
        for row in sorted({*kept, *recount})
        if end_of(row.day, "UTC") - _DAY >= since
        for figure in FIGURES
        for recorded in [getattr(kept.get(row, none), figure)]
        for recomputed in [getattr(recount.get(row, none), figure)]
        if recorded != recomputed
    ]


def judge(
    checked: int, drifts: Iterable[Drift], *, kept_since: int, gaps: Iterable[str] = ()
) -> Verdict:
    """The verdict on differences. A difference that forgotten records explain is not a drift.

    Records are complete from ``kept_since`` (ms) on, except for ``gaps``: sentences about missing
    records, which are reported only if a figure differs. ``held`` is verified without records.
    """
    certain, old, unsure = [], set(), []
    gaps = tuple(gaps)
    for drift in drifts:
        if drift.figure == "held":
            certain.append(drift)
        elif _is_old(drift, kept_since):
            old.add(drift.key)
        elif gaps:
            unsure.append(f"{drift.key}: {drift.figure} may differ because records are missing.")
        else:
            certain.append(drift)
    return Verdict(
        checked=checked,
        drifts=tuple(certain),
        unsure=(*gaps, *unsure) if unsure else (),
        old=len(old),
    )


def _is_old(drift: Drift, kept_since: int) -> bool:
    """Whether records of the counter may have been forgotten."""
    if drift.day is None or drift.day == GRANTED:
        return False
    return drift.day == EVER or span_of(drift.day)[0] < kept_since
