"""Audits, over every ledger that others can read: its books add up, and where not, it is said."""

import random
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from chatnest.errors import ConfigurationError, LedgerUnavailable, ZoneConflict
from chatnest.ledger import MemoryLedger, days
from chatnest.ledger.audit import (
    Adjusted,
    Adjustment,
    Audited,
    Balance,
    Drift,
    LiveHold,
    TurnRecord,
)
from chatnest.ledger.base import (
    Admitted,
    Charge,
    Cost,
    Hold,
    Ledger,
    Limit,
    Line,
    Reservation,
)
from chatnest.ledger.books import GRANTED
from chatnest.ledger.limit import MOST
from chatnest.ledger.redis import RedisLedger
from chatnest.ledger.sqlite import SQLiteLedger
from chatnest.ledger.verification import judge, verify
from tests.ledger.server import Server
from tests.ledger.sqlite_support import V5, rows, write_lock
from tests.ledger.support import (
    DAY,
    HOUR,
    MINUTE,
    NOON,
    SECOND,
    Clock,
    admit,
    amounts,
    balance,
    budget,
    rate,
    refuse,
    streams,
    wish,
)

pytestmark = pytest.mark.anyio

TODAY = "2026-06-01"
KEEP = 10


class Books(msgspec.Struct):
    """A ledger, and what changes a counter behind its back, by SQL or by the packed numbers."""

    ledger: Any
    corrupt: Callable[[str, dict[str, int]], None]

    @property
    def audit(self) -> Any:
        assert isinstance(self.ledger, Audited)
        return self.ledger.audit()

    async def drifts(self) -> list[Drift]:
        verdict = await self.audit.verdict()
        assert (verdict.unsure, verdict.old) == ((), 0)
        return list(verdict.drifts)


@pytest.fixture(params=["sqlite", "redis", "redis+cluster"])
async def ledger(
    request: pytest.FixtureRequest, anyio_backend: str, clock: Clock, path: Path
) -> AsyncIterator[Ledger]:
    ledger: Ledger
    if request.param == "sqlite":
        ledger = SQLiteLedger(path, clock=clock, synchronous="NORMAL", keep_days=KEEP)
    else:
        name = "redis_cluster" if "cluster" in request.param else "redis_server"
        address = request.getfixturevalue(name).address
        ledger = RedisLedger(
            f"{request.param}://{address}",
            prefix=f"aud-it?[{uuid4().hex}]*",
            timeout=10,
            clock=clock,
            keep_days=KEEP,
        )
    yield ledger
    await ledger.aclose()


@pytest.fixture
def books(ledger: Ledger, path: Path, request: pytest.FixtureRequest) -> Books:
    def in_file(key: str, figures: dict[str, int]) -> None:
        # Not the ledger's own connection, and without the triggers that would refuse it.
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("DROP TRIGGER IF EXISTS settled_is_never_taken_back")
            for figure, value in figures.items():
                connection.execute(
                    f"UPDATE counters SET {figure} = ? WHERE name = ? AND day = ? AND account = ?",
                    (value, *key.split(":", 2)),
                )

    def in_server(key: str, figures: dict[str, int]) -> None:
        assert isinstance(ledger, RedisLedger)
        name, day, account = key.split(":", 2)
        cluster = "cluster" in repr(ledger)
        server: Server = request.getfixturevalue("redis_cluster" if cluster else "redis_server")
        place = ledger._keys.of(account, "counters"), f"{name}:{day}"
        with server.client(decode_responses=True) as client:
            known = Balance.at(key, map(int, (client.hget(*place) or "").split()))
            new = msgspec.structs.replace(known, **figures)
            packed = [new.settled, new.held, new.overrun, new.expired, new.adjusted]
            client.hset(*place, " ".join(map(str, packed)))

    return Books(ledger, in_file if isinstance(ledger, SQLiteLedger) else in_server)


def adjustment(
    tokens: int,
    adjustment_id: str = "refund-1",
    account: str = "ann",
    day: str = TODAY,
    reason: str = "a fault of ours",
) -> Adjustment:
    return Adjustment(
        id=adjustment_id, account=account, name="tokens", day=day, amount=tokens, reason=reason
    )


def limits_of(who: str) -> tuple[Limit, ...]:
    return (rate(20, account=who), budget(5_000, account=who), streams(9, account=who))


