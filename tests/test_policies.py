"""Policies: what is kept of a conversation, what a turn must fit under, when a call is repeated."""

import logging
from typing import Any

import pytest

from chatnest.conversation import Message
from chatnest.errors import (
    ConfigurationError,
    ContextLengthExceeded,
    EmptyAnswer,
    InvalidRequest,
    RequestTooLarge,
    UpstreamAccount,
    UpstreamBadResponse,
    UpstreamError,
    UpstreamInterrupted,
    UpstreamOverloaded,
    UpstreamRejected,
    UpstreamServerError,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from chatnest.ledger.base import Limit
from chatnest.policies import (
    AnonymousBudget,
    ConcurrentStreams,
    DailyBudget,
    RequestRate,
    RetryOnce,
    TrimHistory,
    standard_policies,
)
from chatnest.policies.base import PolicyChain
from chatnest.profiles import Profile
from chatnest.requests import ChatRequest
from chatnest.turn import Turn
from tests.support.words import Words

pytestmark = pytest.mark.anyio

BOMB = "x" * 1_000_000
SYSTEM = (Message.of("system", "be brief"),)  # 2 words and 1: 3 tokens


def profile(**changes) -> Profile:
    fields = {
        "name": "tiny",
        "max_output_tokens": 10,
        "max_messages": 4,
        "temperature": 0.5,
        "daily_token_limit": 1_000,
        "max_tokens_per_request": 30,
        "requests_per_minute": 3,
        "max_concurrent_streams": 2,
        "min_output_tokens": 5,
    }
    return Profile(**{**fields, **changes})


def turn(talk: str = "u:hi", *, system=(), counter=None, request=None, **changes) -> Turn:
    """A turn of messages such as ``u:hi a:hello_there``; an underscore is a space."""
    roles = {"u": "user", "a": "assistant"}
    pairs = [word.split(":") for word in talk.split()]
    messages = tuple(Message.of(roles[r], text.replace("_", " ")) for r, text in pairs)  # type: ignore[arg-type]
    return Turn(
        turn_id="t1",
        principal="user:ann",
        request=ChatRequest(messages=messages, **(request or {})),
        profile=profile(**changes),
        model="m",
        counter=counter or Words(),
        system=system,
    )


def said(t: Turn) -> str:
    return " ".join(f"{m.role[0]}:{m.text.replace(' ', '_')}" for m in t.messages)


# ---------------------------------------------------------------- trimming

# Room for messages: 30 tokens a request, less 10 of output and 2 of the reply: 18.
TRIMMED = {
    "all of a short talk": ("u:1 a:2 u:3", "u:1 a:2 u:3", {}),
    "the last four": ("u:1 a:2 u:3 a:4 u:5 u:6", "u:3 a:4 u:5 u:6", {}),
    "not an answer without its question": ("u:1 a:2 u:3 a:4 u:5", "u:3 a:4 u:5", {}),
    "nor two of them": ("u:1 a:2 a:3 u:4 u:5", "u:4 u:5", {}),
    "one message": ("u:1 a:2 u:3", "u:3", {"max_messages": 1}),
    "the last of the user's, though an answer follows": (
        "u:1 a:2 u:3 a:4",
        "u:3 a:4",
        {"max_messages": 1},
    ),
    "all that follows the last of the user's": (
        "u:1 u:2 a:3 a:4 a:5",
        "u:2 a:3 a:4 a:5",
        {"max_messages": 2},
    ),
    "what fits by its tokens": (
        "u:1 a:2 u:a_b_c_d_e_f_g_h a:5 u:6_6",
        "u:a_b_c_d_e_f_g_h a:5 u:6_6",
        {},
    ),
    "not what does not fit": (
        "u:a_b_c_d_e_f_g_h_i_j_k_l a:2 u:a_b_c_d_e_f_g_h_i_j",
        "u:a_b_c_d_e_f_g_h_i_j",
        {},
    ),
    "nothing older than what does not fit": (
        "u:1 u:a_b_c_d_e_f_g_h_i_j_k_l_m_n_o_p_q u:3",
        "u:3",
        {},
    ),
    "exactly what fits": (
        "u:1_2_3 u:1_2_3_4_5_6_7_8_9_10_11_12_13",
        "u:1_2_3 u:1_2_3_4_5_6_7_8_9_10_11_12_13",
        {},
    ),
    "one token less than needed": (
        "u:1_2_3_4 u:1_2_3_4_5_6_7_8_9_10_11_12_13",
        "u:1_2_3_4_5_6_7_8_9_10_11_12_13",
        {},
    ),
    "the last one although nothing fits": ("u:1 u:2", "u:2", {"max_tokens_per_request": 10}),
}


@pytest.mark.parametrize(("talk", "kept", "changes"), TRIMMED.values(), ids=TRIMMED)
async def test_what_is_kept_is_the_end_of_the_conversation(talk, kept, changes):
    t = turn(talk, **changes)

    await TrimHistory().prepare(t)

    assert said(t) == kept


async def test_the_system_prompt_stays_and_takes_its_room():
    talk = "u:1_2_3 u:1_2_3_4_5_6_7_8_9_10_11_12_13"
    t = turn(talk, system=SYSTEM)

    await TrimHistory().prepare(t)

    assert said(t) == "u:1_2_3_4_5_6_7_8_9_10_11_12_13"
    assert t.system == SYSTEM


async def test_the_clients_lower_limit_leaves_less_room():
    t = turn("u:1_2_3 u:1_2_3", request={"max_tokens_per_request": 19})

    await TrimHistory().prepare(t)

    assert said(t) == "u:1_2_3"


async def test_what_is_trimmed_fits():
    t = turn("u:1_2 a:1 u:1_2_3_4_5_6_7_8_9_10_11_12")

    await TrimHistory().prepare(t)
    await t.fit()

    assert (t.input_tokens, t.max_output_tokens) == (20, 10)


def test_a_turn_shows_who_asks_and_nothing_of_what_was_said():
    assert repr(turn("u:secret")) == "Turn('t1', principal='user:ann', profile='tiny')"


async def test_each_message_is_counted_once_a_turn():
    counter = Words()
    t = turn("u:1 a:2 u:1", system=SYSTEM, counter=counter)

    await TrimHistory().prepare(t)
    await t.fit()

    assert counter.counted == ["be brief", "1", "2"]


async def test_what_cannot_fit_by_its_bytes_is_not_counted():
    counter = Words()
    t = turn(f"u:{BOMB} a:{BOMB} u:hi", counter=counter, max_tokens_per_request=10_000)

    await TrimHistory().prepare(t)
    await t.fit()

    assert said(t) == "u:hi"
    assert counter.counted == ["hi"]


async def test_a_last_message_that_cannot_fit_by_its_bytes_is_refused_uncounted():
    counter = Words()
    t = turn(f"u:{BOMB}", counter=counter, max_tokens_per_request=10_000)

    await TrimHistory().prepare(t)
    with pytest.raises(RequestTooLarge) as caught:
        await t.fit()

    assert counter.counted == []
    assert caught.value.detail == (
        "This message needs at least 100,007 tokens together with its answer; "
        "one request may use 10,000. A shorter message helps."
    )
    assert (caught.value.status, caught.value.code) == (413, "request_too_large")
    assert not caught.value.retryable


async def test_a_last_message_that_does_not_fit_when_counted_is_refused():
    t = turn("u:" + "_".join("abcdefghijklmnopqrstuvwxyz"))

    await TrimHistory().prepare(t)
    with pytest.raises(RequestTooLarge, match=r"at least 34 tokens .* may use 30"):
        await t.fit()


async def test_the_output_is_lowered_to_fit_beside_a_long_message():
    t = turn("u:" + "_".join("abcdefghijklmnopqrst"))

    await TrimHistory().prepare(t)
    await t.fit()

    assert (t.input_tokens, t.max_output_tokens) == (23, 7)


async def test_the_output_is_lowered_no_further_than_its_least():
    assert (await fitted("u:" + "_".join("abcdefghijklmnopqrstuv"))).max_output_tokens == 5
    with pytest.raises(RequestTooLarge):
        await fitted("u:" + "_".join("abcdefghijklmnopqrstuvw"))


async def fitted(talk: str) -> Turn:
    t = turn(talk)
    await t.fit()
    return t


# ---------------------------------------------------------------- limits


@pytest.mark.parametrize(
    ("policy", "limit"),
    [
        (
            RequestRate(),
            Limit(name="requests", unit="requests", account="user:ann", amount=3, window=60),
        ),
        (
            RequestRate(window=5),
            Limit(name="requests", unit="requests", account="user:ann", amount=3, window=5),
        ),
        (
            ConcurrentStreams(),
            Limit(name="streams", unit="streams", account="user:ann", amount=2),
        ),
        (
            DailyBudget(),
            Limit(
                name="tokens",
                unit="tokens",
                window="day",
                account="user:ann",
                amount=1_000,
                timezone="UTC",
            ),
        ),
        (
            DailyBudget(timezone="Europe/Berlin"),
            Limit(
                name="tokens",
                unit="tokens",
                window="day",
                account="user:ann",
                amount=1_000,
                timezone="Europe/Berlin",
            ),
        ),
    ],
)
def test_a_limit_belongs_to_the_principal_and_has_the_profiles_size(policy, limit):
    assert list(policy.limits(turn())) == [limit]


def test_units_are_those_of_what_is_counted():
    limits = PolicyChain(standard_policies()).limits(turn())

    assert [(limit.name, limit.unit) for limit in limits] == [
        ("requests", "requests"),
        ("streams", "streams"),
        ("tokens", "tokens"),
    ]


@pytest.mark.parametrize(
    ("asked", "daily", "per_request"),
    [
        ({}, 1_000, 30),
        ({"daily_token_limit": 999, "max_tokens_per_request": 29}, 999, 29),
        ({"daily_token_limit": 1, "max_tokens_per_request": 1}, 1, 1),
        ({"daily_token_limit": 1_001, "max_tokens_per_request": 31}, 1_000, 30),
        ({"daily_token_limit": 10**30, "max_tokens_per_request": 10**30}, 1_000, 30),
    ],
)
def test_a_client_can_only_lower_its_limits(asked, daily, per_request):
    t = turn(request=asked)

    (budget,) = DailyBudget().limits(t)
    assert budget.amount == t.daily_token_limit == daily
    assert t.max_tokens_per_request == per_request


async def test_a_client_that_lowers_its_request_too_far_is_refused():
    t = turn(request={"max_tokens_per_request": 8})

    with pytest.raises(RequestTooLarge, match=r"at least 9 tokens .* may use 8"):
        await t.fit()


@pytest.mark.parametrize(
    "zone", ["", "Berlin", "Europe/Nowhere", "../../etc/passwd", "/etc/localtime", "a\0b", "Europe"]
)
def test_a_zone_that_is_not_known_is_named_at_the_start(zone):
    with pytest.raises(ConfigurationError) as caught:
        standard_policies(timezone=zone)

    assert caught.value.detail == (
        f"timezone: expected an IANA time zone, got {zone!r}. Use a name such as "
        "'Europe/Berlin' or 'UTC'."
    )


# ---------------------------------------------------------------- retry

# FACTS 4's column, for a random number of one half: 0.25 s of jitter.
ADVICE = [
    (UpstreamUnavailable(), 0.25),
    (UpstreamTimeout(), None),
    (UpstreamOverloaded(), 0.25),
    (UpstreamOverloaded(retry_after=0.5), 0.75),
    (UpstreamOverloaded(retry_after=2.0), 2.25),
    (UpstreamOverloaded(retry_after=2.001), None),
    (UpstreamOverloaded(retry_after=60.0), None),
    (UpstreamServerError(), 0.25),
    (UpstreamServerError(retry_after=1.0), 1.25),
    (UpstreamServerError(retry_after=30.0), None),
    (UpstreamAccount(), None),
    (UpstreamRejected(), None),
    (ContextLengthExceeded(), None),
    (UpstreamBadResponse(), None),
    (EmptyAnswer(spent=False), None),
    (UpstreamInterrupted(), None),
    (UpstreamError(), None),
]


@pytest.mark.parametrize(
    ("failure", "delay"), ADVICE, ids=[f"{type(e).__name__}-{e.retry_after}" for e, _ in ADVICE]
)
def test_a_failure_that_passes_is_tried_again_once(failure, delay):
    retry = RetryOnce(rng=lambda: 0.5)

    assert retry.classify(turn(), failure, 1) == delay
    assert retry.classify(turn(), failure, 2) is None


@pytest.mark.parametrize(("number", "delay"), [(0.0, 1.0), (0.5, 1.1), (0.999, 1.1998)])
def test_jitter_is_added_to_what_was_asked_for(number, delay):
    retry = RetryOnce(jitter=0.2, rng=lambda: number)

    assert retry.classify(turn(), UpstreamOverloaded(retry_after=1.0), 1) == pytest.approx(delay)


def test_jitter_stays_within_its_bounds_and_differs():
    retry = RetryOnce()

    delays = {retry.classify(turn(), UpstreamUnavailable(), 1) for _ in range(100)}
    assert len(delays) > 1
    assert all(delay is not None and 0 <= delay < 0.5 for delay in delays)


def test_the_longest_wait_is_a_setting():
    retry = RetryOnce(longest=10.0, jitter=0.0)

    assert retry.classify(turn(), UpstreamOverloaded(retry_after=10.0), 1) == 10.0
    assert retry.classify(turn(), UpstreamOverloaded(retry_after=10.1), 1) is None


# ---------------------------------------------------------------- the chain


class Recorder:
    """All four hooks, noted in a list that several share."""

    def __init__(self, name, seen, *, advice=None):
        self.name = name
        self.seen = seen
        self.advice = advice

    async def prepare(self, turn):
        self.seen.append(f"{self.name} prepare")

    def limits(self, turn):
        self.seen.append(f"{self.name} limits")
        return [
            Limit(name=self.name, unit="requests", window=86_400, account=turn.principal, amount=1),
            Limit(name=f"{self.name}2", unit="streams", account=turn.principal, amount=1),
        ]

    def classify(self, turn, failure, attempt):
        self.seen.append(f"{self.name} classify")
        return self.advice

    async def finished(self, turn):
        self.seen.append(f"{self.name} finished")


async def test_hooks_run_in_the_order_of_the_list():
    seen: list[str] = []
    chain = PolicyChain([Recorder("a", seen), Recorder("b", seen)])
    t = turn()

    await chain.prepare(t)
    limits = chain.limits(t)
    advice = chain.classify(t, UpstreamUnavailable(), 1)
    await chain.finished(t)

    assert [limit.name for limit in limits] == ["a", "a2", "b", "b2"]
    assert advice is None
    assert seen == [
        *("a prepare", "b prepare"),
        *("a limits", "b limits"),
        *("a classify", "b classify"),
        *("a finished", "b finished"),
    ]


@pytest.mark.parametrize("advice", [0.0, 1.5])
def test_the_first_advice_counts(advice):
    seen: list[str] = []
    first, second = Recorder("a", seen, advice=advice), Recorder("b", seen, advice=9.0)

    assert PolicyChain([first, second]).classify(turn(), UpstreamTimeout(), 1) == advice
    assert seen == ["a classify"]


async def test_a_policy_that_refuses_keeps_those_behind_it_from_their_say():
    class Refuses:
        async def prepare(self, turn):
            raise InvalidRequest("not that")

    seen: list[str] = []
    chain = PolicyChain([Recorder("a", seen), Refuses(), Recorder("b", seen)])

    with pytest.raises(InvalidRequest, match="not that"):
        await chain.prepare(turn())
    assert seen == ["a prepare"]


@pytest.mark.parametrize("hook", ["prepare", "limits", "classify", "finished"])
async def test_one_hook_is_enough(hook):
    seen: list[str] = []
    one = type("One", (), {hook: getattr(Recorder, hook)})()
    one.name, one.seen, one.advice = "one", seen, 1.0
    chain = PolicyChain([one])

    await chain.prepare(turn())
    chain.limits(turn())
    chain.classify(turn(), UpstreamTimeout(), 1)
    await chain.finished(turn())

    assert seen == [f"one {hook}"]


async def test_no_policies_are_no_limits_and_no_advice():
    chain = PolicyChain([])

    await chain.prepare(turn())
    await chain.finished(turn())
    assert chain.limits(turn()) == ()
    assert chain.classify(turn(), UpstreamUnavailable(), 1) is None


@pytest.mark.parametrize("policy", [object(), "limits", None, 5, RequestRate])
def test_an_object_without_hooks_is_no_policy(policy):
    with pytest.raises(ConfigurationError) as caught:
        PolicyChain([RequestRate(), policy])

    expected = f"policies[1]: expected an object with a hook of a policy, got {policy!r}. "
    assert str(caught.value).startswith(expected)


async def test_a_finished_hook_that_fails_is_logged_and_keeps_no_other_from_its_turn(caplog):
    class Fails:
        def __repr__(self):
            return "Fails()"

        async def finished(self, turn):
            raise RuntimeError("disk full")

    seen: list[str] = []
    with caplog.at_level(logging.ERROR, "chatnest.policies"):
        await PolicyChain([Fails(), Recorder("b", seen)]).finished(turn())

    assert seen == ["b finished"]
    (record,) = caplog.records
    assert record.getMessage() == "Fails(): finished() failed after request t1"
    assert record.exc_info is not None


def test_the_standard_policies_come_in_this_order():
    kinds = [type(policy) for policy in standard_policies()]

    assert kinds == [
        *(RequestRate, ConcurrentStreams, TrimHistory, DailyBudget),
        *(AnonymousBudget, RetryOnce),
    ]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"window": "year"}, "window: expected seconds or one of day, week, month, lifetime"),
        ({"window": None}, "window: expected none for streams, and one for every other unit"),
        ({"window": 60, "timezone": "Europe/Berlin"}, "timezone and starts: expected neither"),
        ({"window": 60, "starts": 2}, "timezone and starts: expected neither"),
        ({"unit": "streams"}, "got 'day' for streams"),
        ({"unit": "streams", "window": None, "timezone": "Europe/Berlin"}, "expected neither"),
        ({"unit": "dollars"}, "expected a unit of requests, tokens, money, streams"),
        ({"mode": "warn"}, "a mode of enforce, shadow"),
        ({"window": 0}, "window: expected seconds, at least 1, got 0"),
        ({"window": 1.5}, "window: expected seconds or one of"),
        ({"window": True}, "window: expected seconds, at least 1, got True"),
        ({"window": "day", "starts": 2}, "starts: expected a day from 1 to 1 for a day, got 2"),
        ({"window": "week", "starts": 8}, "starts: expected a day from 1 to 7 for a week, got 8"),
        ({"window": "month", "starts": 0}, "starts: expected a day from 1 to 31 for a month"),
        ({"amount": -1}, "amount: expected a whole number from 0 to 9,000,000,000,000,000"),
        ({"amount": 9 * 10**15 + 1}, "amount: expected a whole number from 0"),
        ({"amount": True}, "amount: expected a whole number"),
        ({"amount": 1e6}, "amount: expected a whole number"),
        ({"name": "a:b"}, "double quotes, got 'a:b'"),
        ({"name": "a b"}, "double quotes, got 'a b'"),
        ({"name": ""}, "double quotes, got ''"),
    ],
)
def test_a_limit_that_would_not_be_what_it_says_is_refused(given, says):
    right: Any = {"name": "n", "unit": "tokens", "account": "a", "amount": 5, "window": "day"}
    with pytest.raises(ConfigurationError) as caught:
        Limit(**right | given)
    assert says in caught.value.detail


