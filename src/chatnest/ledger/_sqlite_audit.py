"""An audit of SQLiteLedger's file: each question is answered as of one instant."""

import heapq
import sqlite3
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import ExitStack, closing
from itertools import islice
from typing import Final, TypeVar

import anyio
import anyio.to_thread
import msgspec

from chatnest.errors import LedgerUnavailable
from chatnest.ledger._sqlite_books import RowBooks
from chatnest.ledger._sqlite_file import BookFile
from chatnest.ledger.audit import (
    Adjusted,
    Adjustment,
    Balance,
    LiveHold,
    TurnRecord,
    Verdict,
    check_kept,
    judge,
    verify,
)
from chatnest.ledger.base import Line

__all__ = ["SQLiteAudit"]

_T = TypeVar("_T")

_PAGE: Final = 1_000
_COUNTERS: Final = "SELECT key, settled, held, overrun, expired, adjusted FROM counters"
_HOLDS: Final = (
    "SELECT id, tokens, lines, admitted_at, until FROM holds WHERE state = 0"
    " ORDER BY admitted_at, id"
)
# A turn and its hold are forgotten at about the same time, but not in one step.
_TURNS: Final = """
SELECT turns.hold, turns.tokens, turns.held, settled_at, turns.admitted_at, outcome, source,
    input_tokens, output_tokens, principal, profile, model, coalesce(holds.lines, '[]')
FROM turns LEFT JOIN holds ON holds.id = turns.hold
WHERE settled_at >= ? ORDER BY settled_at, turns.rowid
"""
_ADJUSTMENTS: Final = "SELECT * FROM adjustments WHERE at >= ? ORDER BY at"

_read_lines = msgspec.json.Decoder(tuple[Line, ...]).decode

Run = Callable[[Callable[[RowBooks], object]], Awaitable[object]]


class SQLiteAudit:
    """The books of a SQLiteLedger, read beside its writers.

    ``file`` makes another connection, usable from any thread; ``run`` has the ledger's own writer
    do something; ``keep`` is in milliseconds.
    """

    def __init__(
        self, file: Callable[[], BookFile], run: Run, clock: Callable[[], int], keep: int
    ) -> None:
        self._file = file
        self._run = run
        self._clock = clock
        self._keep = keep

    async def now(self) -> int:
        return self._clock()

    async def balances(self, account: str | None = None) -> list[Balance]:
        balances = await self._look(lambda rows: list(_balances(rows)))
        found = [b for b in balances if account is None or b.account == account]
        return sorted(found, key=lambda b: (b.account, b.day or "", b.name))

    async def holds(self) -> list[LiveHold]:
        return await self._look(lambda rows: list(_holds(rows)))

    async def records(self, since: int) -> AsyncGenerator[TurnRecord | Adjustment, None]:
        stack = ExitStack()
        file = stack.enter_context(closing(self._file()))
        try:
            records = await _in_thread(
                lambda: _records(stack.enter_context(file.snapshot()), since)
            )
            while page := await _in_thread(lambda: list(islice(records, _PAGE))):
                for record in page:
                    yield record
        finally:
            with anyio.CancelScope(shield=True):
                await _in_thread(stack.close)

    async def adjust(self, adjustment: Adjustment) -> Adjusted:
        check_kept(adjustment, self._clock(), self._keep)
        adjusted = await self._run(lambda books: _adjust(books, adjustment))
        assert isinstance(adjusted, Adjusted)  # noqa: S101  # what _adjust gives
        return adjusted

    async def verdict(self) -> Verdict:
        return await self._look(self._verify)

    def _verify(self, rows: sqlite3.Connection) -> Verdict:
        balances = list(_balances(rows))
        drifts = verify(balances, _holds(rows), _turns(rows, 0), _adjustments(rows, 0))
        return judge(len(balances), drifts, kept_since=self._clock() - self._keep)

    async def _look(self, look: Callable[[sqlite3.Connection], _T]) -> _T:
        def read() -> _T:
            with closing(self._file()) as file, file.snapshot() as rows:
                return look(rows)

        return await _in_thread(read)


async def _in_thread(work: Callable[[], _T]) -> _T:
    try:
        return await anyio.to_thread.run_sync(work)
    except sqlite3.Error as exc:
        raise LedgerUnavailable from exc


def _adjust(books: RowBooks, adjustment: Adjustment) -> Adjusted:
    first = books.adjust(msgspec.structs.replace(adjustment, at=books.now))
    made = books.adjustment(adjustment.account, adjustment.id)
    balance = Balance.at(made.key, msgspec.structs.astuple(books.counter(made.key)))
    return Adjusted(adjustment=made, first=first, balance=balance)


def _balances(rows: sqlite3.Connection) -> Iterator[Balance]:
    for key, *figures in rows.execute(_COUNTERS):
        yield Balance.at(key, figures)


def _holds(rows: sqlite3.Connection) -> Iterator[LiveHold]:
    for hold_id, tokens, lines, admitted_at, until in rows.execute(_HOLDS):
        yield LiveHold(
            id=hold_id,
            tokens=tokens,
            lines=_read_lines(lines),
            admitted_at=admitted_at,
            expires_at=until,
        )


def _records(rows: sqlite3.Connection, since: int) -> Iterator[TurnRecord | Adjustment]:
    return heapq.merge(_turns(rows, since), _adjustments(rows, since), key=_time_of)


def _time_of(record: TurnRecord | Adjustment) -> int:
    return record.at if isinstance(record, Adjustment) else record.settled_at


def _turns(rows: sqlite3.Connection, since: int) -> Iterator[TurnRecord]:
    for *values, lines in rows.execute(_TURNS, (since,)):
        yield TurnRecord(
            **dict(zip(TurnRecord.__struct_fields__, values, strict=False)),
            lines=tuple(line.key for line in _read_lines(lines)),
        )


def _adjustments(rows: sqlite3.Connection, since: int) -> Iterator[Adjustment]:
    for values in rows.execute(_ADJUSTMENTS, (since,)):
        yield Adjustment(**dict(zip(Adjustment.__struct_fields__, values, strict=True)))
