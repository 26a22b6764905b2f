"""Accounts: who pays what, by every way in which a turn can end, over a ledger that may be away."""

import logging
import time
from datetime import UTC, datetime

import anyio
import anyio.lowlevel
import pytest

from chatnest.accounting import outbox
from chatnest.accounting.accounts import LEASE, Accounts
from chatnest.bounds import Bounds
from chatnest.conversation import Message
from chatnest.errors import (
    AnswerTooLong,
    ClientGone,
    EmptyAnswer,
    InternalError,
    LedgerUnavailable,
    LimitExceeded,
    ServerShutdown,
    StreamTimeout,
    UpstreamAccount,
    UpstreamBadResponse,
    UpstreamInterrupted,
    UpstreamOverloaded,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from chatnest.events import Delta, Finish, Reasoning, ToolCall, ToolCallDelta, Usage
from chatnest.ledger import MemoryLedger
from chatnest.ledger.base import Charge, Hold, Limit, Line, Refused, Settlement
from chatnest.profiles import Profile
from chatnest.requests import ChatRequest, ModelRequest
from chatnest.testing import ManualClock
from chatnest.turn import ModelCall, Turn
from tests.support.words import Words

pytestmark = pytest.mark.anyio

QUICK = Bounds(ledger_seconds=0.01)
NEVER_MET = Bounds(ledger_seconds=60)
PROFILE = Profile(
    name="tiny",
    max_output_tokens=100,
    max_messages=4,
    temperature=0.5,
    daily_token_limit=1_000,
    max_tokens_per_request=1_000,
    requests_per_minute=3,
    min_output_tokens=20,
)
BUDGET = Limit(name="tokens", unit="tokens", window="day", account="ann", amount=1_000)
RATE = Limit(name="requests", unit="requests", account="ann", amount=2, window=60)
STREAMS = Limit(name="streams", unit="streams", account="ann", amount=2)


def make_turn(turn_id: str = "t1", *, input_tokens: int = 50) -> Turn:
    turn = Turn(
        turn_id=turn_id,
        principal="user:ann",
        request=ChatRequest(messages=(Message.of("user", "hi"),)),
        profile=PROFILE,
        model="m",
        counter=Words(),
    )
    turn.input_tokens = input_tokens
    return turn


def ask(turn: Turn, *, sent: bool = True) -> None:
    """The model is called."""
    request = ModelRequest(
        messages=turn.messages, max_output_tokens=turn.max_output_tokens, temperature=0.5
    )
    turn.call = ModelCall(request=request, request_id=turn.id, sent=sent)


def answer(turn: Turn, words: int, usage: Usage | None = None) -> None:
    """The model answers so many words."""
    ask(turn)
    turn.answer.begun = True
    turn.answer.add([Delta("word ")] * words)
    if usage is not None:
        turn.answer.add([Finish("stop"), usage])


class FlakyLedger(MemoryLedger):
    """Away when it is told so: it raises, hangs, or does its work and hangs before it answers;
    or it breaks, by an exception that no ledger should raise.

    It remembers what was called.
    """

    def __init__(self, clock):
        super().__init__(clock=clock)
        self.away: dict[str, str] = {}
        self.calls: list[tuple[str, str]] = []

    async def reserve(self, reservation):
        return await self._do("reserve", reservation.id, super().reserve, reservation)

    async def renew(self, hold, lease):
        return await self._do("renew", hold.id, super().renew, hold, lease)

    async def settle(self, hold, charge):
        return await self._do("settle", hold.id, super().settle, hold, charge)

    async def release(self, reservation):
        return await self._do("release", reservation.id, super().release, reservation)

    async def _do(self, name, hold_id, work, *arguments):
        self.calls.append((name, hold_id))
        how = self.away.get(name)
        if how == "raises":
            raise LedgerUnavailable
        if how == "breaks":
            raise ZeroDivisionError
        if how == "hangs":
            await anyio.sleep_forever()
        result = await work(*arguments)
        if how == "works and hangs":
            await anyio.sleep_forever()
        return result


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def ledger(clock):
    return FlakyLedger(clock)


@pytest.fixture
def accounts(ledger):
    return Accounts(ledger, NEVER_MET)


async def balance(ledger, limit: Limit = BUDGET) -> tuple[int, int]:
    """Used and held."""
    (state,) = await ledger.usage((limit,))
    return state.used, state.held


# ---------------------------------------------------------------- admission


async def test_the_worst_case_is_held_under_every_limit(accounts, ledger):
    turn = make_turn()

    admitted = await accounts.admit(turn, (RATE, STREAMS, BUDGET))

    assert admitted.hold.id == "t1"
    assert admitted.hold.tokens == 150
    assert turn.max_output_tokens == 100
    assert [state.remaining for state in admitted.states] == [1, 1, 850]
    assert await balance(ledger) == (0, 150)


@pytest.mark.parametrize(
    ("limit", "output"), [(1_000, 100), (150, 100), (149, 99), (100, 50), (71, 21), (70, 20)]
)
async def test_the_output_is_lowered_to_what_is_left(accounts, ledger, limit, output):
    turn, budget = (
        make_turn(),
        Limit(name="tokens", unit="tokens", window="day", account="ann", amount=limit),
    )

    admitted = await accounts.admit(turn, (budget,))

    assert turn.max_output_tokens == output
    assert admitted.hold.tokens == 50 + output
    assert await balance(ledger, budget) == (0, 50 + output)


async def test_an_output_below_the_profiles_least_is_its_own_least(accounts):
    turn = make_turn()
    turn.max_output_tokens = 5
    budget = Limit(name="tokens", unit="tokens", window="day", account="ann", amount=55)

    await accounts.admit(turn, (budget,))

    assert turn.max_output_tokens == 5


async def refusal(accounts, *limits: Limit) -> LimitExceeded:
    with pytest.raises(LimitExceeded) as caught:
        await accounts.admit(make_turn("refused"), limits)
    error = caught.value
    assert (error.status, error.retryable) == (429, True)
    assert error.problem_type == "https://iana.org/assignments/http-problem-types#quota-exceeded"
    return error


async def test_a_rate_refuses_with_its_number_and_the_time_to_come_back(accounts, ledger, clock):
    for n in range(2):
        await accounts.admit(make_turn(f"t{n}"), (RATE, BUDGET))
        clock.advance(10.5)

    error = await refusal(accounts, RATE, BUDGET)

    assert error.detail == "The limit of requests in 60 seconds is 2."
    assert (error.limit, error.unit, error.window) == ("requests", "requests", 60)
    assert error.code == "rate_limited"
    assert error.retry_after == error.wait == 39
    assert error.headers == {
        "RateLimit-Policy": '"requests";q=2;w=60',
        "RateLimit": '"requests";r=0;t=39',
    }
    assert await balance(ledger) == (0, 300)


async def test_a_number_of_streams_refuses_with_its_number(accounts, ledger):
    for n in range(2):
        await accounts.admit(make_turn(f"t{n}"), (STREAMS,))

    error = await refusal(accounts, STREAMS, BUDGET)

    assert error.detail == "The limit of answers at the same time is 2."
    assert (error.limit, error.unit, error.window) == ("streams", "streams", None)
    assert error.code == "too_many_streams"
    assert error.retry_after == 5
    assert error.headers == {"RateLimit-Policy": '"streams";q=2', "RateLimit": '"streams";r=0'}
    assert await balance(ledger) == (0, 0)


async def test_a_budget_that_is_held_by_others_says_so(accounts):
    budget = Limit(name="tokens", unit="tokens", window="day", account="ann", amount=200)
    await accounts.admit(make_turn("t1"), (budget,))

    error = await refusal(accounts, budget)

    assert (
        error.detail
        == "The rest of today's tokens is held for answers that are still being written."
    )
    assert error.code == "budget_exhausted"
    assert error.retry_after == 5
    assert error.headers["RateLimit"] == '"tokens";r=50;t=43200'


async def test_a_budget_that_is_used_up_says_when_the_day_ends(accounts, clock):
    budget = Limit(name="tokens", unit="tokens", window="day", account="ann", amount=1_234)
    turn = make_turn()
    clock.set(datetime(2026, 3, 1, 23, 59, 0, 500_000, tzinfo=UTC))
    admitted = await accounts.admit(turn, (budget,))
    answer(turn, 10, Usage(50, 1_165))
    await accounts.settle(turn, admitted.hold, None)

    error = await refusal(accounts, budget)

    assert error.detail == "Today's 1,234 tokens are used up, or too few are left for this request."
    assert (error.limit, error.unit, error.window) == ("tokens", "tokens", 86_400)
    assert error.code == "budget_exhausted"
    assert error.retry_after == 60
    assert error.headers == {
        "RateLimit-Policy": '"tokens";q=1234;w=86400',
        "RateLimit": '"tokens";r=19;t=60',
    }


async def test_a_budget_that_a_request_never_fits_says_not_to_retry(accounts):
    budget = Limit(name="tokens", unit="tokens", window="day", account="ann", amount=60)

    with pytest.raises(LimitExceeded) as caught:
        await accounts.admit(make_turn(), (budget,))

    error = caught.value
    assert error.detail.startswith("This request needs at least ")
    assert error.detail.endswith(" tokens, and a day has 60.")
    assert error.fields() == {
        "code": "budget_exhausted",
        "retryable": False,
        "limit": "tokens",
    }
    assert error.wait is error.retry_after is None


async def test_who_waits_as_long_as_they_are_told_gets_in(accounts, clock):
    for n in range(2):
        await accounts.admit(make_turn(f"t{n}"), (RATE,))
        clock.advance(0.001)
    error = await refusal(accounts, RATE)

    clock.advance(error.retry_after)

    await accounts.admit(make_turn("patient"), (RATE,))


async def test_a_turn_that_was_released_before_it_was_reserved_is_not_taken(clock):
    class Late(MemoryLedger):
        async def reserve(self, reservation):
            return Refused(state=None, retry_after=0, now=0)

    with pytest.raises(LedgerUnavailable):
        await Accounts(Late(), NEVER_MET).admit(make_turn(), (BUDGET,))


# ---------------------------------------------------------------- who pays what

# What happens to the turn, what ended it, its (tokens, source, outcome), and its tokens where
# charge_unanswered is off.
# 50 tokens are input and 150 are held.


def reported(turn):
    answer(turn, 10, Usage(48, 12))


def reported_zero(turn):
    answer(turn, 10, Usage(0, 0))


def reported_zero_without_text(turn):
    answer(turn, 0, Usage(0, 0))
    turn.answer.add([Finish("stop")])


def reported_the_input_alone(turn):
    answer(turn, 10, Usage(48, 0))


def reported_a_total(turn):
    answer(turn, 10, Usage(0, 70))


def thought(turn):
    turn.answer.add([Reasoning(" five" * 5)])
    answer(turn, 10, Usage(0, 0))


def still_thinking(turn):
    answer(turn, 0)
    turn.answer.add([Reasoning(" five" * 5)])


def called_a_tool(turn):
    turn.answer.add([ToolCall(0, "a", " look"), ToolCallDelta(0, " it up"), Finish("tool_calls")])
    answer(turn, 0)


def reported_more_than_held(turn):
    answer(turn, 10, Usage(50, 500))


def estimated_by_the_provider(turn):
    answer(turn, 10, Usage(1, 2, "estimated"))


def ten_words(turn):
    answer(turn, 10)


def ninety_words(turn):
    answer(turn, 90)


def ninety_eight_words(turn):
    answer(turn, 98)


def too_many_words(turn):
    answer(turn, 1_000)


def begun(turn):
    answer(turn, 0)


def asked(turn):
    ask(turn)


def asked_but_not_sent(turn):
    ask(turn, sent=False)


def nothing(turn):
    """The turn ends before the model is called."""


PAID = [
    (reported, None, (60, "provider", "done"), 60),
    (reported, ClientGone(), (60, "provider", "client_gone"), 60),
    (reported, UpstreamInterrupted(), (60, "provider", "upstream_interrupted"), 60),
    (reported_zero, None, (60, "estimated", "done"), 60),
    (reported_zero, UpstreamInterrupted(), (60, "estimated", "upstream_interrupted"), 60),
    (reported_zero_without_text, EmptyAnswer(spent=False), (0, "provider", "empty_answer"), 0),
    (reported_the_input_alone, None, (60, "estimated", "done"), 60),
    (reported_a_total, None, (70, "provider", "done"), 70),
    (thought, None, (65, "estimated", "done"), 65),
    (thought, ClientGone(), (65, "estimated", "client_gone"), 65),
    (still_thinking, ClientGone(), (63, "estimated", "client_gone"), 63),
    (called_a_tool, UpstreamBadResponse(), (53, "estimated", "upstream_bad_response"), 53),
    (reported_more_than_held, None, (550, "provider", "done"), 550),
    (estimated_by_the_provider, None, (3, "estimated", "done"), 3),
    (ten_words, None, (60, "estimated", "done"), 60),
    (ten_words, ClientGone(), (68, "estimated", "client_gone"), 68),
    (ten_words, UpstreamInterrupted(), (68, "estimated", "upstream_interrupted"), 68),
    (ten_words, UpstreamTimeout(), (68, "estimated", "upstream_timeout"), 68),
    (ten_words, UpstreamBadResponse(), (68, "estimated", "upstream_bad_response"), 68),
    (ten_words, UpstreamAccount(), (68, "estimated", "upstream_account"), 68),
    (ten_words, StreamTimeout(1), (68, "estimated", "stream_timeout"), 68),
    (ten_words, ServerShutdown(), (68, "estimated", "server_shutdown"), 68),
    (ten_words, InternalError(), (68, "estimated", "internal_error"), 68),
    (ten_words, RuntimeError(), (68, "estimated", "cancelled"), 68),
    (ninety_words, None, (140, "estimated", "done"), 140),
    (ninety_words, ClientGone(), (148, "estimated", "client_gone"), 148),
    (ninety_eight_words, ClientGone(), (150, "estimated", "client_gone"), 150),
    (too_many_words, None, (1_050, "estimated", "done"), 1_050),
    (too_many_words, AnswerTooLong(), (1_050, "estimated", "answer_too_long"), 1_050),
    (begun, ClientGone(), (58, "estimated", "client_gone"), 58),
    (begun, UpstreamInterrupted(), (58, "estimated", "upstream_interrupted"), 58),
    (begun, UpstreamOverloaded(), (0, "none", "upstream_overloaded"), 0),
    (begun, UpstreamBadResponse(), (0, "none", "upstream_bad_response"), 0),
    (asked, UpstreamTimeout(), (58, "estimated", "upstream_timeout"), 0),
    (asked, ClientGone(), (58, "estimated", "client_gone"), 0),
    (asked, StreamTimeout(1), (58, "estimated", "stream_timeout"), 0),
    (asked, UpstreamUnavailable(), (0, "none", "upstream_unavailable"), 0),
    (asked, UpstreamOverloaded(), (0, "none", "upstream_overloaded"), 0),
    (asked, UpstreamAccount(), (0, "none", "upstream_account"), 0),
    (asked, UpstreamBadResponse(), (0, "none", "upstream_bad_response"), 0),
    (asked_but_not_sent, UpstreamTimeout(), (0, "none", "upstream_timeout"), 0),
    (asked_but_not_sent, ClientGone(), (0, "none", "client_gone"), 0),
    (nothing, ClientGone(), (0, "none", "client_gone"), 0),
    (nothing, InternalError(), (0, "none", "internal_error"), 0),
]


@pytest.mark.parametrize(
    ("happens", "failure", "charge", "_unanswered"),
    PAID,
    ids=[f"{h.__name__}-{type(f).__name__}" for h, f, _, _ in PAID],
)
async def test_a_turn_pays_for_what_it_had(
    *, accounts, ledger, monkeypatch, happens, failure, charge, _unanswered
):
    turn, charges = make_turn(), []
    settle = ledger.settle

    async def note(hold, charge):
        charges.append(charge)
        return await settle(hold, charge)

    monkeypatch.setattr(ledger, "settle", note)
    admitted = await accounts.admit(turn, (STREAMS, BUDGET))
    happens(turn)

    await accounts.settle(turn, admitted.hold, failure)

    tokens, _, outcome = charge
    (sent,) = charges
    assert (sent.tokens, sent.source, sent.outcome) == charge
    assert sent.input_tokens + sent.output_tokens == tokens
    assert (sent.principal, sent.profile, sent.model) == ("user:ann", "tiny", "m")
    assert (turn.charged, turn.outcome) == (tokens, outcome)
    assert await balance(ledger) == (tokens, 0)
    assert await balance(ledger, STREAMS) == (0, 0)


@pytest.mark.parametrize(
    ("happens", "failure", "_charge", "tokens"),
    PAID,
    ids=[f"{h.__name__}-{type(f).__name__}" for h, f, _, _ in PAID],
)
async def test_a_call_without_an_answer_costs_nothing_where_the_operator_says_so(
    ledger, happens, failure, _charge, tokens
):
    accounts, turn = Accounts(ledger, NEVER_MET, charge_unanswered=False), make_turn()
    admitted = await accounts.admit(turn, (BUDGET,))
    happens(turn)

    await accounts.settle(turn, admitted.hold, failure)

    assert await balance(ledger) == (tokens, 0)


async def test_an_estimate_never_exceeds_an_output_that_was_lowered(accounts, ledger):
    turn, budget = (
        make_turn(),
        Limit(name="tokens", unit="tokens", window="day", account="ann", amount=75),
    )
    admitted = await accounts.admit(turn, (budget,))
    answer(turn, 24)

    await accounts.settle(turn, admitted.hold, ClientGone())

    assert turn.charged == 75
    assert await balance(ledger, budget) == (75, 0)


async def test_a_second_settlement_changes_nothing(accounts, ledger):
    turn = make_turn()
    admitted = await accounts.admit(turn, (BUDGET,))
    answer(turn, 10)
    await accounts.settle(turn, admitted.hold, None)
    answer(turn, 10)

    await accounts.settle(turn, admitted.hold, ClientGone())

    assert await balance(ledger) == (60, 0)


# ---------------------------------------------------------------- a ledger that is away


@pytest.mark.parametrize("how", ["raises", "hangs", "works and hangs"])
async def test_a_ledger_that_is_away_refuses_in_time_and_holds_nothing_afterwards(ledger, how):
    ledger.away = {"reserve": how}
    accounts = Accounts(ledger, QUICK)

    with anyio.fail_after(10), pytest.raises(LedgerUnavailable) as caught:
        await accounts.admit(make_turn(), (BUDGET,))
    assert (caught.value.status, caught.value.retry_after) == (503, 5.0)

    ledger.away = {}
    await accounts.outbox.flush()
    assert ledger.calls == [("reserve", "t1"), ("release", "t1")]
    assert await balance(ledger) == (0, 0)


async def test_an_admission_that_comes_after_its_release_is_refused(ledger, clock):
    ledger.away = {"reserve": "raises"}
    accounts = Accounts(ledger, NEVER_MET)
    with pytest.raises(LedgerUnavailable):
        await accounts.admit(make_turn(), (BUDGET,))
    ledger.away = {}
    await accounts.outbox.flush()

    with pytest.raises(LedgerUnavailable):
        await accounts.admit(make_turn(), (BUDGET,))

    assert await balance(ledger) == (0, 0)


async def test_a_release_that_comes_after_the_lease_takes_its_charge_back(ledger, clock):
    ledger.away = {"reserve": "works and hangs"}
    accounts = Accounts(ledger, QUICK)
    with pytest.raises(LedgerUnavailable):
        await accounts.admit(make_turn(), (BUDGET,))
    clock.advance(LEASE / 1000)
    assert await balance(ledger) == (150, 0)

    await accounts.outbox.flush()

    assert await balance(ledger) == (0, 0)


@pytest.mark.parametrize("how", ["raises", "hangs"])
async def test_what_was_not_released_is_released_as_soon_as_the_ledger_is_back(ledger, how):
    ledger.away = {"reserve": "works and hangs", "release": how}
    accounts = Accounts(ledger, QUICK)
    with anyio.fail_after(10):
        with pytest.raises(LedgerUnavailable):
            await accounts.admit(make_turn("t1"), (BUDGET,))
        await accounts.outbox.flush()
    assert await balance(ledger) == (0, 150)

    ledger.away = {}
    turn = make_turn("t2")
    admitted = await accounts.admit(turn, (BUDGET,))
    answer(turn, 10)
    await accounts.settle(turn, admitted.hold, None)

    assert ledger.calls[-2:] == [("release", "t1"), ("settle", "t2")]
    assert await balance(ledger) == (60, 0)


async def test_a_client_that_leaves_during_admission_holds_nothing(ledger, accounts):
    ledger.away = {"reserve": "works and hangs"}

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(accounts.admit, make_turn(), (BUDGET,))
        await anyio.wait_all_tasks_blocked()
        assert await balance(ledger) == (0, 150)
        tasks.cancel_scope.cancel()

    assert ledger.calls == [("reserve", "t1"), ("release", "t1")]
    assert await balance(ledger) == (0, 0)


async def test_a_client_that_leaves_a_ledger_that_is_away_is_released_later(ledger):
    accounts = Accounts(ledger, QUICK)
    ledger.away = {"reserve": "works and hangs", "release": "hangs"}

    with anyio.fail_after(10), anyio.CancelScope() as leaving:
        leaving.cancel()
        await accounts.admit(make_turn(), (BUDGET,))
    assert ledger.calls == [("reserve", "t1"), ("release", "t1")]
    assert await balance(ledger) == (0, 150)

    ledger.away = {}
    await accounts.outbox.flush()
    assert await balance(ledger) == (0, 0)


async def test_a_fault_of_the_ledger_is_passed_on_when_it_was_undone(ledger):
    class Broken(MemoryLedger):
        released = False

        async def reserve(self, reservation):
            raise ZeroDivisionError

        async def release(self, reservation):
            self.released = True

    broken = Broken()

    with pytest.raises(ZeroDivisionError):
        await Accounts(broken, NEVER_MET).admit(make_turn(), (BUDGET,))
    assert broken.released


async def test_a_fault_of_the_ledger_is_passed_on_also_when_it_cannot_be_undone(ledger):
    ledger.away = {"reserve": "breaks", "release": "breaks"}

    with pytest.raises(ZeroDivisionError) as caught:
        await Accounts(ledger, NEVER_MET).admit(make_turn(), (BUDGET,))
    assert caught.value.__context__ is None


@pytest.mark.parametrize("how", ["raises", "hangs", "works and hangs"])
async def test_a_settlement_waits_for_the_ledger_and_is_written_with_the_next(ledger, how):
    accounts = Accounts(ledger, QUICK)
    first, second = make_turn("t1"), make_turn("t2")
    holds = [(await accounts.admit(turn, (BUDGET,))).hold for turn in (first, second)]
    answer(first, 10)
    answer(second, 20)
    failure = UpstreamInterrupted()

    ledger.away = {"settle": how}
    with anyio.fail_after(10):
        await accounts.settle(first, holds[0], failure)
    assert (first.charged, first.outcome) == (68, "upstream_interrupted")

    ledger.away = {}
    await accounts.settle(second, holds[1], None)
    assert await balance(ledger) == (138, 0)
    assert ledger.calls[-2:] == [("settle", "t2"), ("settle", "t1")]

    await accounts.outbox.flush()
    assert len([call for call in ledger.calls if call[0] == "settle"]) == 3


async def test_a_ledger_that_is_away_is_named_once_a_minute_until_it_is_back(
    ledger, caplog, monkeypatch
):
    now = 1_000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    accounts = Accounts(ledger, NEVER_MET)
    turns = [make_turn(name) for name in ("t1", "t2", "t3")]
    holds = [(await accounts.admit(turn, (BUDGET,))).hold for turn in turns]
    ledger.away = {"settle": "raises"}
    said = []
    with caplog.at_level(logging.WARNING, "chatnest.accounting"):
        for turn, hold in zip(turns, holds, strict=True):
            await accounts.settle(turn, hold, None)
            await accounts.outbox.flush()
            said.append(len(caplog.records))
            now += 59
        accounts.outbox.end()
        ledger.away = {}
        await accounts.outbox.flush()
        accounts.outbox.end()
    assert said == [1, 1, 2]
    charged = "If one never reaches the ledger, its lease charges the hold in full."
    assert [r.getMessage() for r in caplog.records] == [
        f"ledger unavailable: the cause is unknown; settlements=1 releases=0. {charged}",
        f"ledger unavailable: the cause is unknown; settlements=3 releases=0. {charged}",
        f"stopped while the ledger was unavailable: settlements=3 releases=0. {charged}",
        "ledger available again: settlements=0 releases=0",
    ]


async def test_what_waits_is_written_oldest_first_until_one_fails(ledger):
    accounts = Accounts(ledger, NEVER_MET)
    ledger.away = {"settle": "raises"}
    for name in ("t1", "t2", "t3"):
        turn = make_turn(name)
        await accounts.settle(turn, (await accounts.admit(turn, (BUDGET,))).hold, None)
    ledger.calls.clear()

    await accounts.outbox.flush()
    assert ledger.calls == [("settle", "t1")]

    ledger.away = {}
    await accounts.outbox.flush()
    await accounts.outbox.flush()
    assert ledger.calls[1:] == [("settle", "t1"), ("settle", "t2"), ("settle", "t3")]
    assert await balance(ledger) == (0, 0)


async def test_a_settlement_that_breaks_the_ledger_harms_no_other(ledger, caplog):
    accounts = Accounts(ledger, NEVER_MET)
    turns = [make_turn(name) for name in ("t1", "t2", "t3")]
    holds = [(await accounts.admit(turn, (BUDGET,))).hold for turn in turns]
    ledger.away = {"settle": "raises"}
    await accounts.settle(turns[0], holds[0], None)

    ledger.away = {"settle": "breaks"}
    caplog.clear()
    await accounts.settle(turns[1], holds[1], None)
    assert [r.getMessage() for r in caplog.records] == [
        "ledger failed: turn=t2. Its lease charges the hold in full.",
        "ledger failed: turn=t1. Its lease charges the hold in full.",
        "ledger available again: settlements=0 releases=0",
    ]

    ledger.away = {}
    ledger.calls.clear()
    await accounts.settle(turns[2], holds[2], None)
    assert ledger.calls == [("settle", "t3")]


async def test_settlements_wait_in_a_bounded_number_and_the_oldest_is_given_up(
    ledger, clock, caplog, monkeypatch
):
    monkeypatch.setattr(outbox, "_MOST", 2)
    accounts = Accounts(ledger, NEVER_MET)
    ledger.away = {"settle": "raises"}
    with caplog.at_level(logging.ERROR, "chatnest.accounting"):
        for name in ("t1", "t2", "t3"):
            turn = make_turn(name)
            await accounts.settle(turn, (await accounts.admit(turn, (BUDGET,))).hold, None)

    assert [r.getMessage() for r in caplog.records] == [
        "operation dropped: turn=t1. Its lease charges the hold in full."
    ]
    ledger.away = {}
    await accounts.outbox.flush()
    clock.advance(LEASE / 1000)
    assert await balance(ledger) == (150, 0)


async def test_a_late_settlement_corrects_what_the_lease_charged(ledger, clock):
    accounts, turn = Accounts(ledger, NEVER_MET), make_turn()
    hold = (await accounts.admit(turn, (BUDGET,))).hold
    answer(turn, 10)
    ledger.away = {"settle": "raises"}
    await accounts.settle(turn, hold, None)
    clock.advance(LEASE / 1000)
    assert await balance(ledger) == (150, 0)

    ledger.away = {}
    await accounts.outbox.flush()

    assert await balance(ledger) == (60, 0)


async def test_a_ledger_that_forgot_the_hold_is_charged_all_the_same(accounts, ledger):
    turn = make_turn()
    answer(turn, 10)

    await accounts.settle(
        turn,
        Hold(id="t1", tokens=150, lines=(Line("tokens:2026-01-01:ann", "tokens"),)),
        None,
    )

    assert await balance(ledger) == (60, 0)


async def test_a_renewal_moves_the_end_of_the_lease(accounts, ledger, clock):
    turn = make_turn()
    hold = (await accounts.admit(turn, (BUDGET,))).hold
    clock.advance(29)

    await accounts.renew(hold)

    clock.advance(29)
    assert await balance(ledger) == (0, 150)
    clock.advance(1)
    assert await balance(ledger) == (150, 0)


@pytest.mark.parametrize("how", ["raises", "hangs", "breaks"])
async def test_a_renewal_that_fails_is_no_reason_to_stop(ledger, caplog, how):
    accounts = Accounts(ledger, QUICK)
    hold = (await accounts.admit(make_turn(), (BUDGET,))).hold
    ledger.away = {"renew": how}

    with anyio.fail_after(10), caplog.at_level(logging.WARNING, "chatnest.accounting"):
        await accounts.renew(hold)

    assert [r.getMessage() for r in caplog.records] == ["lease not renewed: turn=t1"]


async def test_a_settlement_survives_the_cancellation_that_ended_its_turn(ledger):
    class Slow(MemoryLedger):
        def __init__(self):
            super().__init__()
            self.settled: list[Charge] = []

        async def settle(self, hold, charge):
            await anyio.lowlevel.checkpoint()
            self.settled.append(charge)
            return Settlement(tokens=charge.tokens, first=True)

    slow, turn = Slow(), make_turn()
    accounts = Accounts(slow, NEVER_MET)
    hold = (await accounts.admit(turn, (BUDGET,))).hold
    answer(turn, 10)

    with anyio.CancelScope() as scope:
        scope.cancel()
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await accounts.settle(turn, hold, ClientGone())

    assert [charge.tokens for charge in slow.settled] == [68]


async def test_a_client_that_leaves_while_the_ledger_catches_up_holds_nothing(ledger):
    accounts = Accounts(ledger, NEVER_MET)
    first = make_turn("t1")
    held = await accounts.admit(first, (BUDGET,))
    answer(first, 10)
    ledger.away = {"settle": "raises"}
    await accounts.settle(first, held.hold, None)

    ledger.away = {"settle": "hangs"}
    with anyio.CancelScope() as client:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(accounts.admit, make_turn("t2"), (BUDGET,))
            await anyio.wait_all_tasks_blocked()
            client.cancel()

    assert ("release", "t2") in ledger.calls
