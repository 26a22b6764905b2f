"""Thresholds: each is in the books once for an account and a window, and told until it is noted."""

import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from chatnest.ledger.audit import Adjustment, Audit, Audited
from chatnest.ledger.base import Charge, Hold, Ledger, Limit
from chatnest.ledger.limit import CalendarWindow
from chatnest.ledger.redis import RedisLedger
from chatnest.ledger.redis.crossings import Crossings
from chatnest.ledger.redis.keys import word_of
from chatnest.ledger.sqlite import SQLiteLedger
from chatnest.ledger.watch import Crossing, Watched
from chatnest.ledger.watching import watch_of
from tests.ledger.server import Server
from tests.ledger.sqlite_support import V5
from tests.ledger.support import DAY, HOUR, SECOND, Clock, admit, utc, wish

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _surveys(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster is searched as often as anybody asks."""

    async def may_survey(_: object) -> bool:
        return True

    monkeypatch.setattr(Crossings, "_may_survey", may_survey)


def watched(
    amount: int = 1_000,
    *warn_at: int,
    window: CalendarWindow = "day",
    starts: int = 1,
    account: str = "ann",
) -> Limit:
    return Limit(
        name="tokens",
        unit="tokens",
        account=account,
        amount=amount,
        window=window,
        starts=starts,
        warn_at=warn_at,
    )


async def spend(ledger: Ledger, tokens: int, *limits: Limit, held: int | None = None) -> Hold:
    """Admit a turn that holds as much as it costs in the end, or another amount."""
    hold = (await admit(ledger, wish(*limits, tokens=tokens if held is None else held))).hold
    await ledger.settle(hold, Charge(tokens=tokens))
    return hold


async def told(ledger: Ledger) -> list[Crossing]:
    """All crossings that nobody was told, who now are."""
    assert isinstance(ledger, Watched)
    found = []
    while (crossing := await ledger.next_crossing()) is not None:
        await ledger.end_crossing(crossing, "delivered")
        found.append(crossing)
    return found


async def thresholds(ledger: Ledger) -> list[tuple[str, int]]:
    return sorted((crossing.window, crossing.threshold) for crossing in await told(ledger))


@pytest.mark.parametrize(
    ("window", "starts", "name"),
    [
        ("day", 1, "2026-06-01"),
        ("week", 1, "2026-06-01/P7D"),
        ("week", 3, "2026-05-27/P7D"),
        ("month", 1, "2026-06"),
        ("month", 15, "2026-05-15/P1M"),
        ("lifetime", 1, "ever#0"),
    ],
)
async def test_a_jump_tells_all_that_it_passes_once(
    ledger: Ledger, clock: Clock, window: CalendarWindow, starts: int, name: str
):
    limit = watched(1_000, 500, 800, 1_000, window=window, starts=starts)
    await spend(ledger, 499, limit)
    assert await told(ledger) == []

    await spend(ledger, 301, limit)
    await spend(ledger, 100, limit)

    found = await told(ledger)
    assert [(each.window, each.threshold, each.used) for each in found] == [
        (name, 500, 800),
        (name, 800, 800),
    ]
    assert {(each.limit, each.account, each.unit, each.amount, each.at) for each in found} == {
        ("tokens", "ann", "tokens", 1_000, clock.now)
    }
    assert await told(ledger) == []


async def test_what_is_held_does_not_count_and_an_expiry_does(ledger: Ledger, clock: Clock):
    limit = watched(1_000, 800)
    reservation = wish(limit, tokens=900)
    hold = (await admit(ledger, reservation)).hold
    await ledger.usage((limit,))
    assert await told(ledger) == []

    clock.now += 30 * SECOND
    await ledger.usage((limit,))

    assert await thresholds(ledger) == [("2026-06-01", 800)]
    await ledger.settle(hold, Charge(tokens=100))  # late, and less than was charged
    await spend(ledger, 850, limit)
    assert await told(ledger) == []


async def test_a_late_settlement_counts_in_the_window_of_its_admission(
    ledger: Ledger, clock: Clock
):
    clock.now = utc("2026-06-30T23:59")
    limit = watched(1_000, 800, 950, 1_000, window="month")
    await spend(ledger, 700, limit)
    late = (await admit(ledger, wish(limit, tokens=10))).hold
    clock.now += HOUR
    await spend(ledger, 400, limit)
    assert await told(ledger) == []

    await ledger.settle(late, Charge(tokens=280))

    assert await thresholds(ledger) == [("2026-06", 800), ("2026-06", 950)]
    await spend(ledger, 500, limit)
    assert await thresholds(ledger) == [("2026-07", 800)]


async def test_a_release_of_an_expired_hold_looks_too(ledger: Ledger, clock: Clock):
    limit = watched(1_000, 500)
    reservation = wish(limit, tokens=100)
    await admit(ledger, reservation)
    await spend(ledger, 450, watched(1_000))  # by a worker whose configuration has no warn_at
    clock.now += 30 * SECOND
    await ledger.release(reservation)

    assert await thresholds(ledger) == [("2026-06-01", 500)]  # its expiry had reached it


async def test_a_hold_that_the_books_forgot_is_looked_at(ledger: Ledger, clock: Clock):
    limit = watched(1_000, 500)
    hold = (await admit(ledger, wish(limit, tokens=100))).hold
    forgotten = Hold(id="lost", tokens=100, lines=hold.lines, watched=hold.watched)

    await ledger.settle(forgotten, Charge(tokens=600))

    assert await thresholds(ledger) == [("2026-06-01", 500)]


async def test_changed_amounts_and_lists_tell_no_threshold_twice(ledger: Ledger, clock: Clock):
    await spend(ledger, 500, watched(1_000, 500))
    assert await thresholds(ledger) == [("2026-06-01", 500)]

    await spend(ledger, 1, watched(10_000, 500))
    await spend(ledger, 1, watched(1_000, 100, 500))
    assert await told(ledger) == []

    await spend(ledger, 1, watched(550, 500, 900))
    assert await thresholds(ledger) == [("2026-06-01", 900)]
    clock.now += DAY
    await spend(ledger, 60, watched(1_000, 50))
    assert await thresholds(ledger) == [("2026-06-02", 50)]


async def test_a_clock_that_is_set_back_tells_nothing_twice(ledger: Ledger, clock: Clock):
    limit = watched(1_000, 500)
    await spend(ledger, 500, limit)
    assert len(await told(ledger)) == 1
    clock.now += DAY
    await spend(ledger, 10, limit)
    clock.now -= DAY
    await spend(ledger, 100, limit)

    assert await told(ledger) == []


async def test_accounts_of_one_hold_are_watched_apart(ledger: Ledger):
    own, team = watched(1_000, 500), watched(5_000, 100, account="group:team:acme")
    await spend(ledger, 500, own, team)

    found = {(each.account, each.threshold) for each in await told(ledger)}
    assert found == {("ann", 500), ("group:team:acme", 100)}


async def test_an_amount_of_nothing_is_reached_by_the_first_use(ledger: Ledger):
    limit = msgspec.structs.replace(watched(0, 500), mode="shadow")
    await spend(ledger, 0, limit)
    assert await told(ledger) == []
    await spend(ledger, 1, limit)

    assert await thresholds(ledger) == [("2026-06-01", 500)]


async def test_money_up_to_nine_million_is_compared_exactly(ledger: Ledger):
    most = 9_000_000_000_000_000
    limit = Limit(
        name="m",
        unit="money",
        account="ann",
        amount=most - 1,
        window="month",
        mode="shadow",
        warn_at=(999, 1_000),
    )
    exact = -(-999 * (most - 1) // 1_000)
    hold = (await admit(ledger, wish(limit, tokens=1))).hold
    await ledger.settle(hold, Charge(tokens=1, money=exact - 1))
    assert await told(ledger) == []

    hold = (await admit(ledger, wish(limit, tokens=1))).hold
    await ledger.settle(hold, Charge(tokens=1, money=1))

    (found,) = await told(ledger)
    assert (found.threshold, found.used, found.amount) == (999, exact, most - 1)


async def test_a_crossing_is_tried_again_later_until_it_is_told(ledger: Ledger, clock: Clock):
    assert isinstance(ledger, Watched)
    await spend(ledger, 900, watched(1_000, 500))
    first = await ledger.next_crossing()
    assert first is not None
    assert first.is_new
    assert await ledger.next_crossing() is None  # another worker

    waits = []
    for _ in range(9):
        begun = clock.now
        while (again := await ledger.next_crossing()) is None:
            clock.now += 30 * SECOND
        waits.append((clock.now - begun) // SECOND)
        assert (again.key, again.is_new) == (first.key, False)
    assert waits == [30, 30, 60, 120, 240, 480, 960, 1_920, 3_600]
    await ledger.end_crossing(first, "delivered")
    clock.now += DAY
    assert await ledger.next_crossing() is None


def audit_of(ledger: Ledger) -> Audit:
    if not isinstance(ledger, Audited):
        pytest.skip("memory has no audit")
    return ledger.audit()


def correction(amount: int, day: str = "2026-06-01") -> Adjustment:
    return Adjustment(
        id=f"{amount} on {day}", account="ann", name="tokens", day=day, amount=amount, reason="test"
    )


async def test_a_correction_by_hand_looks_too(ledger: Ledger, clock: Clock):
    audit = audit_of(ledger)
    limit = watched(1_000, 500, 800)
    await spend(ledger, 600, limit)
    await audit.adjust(correction(-300))
    await spend(ledger, 250, limit)
    await audit.adjust(correction(250))
    clock.now += DAY
    await spend(ledger, 10, limit)
    await audit.adjust(correction(300))  # of yesterday

    rows = await audit.warnings()
    assert [(row.window, row.threshold, row.used, row.state) for row in rows] == [
        ("2026-06-01", 500, 600, "pending"),
        ("2026-06-01", 800, 800, "pending"),
    ]
    assert await thresholds(ledger) == [("2026-06-01", 500), ("2026-06-01", 800)]
    assert {row.state for row in await audit.warnings()} == {"delivered"}
    assert (await audit.verdict()).drifts == ()


async def test_each_grant_begins_anew(ledger: Ledger):
    audit = audit_of(ledger)
    limit = watched(0, 500, 900, window="lifetime")
    await audit.adjust(correction(1_000, "granted"))
    await spend(ledger, 600, limit)
    assert await thresholds(ledger) == [("ever#1", 500)]

    await audit.adjust(correction(200, "granted"))
    await audit.adjust(correction(200, "granted"))  # the same
    assert await thresholds(ledger) == [("ever#2", 500)]  # 600 of 1,200
    await spend(ledger, 480, limit)
    assert await thresholds(ledger) == [("ever#2", 900)]
    await audit.adjust(correction(5_000, "granted"))
    await spend(ledger, 100, limit)
    assert await thresholds(ledger) == []


async def test_a_name_may_have_any_characters(ledger: Ledger):
    limit = msgspec.structs.replace(watched(10, 100, account="an %n{a}é b"), name="!a=b%20=!c")
    await spend(ledger, 1, limit)

    (found,) = await told(ledger)
    assert (found.limit, found.account) == (limit.name, limit.account)
    # Scripts of before take a word with an equals sign for a line of the hold.
    assert "=" not in word_of(watch_of(limit, found.at))


async def test_a_file_of_before_is_watched_from_now_on(path: Path, clock: Clock):
    books = SQLiteLedger(path, clock=clock)
    old = (await admit(books, wish(watched(1_000), tokens=400))).hold
    await books.aclose()
    with closing(sqlite3.connect(path)) as file:
        file.executescript(V5)
    await books.settle(old, Charge(tokens=400))
    assert await told(books) == []
    await spend(books, 200, watched(1_000, 500))
    assert await thresholds(books) == [("2026-06-01", 500)]
    await books.aclose()


async def test_old_rows_are_forgotten(path: Path, clock: Clock):
    books = SQLiteLedger(path, clock=clock)
    await spend(books, 600, watched(1_000, 500), watched(9_000, 1, window="lifetime"))
    clock.now += 96 * DAY
    file = books._file()
    file.prune()
    assert len(await audit_of(books).warnings()) == 2
    clock.now += 2 * DAY
    file.prune()
    file.close()
    assert await audit_of(books).warnings() == []
    await spend(books, 600, watched(9_000, 1, window="lifetime"))
    assert await told(books) == []  # the mark of a lifetime is kept
    await books.aclose()


async def test_one_worker_searches_a_cluster_for_all(
    redis_cluster: Server, monkeypatch: pytest.MonkeyPatch, anyio_backend_name: str
):
    if anyio_backend_name == "trio":
        pytest.skip("Redis is for asyncio alone")
    monkeypatch.undo()
    workers = [
        RedisLedger(f"redis+cluster://{redis_cluster.address}", prefix="searched", timeout=10)
        for _ in range(3)
    ]
    await admit(workers[0], wish(watched(1_000, 500), tokens=700, hold_id="one", lease=0))
    await workers[0].usage((watched(1_000),))  # its lease has ended, and nobody settles it

    found = [await worker.next_crossing() for worker in workers[1:]]
    assert [crossing is not None for crossing in found] == [True, False]
    for worker in workers:
        await worker.aclose()


async def test_a_limit_without_warn_at_is_not_watched(ledger: Ledger):
    hold = await spend(ledger, 1_000, watched(1_000))

    assert hold.watched == ()
    assert await told(ledger) == []
