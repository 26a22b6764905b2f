"""The roll-up of usage in a SQLite file."""

import sqlite3
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from chatnest.ledger.days import day_of, days_between
from chatnest.ledger.usage import FIGURES, OWN, UsageRow, Use, Used, gathered

__all__ = ["all_usage", "read_own_usage", "read_usage", "write_usage"]

_WIDTH: Final = len(UsageRow._fields)
_SUMS: Final = ", ".join(f"sum({figure})" for figure in FIGURES)


_NAMES: Final = UsageRow._fields
_ROW: Final = " AND ".join(f"{name} = ?" for name in _NAMES)
_MORE: Final = ", ".join(f"{figure} = {figure} + excluded.{figure}" for figure in FIGURES)
_LESS: Final = ", ".join(f"{figure} = max(0, {figure} + ?)" for figure in FIGURES)
_ADD: Final = (
    f"INSERT INTO usage VALUES ({', '.join('?' * (_WIDTH + len(FIGURES)))})"  # noqa: S608  # names of columns, here and below
    f" ON CONFLICT ({', '.join(_NAMES)}) DO UPDATE SET {_MORE}"
)
_TAKE: Final = f"UPDATE usage SET {_LESS} WHERE {_ROW}"  # noqa: S608
_DROP: Final = f"DELETE FROM usage WHERE {_ROW} AND turns = 0"  # noqa: S608


def write_usage(rows: sqlite3.Connection, changes: Mapping[UsageRow, Use]) -> None:
    """Add figures to rows. A row that loses its last turn is dropped."""
    added: list[tuple[object, ...]] = []
    taken: list[tuple[object, ...]] = []
    for row, use in changes.items():
        figures = msgspec.structs.astuple(use)
        if use.turns > 0:
            added.append((*row, *figures))
        else:
            taken.append((*figures, *row))
    rows.executemany(_ADD, added)
    if taken:
        rows.executemany(_TAKE, taken)
        rows.executemany(_DROP, [values[len(FIGURES) :] for values in taken])


def read_usage(
    rows: sqlite3.Connection, since: str, by: tuple[str, ...]
) -> Iterator[tuple[UsageRow, Use]]:
    """The rows from a day on, added up as far as ``by`` lets them. A name that is not a field of a
    row is a group's.
    """
    fields = [name for name in UsageRow._fields if name in by]
    if any(name not in UsageRow._fields for name in by) and "groups" not in fields:
        fields.append("groups")
    grouping = f" GROUP BY {', '.join(fields)}" if fields else ""
    chosen = ", ".join([*fields, _SUMS])
    statement = f"SELECT {chosen} FROM usage WHERE day >= ?{grouping}"  # noqa: S608  # names of columns
    for values in rows.execute(statement, (since,)):
        if values[-1] is not None:  # the sum of no rows
            yield _read(fields, values)


def all_usage(rows: sqlite3.Connection, since: str) -> dict[UsageRow, Use]:
    """All rows from a day on."""
    found = rows.execute("SELECT * FROM usage WHERE day >= ?", (since,))
    return {UsageRow(*row[:_WIDTH]): Use(*row[_WIDTH:]) for row in found}


def read_own_usage(rows: sqlite3.Connection, principal: str, since: str, now: int) -> list[Used]:
    """A principal's usage from the day ``since`` on, by day and model."""
    days = days_between(since, max(since, day_of(now, "UTC")))
    marks = ", ".join("?" * len(days))
    statement = (
        f"SELECT day, model, {_SUMS} FROM usage WHERE day IN ({marks}) AND principal = ?"  # noqa: S608  # names of columns
        " GROUP BY day, model"
    )
    found = rows.execute(statement, (*days, principal))
    return gathered((_read(OWN, values) for values in found), OWN)


def _read(fields: tuple[str, ...] | list[str], values: tuple[object, ...]) -> tuple[UsageRow, Use]:
    names = dict(zip(fields, values, strict=False))
    row = UsageRow(**{"day": "", **names})  # type: ignore[arg-type]  # texts, by the schema
    return row, Use(*values[len(fields) :])  # type: ignore[arg-type]  # whole numbers