async def live(books: Books, clock: Clock, seed: int) -> dict[str, int]:
    """Operations of every kind. Gives what each settled hold was charged in the end."""
    dice = random.Random(seed)
    wishes: list[Reservation] = []
    holds: list[Hold] = []
    charged: dict[str, int] = {}
    for step in range(150):
        clock.now += dice.choice([0, 0, SECOND, 11 * SECOND, HOUR])
        who = dice.choice(["ann", "bob", "", "{odd}%7B:x"])
        match dice.randrange(8):
            case 0 | 1 | 2:
                limits = limits_of(who) if step % 10 else (rate(20, account=who),)
                wishes.append(wish(*limits, *limits_of("team"), lease=12 * SECOND))
                answer = await books.ledger.reserve(wishes[-1])
                if isinstance(answer, Admitted):
                    holds.append(answer.hold)
            case 3 | 4 if holds:
                hold = dice.choice(holds)
                settled = await books.ledger.settle(hold, Charge(tokens=dice.randrange(150)))
                if settled.first:
                    charged[hold.id] = settled.tokens
            case 5 if wishes:
                await books.ledger.release(dice.choice(wishes))
            case 6 if holds:
                await books.ledger.renew(dice.choice(holds), 12 * SECOND)
            case _:
                day = days.day_of(clock.now, "UTC")
                name = f"turn-{dice.randrange(9)}"
                await books.audit.adjust(adjustment(dice.randrange(-99, 99) or 1, name, who, day))
    return charged


@pytest.mark.parametrize("seed", range(4))
async def test_after_a_random_life_the_books_add_up(books: Books, clock: Clock, seed: int):
    charged = await live(books, clock, seed)

    verdict = await books.audit.verdict()
    assert verdict.checked > 10
    assert (verdict.drifts, verdict.unsure, verdict.old) == ((), (), 0)
    # And the export is complete, with every hold once.
    records = [record async for record in books.audit.records(0)]
    turns = [record for record in records if isinstance(record, TurnRecord)]
    assert {t.id: t.tokens for t in turns if t.outcome != "expired"} == charged
    assert len({turn.id for turn in turns}) == len(turns)
    assert any(turn.outcome == "expired" for turn in turns)
    assert any(isinstance(record, Adjustment) for record in records)
    times = [r.at if isinstance(r, Adjustment) else r.settled_at for r in records]
    assert times == sorted(times)


@pytest.mark.parametrize("figure", ["settled", "held", "overrun", "expired", "adjusted"])
async def test_a_counter_that_was_changed_behind_its_back_is_named(
    books: Books, clock: Clock, figure: str
):
    await some_of_everything(books, clock)
    assert await books.drifts() == []
    before = {b.key: b for b in await books.audit.balances()}[f"tokens:{TODAY}:ann"]
    value = getattr(before, figure)

    books.corrupt(before.key, {figure: value + 7})
    (drift,) = await books.drifts()

    assert drift == Drift(
        account="ann",
        name="tokens",
        day=TODAY,
        figure=figure,  # type: ignore[arg-type]  # one of them
        recorded=value + 7,
        recomputed=value,
    )


async def some_of_everything(books: Books, clock: Clock) -> Hold:
    """One live, one settled beyond its hold, one expired, one released; one adjustment."""
    limits = (budget(5_000), streams(9))
    await admit(books.ledger, wish(*limits, hold_id="silent"))
    clock.now += MINUTE
    done = (await admit(books.ledger, wish(*limits, hold_id="done"))).hold
    charge = Charge(tokens=130, principal="ann", profile="balanced", model="m", source="provider")
    await books.ledger.settle(done, charge)
    gone = wish(*limits, hold_id="gone")
    await admit(books.ledger, gone)
    await books.ledger.release(gone)
    await books.audit.adjust(adjustment(-20))
    return (await admit(books.ledger, wish(*limits, hold_id="live", lease=MINUTE))).hold


