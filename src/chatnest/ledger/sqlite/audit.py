"""SQLiteAudit: an audit of a SQLiteLedger's file while workers write it.

Each operation reads the file as it is at one instant. Records are read in pages, each with an
instant of its own.
"""

import heapq
import sqlite3
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import closing
from functools import partial
from itertools import islice
from typing import Final, TypeVar

import anyio.to_thread
import msgspec

from chatnest.errors import LedgerUnavailable
from chatnest.ledger.audit import (
    Adjusted,
    Adjustment,
    Balance,
    LiveHold,
    TurnRecord,
    Verdict,
    ZoneChange,
    check_kept,
)
from chatnest.ledger.base import Facts, Line
from chatnest.ledger.days import day_of
from chatnest.ledger.sqlite.adopt import change_zone
from chatnest.ledger.sqlite.books import RowBooks
from chatnest.ledger.sqlite.file import BookFile
from chatnest.ledger.sqlite.usage import all_usage, read_usage
from chatnest.ledger.sqlite.watches import CROSSINGS, read_crossing
from chatnest.ledger.usage import Refusals, Used, gathered
from chatnest.ledger.verification import Recount, judge, usage_drifts, verify
from chatnest.ledger.watch import Crossing
from chatnest.stores.survey import StoreChanged

__all__ = ["SQLiteAudit"]

_T = TypeVar("_T")

_PAGE: Final = 1_000
_COUNTERS: Final = (
    "SELECT name, day, account, settled, held, overrun, expired, adjusted FROM counters"
)
_HOLDS: Final = (
    "SELECT id, tokens, money, lines, admitted_at, until FROM holds WHERE state = 0"
    " ORDER BY admitted_at, id"
)
_BOUNDS: Final = (
    "SELECT (SELECT coalesce(max(rowid), 0) FROM turns),"
    " (SELECT coalesce(max(rowid), 0) FROM adjustments)"
)
# The hold may be gone: it is forgotten at about the same time as its turn, in another step.
_TURNS: Final = """
SELECT settled_at, turns.rowid, turns.hold, turns.tokens, turns.held, settled_at,
    turns.admitted_at, outcome, source, input_tokens, output_tokens, principal, profile, model,
    held_money, turns.money, facts, coalesce(holds.lines, '[]')
FROM turns LEFT JOIN holds ON holds.id = turns.hold
WHERE (settled_at, turns.rowid) > (?, ?) AND turns.rowid <= ?
ORDER BY settled_at, turns.rowid LIMIT ?
"""
_ADJUSTMENTS: Final = (
    "SELECT at, rowid, * FROM adjustments WHERE (at, rowid) > (?, ?) AND rowid <= ?"
    " ORDER BY at, rowid LIMIT ?"
)
_ALL: Final = 2**62
_WARNINGS: Final = CROSSINGS + "ORDER BY at, name, account, threshold"

_read_facts = msgspec.json.Decoder(Facts).decode
_read_lines = msgspec.json.Decoder(tuple[Line, ...]).decode

_Place = tuple[int, int]
"""A record's time and row number, by which records are ordered."""

_Placed = tuple[_Place, TurnRecord | Adjustment]

Run = Callable[[Callable[[RowBooks], object]], Awaitable[object]]


class SQLiteAudit:
    """The books of a SQLiteLedger.

    ``file`` makes a connection for any thread; ``run`` runs an operation in the ledger's writer;
    ``keep`` is in milliseconds; ``adopt`` makes the file the books.
    """

    def __init__(
        self,
        file: Callable[[], BookFile],
        run: Run,
        clock: Callable[[], int],
        keep: int,
        adopt: Callable[[], str],
    ) -> None:
        self._adopt = adopt
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
        """Read page by page: no transaction stays open while the caller works on a page.

        Records written after the first page was read are left out, and so is a turn whose record
        was corrected since. The next reading has both.
        """
        turns = adjustments = (since, -1)
        bounds = await self._look(_bounds)
        while True:
            page = await self._look(partial(_page, turns, adjustments, bounds))
            for place, record in page:
                if isinstance(record, Adjustment):
                    adjustments = place
                else:
                    turns = place
                yield record
            if len(page) < _PAGE:
                return

    async def warnings(self) -> list[Crossing]:
        return await self._look(lambda rows: [read_crossing(r) for r in rows.execute(_WARNINGS)])

    async def adjust(self, adjustment: Adjustment) -> Adjusted:
        scales = await self._look(_scales)
        scale = scales.get(adjustment.name, "")
        check_kept(adjustment, self._clock(), self._keep, scale)
        adjusted = await self._run(lambda books: _adjust(books, adjustment))
        assert isinstance(adjusted, Adjusted)  # noqa: S101  # the result of _adjust
        return adjusted

    async def change_zone(self, name: str, zone: str) -> ZoneChange:
        change = await self._run(lambda books: change_zone(books, name, zone))
        assert isinstance(change, ZoneChange)  # noqa: S101  # the result of change_zone
        return change

    async def adopt(self) -> str:
        return await _in_thread(self._adopt)

    async def usage(self, since: str, by: tuple[str, ...]) -> list[Used]:
        return await self._look(lambda rows: gathered(read_usage(rows, since, by), by))

    async def refusals(self, since: str) -> list[Refusals]:
        return await self._look(lambda rows: list(_refusals(rows, since)))

    async def currency(self) -> str:
        return await self._look(_currency)

    async def verdict(self) -> Verdict:
        return await self._look(self._verify)

    def _verify(self, rows: sqlite3.Connection) -> Verdict:
        balances = list(_balances(rows))
        recount = Recount()
        turns = recount.watching(record for _, record in _turns(rows))
        adjustments = (record for _, record in _adjustments(rows))
        drifts = verify(balances, _holds(rows), turns, adjustments, _scales(rows))
        since = self._clock() - self._keep
        kept = all_usage(rows, day_of(since, "UTC"))
        return msgspec.structs.replace(
            judge(len(balances), drifts, kept_since=since),
            usage=tuple(usage_drifts(kept, recount.rows, since)),
            rows=len(kept),
        )

    async def _look(self, look: Callable[[sqlite3.Connection], _T]) -> _T:
        def read() -> _T:
            with closing(self._file()) as file, file.snapshot() as rows:
                return look(rows)

        return await _in_thread(read)


