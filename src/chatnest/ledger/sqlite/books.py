"""RowBooks: rows of the ledger's tables, as the books that the rules read and write."""

import sqlite3
from collections.abc import Callable
from typing import Final

import msgspec

from chatnest.ledger.audit import Adjustment
from chatnest.ledger.base import Charge, Hold, Line
from chatnest.ledger.model import Counter, HoldRecord, HoldState
from chatnest.ledger.sqlite.window import RowWindow

__all__ = ["RowBooks"]

_SELECT_HOLDS: Final = "SELECT id, state, until, charged, tokens, lines, admitted_at FROM holds "
_EXPIRED: Final = Charge(tokens=0, source="estimated", outcome="expired")

_read_lines = msgspec.json.Decoder(tuple[Line, ...]).decode


class _HoldRow(msgspec.Struct):
    record: HoldRecord
    admitted_at: int
    was: tuple[HoldState, int, int] | None = None


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
        self._holds: dict[str, _HoldRow] = {}
        self._live: dict[str, HoldRecord] | None = None
        self._turns: dict[str, tuple[object, ...]] = {}
        self._zones: dict[str, str | None] = {}

    def touch(self) -> None:
        """Write without a change: a file that can only be read may be locked for reading, too."""
        (application,) = self._execute("PRAGMA application_id").fetchone()
        self._execute(f"PRAGMA application_id = {application}")

    def counter(self, key: str) -> Counter:
        if key not in self._counters:
            row = self._execute(
                "SELECT settled, held, overrun, expired, adjusted FROM counters WHERE key = ?",
                (key,),
            ).fetchone() or (0, 0, 0, 0, 0)
            self._counters[key] = Counter(*row), Counter(*row)
        return self._counters[key][0]

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
            row = self._execute("SELECT zone FROM zones WHERE name = ?", (name,)).fetchone()
            self._zones[name] = row[0] if row else None
        return self._zones[name]

    def keep_zone(self, name: str, zone: str) -> None:
        self._execute(
            "INSERT INTO zones VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET zone = excluded.zone",
            (name, zone),
        )
        self._zones[name] = zone

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
            self.counter(adjustment.key).adjusted += adjustment.tokens
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
        self._executemany(
            "INSERT INTO counters (key, settled, held, overrun, expired, adjusted, changed_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET"
            " settled = excluded.settled, held = excluded.held, overrun = excluded.overrun,"
            " expired = excluded.expired, adjusted = excluded.adjusted,"
            " changed_at = excluded.changed_at",
            [
                (key, *msgspec.structs.astuple(counter), self.now)
                for key, (counter, was) in self._counters.items()
                if counter != was
            ],
        )
        for window in self._windows.values():
            window.write(self.now)
        self._executemany(
            "INSERT OR REPLACE INTO turns VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            self._turns.values(),
        )

    def _write_holds(self) -> None:
        new, changed = [], []
        for hold_id, row in self._holds.items():
            record, was = row.record, row.was
            figures = record.state, record.until, record.charged
            if was is None:
                lines = msgspec.json.encode(record.hold.lines).decode()
                new.append((hold_id, *figures, record.hold.tokens, lines, row.admitted_at))
            elif figures != was:
                changed.append((*figures, hold_id))
            before = was[0] if was else HoldState.RESERVED
            if record.state is HoldState.EXPIRED and before is HoldState.RESERVED:
                charge = msgspec.structs.replace(_EXPIRED, tokens=record.charged)
                self.note_turn(record.hold, charge, admitted=True)
            elif record.state is HoldState.RELEASED and before is HoldState.EXPIRED:
                self._execute("DELETE FROM turns WHERE hold = ?", (hold_id,))
        self._executemany("INSERT INTO holds VALUES (?, ?, ?, ?, ?, ?, ?)", new)
        self._executemany(
            "UPDATE holds SET state = ?, until = ?, charged = ? WHERE id = ?", changed
        )

    def _keep(self, row: tuple[str, int, int, int, int, str, int]) -> None:
        hold_id, state, until, charged, tokens, lines, admitted_at = row
        hold = Hold(id=hold_id, tokens=tokens, lines=_read_lines(lines))
        was = HoldState(state), until, charged
        record = HoldRecord(hold, *was)
        self._holds[hold_id] = _HoldRow(record, admitted_at, was)
        self._watch(record)

    def _watch(self, record: HoldRecord) -> None:
        if self._live is not None:
            self._live[record.hold.id] = record
