"""RowBooks: rows of the ledger's tables, as the books that the rules read and write."""

import sqlite3
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from chatnest.ledger import model
from chatnest.ledger.audit import Adjustment
from chatnest.ledger.base import Charge, Facts, Hold, Line
from chatnest.ledger.books import (
    EVER,
    Counter,
    HoldRecord,
    HoldState,
    is_part_of_lifetime,
)
from chatnest.ledger.days import days_between
from chatnest.ledger.sliding import Sliding
from chatnest.ledger.sqlite.usage import read_own_usage, write_usage
from chatnest.ledger.sqlite.watches import RowWatches, end_crossing, next_crossing, read_watched
from chatnest.ledger.sqlite.window import RowWindow
from chatnest.ledger.usage import UsageRow, Use, Used, check_currency
from chatnest.ledger.watch import Crossing, Watch, WatchRow

__all__ = ["RowBooks"]

_SELECT_HOLDS: Final = (
    "SELECT id, state, until, charged, charged_money, tokens, money, output, lines, watched,"
    " admitted_at FROM holds "
)
_FIGURES: Final = "settled, held, overrun, expired, adjusted, ends"
_SELECT_COUNTER: Final = (
    f"SELECT {_FIGURES} FROM counters WHERE name = ? AND account = ? AND day = ?"  # noqa: S608  # constants only
)
_SELECT_DAYS: Final = (
    f"SELECT day, {_FIGURES} FROM counters WHERE name = ? AND account = ?"  # noqa: S608  # constants only
    " AND day BETWEEN ? AND ?"
)
_SUMS: Final = (
    "SELECT coalesce(sum(settled + adjusted), 0), coalesce(sum(held), 0) FROM counters"
    " WHERE name = ? AND account = ? AND day BETWEEN ? AND ? AND ends > ?"
)
_WRITE_COUNTER: Final = """
INSERT INTO counters VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (name, account, day) DO UPDATE SET settled = excluded.settled, held = excluded.held,
    overrun = excluded.overrun, expired = excluded.expired, adjusted = excluded.adjusted,
    ends = excluded.ends, changed_at = excluded.changed_at
"""
_NEW_HOLD: Final = """
INSERT INTO holds (id, state, until, charged, charged_money, tokens, money, output, lines,
    watched, admitted_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_FIRST_DAY: Final = "0"
"""A text before all days."""

_FEW_DAYS: Final = 3
"""Maximum days that are read one by one, since the counter of one of them is needed anyhow."""
_EXPIRED: Final = Charge(tokens=0, source="estimated", outcome="expired")

_NO_FACTS: Final = Facts()

_read_lines = msgspec.json.Decoder(tuple[Line, ...]).decode
_read_sliding = msgspec.json.Decoder(Sliding).decode


class _HoldRow(msgspec.Struct):
    record: HoldRecord
    admitted_at: int
    was: tuple[HoldState, int, int, int] | None = None


class RowBooks:
    """Books in rows, read on demand within one transaction, whose time is ``now``.

    ``write`` writes the changes back. After it, the books must not be used any more.
    """

    def __init__(self, connection: sqlite3.Connection, now: int) -> None:
        self.now = now
        self._connection = connection
        self._execute = connection.execute
        self.execute: Callable[..., sqlite3.Cursor] = self._execute
        self._executemany = connection.executemany
        # Each counter with a copy of it as it was read.
        self._counters: dict[str, tuple[Counter, Counter]] = {}
        self._windows: dict[str, RowWindow] = {}
        self._slidings: dict[str, Sliding] = {}
        self._holds: dict[str, _HoldRow] = {}
        self._live: dict[str, HoldRecord] | None = None
        self._turns: dict[str, tuple[object, ...]] = {}
        self._usage: dict[UsageRow, Use] = {}
        self._zones: dict[str, str | None] = {}
        self._ever: set[str] = set()
        self._watches: RowWatches | None = None

    def touch(self) -> None:
        """Write without a change: a file that can only be read may be locked for reading, too."""
        (application,) = self._execute("PRAGMA application_id").fetchone()
        self._execute(f"PRAGMA application_id = {application}")

    def counter(self, key: str) -> Counter:
        if key not in self._counters:
            name, day, account = key.split(":", 2)
            row = self._execute(_SELECT_COUNTER, (name, account, day)).fetchone()
            figures = row or (0, 0, 0, 0, 0, 0)
            self._counters[key] = Counter(*figures), Counter(*figures)
        return self._counters[key][0]

    def sums(self, name: str, account: str, first: str, last: str, start: int) -> tuple[int, int]:
        days = days_between(first, last)
        if len(days) <= _FEW_DAYS:
            self._read_days(name, account, first, last)
            used, held = 0, 0
        else:
            used, held = self._execute(_SUMS, (name, account, first, last, start)).fetchone()
        for day in days:
            known = self._counters.get(f"{name}:{day}:{account}")
            if known is not None:
                counter, was = known
                if len(days) > _FEW_DAYS and was.ends > start:
                    used, held = used - was.settled - was.adjusted, held - was.held
                if counter.ends > start:
                    used += counter.settled + counter.adjusted
                    held += counter.held
        return used, held

    def _read_days(self, name: str, account: str, first: str, last: str) -> None:
        for day, *figures in self._execute(_SELECT_DAYS, (name, account, first, last)):
            key = f"{name}:{day}:{account}"
            if key not in self._counters:
                self._counters[key] = Counter(*figures), Counter(*figures)

    def all_sums(self, name: str, account: str) -> tuple[int, int]:
        place = name, account, _FIRST_DAY, EVER, -1
        used, held = self._execute(_SUMS, place).fetchone()
        for key, (counter, was) in self._counters.items():
            if counter != was and is_part_of_lifetime(key, name, account):
                used += counter.settled + counter.adjusted - was.settled - was.adjusted
                held += counter.held - was.held
        return used, held

    def sliding(self, key: str) -> Sliding:
        found = self._slidings.get(key)
        if found is None:
            row = self._execute("SELECT buckets FROM buckets WHERE key = ?", (key,)).fetchone()
            found = self._slidings[key] = _read_sliding(row[0]) if row else Sliding()
        return found

    def window(self, key: str) -> RowWindow:
        window = self._windows.get(key)
        if window is None:
            window = self._windows[key] = RowWindow(self._connection, key)
        return window

    def hold(self, hold_id: str) -> HoldRecord | None:
        if hold_id not in self._holds:
            for row in self._execute(_SELECT_HOLDS + "WHERE id = ?", (hold_id,)):
                self._keep(row)
        row = self._holds.get(hold_id)
        return row.record if row else None

    def add(self, record: HoldRecord) -> None:
        row = self._holds.setdefault(record.hold.id, _HoldRow(record, self.now))
        row.record = record
        self._watch(record)

    def zone(self, name: str, /) -> str | None:
        if name not in self._zones:
            row = self._execute("SELECT zone, ever FROM zones WHERE name = ?", (name,)).fetchone()
            self._zones[name] = row[0] if row else None
            if row and row[1]:
                self._ever.add(name)
        return self._zones[name]

    def keep_zone(self, name: str, zone: str) -> None:
        self._execute(
            "INSERT INTO zones (name, zone) VALUES (?, ?)"
            " ON CONFLICT (name) DO UPDATE SET zone = excluded.zone",
            (name, zone),
        )
        self._zones[name] = zone

    def keep_ever(self, name: str) -> None:
        if self.zone(name) is not None and name not in self._ever:
            self._execute("UPDATE zones SET ever = 1 WHERE name = ?", (name,))
            self._ever.add(name)

    def watched(self, name: str, account: str, period: str) -> WatchRow:
        return self._watching().watched(name, account, period)

    def watches(self, name: str, account: str) -> list[Watch]:
        return self._watching().watches(name, account)

    def cross(self, crossing: Crossing) -> None:
        self._watching().cross(crossing)

    def _watching(self) -> RowWatches:
        if self._watches is None:
            self._watches = RowWatches(self._connection)
        return self._watches

    def next_crossing(self) -> Crossing | None:
        """As Watched.next_crossing."""
        return next_crossing(self._connection, self.now)

    def end_crossing(self, crossing: Crossing, state: str) -> None:
        """As Watched.end_crossing."""
        end_crossing(self._connection, crossing, state)

    def due(self, now: int) -> list[HoldRecord]:
        if self._live is None:
            self._live = {}
            for row in self._holds.values():
                self._watch(row.record)
            for row in self._execute(
                _SELECT_HOLDS + "WHERE state = 0 AND until <= ?", (now,)
            ).fetchall():
                if row[0] not in self._holds:
                    self._keep(row)
        live = self._live.values()
        self._live = {r.hold.id: r for r in live if r.state is HoldState.RESERVED}
        return [record for record in self._live.values() if record.until <= now]

    def spend(self, row: UsageRow, use: Use, sign: int) -> None:
        self._usage.setdefault(row, Use()).add(use, sign)

    def own_usage(self, principal: str, since: str) -> list[Used]:
        """The usage of a principal from the day ``since`` on, by day and model."""
        return read_own_usage(self._connection, principal, since, self.now)

    def count_refusals(self, counts: Mapping[tuple[str, str], int]) -> None:
        """Add to the refusals by hour and limit."""
        self._executemany(
            "INSERT INTO refusals VALUES (?, ?, ?)"
            " ON CONFLICT (hour, name) DO UPDATE SET count = count + excluded.count",
            [(*place, number) for place, number in counts.items()],
        )

    def keep_currency(self, currency: str) -> None:
        """Keep the currency, if there is none. Raises ConfigurationError."""
        (kept,) = self._execute("SELECT currency FROM books").fetchone()
        check_currency(kept, currency)
        if not kept:
            self._execute("UPDATE books SET currency = ?", (currency,))

    def note_turn(self, hold: Hold, charge: Charge, *, admitted: bool) -> None:
        """Record a turn. ``admitted`` is false if the books had forgotten its hold."""
        row = self._holds[hold.id]
        self._turns[hold.id] = (
            hold.id,
            row.admitted_at if admitted else None,
            self.now,
            row.record.hold.tokens,
            charge.tokens,
            charge.input_tokens,
            charge.output_tokens,
            charge.source,
            charge.outcome,
            charge.principal,
            charge.profile,
            charge.model,
            row.record.hold.money,
            charge.money,
            msgspec.json.encode(charge.facts).decode() if charge.facts != _NO_FACTS else "{}",
        )

    def adjust(self, adjustment: Adjustment) -> bool:
        """Correct a counter, unless the account has an adjustment with this id. Returns whether it
        did.
        """
        made = self._execute(
            "INSERT INTO adjustments VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            msgspec.structs.astuple(adjustment),
        ).rowcount
        if made:
            model.correct(self, adjustment, self.now)
        return bool(made)

    def adjustment(self, account: str, adjustment_id: str) -> Adjustment:
        """The recorded adjustment with this id."""
        row = self._execute(
            "SELECT * FROM adjustments WHERE account = ? AND id = ?", (account, adjustment_id)
        ).fetchone()
        return Adjustment(**dict(zip(Adjustment.__struct_fields__, row, strict=True)))

    def write(self) -> None:
        """Write the changes back."""
        self._write_holds()
        if self._watches is not None:
            self._watches.write(self.now)
        self._executemany(
            _WRITE_COUNTER,
            [
                (*_place(key), *msgspec.structs.astuple(counter), self.now)
                for key, (counter, was) in self._counters.items()
                if counter != was
            ],
        )
        self._executemany(
            "INSERT OR REPLACE INTO buckets VALUES (?, ?, ?)",
            [
                (key, msgspec.json.encode(sliding).decode(), self.now)
                for key, sliding in self._slidings.items()
            ],
        )
        for window in self._windows.values():
            window.write(self.now)
        self._executemany(
            "INSERT OR REPLACE INTO turns VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            self._turns.values(),
        )
        write_usage(self._connection, self._usage)

    def _write_holds(self) -> None:
        new, changed = [], []
        for hold_id, row in self._holds.items():
            record, was, hold = row.record, row.was, row.record.hold
            figures = record.state, record.until, record.charged, record.charged_money
            if was is None:
                lines = msgspec.json.encode(hold.lines).decode()
                watched = msgspec.json.encode(hold.watched).decode() if hold.watched else ""
                amounts = hold.tokens, hold.money, hold.output
                new.append((hold_id, *figures, *amounts, lines, watched, row.admitted_at))
            elif figures != was:
                changed.append((*figures, hold_id))
            before = was[0] if was else HoldState.RESERVED
            if record.state is HoldState.EXPIRED and before is HoldState.RESERVED:
                charge = msgspec.structs.replace(
                    _EXPIRED, tokens=record.charged, money=record.charged_money
                )
                self.note_turn(record.hold, charge, admitted=True)
            elif record.state is HoldState.RELEASED and before is HoldState.EXPIRED:
                self._execute("DELETE FROM turns WHERE hold = ?", (hold_id,))
        self._executemany(_NEW_HOLD, new)
        self._executemany(
            "UPDATE holds SET state = ?, until = ?, charged = ?, charged_money = ? WHERE id = ?",
            changed,
        )

    def _keep(self, row: tuple[str, int, int, int, int, int, int, int, str, str, int]) -> None:
        hold_id, state, until, charged, charged_money, *amounts, lines, watched, admitted_at = row
        tokens, money, output = amounts
        hold = Hold(
            id=hold_id,
            tokens=tokens,
            money=money,
            output=output,
            lines=_read_lines(lines),
            watched=read_watched(watched) if watched else (),
        )
        was = HoldState(state), until, charged, charged_money
        record = HoldRecord(hold, *was)
        self._holds[hold_id] = _HoldRow(record, admitted_at, was)
        self._watch(record)

    def _watch(self, record: HoldRecord) -> None:
        if self._live is not None:
            self._live[record.hold.id] = record


def _place(key: str) -> tuple[str, str, str]:
    """The name, the account and the day of a counter."""
    name, day, account = key.split(":", 2)
    return name, account, day