async def _in_thread(work: Callable[[], _T]) -> _T:
    try:
        return await anyio.to_thread.run_sync(work)
    except (sqlite3.Error, StoreChanged) as exc:
        raise LedgerUnavailable from exc


def _adjust(books: RowBooks, adjustment: Adjustment) -> Adjusted:
    first = books.adjust(msgspec.structs.replace(adjustment, at=books.now))
    made = books.adjustment(adjustment.account, adjustment.id)
    figures = msgspec.structs.astuple(books.counter(made.key))
    scales = {made.name: books.zone(made.name) or ""}
    balance = Balance.at(made.key, figures, scales)
    return Adjusted(adjustment=made, first=first, balance=balance)


def _balances(rows: sqlite3.Connection) -> Iterator[Balance]:
    scales = _scales(rows)
    for name, day, account, *figures in rows.execute(_COUNTERS):
        yield Balance.at(f"{name}:{day}:{account}", figures, scales)


def _scales(rows: sqlite3.Connection) -> dict[str, str]:
    return dict(rows.execute("SELECT name, zone FROM zones"))


def _holds(rows: sqlite3.Connection) -> Iterator[LiveHold]:
    for hold_id, tokens, money, lines, admitted_at, until in rows.execute(_HOLDS):
        yield LiveHold(
            id=hold_id,
            tokens=tokens,
            money=money,
            lines=_read_lines(lines),
            admitted_at=admitted_at,
            expires_at=until,
        )


def _refusals(rows: sqlite3.Connection, since: str) -> Iterator[Refusals]:
    for row in rows.execute("SELECT * FROM refusals WHERE hour >= ? ORDER BY hour, name", (since,)):
        yield Refusals(*row)


def _currency(rows: sqlite3.Connection) -> str:
    currency: str
    (currency,) = rows.execute("SELECT currency FROM books").fetchone()
    return currency


def _bounds(rows: sqlite3.Connection) -> tuple[int, int]:
    """The numbers of the newest rows of turns and of adjustments."""
    turns, adjustments = rows.execute(_BOUNDS).fetchone()
    return turns, adjustments


def _page(
    turns: _Place, adjustments: _Place, bounds: tuple[int, int], rows: sqlite3.Connection
) -> list[_Placed]:
    """The next page of records after these places, in the order of their times."""
    some: Iterator[_Placed] = _turns(rows, turns, bounds[0], _PAGE)
    others: Iterator[_Placed] = _adjustments(rows, adjustments, bounds[1], _PAGE)
    return list(islice(heapq.merge(some, others, key=_time_of), _PAGE))


def _time_of(placed: _Placed) -> int:
    return placed[0][0]


def _turns(
    rows: sqlite3.Connection, after: _Place = (0, -1), last: int = _ALL, most: int = -1
) -> Iterator[tuple[_Place, TurnRecord]]:
    for at, number, *values, facts, lines in rows.execute(_TURNS, (*after, last, most)):
        record = TurnRecord(
            **dict(zip(TurnRecord.__struct_fields__, values, strict=False)),
            facts=_read_facts(facts),
            lines=tuple(line.key for line in _read_lines(lines) if line.serial < 0),
        )
        yield (at, number), record


def _adjustments(
    rows: sqlite3.Connection, after: _Place = (0, -1), last: int = _ALL, most: int = -1
) -> Iterator[tuple[_Place, Adjustment]]:
    for at, number, *values in rows.execute(_ADJUSTMENTS, (*after, last, most)):
        found = Adjustment(**dict(zip(Adjustment.__struct_fields__, values, strict=True)))
        yield (at, number), found
