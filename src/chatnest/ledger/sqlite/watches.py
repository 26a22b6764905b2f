"""RowWatches: the watched windows in rows, and the thresholds that were crossed in them."""

import sqlite3
from collections.abc import Callable
from typing import Final

import msgspec

from chatnest.ledger.watch import Crossing, Watch, WatchRow, retry_at

__all__ = [
    "CROSSINGS",
    "RowWatches",
    "end_crossing",
    "next_crossing",
    "read_crossing",
    "read_watched",
]

_WRITE: Final = """
INSERT INTO watches VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (name, account, period) DO UPDATE SET grants = excluded.grants, mark = excluded.mark,
    watch = excluded.watch, changed_at = excluded.changed_at
"""
CROSSINGS: Final = (
    "SELECT name, account, period, threshold, unit, used, amount, at, state, at = due"
    " FROM crossings "
)
_NEXT: Final = CROSSINGS + "WHERE state = 'pending' AND due <= ? ORDER BY due LIMIT 1"
_PLACE: Final = "WHERE name = ? AND account = ? AND period = ? AND threshold = ?"
_CLAIM: Final = f"UPDATE crossings SET due = ? {_PLACE}"  # noqa: S608  # constants only
_END: Final = f"UPDATE crossings SET state = ? {_PLACE}"  # noqa: S608  # constants only

_read = msgspec.json.Decoder(Watch).decode
read_watched: Callable[[str], tuple[Watch, ...]] = msgspec.json.Decoder(tuple[Watch, ...]).decode
"""The watches of a hold."""


class RowWatches:
    """Rows of watched windows, read on demand within one transaction. ``write`` writes the changes
    back.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._execute = connection.execute
        self._executemany = connection.executemany
        self._rows: dict[tuple[str, str, str], tuple[WatchRow, WatchRow]] = {}

    def watched(self, name: str, account: str, period: str) -> WatchRow:
        key = name, account, period
        if key not in self._rows:
            found = self._execute(
                "SELECT grants, mark, watch FROM watches"
                " WHERE name = ? AND account = ? AND period = ?",
                key,
            ).fetchone()
            row = WatchRow()
            if found:
                row = WatchRow(grants=found[0], mark=found[1], watch=_read(found[2]))
            self._rows[key] = row, msgspec.structs.replace(row)
        return self._rows[key][0]

    def watches(self, name: str, account: str) -> list[Watch]:
        for (period,) in self._execute(
            "SELECT period FROM watches WHERE name = ? AND account = ?", (name, account)
        ).fetchall():
            self.watched(name, account, period)
        return [
            row.watch
            for key, (row, _) in sorted(self._rows.items(), key=lambda item: item[0])
            if key[:2] == (name, account) and row.watch is not None
        ]

    def cross(self, crossing: Crossing) -> None:
        self._execute(
            "INSERT INTO crossings VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'pending')"
            " ON CONFLICT DO NOTHING",
            (*crossing.key, crossing.unit, crossing.used, crossing.amount, *(crossing.at,) * 2),
        )

    def write(self, now: int) -> None:
        """Write the changes back."""
        changed = [(key, row) for key, (row, was) in self._rows.items() if row != was]
        self._executemany(
            _WRITE,
            [
                (*key, row.grants, row.mark, msgspec.json.encode(row.watch).decode(), now)
                for key, row in changed
            ],
        )


def next_crossing(connection: sqlite3.Connection, now: int) -> Crossing | None:
    """The oldest pending crossing, which is not returned again before its next attempt."""
    for row in connection.execute(_NEXT, (now,)).fetchall():
        crossing = read_crossing(row)
        connection.execute(_CLAIM, (retry_at(crossing.at, now), *crossing.key))
        return crossing
    return None


def end_crossing(connection: sqlite3.Connection, crossing: Crossing, state: str) -> None:
    """Store the state of a crossing."""
    connection.execute(_END, (state, *crossing.key))


def read_crossing(row: tuple[object, ...]) -> Crossing:
    """A crossing from a row of ``CROSSINGS``."""
    fields = dict(zip(Crossing.__struct_fields__, row, strict=True))
    return msgspec.convert(fields, Crossing, strict=False)