async def test_balances_holds_and_records_are_shown(books: Books, clock: Clock):
    await some_of_everything(books, clock)
    await admit(books.ledger, wish(budget(900, "bob"), hold_id="bobs", lease=2 * MINUTE))
    now = clock.now
    key = f"tokens:{TODAY}:ann"

    assert await books.audit.now() == now
    mine = await books.audit.balances("ann")
    assert mine == [
        Balance(account="ann", name="streams", day=None, unit="streams", held=1),
        Balance(
            account="ann",
            name="tokens",
            day=TODAY,
            settled=230,
            held=100,
            overrun=30,
            expired=100,
            adjusted=-20,
        ),
    ]
    assert mine[1].used == 210
    assert (await books.audit.balances())[:2] == mine
    assert await books.audit.balances("nobody") == []
    assert await books.audit.holds() == [
        LiveHold(
            id="bobs",
            tokens=100,
            lines=(Line(f"tokens:{TODAY}:bob", "tokens"),),
            admitted_at=now,
            expires_at=now + 2 * MINUTE,
        ),
        LiveHold(
            id="live",
            tokens=100,
            lines=(Line(key, "tokens"), Line("streams::ann", "streams")),
            admitted_at=now,
            expires_at=now + MINUTE,
        ),
    ]
    records = {record.id: record async for record in books.audit.records(0)}
    assert list(records) == ["silent", "done", "refund-1"]
    assert records["done"] == TurnRecord(
        id="done",
        tokens=130,
        held=100,
        settled_at=now,
        admitted_at=now,
        outcome="done",
        source="provider",
        principal="ann",
        profile="balanced",
        model="m",
        lines=(key, "streams::ann"),
    )
    assert (records["silent"].outcome, records["silent"].tokens) == ("expired", 100)
    assert records["silent"].admitted_at == NOON
    assert records["refund-1"] == msgspec.structs.replace(adjustment(-20), at=now)
    assert [r.id async for r in books.audit.records(now + 1)] == []


async def test_an_adjustment_counts_once_and_in_either_direction(books: Books, clock: Clock):
    limit = budget(1_000)
    hold = (await admit(books.ledger, wish(limit, tokens=900))).hold
    await books.ledger.settle(hold, Charge(tokens=900))
    await refuse(books.ledger, wish(limit, tokens=500))

    for first in (True, False, False):
        adjusted = await books.audit.adjust(adjustment(-400))
        assert adjusted == Adjusted(
            adjustment=msgspec.structs.replace(adjustment(-400), at=NOON),
            first=first,
            balance=Balance(account="ann", name="tokens", day=TODAY, settled=900, adjusted=-400),
        )
        clock.now += SECOND
    again = await books.audit.adjust(adjustment(-1, reason="another"))
    assert (again.first, again.adjustment.amount, again.balance.used) == (False, -400, 500)

    assert await balance(books.ledger, limit) == (500, 0)
    admitted = await admit(books.ledger, wish(limit, tokens=500))
    assert [(s.used, s.held) for s in admitted.states] == [(500, 500)]
    await books.ledger.release(wish(limit, hold_id=admitted.hold.id))
    assert (await books.audit.adjust(adjustment(+450, "fine-1"))).balance.used == 950
    await refuse(books.ledger, wish(limit, tokens=51))
    await admit(books.ledger, wish(limit, tokens=50))
    assert await books.drifts() == []


async def test_what_is_used_is_never_below_zero_and_a_credit_is_used_up(books: Books):
    limit = budget(1_000)
    await books.audit.adjust(adjustment(-300))

    assert await balance(books.ledger, limit) == (0, 0)
    await refuse(books.ledger, wish(limit, tokens=1_001))
    hold = (await admit(books.ledger, wish(limit, tokens=1_000))).hold
    await books.ledger.settle(hold, Charge(tokens=1_000))
    assert await balance(books.ledger, limit) == (700, 0)
    assert await books.drifts() == []


async def test_ids_belong_to_accounts(books: Books):
    for account in ("ann", "bob"):
        assert (await books.audit.adjust(adjustment(-5, account=account))).first


@pytest.mark.parametrize(
    ("day", "why"), [("2026-06-03", "that has begun"), ("2026-05-20", "long ago")]
)
async def test_a_day_that_is_not_kept_is_not_adjusted(books: Books, day: str, why: str):
    with pytest.raises(ConfigurationError, match=why):
        await books.audit.adjust(adjustment(-5, day=day))
    assert await books.audit.balances() == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": ""},
        {"id": "a\nb"},
        {"id": "x" * 201},
        {"reason": " "},
        {"reason": "x" * 501},
        {"amount": 0},
        {"amount": 9 * 10**15 + 1},
        {"name": "a:b"},
        {"day": "today"},
        {"day": "20260601"},
    ],
)
def test_what_is_no_adjustment_is_refused(wrong: dict[str, Any]):
    with pytest.raises(ConfigurationError):
        msgspec.structs.replace(adjustment(-5), **wrong)


async def test_differences_of_days_whose_records_are_forgotten_are_no_drifts(
    books: Books, clock: Clock
):
    await some_of_everything(books, clock)
    books.corrupt(f"tokens:{TODAY}:ann", {"settled": 1_000})
    assert len(await books.drifts()) == 1

    clock.now += (KEEP + 1) * DAY
    verdict = await books.audit.verdict()
    assert (verdict.drifts, verdict.unsure, verdict.old) == ((), (), 1)


