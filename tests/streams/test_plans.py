"""Plans from the request to its answer: in every format, in the lists, and from a look-up."""

import hashlib
from datetime import UTC, datetime
from typing import Any

import anyio
import msgspec
import pytest
from anyio import wait_all_tasks_blocked

from chatnest import (
    BALANCED,
    CONSTRAINED,
    EXPANDED,
    BearerKey,
    BearerKeys,
    Bounds,
    ChatNestApp,
    ChatNestMiddleware,
    DemoProvider,
    Identity,
    Limit,
    Model,
    Plan,
    RunSettings,
    Turn,
)
from chatnest.telemetry import Asked, Refused
from chatnest.testing import Conversation
from tests.streams.support import answer_to, ask, serving

pytestmark = pytest.mark.anyio

PLANS = {
    "free": Plan(profiles=["constrained"]),
    "pro": Plan(profiles=["expanded", "balanced"]),
}


class Seen:
    """A policy and an observer: notes the plans of turns, of look-ups and of refusals."""

    def __init__(self) -> None:
        self.plans: list[tuple[str, str | None]] = []
        self.events: list[Any] = []

    def limits(self, turn: Turn):
        self.plans.append((type(turn).__name__, turn.plan))
        limit = 0 if turn.plan == "broke" else 100
        yield Limit(name="own", unit="requests", account=turn.principal, amount=limit, window=60)

    def observe(self, event: Any) -> None:
        self.events.append(event)


def by_header(scope: Any) -> Identity | None:
    """``ann:pro`` is ann with the plan pro."""
    value = dict(scope["headers"]).get(b"x-user", b"").decode()
    name, _, plan = value.partition(":")
    return Identity(name, plan=plan or None) if name else None


def user(name: str) -> dict[str, Any]:
    return {"headers": {"x-user": name}}


def planned(**options: Any) -> dict[str, Any]:
    return {"provider": DemoProvider(pace=0), "identify": by_header, "plans": PLANS, **options}


async def got(app: Any, path: str, name: str, **options: Any) -> Conversation:
    headers = {"x-user": name, **options.pop("headers", {})}
    async with Conversation(app, method="GET", path=path, headers=headers, **options) as c:
        await c.read_all()
    return c


async def test_a_policy_sees_the_plan_of_turns_runs_and_look_ups():
    seen = Seen()
    options = planned(policies=[seen], observers=[seen], runs=RunSettings(resumable=True))
    async with serving(None, **options) as app:
        for name in ("ann:pro", "bob"):
            assert (await answer_to(app, ask(), **user(name))).status == 200
        await got(app, "/limits", "ann:pro")
    assert seen.plans == [("Turn", "pro"), ("Turn", None), ("LookUp", "pro")]
    assert [each.plan for each in seen.events if isinstance(each, Asked)] == ["pro", None]
    assert all(each.plan == "pro" for each in seen.events if each.principal == "ann")


async def test_a_refused_turn_has_its_plan():
    seen = Seen()
    plans = {**PLANS, "broke": Plan()}
    async with serving(None, **planned(plans=plans, policies=[seen], observers=[seen])) as app:
        assert (await answer_to(app, ask(), **user("ann:broke"))).status == 429
    (refused,) = [each for each in seen.events if isinstance(each, Refused)]
    assert refused.plan == "broke"


async def test_a_refused_key_that_was_reused_has_its_plan():
    seen = Seen()
    async with serving(None, **planned(observers=[seen])) as app:
        for text, status in (("Hello", 200), ("Goodbye", 422)):
            headers = {"x-user": "ann:pro", "idempotency-key": '"1"'}
            assert (await answer_to(app, ask(text), headers=headers)).status == status
    (refused,) = [each for each in seen.events if isinstance(each, Refused)]
    assert (refused.code, refused.plan) == ("idempotency_key_reused", "pro")


