"""What is admitted while the ledger is away, and what the ledger hears of it afterwards."""

from datetime import UTC, datetime

import anyio
import msgspec
import pytest

from chatnest import ChatNestApp, ConfigurationError, DemoProvider, WhenAway
from chatnest.accounting import outbox
from chatnest.accounting.accounts import Accounts
from chatnest.bounds import Bounds
from chatnest.errors import LedgerUnavailable, LimitExceeded
from chatnest.events import Usage
from chatnest.ledger.base import Limit
from chatnest.testing import ManualClock
from tests.test_accounting import BUDGET, RATE, STREAMS, FlakyLedger, answer, balance, make_turn

pytestmark = pytest.mark.anyio

AWAY = {"reserve": "raises", "renew": "raises", "settle": "raises", "release": "raises"}
COUNT_ALL = WhenAway(budgets="count")
REFUSE_ALL = WhenAway(rates="refuse")


@pytest.fixture
def ledger() -> FlakyLedger:
    clock = ManualClock()
    clock.set(datetime.now(UTC))  # a worker that counts by itself has no clock but its own
    ledger = FlakyLedger(clock)
    ledger.away = dict(AWAY)
    return ledger


def accounts_of(ledger: FlakyLedger, rules: WhenAway | None = None) -> Accounts:
    return Accounts(ledger, Bounds(ledger_seconds=0.05), when_away=rules)


@pytest.mark.parametrize("limits", [(BUDGET,), (RATE, BUDGET), (STREAMS, RATE, BUDGET)])
async def test_budgets_refuse_unless_told_otherwise(ledger, limits):
    with pytest.raises(LedgerUnavailable):
        await accounts_of(ledger).admit(make_turn(), limits)


@pytest.mark.parametrize("limits", [(RATE,), (STREAMS,), (RATE, STREAMS)])
async def test_rates_refuse_where_they_are_told_to(ledger, limits):
    with pytest.raises(LedgerUnavailable):
        await accounts_of(ledger, REFUSE_ALL).admit(make_turn(), limits)


@pytest.mark.parametrize("how", ["raises", "hangs", "works and hangs"])
async def test_requests_are_counted_by_the_worker_itself(ledger, how):
    ledger.away["reserve"] = how
    accounts = accounts_of(ledger)
    for n in range(RATE.amount):
        await accounts.admit(make_turn(f"t{n}"), (RATE,))

    with pytest.raises(LimitExceeded, match="The limit of requests in 60 seconds is 2"):
        await accounts.admit(make_turn("t9"), (RATE,))


async def test_streams_are_given_back_when_they_end(ledger):
    accounts = accounts_of(ledger)
    held = []
    for n in range(STREAMS.amount):
        turn = make_turn(f"t{n}")
        held.append((turn, (await accounts.admit(turn, (STREAMS,))).hold))
    with pytest.raises(LimitExceeded):
        await accounts.admit(make_turn("t8"), (STREAMS,))

    await accounts.settle(*held[0], None)

    await accounts.admit(make_turn("t9"), (STREAMS,))


async def test_a_budget_that_is_counted_here_is_charged_there_later(ledger):
    accounts, turn = accounts_of(ledger, COUNT_ALL), make_turn()
    hold = (await accounts.admit(turn, (RATE, BUDGET))).hold
    answer(turn, 10, Usage(50, 10))
    await accounts.renew(hold)
    await accounts.settle(turn, hold, None)

    ledger.away = {}
    await accounts.outbox.flush()

    assert await balance(ledger) == (60, 0)
    await accounts.outbox.flush()
    assert await balance(ledger) == (60, 0)


async def test_what_the_ledger_had_held_without_saying_so_is_replaced(ledger):
    ledger.away["reserve"] = "works and hangs"
    accounts, turn = accounts_of(ledger, COUNT_ALL), make_turn()
    hold = (await accounts.admit(turn, (BUDGET,))).hold
    assert await balance(ledger) == (0, 150)
    answer(turn, 10, Usage(50, 10))
    ledger.away = {}

    await accounts.settle(turn, hold, None)

    assert await balance(ledger) == (60, 0)


async def test_a_counted_budget_refuses_when_it_is_used_up(ledger):
    accounts = accounts_of(ledger, COUNT_ALL)
    small = Limit(name="tokens", unit="tokens", window="day", account="ann", amount=200)
    await accounts.admit(make_turn("t1"), (small,))

    with pytest.raises(LimitExceeded, match="held for answers"):
        await accounts.admit(make_turn("t2"), (small,))


async def test_who_was_refused_here_is_undone_there(ledger):
    ledger.away["reserve"] = "works and hangs"
    accounts, one = accounts_of(ledger), msgspec.structs.replace(STREAMS, amount=1)
    for n in range(3):
        try:
            await accounts.admit(make_turn(f"t{n}"), (one,))
        except LimitExceeded:
            continue
    ledger.away = {}

    await accounts.outbox.flush()

    assert [call for call in ledger.calls if call[0] == "release"] == [
        ("release", "t1"),
        ("release", "t2"),
    ]


async def test_the_ledger_counts_again_as_soon_as_it_is_back(ledger):
    accounts = accounts_of(ledger)
    await accounts.admit(make_turn("t1"), (RATE,))
    ledger.away = {}
    for n in range(RATE.amount):
        await accounts.admit(make_turn(f"later{n}"), (RATE,))

    with pytest.raises(LimitExceeded):
        await accounts.admit(make_turn("t9"), (RATE,))
    assert (await ledger.usage((RATE,)))[0].used == 2


async def test_settlements_outlive_releases_when_too_much_waits(ledger, monkeypatch, caplog):
    monkeypatch.setattr(outbox, "_MOST", 2)
    accounts, turn = accounts_of(ledger), make_turn("paid")
    ledger.away = {}
    hold = (await accounts.admit(turn, (BUDGET,))).hold
    ledger.away = dict(AWAY)
    await accounts.settle(turn, hold, None)
    for n in range(4):
        with pytest.raises(LedgerUnavailable):
            await accounts.admit(make_turn(f"t{n}"), (BUDGET,))

    ledger.away = {}
    ledger.calls.clear()
    await accounts.outbox.flush()

    assert ledger.calls == [("settle", "paid"), ("release", "t3")]


async def test_what_waits_is_written_while_nobody_asks(ledger, monkeypatch):
    monkeypatch.setattr(outbox, "_TEND_SECONDS", 0.001)
    from chatnest import ChatNestApp, DemoProvider

    chat = ChatNestApp(provider=DemoProvider(), ledger=ledger)
    accounts, turn = chat._accounts, make_turn()
    ledger.away = {}
    hold = (await accounts.admit(turn, (BUDGET,))).hold
    ledger.away = dict(AWAY)
    await accounts.settle(turn, hold, None)

    async with chat.lifespan():
        ledger.away = {}
        while accounts.outbox:  # noqa: ASYNC110  # it tells nobody
            await anyio.sleep(0.001)

    assert await balance(ledger) == (0, 0)


async def test_an_error_of_the_hosts_comes_out_of_lifespan_as_it_is(ledger):
    async def serve():
        async with ChatNestApp(provider=DemoProvider(), ledger=ledger).lifespan():
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await serve()


@pytest.mark.parametrize("rules", [{"budgets": "yes"}, {"rates": ""}])
def test_an_unknown_rule_is_refused(rules):
    with pytest.raises(ConfigurationError, match="expected 'refuse' or 'count'"):
        WhenAway(**rules)