async def test_reading_changes_nothing(books: Books, clock: Clock):
    await some_of_everything(books, clock)
    clock.now += HOUR  # a lease has ended, and nobody has charged it

    await books.audit.verdict()
    assert [h.id for h in await books.audit.holds()] == ["live"]
    assert (await books.audit.balances("ann"))[1].held == 100
    assert await books.drifts() == []


async def test_memory_has_no_books_that_others_could_read():
    assert not isinstance(MemoryLedger(), Audited)


# ---------------------------------------------------------------- SQLite


V4 = (
    V5
    + """
CREATE TABLE counters_of_4 (
    key TEXT PRIMARY KEY NOT NULL, settled INTEGER, held INTEGER, overrun INTEGER, expired INTEGER,
    changed_at INTEGER NOT NULL, adjusted INTEGER NOT NULL DEFAULT 0
);
INSERT INTO counters_of_4 SELECT name || ':' || day || ':' || account, settled, held, overrun,
    expired, changed_at, adjusted FROM counters;
DROP TABLE counters;
ALTER TABLE counters_of_4 RENAME TO counters;
CREATE INDEX counters_by_change ON counters (changed_at);
CREATE TRIGGER settled_is_never_taken_back BEFORE UPDATE ON counters
WHEN NEW.overrun < OLD.overrun BEGIN SELECT RAISE(ABORT, ''); END;
ALTER TABLE holds DROP COLUMN charged_money;
ALTER TABLE holds DROP COLUMN money;
ALTER TABLE holds DROP COLUMN output;
ALTER TABLE turns DROP COLUMN held_money;
ALTER TABLE turns DROP COLUMN money;
ALTER TABLE turns DROP COLUMN facts;
ALTER TABLE zones DROP COLUMN ever;
ALTER TABLE adjustments RENAME COLUMN amount TO tokens;
DROP TABLE buckets;
PRAGMA user_version = 4;
"""
)
V3 = (
    V4
    + """
DROP TABLE zones;
DROP TABLE books;
PRAGMA user_version = 3;
"""
)
V2 = (
    V3
    + """
DROP TABLE windows;
CREATE TABLE windows (key TEXT PRIMARY KEY NOT NULL, entries TEXT NOT NULL, changed_at INTEGER);
CREATE INDEX windows_by_change ON windows (changed_at);
INSERT INTO windows VALUES ('requests:60:ann', '[{first},{second}]', {second});
PRAGMA user_version = 2;
"""
)
V1 = (
    V2
    + """
DROP TABLE adjustments;
ALTER TABLE counters DROP COLUMN adjusted;
PRAGMA user_version = 1;
"""
)


@pytest.mark.parametrize("older", [V1, V2, V3, V4, V5])
async def test_a_file_of_an_older_schema_is_brought_up_to_date_and_keeps_its_balances(
    path: Path, clock: Clock, older: str
):
    first = SQLiteLedger(path, clock=clock, keep_days=KEEP)
    hold = (await admit(first, wish(budget(1_000)))).hold
    await first.settle(hold, Charge(tokens=70))
    await admit(first, wish(budget(1_000)))
    await first.aclose()
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(older.format(first=clock.now, second=clock.now + 1))

    ledger = SQLiteLedger(path, clock=clock, keep_days=KEEP)
    assert await balance(ledger, budget(1_000)) == (70, 100)
    assert (await ledger.audit().adjust(adjustment(-30))).balance.used == 40
    assert (await ledger.audit().verdict()).drifts == ()
    clock.now += MINUTE
    assert await balance(ledger, rate(9)) == (0 if older in {V3, V4, V5} else 1, 0)
    await admit(ledger, wish(budget(1_000)))
    with pytest.raises(ZoneConflict):
        await ledger.usage((budget(1_000, zone="Asia/Tokyo"),))
    await ledger.aclose()
    fresh = path.with_name("fresh.db")
    other = SQLiteLedger(fresh)
    await other.check()
    await other.aclose()
    columns = (
        "SELECT master.name, columns.name AS column FROM sqlite_master AS master,"
        " pragma_table_info(master.name) AS columns ORDER BY master.name, columns.cid"
    )
    for what in ("PRAGMA user_version", columns):
        assert rows(fresh, what) == rows(path, what)


