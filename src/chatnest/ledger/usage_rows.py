"""UsageRows: the roll-up in a bounded dictionary. No I/O."""

import logging
from collections.abc import Mapping
from typing import Final

from chatnest.ledger.usage import (
    KEPT_DAYS,
    OWN,
    Refusals,
    UsageRow,
    Use,
    Used,
    day_before,
    gathered,
)

__all__ = ["OTHERS", "UsageRows"]

_log = logging.getLogger("chatnest.ledger")

OTHERS: Final = "\0others"
"""The principal of shared rows, once the table is full. No principal has a control character."""

_MOST_REFUSALS: Final = 10_000

_LOOKS: Final = 64
"""Maximum old rows that are dropped for one new row."""


class UsageRows:
    """Rows of the roll-up, at most ``most`` of them. Not thread-safe.

    Rows are dropped after 400 days. If the table is full, the rows of the oldest day are dropped
    first. If all rows are of today, further principals share one row for each model and outcome.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._rows: dict[UsageRow, Use] = {}  # in the order of their first turns
        self._is_full = False
        self._refusals: dict[tuple[str, str], int] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def spend(self, row: UsageRow, use: Use, sign: int) -> None:
        """Add figures to a row. A ``sign`` of -1 subtracts them."""
        found = self._rows.get(row)
        if found is None:
            if sign < 0:  # the row was dropped
                return
            self._drop_old(row.day)
            if len(self._rows) >= self._most and row.principal:
                row = self._make_room(row)
            found = self._rows.setdefault(row, Use())
        found.add(use, sign)
        if found.turns <= 0:
            del self._rows[row]

    def refuse(self, counts: Mapping[tuple[str, str], int]) -> None:
        """Add to the refusals by hour and limit. Beyond 10,000, the oldest counts are dropped."""
        for place, number in counts.items():
            self._refusals[place] = self._refusals.get(place, 0) + number
        while len(self._refusals) > _MOST_REFUSALS:
            del self._refusals[next(iter(self._refusals))]

    def refusals(self, since: str) -> list[Refusals]:
        """The refusals from a day on, by hour and limit."""
        found = sorted(self._refusals.items())
        return [Refusals(*place, number) for place, number in found if place[0] >= since]

    def _drop_old(self, today: str) -> None:
        oldest = day_before(today, KEPT_DAYS - 1)
        for _ in range(_LOOKS):
            first = next(iter(self._rows), None)
            if first is None or first.day >= oldest:
                return
            del self._rows[first]

    def of(self, principal: str, since: str) -> list[Used]:
        """The usage of a principal from the day ``since`` on, by day and model."""
        rows = self._rows.items()
        mine = ((row, use) for row, use in rows if row.principal == principal and row.day >= since)
        return gathered(mine, OWN)

    def _make_room(self, new: UsageRow) -> UsageRow:
        """Drop the oldest row, or return a shared row in place of the new one."""
        if not self._is_full:
            self._is_full = True
            _log.warning(
                "the roll-up in memory is full: %s rows. Earlier days are dropped, and then "
                "principals share a row. Use SQLiteLedger, or raise max_keys.",
                f"{self._most:,}",
            )
        first = next(iter(self._rows))
        if first.day < new.day:
            del self._rows[first]
            return new
        return new._replace(principal=OTHERS, groups="{}", profile="")
