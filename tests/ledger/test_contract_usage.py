"""What every ledger keeps of who used what: the roll-up, its reading and its verification."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from chatnest.errors import ConfigurationError
from chatnest.ledger.audit import Audited
from chatnest.ledger.base import Charge, Cost, Facts, Hold, Ledger, Limit
from chatnest.ledger.dictbooks import DictBooks
from chatnest.ledger.redis import RedisLedger
from chatnest.ledger.sqlite import SQLiteLedger
from chatnest.ledger.sqlite.file import BookFile
from chatnest.ledger.usage import Refusals, UsageBooks, UsageRow, Use, Used
from chatnest.ledger.usage_rows import OTHERS, UsageRows
from tests.ledger.server import Server
from tests.ledger.sqlite_support import V5
from tests.ledger.support import DAY, MINUTE, Clock, admit, amounts, budget, wish

pytestmark = pytest.mark.anyio

FACTS = Facts(
    groups={"team": "acme", "cell": "eu"},
    cached_tokens=7,
    cache_written_tokens=3,
    reasoning_tokens=5,
)
CHARGE = Charge(
    tokens=70,
    money=1_500,
    input_tokens=50,
    output_tokens=20,
    source="provider",
    principal="ann",
    profile="balanced",
    model="small",
    facts=FACTS,
)
USE = Use(1, 70, 50, 7, 3, 20, 5, 1_500, 0)
OTHER = msgspec.structs.replace(
    CHARGE, source="estimated", outcome="cancelled", model="large", facts=Facts()
)
TODAY = "2026-06-01"
DAYS_AGO = "2026-05-01"


def times(use: Use, number: int, **others: int) -> Use:
    """The use of several equal turns."""
    figures = {name: number * figure for name, figure in msgspec.structs.asdict(use).items()}
    return Use(**(figures | others))


async def held(ledger: Ledger, *limits: Limit, hold_id: str | None = None) -> Hold:
    asked = wish(*(limits or (budget(10**6),)), hold_id=hold_id, money=Cost(900, 0))
    return (await admit(ledger, msgspec.structs.replace(asked, principal="ann"))).hold


async def own(ledger: Ledger, since: str = DAYS_AGO) -> list[Used]:
    assert isinstance(ledger, UsageBooks)
    return await ledger.own_usage("ann", since)


async def usage(ledger: Ledger, *by: str, since: str = DAYS_AGO) -> list[Used] | None:
    """The sums, where the books can be read by others."""
    return await ledger.audit().usage(since, by) if isinstance(ledger, Audited) else None


async def drifts(ledger: Ledger) -> tuple[object, ...]:
    if not isinstance(ledger, Audited):
        return ()
    verdict = await ledger.audit().verdict()
    return (*verdict.drifts, *verdict.usage, *verdict.unsure)


async def test_a_turn_is_added_to_its_row_once(ledger: Ledger):
    for charge in (CHARGE, CHARGE, OTHER):
        hold = await held(ledger)
        for _ in range(3):
            await ledger.settle(hold, charge)

    cancelled = Use(1, 70, 50, 0, 0, 20, 0, 1_500, 1)
    assert await own(ledger) == [
        Used((TODAY, "large"), cancelled),
        Used((TODAY, "small"), times(USE, 2)),
    ]
    assert await usage(ledger, "team", "outcome") in (
        None,
        [Used(("", "cancelled"), cancelled), Used(("acme", "done"), times(USE, 2))],
    )
    assert await usage(ledger, "day", "cell", "profile", "principal") in (
        None,
        [
            Used((TODAY, "", "balanced", "ann"), cancelled),
            Used((TODAY, "eu", "balanced", "ann"), times(USE, 2)),
        ],
    )
    assert await drifts(ledger) == ()


async def test_nothing_is_used_yet(ledger: Ledger):
    assert await own(ledger) == []
    for by in ((), ("model",)):
        assert await usage(ledger, *by) in (None, [])
    await held(ledger)
    assert await own(ledger) == []
    assert await drifts(ledger) == ()


async def test_an_expired_hold_is_a_row_until_its_settlement_comes(ledger: Ledger, clock: Clock):
    limits = budget(10**6), amounts("money", 10**6, "month", "team")
    holds = [await held(ledger, *limits) for _ in range(3)]
    released = wish(*limits, hold_id="released", money=Cost(900, 0))
    await admit(ledger, released)
    clock.now += MINUTE
    await ledger.usage(limits)
    expired = Use(1, 100, money=900, estimated=1)
    assert await usage(ledger, "outcome") in (None, [Used(("expired",), times(expired, 4))])
    assert await drifts(ledger) == ()

    clock.now += DAY  # the old figures are taken out of the day on which they were put in
    await ledger.settle(holds[0], CHARGE)
    await ledger.release(released)
    assert await usage(ledger, "day", "outcome") in (
        None,
        [
            Used((TODAY, "expired"), times(expired, 2)),
            Used(("2026-06-02", "done"), USE),
        ],
    )
    assert await own(ledger) == [Used(("2026-06-02", "small"), USE)]
    assert await drifts(ledger) == ()
    for hold in holds:
        await ledger.settle(hold, CHARGE)
    assert await usage(ledger, "outcome") in (None, [Used(("done",), times(USE, 3))])
    assert await drifts(ledger) == ()


async def test_a_settlement_of_a_forgotten_hold_is_used_as_well(ledger: Ledger):
    hold = await held(ledger)
    await ledger.settle(msgspec.structs.replace(hold, id="forgotten"), CHARGE)
    assert await own(ledger) == [Used((TODAY, "small"), USE)]


async def test_a_hold_over_several_accounts_is_used_once(ledger: Ledger, clock: Clock):
    limits = [budget(10**6, account, name=account) for account in ("team", "ann", "global")]
    first, second = [await held(ledger, *limits) for _ in range(2)]
    await ledger.settle(first, CHARGE)
    clock.now += MINUTE
    await ledger.usage(tuple(limits))
    assert await usage(ledger) in (None, [Used((), Use(2, 170, 50, 7, 3, 20, 5, 2_400, 1))])
    assert await drifts(ledger) == ()
    await ledger.settle(second, CHARGE)
    assert await own(ledger) == [Used((TODAY, "small"), times(USE, 2))]
    assert await drifts(ledger) == ()


async def test_only_the_days_that_were_asked_for(ledger: Ledger, clock: Clock):
    for _ in range(3):
        await ledger.settle(await held(ledger), CHARGE)
        clock.now += 20 * DAY
    assert [used.by[0] for used in await own(ledger, "2026-06-21")] == ["2026-06-21", "2026-07-11"]
    assert await usage(ledger, since="2026-07-11") in (None, [Used((), USE)])
    assert await own(ledger, "2030-01-01") == []


async def test_nobody_sees_the_use_of_others(ledger: Ledger):
    await ledger.settle(await held(ledger), CHARGE)
    hold = await held(ledger, budget(10**6, "bob"))
    await ledger.settle(hold, msgspec.structs.replace(CHARGE, principal="bob"))
    assert await own(ledger) == [Used((TODAY, "small"), USE)]


async def test_counts_are_added_up_by_hour_and_limit(ledger: Ledger, clock: Clock):
    assert isinstance(ledger, UsageBooks)
    for counts in (
        {("2026-06-01T12", "tokens"): 2, ("2026-06-01T12", "team month"): 1},
        {("2026-06-01T12", "tokens"): 3, ("2026-06-01T13", "tokens"): 1},
    ):
        await ledger.count_refusals(counts)
    clock.now += 31 * DAY
    await ledger.count_refusals({("2026-07-02T12", "tokens"): 9})

    books: Any = ledger.audit() if isinstance(ledger, Audited) else ledger
    assert await books.refusals("2026-06-01") == [
        Refusals("2026-06-01T12", "team month", 1),
        Refusals("2026-06-01T12", "tokens", 5),
        Refusals("2026-06-01T13", "tokens", 1),
        Refusals("2026-07-02T12", "tokens", 9),
    ]
    assert [each.count for each in await books.refusals("2026-06-02")] == [9]


async def test_books_have_one_currency(ledger: Ledger):
    assert isinstance(ledger, UsageBooks)
    books = ledger.audit() if isinstance(ledger, Audited) else None
    assert books is None or await books.currency() == ""
    for _ in range(2):
        await ledger.keep_currency("EUR")
    with pytest.raises(ConfigurationError) as raised:
        await ledger.keep_currency("USD")
    assert str(raised.value) == (
        "currency: expected EUR, in which the ledger counts money so far, got USD. Set it to EUR, "
        "or begin a new ledger: amounts are not converted."
    )
    assert books is None or await books.currency() == "EUR"


@pytest.mark.loops("asyncio")
@pytest.mark.parametrize("ledger", ["redis"], indirect=True)
async def test_a_drift_of_the_roll_up_in_redis_is_found(ledger: RedisLedger, redis_server: Server):
    await ledger.settle(await held(ledger), CHARGE)
    with redis_server.client() as client:
        (key,) = client.scan_iter(f"{ledger.prefix}:*:usage:*")
        ((field, figures),) = client.hgetall(key).items()
        client.hset(key, field, figures.replace(b"1500", b"1499"))
    (drift,) = (await ledger.audit().verdict()).usage
    assert (drift.figure, drift.recorded, drift.recomputed) == ("money", 1_499, 1_500)
    assert drift.row == UsageRow(
        TODAY, "ann", "small", "balanced", "done", '{"cell":"eu","team":"acme"}'
    )


async def test_a_drift_of_the_roll_up_in_a_file_is_found(books: SQLiteLedger, path: Path):
    await books.settle(await held(books), CHARGE)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE usage SET output_tokens = 21")
    (drift,) = (await books.audit().verdict()).usage
    assert (drift.figure, drift.recorded, drift.recomputed) == ("output_tokens", 21, 20)


async def test_rows_outlive_records_and_are_pruned_in_steps(
    books: SQLiteLedger, path: Path, clock: Clock, monkeypatch: Any
):
    monkeypatch.setattr("chatnest.ledger.sqlite.file._PRUNED_AT_ONCE", 2)
    for number in range(5):
        charge = msgspec.structs.replace(CHARGE, model=f"model-{number}")
        await books.settle(await held(books), charge)
    await books.aclose()

    def pruned() -> tuple[bool, int]:
        file = BookFile(str(path), clock=clock, synchronous="OFF", busy_timeout=1, keep_days=35)
        more = file.prune()
        with file.snapshot() as rows:
            (left,) = rows.execute("SELECT count(*) FROM usage").fetchone()
        file.close()
        return more, left

    clock.now += 399 * DAY
    while pruned()[0]:
        pass
    assert await usage(books, since="2026-01-01") == [Used((), times(USE, 5))]
    assert await drifts(books) == ()  # no record is left, and none is missed
    clock.now += DAY
    assert [pruned() for _ in range(4)] == [(True, 3), (True, 1), (False, 0), (False, 0)]
    await books.aclose()


async def test_a_file_of_before_begins_with_the_records_that_it_has(
    books: SQLiteLedger, path: Path, clock: Clock
):
    await books.settle(await held(books), CHARGE)
    late = await held(books)
    await held(books)
    clock.now += MINUTE
    await books.usage((budget(10**6),))
    await books.aclose()
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(V5)

    assert await drifts(books) == ()
    await books.settle(late, CHARGE)
    assert await usage(books, "team", "outcome") == [
        Used(("", "expired"), Use(1, 100, money=900, estimated=1)),
        Used(("acme", "done"), times(USE, 2)),
    ]
    assert await drifts(books) == ()


def test_rows_in_memory_are_bounded(caplog: pytest.LogCaptureFixture):
    rows = UsageRows(3)
    one = Use(1, 10)
    for name in ("ann", "bob", "zoe"):
        rows.spend(UsageRow("2026-01-01", name, "small"), one, 1)
    assert "roll-up in memory is full" not in caplog.text
    rows.spend(UsageRow("2026-01-02", "ann", "small"), one, 1)
    assert len(rows) == 3  # the oldest went
    assert rows.of("ann", "2026-01-01") == [Used(("2026-01-02", "small"), one)]
    for name in ("bob", "zoe", "eve", "sam"):
        rows.spend(UsageRow("2026-01-02", name, "small", "balanced", "done"), one, 1)
    assert rows.of(OTHERS, "2026-01-01") == [Used(("2026-01-02", "small"), times(one, 2))]
    assert len(rows) == 4  # three, and the one that others share
    assert "roll-up in memory is full" in caplog.text
    rows.spend(UsageRow("2026-01-01", "bob", "small"), one, -1)  # it was dropped
    assert len(rows) == 4
    rows.spend(UsageRow("2027-02-06", "ann", "small"), one, 1)
    assert len(rows) == 1  # 400 days


def test_a_wish_that_is_refused_uses_nothing():
    books = DictBooks(100)
    books.reserve(wish(budget(10)), 0)
    assert len(books._usage) == 0