@pytest.mark.parametrize("day", [TODAY, GRANTED])
async def test_adjustments_stay_exact_in_every_store(books: Books, day: str):
    limit = amounts("money", MOST, "day")
    await admit(books.ledger, wish(limit, money=Cost(5, 0)))  # the books know its unit

    def large(number: int, amount: int) -> Adjustment:
        made = adjustment(amount, f"large-{number}")
        return msgspec.structs.replace(made, name="money", day=day)

    await books.audit.adjust(large(1, MOST - 4))
    for number, amount in ((2, 5), (3, MOST)):
        with pytest.raises(ConfigurationError, match="adjustments of at most 9,000,000,000,000"):
            await books.audit.adjust(large(number, amount))
    adjusted = await books.audit.adjust(large(4, 3))
    assert adjusted.balance.adjusted == MOST - 1
    if day == TODAY:  # what was refused left nothing
        refused = await refuse(books.ledger, wish(limit, money=Cost(7, 0)))
        assert refused.state is not None
        assert refused.state.used == MOST - 1
    await books.audit.adjust(large(5, -MOST))
    with pytest.raises(ConfigurationError, match="at most"):
        await books.audit.adjust(large(6, -MOST))
    assert await books.drifts() == []


@pytest.mark.parametrize("amount", [MOST + 1, 10**40, -(10**16)])
def test_no_adjustment_is_larger_than_a_limit_may_be(amount: int):
    with pytest.raises(ConfigurationError, match="amount"):
        adjustment(amount)


async def test_reading_waits_for_no_writer_and_no_writer_waits_for_it(path: Path, clock: Clock):
    ledger = SQLiteLedger(path, clock=clock, busy_timeout=0.05)
    await ledger.audit().adjust(adjustment(-30))
    with write_lock(path):
        assert len(await ledger.audit().balances()) == 1
        with pytest.raises(LedgerUnavailable):
            await ledger.audit().adjust(adjustment(-30))
    records = ledger.audit().records(0)
    assert (await anext(records)).id == "refund-1"
    await ledger.audit().adjust(adjustment(-30, "while-it-is-read"))
    assert [record.id async for record in records] == []  # all of one instant
    await ledger.aclose()


async def test_a_file_that_is_none_is_said(path: Path):
    with path.open("wb") as file:  # nobody else runs on this loop
        file.write(b"my diary, " * 1_000)
    with pytest.raises(ConfigurationError, match="not a SQLite database"):
        await SQLiteLedger(path).audit().balances()


async def test_more_records_than_one_page(path: Path, clock: Clock, monkeypatch: Any):
    monkeypatch.setattr("chatnest.ledger.sqlite.audit._PAGE", 3)
    ledger = SQLiteLedger(path, clock=clock, synchronous="NORMAL")
    for number in range(7):
        await ledger.audit().adjust(adjustment(-1, f"id-{number}"))
    assert len([record async for record in ledger.audit().records(0)]) == 7
    await ledger.aclose()


# ---------------------------------------------------------------- the rules


KEY = f"tokens:{TODAY}:ann"


def turn(tokens: int, held: int = 100, outcome: str = "done", *lines: str) -> TurnRecord:
    return TurnRecord(
        id="t",
        tokens=tokens,
        held=held,
        settled_at=NOON,
        admitted_at=NOON,
        outcome=outcome,
        source="provider",
        lines=lines or (KEY, "streams::ann"),
    )


@pytest.mark.parametrize(
    ("balances", "records", "expected"),
    [
        ([Balance.at(KEY, (130, 0, 30, 0))], [turn(130)], []),
        ([Balance.at(KEY, (100, 0, 0, 100))], [turn(100, 100, "expired")], []),
        ([], [turn(5)], [("settled", 0, 5)]),
        ([Balance.at(KEY, (9,))], [], [("settled", 9, 0)]),
        ([Balance.at("streams::ann", (0, 1))], [], [("held", 1, 0)]),
    ],
)
def test_books_and_records_are_compared_by_figure(
    balances: list[Balance], records: list[TurnRecord], expected: list[tuple[str, int, int]]
):
    drifts = verify(balances, [], records, [], {})
    assert [(d.figure, d.recorded, d.recomputed) for d in drifts] == expected


def test_a_gap_excuses_what_needs_records_and_nothing_else():
    drifts = verify([Balance.at(KEY, (9, 5))], [], [], [], {})
    verdict = judge(1, drifts, kept_since=0, gaps=["Some are gone."])
    assert [drift.figure for drift in verdict.drifts] == ["held"]
    assert verdict.unsure[0] == "Some are gone."
    assert judge(1, [], kept_since=0, gaps=["Some are gone."]).unsure == ()