def test_a_limit_may_say_what_is_the_default():
    cases: list[tuple[Any, dict[str, Any]]] = [
        ("tokens", {"window": "day", "timezone": "Europe/Berlin"}),
        ("money", {"window": "month", "starts": 31, "timezone": "UTC"}),
        ("tokens", {"window": 60, "starts": 1, "timezone": "UTC"}),
        ("requests", {"window": 30 * 86_400, "timezone": "UTC"}),
        ("streams", {"window": None, "timezone": "UTC"}),
    ]
    for unit, more in cases:
        assert Limit(name="n", unit=unit, account="a", amount=0, **more).amount == 0


class AsyncLimits:
    async def limits(self, turn):
        return []


class AsyncLimitsInTurn:
    async def limits(self, turn):
        yield None


class AsyncClassify:
    async def classify(self, turn, failure, attempt):
        return None


class PlainPrepare:
    def prepare(self, turn):
        return None


class PlainFinished:
    def finished(self, turn):
        return None


class NothingToCall:
    prepare = "soon"


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        (AsyncLimits(), "limits: expected a plain function"),
        (AsyncLimitsInTurn(), "limits: expected a plain function"),
        (AsyncClassify(), "classify: expected a plain function"),
        (PlainPrepare(), "prepare: expected an async function"),
        (PlainFinished(), "finished: expected an async function"),
        (NothingToCall(), "prepare: expected a function, got 'soon'"),
    ],
)
def test_a_hook_of_another_kind_is_refused_when_the_application_is_made(policy, says):
    with pytest.raises(ConfigurationError, match=says):
        PolicyChain([policy])
