"""One budget for all addresses together: on by default, shown to nobody, logged when it is nearly
used up."""

import json
import logging
from typing import Any, NamedTuple

import pytest

from chatnest import (
    BALANCED,
    ChatNestApp,
    ConfigurationError,
    DemoProvider,
    MemoryLedger,
    standard_policies,
)
from chatnest.accounting.accounts import Accounts
from chatnest.accounting.budget_warnings import BudgetWarnings
from chatnest.accounting.refusals import KnownRefusals
from chatnest.bounds import Bounds
from chatnest.errors import LimitExceeded
from chatnest.ledger.base import Admitted, Charge, Limit, LimitState, Refused
from chatnest.policies import RequestRate
from chatnest.testing import Conversation, ManualClock
from chatnest.wire.ratelimit import rate_limit_fields
from tests.test_accounting import make_turn

NAME = "anonymous-tokens"
ASK = {"messages": [{"role": "user", "content": "hello"}]}


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


class Book(MemoryLedger):
    """Counts its operations."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.reserved: list[tuple[Limit, ...]] = []
        self.read: list[tuple[Limit, ...]] = []

    async def reserve(self, reservation):
        self.reserved.append(reservation.limits)
        return await super().reserve(reservation)

    async def usage(self, limits):
        self.read.append(limits)
        return await super().usage(limits)


def chat(limit: Any = None, **options: Any) -> ChatNestApp:
    policies = standard_policies(anonymous_daily_token_limit=limit)
    return ChatNestApp(provider=DemoProvider(pace=0), policies=policies, **options)


async def call(app: ChatNestApp, address: str, method: str = "POST", **options: Any):
    path = "/api/chat" if method == "POST" else "/api/chat/limits"
    body: Any = {"json": ASK} if method == "POST" else {}
    async with Conversation(
        app,
        method=method,
        path=path,
        headers={"content-type": "application/json"},
        client=(address, 50_000),
        **body,
        **options,
    ) as conversation:
        await conversation.read_all()
        return Reply(conversation.status, conversation.headers, conversation.received)


def site(limit: int = 1_000, account: str = "addr:all", *, hidden: bool = True) -> Limit:
    return Limit(
        name=NAME, unit="tokens", window="day", account=account, amount=limit, hidden=hidden
    )


# ---------------------------------------------------------------- the whole way


@pytest.mark.anyio
async def test_all_addresses_share_one_limit_that_nobody_sees():
    ledger = Book()
    app = chat(300, ledger=ledger)
    answers = [await call(app, f"203.0.113.{number}") for number in range(40)]

    statuses = [answer.status for answer in answers]
    assert statuses == sorted(statuses)
    assert 1 <= statuses.count(200) < 40
    (state,) = await ledger.usage((site(300),))
    assert 0 < state.used <= 300
    refused = answers[-1]
    problem = json.loads(refused.body)
    assert (refused.status, problem["code"], problem["limit"]) == (429, "budget_exhausted", NAME)
    assert problem["detail"] == (
        "The limit that all visitors of this service share is used up for now."
    )
    assert problem["retryable"]
    assert problem["retry_after"] == int(refused.headers["retry-after"]) > 0
    assert not set("0123456789") & set(problem["detail"])
    assert not {"ratelimit", "ratelimit-policy"} & set(refused.headers)
    assert all(NAME not in str(answer.headers) for answer in answers)
    limits = json.loads((await call(app, "203.0.113.1", "GET")).body)["limits"]
    assert [limit["name"] for limit in limits] == ["requests", "streams", "tokens"]
    assert all(NAME not in {limit.name for limit in read} for read in ledger.read[1:])


@pytest.mark.anyio
async def test_a_crowd_that_is_refused_costs_one_question_a_second():
    clock = ManualClock()
    ledger = Book(clock=clock)
    app = chat(100, ledger=ledger)
    statuses = [(await call(app, f"203.0.113.{number}")).status for number in range(100)]

    assert statuses.count(200) >= 1
    assert len(ledger.reserved) <= statuses.count(200) + 2
    asked = len(ledger.reserved)
    clock.advance(1)
    for number in range(50):
        assert (await call(app, f"203.0.113.{number}")).status == 429
    assert len(ledger.reserved) <= asked + 1


@pytest.mark.anyio
async def test_those_who_are_known_are_not_under_it():
    app = chat(1, identify=lambda scope: f"user:{scope['client'][0]}")
    assert [(await call(app, f"203.0.113.{number}")).status for number in range(5)] == [200] * 5


@pytest.mark.anyio
async def test_zero_is_a_401_before_anything_is_counted():
    ledger = Book()
    app = chat(0, ledger=ledger)

    answer = await call(app, "203.0.113.1")

    assert (answer.status, json.loads(answer.body)["code"]) == (401, "unauthenticated")
    assert ledger.reserved == []
    known = chat(0, identify=lambda _: "user:ann")
    assert (await call(known, "203.0.113.1")).status == 200


@pytest.mark.anyio
async def test_it_can_be_turned_off_and_is_on_by_default():
    for app, expected in [
        (chat("unlimited", ledger=Book()), []),
        (chat(ledger=Book()), [20 * BALANCED.daily_token_limit]),
        (
            ChatNestApp(provider=DemoProvider(pace=0), ledger=Book()),
            [20 * BALANCED.daily_token_limit],
        ),
    ]:
        assert (await call(app, "203.0.113.1")).status == 200
        (limits,) = app.ledger.reserved  # type: ignore[attr-defined]
        assert [limit.amount for limit in limits if limit.name == NAME] == expected


@pytest.mark.parametrize("limit", [-1, True, 1.5, "", "none", "100", b"unlimited", []])
def test_anything_else_is_refused(limit: Any):
    with pytest.raises(
        ConfigurationError, match=r"^anonymous_daily_token_limit: expected an integer >= 0"
    ):
        standard_policies(anonymous_daily_token_limit=limit)


# ---------------------------------------------------------------- its parts


def state(limit: Limit, used: int, held: int = 0, resets_at: int = 5_000) -> LimitState:
    return LimitState(limit=limit, used=used, held=held, resets_at=resets_at)


def test_no_header_has_a_hidden_limit():
    shown = Limit(name="tokens", unit="tokens", window="day", account="a", amount=50)

    both = rate_limit_fields([state(site(), 10), state(shown, 10)], 0)

    assert both == rate_limit_fields([state(shown, 10)], 0)
    assert rate_limit_fields([state(site(), 10)], 0) == {}


def test_four_fifths_are_logged_once_a_day_and_limit(caplog):
    warnings = BudgetWarnings()
    with caplog.at_level(logging.WARNING, "chatnest.accounting"):
        warnings.look(state(site(), 799))
        assert caplog.records == []
        for used, held in ((700, 100), (800, 0), (1_000, 0)):
            warnings.look(state(site(), used, held))
        warnings.look(state(site(account="tenant:1"), 900))
        warnings.look(state(site(), 900, resets_at=6_000))

    assert [record.getMessage() for record in caplog.records] == [
        f"80 % of a limit is used: limit=anonymous-tokens account={account} of=1000 used={used} "
        f"held={held}. Beyond it, requests get a 429 until the day ends."
        for account, used, held in [
            ("addr:all", 700, 100),
            ("tenant:1", 900, 0),
            ("addr:all", 900, 0),
        ]
    ]


def test_what_was_logged_is_bounded():
    warnings = BudgetWarnings()
    for number in range(1_500):
        warnings.look(state(site(account=f"{number}"), 1_000))
    assert len(warnings._warned) == 1_000


@pytest.mark.anyio
async def test_an_admission_logs_it(caplog):
    accounts = Accounts(MemoryLedger(), Bounds())
    with caplog.at_level(logging.WARNING, "chatnest.accounting"):
        first = await accounts.admit(make_turn("a"), (site(100_000),))
        assert caplog.records == []
        await accounts.admit(make_turn("b"), (site(2 * first.hold.tokens),))
    assert [record.args[0] for record in caplog.records] == [NAME]


def refusal(limit: Limit, *, by_held: bool = False, wait: int = 9_000) -> Refused:
    return Refused(state=state(limit, 1_000), retry_after=wait, now=1_000, by_held=by_held)


@pytest.mark.parametrize(("now", "wait"), [(1_000, 9_000), (1_999, 8_001), (2_000, None)])
def test_a_hidden_budget_is_known_to_be_used_up_for_a_second(now: int, wait: int | None):
    known = KnownRefusals()
    known.remember(refusal(site()))

    found = known.find((site(),), now)

    assert (found.retry_after if found else None) == wait


def left(tokens: int) -> Refused:
    figures = state(site(), 1_000 - tokens)
    return Refused(state=figures, retry_after=9_000, now=1_000)


@pytest.mark.parametrize(
    ("refused", "least"),
    [
        (refusal(site(hidden=False)), 10),
        # It was refused for its size, or for what is held: a smaller one, or a later one, fits.
        (left(10), 10),
        (left(500), 10),
        (Refused(state=state(site(), 100, 900), retry_after=9, now=1, by_held=True), 10),
    ],
)
def test_a_budget_that_may_admit_another_is_asked_again(refused: Refused, least: int):
    known = KnownRefusals()
    known.remember(refused, least)
    assert len(known) == 0


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("rate", "rate_limited"),
        ("budget", "budget_exhausted"),
        ("concurrency", "too_many_streams"),
    ],
)
@pytest.mark.anyio
async def test_no_refusal_by_a_hidden_limit_says_its_figures(kind: Any, code: str):
    window: Any = {"rate": 60, "budget": "day", "concurrency": None}[kind]
    unit: Any = {"rate": "requests", "budget": "tokens", "concurrency": "streams"}[kind]
    limit = Limit(name="all", unit=unit, window=window, account="all", amount=0, hidden=True)
    with pytest.raises(LimitExceeded) as caught:
        await Accounts(MemoryLedger(), Bounds()).admit(make_turn(), (limit,))

    assert caught.value.code == code
    assert caught.value.headers == {}
    assert not set("0123456789") & set(caught.value.detail)


@pytest.mark.anyio
async def test_it_is_one_step_with_the_others_and_settled_with_them():
    ledger = MemoryLedger()
    own = Limit(name="tokens", unit="tokens", window="day", account="addr:1", amount=1_000)
    accounts = Accounts(ledger, Bounds())
    admitted = await accounts.admit(make_turn(), (own, site()))
    assert isinstance(admitted, Admitted)

    await ledger.settle(admitted.hold, Charge(tokens=7))

    states = await ledger.usage((own, site()))
    assert [(each.used, each.held) for each in states] == [(7, 0), (7, 0)]


def test_a_rate_needs_a_window():
    for window in (0, -1, 1.5, True, "60"):
        with pytest.raises(ConfigurationError, match=r"^window: expected an integer >= 1, got "):
            RequestRate(window=window)  # type: ignore[arg-type]