@pytest.mark.parametrize(
    ("name", "profile", "found"),
    [
        ("ann:pro", None, "expanded"),  # its first, not the default profile
        ("ann:pro", "balanced", "balanced"),
        ("ann:pro", "constrained", None),
        ("ann:free", None, "constrained"),
        ("ann:free", "balanced", None),
        ("ann", None, "balanced"),
        ("ann", "constrained", "constrained"),
        ("ann", "expanded", None),
    ],
)
async def test_clients_choose_among_the_profiles_of_their_plan(name, profile, found):
    seen = Seen()
    chosen = {} if profile is None else {"profile": profile}
    async with serving(None, **planned(observers=[seen])) as app:
        c = await answer_to(app, ask(**chosen), **user(name))
    if found is None:
        assert (c.status, c.problem()["code"]) == (403, "forbidden_profile")
    else:
        assert c.status == 200
        assert {each.profile for each in seen.events} == {found}


MODELS = {name: Model(provider=DemoProvider(pace=0), aliases=(f"{name}-alias",)) for name in "abc"}


def with_models(**options: Any) -> dict[str, Any]:
    """The models by profile: a for constrained, a and b for balanced, c and b for expanded."""
    names = {"constrained": ("a",), "balanced": ("a", "b"), "expanded": ("c", "b")}
    profiles = [
        msgspec.structs.replace(each, models=names[each.name])
        for each in (CONSTRAINED, BALANCED, EXPANDED)
    ]
    options = planned(profiles=profiles, models=MODELS, **options)
    del options["provider"]
    return options


FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    "openai-chat": ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}]}),
    "openai-responses": ("/v1/responses", {"input": "Hi"}),
}


@pytest.mark.parametrize(("path", "body"), FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize(
    ("name", "model", "profile"),
    [
        ("ann:pro", "c", "expanded"),
        ("ann:pro", "b", "expanded"),  # the plan's first profile that has it
        ("ann:pro", "a-alias", "balanced"),
        ("ann:pro", "balanced", "balanced"),
        ("ann:pro", "constrained", None),
        ("ann:free", "a", "constrained"),
        ("ann:free", "b", None),
        ("ann", "b", "balanced"),
        ("ann", "c", None),
    ],
)
async def test_the_model_of_a_request_is_one_of_the_plan(path, body, name, model, profile):
    seen = Seen()
    formats = ["native", *FORMATS]
    async with serving(None, **with_models(formats=formats, observers=[seen])) as app:
        c = await answer_to(app, {**body, "model": model}, path=path, **user(name))
    if profile is None:
        assert (c.status, c.problem()["error"]["code"]) == (404, "model_not_found")
    else:
        assert c.status == 200
        assert {each.profile for each in seen.events} == {profile}


@pytest.mark.parametrize(
    ("name", "profiles", "models"),
    [
        ("ann:pro", ["expanded", "balanced"], ["c", "b", "a"]),
        ("ann:free", ["constrained"], ["a"]),
        ("ann", ["constrained", "balanced"], ["a", "b"]),
    ],
)
async def test_the_lists_follow_the_plan(name, profiles, models):
    async with serving(None, **with_models(formats=["native", "openai-chat"])) as app:
        limits = (await got(app, "/limits", name)).problem()
        listed = (await got(app, "/v1/models", name)).problem()
        one = [(await got(app, f"/v1/models/{each}", name)).status for each in "abc"]
    assert limits["profiles"] == profiles
    assert limits.get("plan") == (name.partition(":")[2] or None)
    assert limits["profile"] == ("balanced" if name == "ann" else profiles[0])
    assert [each["id"] for each in listed["data"]] == models
    assert one == [200 if each in models else 404 for each in "abc"]


async def test_the_document_of_the_api_names_no_plan():
    """It is the same for all principals: the lists above show what is open to each."""
    async with serving(None, **with_models(formats=["native", "openai-chat"])) as app:
        document = app.openapi()
    assert app.openapi() == document
    text = repr(document)
    assert not [name for name in (*PLANS, "constrained", "expanded") if repr(name) in text]


# ---------------------------------------------------------------- keys

HASHES = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("ann", "bob", "old")}
KEYS = {
    "ann": BearerKey(hashes=HASHES["ann"], plan="pro", profiles=["balanced"], models=["b"]),
    "bob": BearerKey(hashes=HASHES["bob"], models=["b-alias"]),
    "old": BearerKey(hashes=HASHES["old"]),
}


def key(name: str) -> dict[str, Any]:
    return {"headers": {"authorization": f"Bearer {name}"}}


