"""RunRows: the rows of runs and their batches, within one transaction."""

import json
import sqlite3
from collections.abc import Callable, Collection
from typing import Final

from chatnest.runs.base import (
    REFUSED,
    REFUSED_SECONDS,
    Batch,
    Claim,
    Page,
    RunEnd,
    RunSettings,
    Signals,
)

__all__ = ["RunRows"]

_SIGNALS: Final = """
SELECT value, ifnull(cancelled, 0), ifnull(read, 0), runs.id IS NULL OR outcome IS ?1
FROM json_each(?2) LEFT JOIN runs ON runs.id = value
WHERE cancelled OR read OR runs.id IS NULL OR outcome IS ?1
"""


class RunRows:
    """The operations of a run log, on a connection that is in a transaction. Times and leases are
    in milliseconds; ``now`` is the time of the transaction.
    """

    def __init__(self, connection: sqlite3.Connection, now: int, settings: RunSettings) -> None:
        self.connection = connection
        self.execute: Callable[..., sqlite3.Cursor] = connection.execute
        self.now = now
        self._keep = int(settings.keep * 1000)
        self._max_bytes = settings.max_bytes

    def claim(
        self, key: str | None, owner: str, fingerprint: str, run_id: str, lease: int
    ) -> Claim:
        if known := self.execute(
            "SELECT id, fingerprint FROM runs WHERE key = ?", (key,)
        ).fetchone():
            return Claim(run_id=known[0], fingerprint=known[1], mine=known[0] == run_id)
        until = self.now + lease
        self.execute("DELETE FROM runs WHERE id = ?", (run_id,))
        self.execute(
            "INSERT INTO runs (id, owner, fingerprint, key, lives_until, forget_at)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (run_id, owner, fingerprint, key, until, until + self._keep),
        )
        return Claim(run_id=run_id, fingerprint=fingerprint, mine=True)

    def append(self, run_id: str, batch: Batch | None, lease: int) -> bool:
        """Add events, and renew the lease. Returns whether the run is known."""
        run = self.execute(
            "SELECT lives_until, size, dropped, last FROM runs WHERE id = ? AND outcome IS NOT ?",
            (run_id, REFUSED.outcome),
        ).fetchone()
        if run is None:
            return False
        lives_until, size, dropped, last = run
        until = self.now + lease
        if batch is not None and batch.first > last:
            if batch.first > last + 1:
                self.execute("DELETE FROM batches WHERE run = ?", (run_id,))
                size, dropped = 0, batch.first - 1
            self.execute(
                "INSERT INTO batches VALUES (?, ?, ?, ?)",
                (run_id, batch.first, batch.count, batch.data),
            )
            size, dropped = self._trim(run_id, size + len(batch.data), dropped)
            self.execute(
                "UPDATE runs SET last = ?, size = ?, dropped = ?, lives_until = ?, forget_at = ?"
                " WHERE id = ?",
                (batch.first + batch.count - 1, size, dropped, until, until + self._keep, run_id),
            )
        elif until - lives_until > lease // 3:
            self.execute(
                "UPDATE runs SET lives_until = ?, forget_at = ? WHERE id = ?",
                (until, until + self._keep, run_id),
            )
        return True

    def signals(self, run_ids: Collection[str]) -> dict[str, Signals]:
        """The signals of runs. Changes nothing."""
        return {
            run_id: Signals(forgotten=True)
            if forgotten
            else Signals(cancelled=bool(cancelled), read=bool(read))
            for run_id, cancelled, read, forgotten in self.execute(
                _SIGNALS, (REFUSED.outcome, json.dumps([*run_ids]))
            )
        }

    def take_signals(self, run_ids: Collection[str]) -> dict[str, Signals]:
        """The signals of runs. Notes that they have arrived."""
        found = self.signals(run_ids)
        read = [(run_id,) for run_id, signals in found.items() if signals.read]
        self.connection.executemany("UPDATE runs SET read = 0 WHERE id = ?", read)
        return found

    def _trim(self, run_id: str, size: int, dropped: int) -> tuple[int, int]:
        """Drop the oldest batches until the rest fit. Returns the new size, and the last event that
        was dropped.
        """
        while size > self._max_bytes:
            first, count, length = self.execute(
                "SELECT first, count, length(data) FROM batches WHERE run = ? ORDER BY first"
                " LIMIT 1",
                (run_id,),
            ).fetchone()
            self.execute("DELETE FROM batches WHERE run = ? AND first = ?", (run_id, first))
            size, dropped = size - length, first + count - 1
        return size, dropped

    def finish(self, run_id: str, end: RunEnd, batch: Batch | None) -> bool:
        """Add the last events, if any, and record the end. Returns whether the run is known."""
        if batch is not None:
            self.append(run_id, batch, 0)
        ended = self.execute(
            "UPDATE runs SET outcome = ?, charged = ?, source = ?, forget_at = ?"
            " WHERE id = ? AND outcome IS NULL",
            (end.outcome, end.charged, end.source, self.now + self._keep, run_id),
        ).rowcount
        known = "SELECT 1 FROM runs WHERE id = ?"
        return ended > 0 or self.execute(known, (run_id,)).fetchone() is not None

    def drop(self, run_id: str) -> None:
        self.execute("DELETE FROM batches WHERE run = ?", (run_id,))
        self.execute(
            "UPDATE runs SET key = NULL, outcome = ?, charged = 0, source = ?, size = 0,"
            " dropped = 0, last = 0, forget_at = ? WHERE id = ?",
            (REFUSED.outcome, REFUSED.source, self.now + int(REFUSED_SECONDS * 1000), run_id),
        )

    def cancel(self, run_id: str) -> None:
        self.execute("UPDATE runs SET cancelled = 1 WHERE id = ?", (run_id,))

    def note(self, name: str, text: str, milliseconds: int) -> None:
        self.execute(
            "INSERT INTO notes (name, text, forget_at) VALUES (?, ?, ?) ON CONFLICT (name)"
            " DO UPDATE SET text = excluded.text, forget_at = excluded.forget_at",
            (name, text, self.now + milliseconds),
        )

    def noted(self, name: str) -> str | None:
        found = self.execute(
            "SELECT text FROM notes WHERE name = ? AND forget_at > ?", (name, self.now)
        ).fetchone()
        return None if found is None else str(found[0])

    def read(self, run_id: str, after: int, owner: str) -> Page | None:
        run = self.execute(
            "SELECT lives_until, dropped, last, outcome, charged, source, read, forget_at"
            " FROM runs WHERE id = ? AND owner = ?",
            (run_id, owner),
        ).fetchone()
        if run is None or run[-1] <= self.now:
            return None
        lives_until, dropped, last, outcome, charged, source, read, _ = run
        if outcome is None and not read:
            self.execute("UPDATE runs SET read = 1 WHERE id = ?", (run_id,))
        batches = self.execute(
            "SELECT first, count, data FROM batches WHERE run = ? AND first + count > ? + 1"
            " ORDER BY first",
            (run_id, min(after, 1 << 53)),
        )
        return Page(
            batches=tuple(Batch(first=f, count=c, data=bytes(data)) for f, c, data in batches),
            dropped=dropped,
            last=last,
            end=None
            if outcome is None
            else RunEnd(outcome=outcome, charged=charged, source=source),
            lost=outcome is None and lives_until < self.now,
        )
