"""Policies that an operator writes: a check, a limit for a team, advice, and the books."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from chatnest import (
    ChatNestApp,
    ChatNestError,
    ConfigurationError,
    DemoProvider,
    Identity,
    Limit,
    Message,
    Turn,
    standard_policies,
)
from chatnest.testing import Answer
from tests.streams.support import (
    CLIENT,
    Books,
    answer_to,
    ask,
    error,
    get_limits,
    kinds,
    policies,
    serving,
)

pytestmark = pytest.mark.anyio


class NotHere(ChatNestError):
    """What Moderation refuses with."""

    status = 422
    code = "not_here"
    title = "Not here"


class Moderation:
    """Refuses what is not talked about, before anything is counted or held."""

    async def prepare(self, turn: Turn) -> None:
        if "rosebud" in turn.messages[-1].text.lower():
            raise NotHere("Please talk about something else.")


class TeamBudget:
    """A budget for a whole team, beside each user's own."""

    def limits(self, turn: Turn):
        if team := turn.groups.get("team"):
            yield Limit(
                name="team-tokens",
                unit="tokens",
                window="day",
                account=f"team:{team}",
                amount=1_000,
            )


def member(scope):
    """ann@acme is ann, of the team acme; ann alone has no team."""
    name, _, team = dict(scope["headers"])[b"x-user"].decode().partition("@")
    return Identity(name, groups={"team": team}) if team else name


@dataclass
class Notes:
    """Sees every end."""

    ends: list[tuple[str, str, int, str]] = field(default_factory=list)

    async def finished(self, turn: Turn) -> None:
        self.ends.append((turn.principal, turn.outcome, turn.charged, turn.answer.text))
        if turn.state.get("noisy"):
            raise RuntimeError("a policy's own trouble")


class Stubborn:
    """Tries everything again, twice."""

    def classify(self, turn, failure, attempt):
        return 0.0 if attempt < 3 else None


async def test_a_moderation_policy_refuses_before_anything_is_held(upstream):
    books = Books()
    async with serving(upstream, ledger=books, policies=[Moderation(), *policies()]) as app:
        refused = await answer_to(app, ask("What is Rosebud?"))
        served = await answer_to(app, ask("What is a sledge?"))
    assert (refused.status, refused.problem()["code"]) == (422, "not_here")
    assert refused.problem()["detail"] == "Please talk about something else."
    assert served.status == 200
    assert len(upstream.requests) == len(books.reservations) == 1


async def test_a_teams_limit_is_admitted_together_with_the_users(upstream):
    books = Books()
    upstream.default = Answer(usage=(100, 300))

    async def as_user(name):
        return await answer_to(app, ask(), headers={"x-user": name})

    async with serving(
        upstream, ledger=books, identify=member, policies=[TeamBudget(), *policies()]
    ) as app:
        assert (await as_user("ann@acme")).status == 200
        assert (await as_user("bob@acme")).status == 200
        # 200 of the team's are left: bob's answer is lowered to it, and then nothing is left.
        assert (await as_user("bob@acme")).status == 200
        assert upstream.last.json["max_tokens"] < 200
        refused = await as_user("ann@acme")
        others = [await as_user("eve@other"), await as_user("eve")]
    assert (refused.status, refused.problem()["code"]) == (429, "budget_exhausted")
    assert refused.problem()["limit"] == "team-tokens"
    assert refused.headers["ratelimit-policy"] == '"team-tokens";q=1000;w=86400'
    assert [other.status for other in others] == [200, 200]
    assert (await books.used("ann"), await books.used("bob")) == (400, 800)


async def test_what_is_left_is_shown_by_the_groups_too(upstream):
    upstream.default = Answer(usage=(100, 300))

    async def left(app, name):
        document = await get_limits(app, headers={"x-user": name})
        return {limit["name"]: limit["remaining"] for limit in document["limits"]}

    async with serving(upstream, identify=member, policies=[TeamBudget()]) as app:
        await answer_to(app, ask(), headers={"x-user": "ann@acme"})
        assert await left(app, "bob@acme") == {"team-tokens": 600}
        assert await left(app, "bob") == {}


async def test_a_run_knows_the_groups(upstream):
    seen = []

    class Watching:
        async def prepare(self, turn: Turn) -> None:
            seen.append((turn.principal, dict(turn.groups)))

    async with serving(upstream, identify=member, policies=[Watching()]) as app:
        for name in ("ann@acme", "bob"):
            await answer_to(app, ask(), headers={"x-user": name, "idempotency-key": '"1"'})
    assert seen == [("ann", {"team": "acme"}), ("bob", {})]


async def test_a_policy_gives_advice_on_trying_again(upstream):
    upstream.script(Answer.error(400), Answer.error(401))
    books = Books()
    async with serving(upstream, ledger=books, policies=[Stubborn(), *policies()]) as app:
        c = await answer_to(app, ask())
    assert kinds(c.received)[-1] == "done"
    assert len(upstream.requests) == 3
    assert books.charge.tokens == 12


async def test_no_advice_makes_a_begun_answer_begin_again(upstream):
    upstream.script(Answer.cut(1))
    async with serving(upstream, policies=[Stubborn(), *policies()]) as app:
        c = await answer_to(app, ask())
    assert error(c.received)["code"] == "upstream_interrupted"
    assert len(upstream.requests) == 1


async def test_a_policy_sees_every_end_and_what_it_cost(upstream, caplog):
    class Noisy:
        async def prepare(self, turn):
            turn.state["noisy"] = True

    first, second = Notes(), Notes()
    upstream.script(Answer(), *[Answer.error(500)] * 2)
    async with serving(upstream, policies=[Noisy(), first, second, *policies()]) as app:
        done = await answer_to(app, ask())
        failed = await answer_to(app, ask())
    assert (done.status, failed.status) == (200, 502)
    assert first.ends == [(CLIENT, "done", 12, "Hello world!"), (CLIENT, "upstream_error", 0, "")]
    assert second.ends == first.ends
    assert sum("finished() failed" in record.message for record in caplog.records) == 4


async def test_a_policy_may_change_what_the_model_sees(upstream):
    class Polite:
        async def prepare(self, turn):
            turn.system = (*turn.system, Message.of("system", "Be polite."))
            turn.max_output_tokens = 100

    async with serving(upstream, policies=[Polite(), *policies()]) as app:
        await answer_to(app, ask())
    assert upstream.last.json["messages"][0] == {"role": "system", "content": "Be polite."}
    assert upstream.last.json["max_tokens"] == 100


def test_what_is_no_policy_is_refused_at_the_start(upstream):
    no_policy: Any = object()
    with pytest.raises(ConfigurationError, match="expected an object with a hook of a policy"):
        ChatNestApp(provider=DemoProvider(), policies=[*standard_policies(), no_policy])