@pytest.mark.parametrize("name", ["ann", "bob"])
async def test_a_key_narrows_profiles_and_models_everywhere(name):
    seen = Seen()
    keys = BearerKeys(KEYS)
    options = with_models(formats=["native", *FORMATS], observers=[seen], identify=keys)
    async with serving(None, **options) as app:
        assert (await answer_to(app, ask(), **key(name))).status == 200
        for profile, status in (("balanced", 200), ("expanded", 403), ("constrained", 403)):
            c = await answer_to(app, ask(profile=profile), **key(name))
            assert c.status == status, profile
        for path, body in FORMATS.values():
            for model, status in (("b", 200), ("balanced", 200), ("a", 404), ("c", 404)):
                c = await answer_to(app, {**body, "model": model}, path=path, **key(name))
                assert c.status == status, (path, model)
        limits = (await got(app, "/limits", "", **key(name))).problem()
        listed = (await got(app, "/v1/models", "", **key(name))).problem()
    assert (limits["profile"], limits["profiles"]) == ("balanced", ["balanced"])
    assert [each["id"] for each in listed["data"]] == ["b"]
    assert {(each.profile, each.model) for each in seen.events if isinstance(each, Asked)} == {
        ("balanced", "b")
    }


async def test_an_expired_key_gets_a_401_with_its_challenge():
    now = 0.0
    old = BearerKey(hashes=HASHES["old"], expires=datetime(2027, 1, 1, tzinfo=UTC))
    keys = BearerKeys({"old": old}, clock=lambda: now)
    async with serving(None, **planned(identify=keys)) as app:
        assert (await answer_to(app, ask(), **key("old"))).status == 200
        now = 4e9
        c = await answer_to(app, ask(), **key("old"))
        assert (c.status, c.problem()["code"]) == (401, "unauthenticated")
        assert c.headers["www-authenticate"] == 'Bearer realm="chatnest"'
        assert (await got(app, "/limits", "", **key("old"))).status == 401


# ---------------------------------------------------------------- an unknown plan


async def test_an_unknown_plan_is_a_500_with_a_sentence_in_the_log(caplog):
    async with serving(None, **planned(formats=["native", "openai-chat"])) as app:
        c = await answer_to(app, ask(), **user("ann:unlimited"))
        lists = [(await got(app, p, "ann:unlimited")).status for p in ("/limits", "/v1/models")]
    assert (c.status, c.problem()["code"], lists) == (500, "internal_error", [500, 500])
    assert "identify(): expected one of the plans (free, pro), got 'unlimited'" in caplog.text
    assert "unlimited" not in c.problem()["detail"]


async def test_a_run_can_be_cancelled_whatever_its_owners_plan_is_now(upstream):
    async with serving(None, **planned(runs=RunSettings(resumable=True))) as app:
        c = await answer_to(app, ask(), **user("ann"))
        path = f"/runs/{c.headers['chatnest-run-id']}"
        headers = {"x-user": "ann:gone"}
        async with Conversation(app, method="DELETE", path=path, headers=headers) as cancel:
            await cancel.read_all()
    assert cancel.status == 200


# ---------------------------------------------------------------- a look-up


class Table:
    """Plans by principal, as a database has them; ``failure`` is raised instead."""

    def __init__(self, **plans: Any) -> None:
        self.plans = plans
        self.failure: Exception | None = None
        self.gate: anyio.Event | None = None
        self.asked: list[str] = []

    async def __call__(self, identity: Identity) -> Any:
        self.asked.append(identity.principal)
        if self.gate is not None:
            await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        return self.plans.get(identity.principal)


async def profile_of(app: ChatNestApp, name: str) -> str:
    found: str = (await got(app, "/limits", name)).problem()["profile"]
    return found


async def test_plans_of_a_look_up_open_profiles_and_are_cached():
    table = Table(ann="pro")
    async with serving(None, **planned(plan_of=table)) as app:
        assert (await answer_to(app, ask(profile="expanded"), **user("ann"))).status == 200
        assert (await answer_to(app, ask(profile="expanded"), **user("bob"))).status == 403
        for _ in range(5):
            assert await profile_of(app, "ann") == "expanded"
        assert await profile_of(app, "bob") == "balanced"
        assert await profile_of(app, "eve:free") == "constrained"  # as identify says
    assert table.asked == ["ann", "bob"]


async def test_the_list_of_models_follows_a_look_up():
    options = with_models(formats=["native", "openai-chat"], plan_of=Table(ann="pro"))
    async with serving(None, **options) as app:
        listed = {name: (await got(app, "/v1/models", name)).problem() for name in ("ann", "bob")}
    names = {name: [each["id"] for each in list_["data"]] for name, list_ in listed.items()}
    assert names == {"ann": ["c", "b", "a"], "bob": ["a", "b"]}


async def test_a_look_up_has_the_deadline_of_the_bounds():
    left: list[float] = []

    async def plan_of(_: Identity) -> None:
        left.append(anyio.current_effective_deadline() - anyio.current_time())

    bounds = Bounds(ledger_seconds=20, lag_seconds=20, plan_lookup_seconds=7)
    async with serving(None, **planned(plan_of=plan_of, bounds=bounds)) as app:
        assert (await answer_to(app, ask(), **user("ann"))).status == 200
        await got(app, "/limits", "bob")
    assert len(left) == 2
    assert max(left) <= 7


@pytest.mark.parametrize("failure", ["an exception", "a timeout", "a wrong type"])
async def test_a_look_up_that_fails_opens_the_last_known_plan_or_the_default(failure, caplog):
    table = Table(ann="pro")
    bounds = Bounds(ledger_seconds=20, lag_seconds=20, plan_lookup_seconds=0.05)
    options = planned(plan_of=table, default_plan="free", plan_seconds=1e-9, bounds=bounds)
    async with serving(None, **options) as app:
        while await profile_of(app, "ann") != "expanded":  # a slow machine may miss the deadline
            caplog.clear()
        match failure:
            case "an exception":
                table.failure = RuntimeError("the database is gone")
            case "a timeout":
                table.gate = anyio.Event()
            case _:
                table.plans = {"ann": 5, "bob": ["pro"]}
        known = await answer_to(app, ask(profile="expanded"), **user("ann"))
        assert known.status == 200
        for profile in ("expanded", "balanced"):
            c = await answer_to(app, ask(profile=profile), **user("bob"))
            assert (c.status, c.problem()["code"]) == (403, "forbidden_profile")
        assert await profile_of(app, "bob") == "constrained"
    assert "plan_of failed: error=" in caplog.text


async def test_a_name_that_no_plan_has_is_a_500_and_never_a_wider_plan(caplog):
    table = Table(ann="enterprise")
    async with serving(None, **planned(plan_of=table, default_plan="free")) as app:
        c = await answer_to(app, ask(), **user("ann"))
    assert (c.status, c.problem()["code"]) == (500, "internal_error")
    assert "plan_of(): expected one of the plans (free, pro), got 'enterprise'" in caplog.text


async def test_a_client_that_leaves_during_a_look_up_ends_it_for_nobody_else():
    table = Table(ann="pro")
    table.gate = anyio.Event()
    async with serving(None, **planned(plan_of=table)) as app:
        body = ask(profile="expanded")
        async with Conversation(app, json=body, **user("ann")) as first:
            await wait_all_tasks_blocked()
            async with Conversation(app, json=body, **user("ann")) as second:
                await wait_all_tasks_blocked()
                assert table.asked == ["ann"]
                first.disconnect()
                await first.finished()
                await wait_all_tasks_blocked()
                assert table.asked == ["ann", "ann"]  # the second request looks it up itself
                table.gate.set()
                await second.read_all()
        assert first.messages == []
        assert second.status == 200


async def test_a_chat_in_front_of_an_application_follows_the_plan():
    async def inner(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError(scope["path"])

    async with serving(None, **planned(formats=["native"])) as chat:
        app = ChatNestMiddleware(inner, chat=chat, path="/api/chat")
        limits = await got(app, "/api/chat/limits", "ann:pro")
        statuses = []
        for profile in ("expanded", "constrained"):
            async with Conversation(app, json=ask(profile=profile), **user("ann:pro")) as c:
                await c.read_all()
            statuses.append(c.status)
    assert limits.problem()["profiles"] == ["expanded", "balanced"]
    assert statuses == [200, 403]
