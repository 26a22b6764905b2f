"""Limits by declaration: what each rule limits, and what is refused at the start."""

from typing import Any

import pytest

from chatnest import ChatNestApp, ConfigurationError, DemoProvider, Identity, standard_policies
from chatnest.config.sections import load_config
from chatnest.ledger.memory import MemoryLedger
from chatnest.models import Model
from chatnest.policies import LimitRule
from chatnest.testing import Answer, Conversation
from tests.streams.support import ask, serving

pytestmark = pytest.mark.anyio

PRICE = {"input": "1.00", "output": "10.00"}


def rule(**given: Any) -> LimitRule:
    right: dict[str, Any] = {"name": "own", "unit": "money", "amount": "5.00", "window": "day"}
    return LimitRule(**right | given)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (
            {"amount": 5},
            'limits.own: amount: expected an amount of money in quotes, such as "20.00"',
        ),
        ({"amount": 5.0}, "expected an amount of money in quotes"),
        ({"amount": "-5"}, "expected an amount of money in quotes"),
        ({"amount": "NaN"}, "expected an amount of money in quotes"),
        ({"amount": "0.0000000001"}, "with at most 9 digits after the point"),
        ({"amount": "9100000"}, 'expected at most "9000000"'),
        ({"unit": "tokens", "amount": "5"}, "expected a whole number of tokens, got '5'"),
        ({"unit": "tokens", "amount": True}, "expected a whole number of tokens"),
        ({"amount": {}}, "expected an amount for at least one plan"),
        ({"amount": {"free": "x"}}, "limits.own: amount.free: expected an amount of money"),
        ({"amount": {"free": "1"}, "per": "team"}, "Amounts by plan need per"),
        ({"models": []}, "limits.own.models: expected a list of at least one name"),
        ({"models": "large"}, "limits.own.models: expected a list"),
        ({"window": "year"}, "limits.own: window: expected seconds or one of day, week, month"),
        ({"window": None}, "limits.own: window: expected none for streams"),
        ({"timezone": "Mars"}, "timezone: expected an IANA time zone, got 'Mars'"),
        ({"warn_at": [0.5, 0]}, "limits.own: warn_at: expected at most 10 parts of the amount"),
        ({"warn_at": [0.5, 0.5]}, "in rising order, got [0.5, 0.5]"),
        ({"warn_at": [0.8, 0.5]}, "in rising order, got [0.8, 0.5]"),
        ({"warn_at": [1.1]}, "at most 1, in rising order, got [1.1]"),
        ({"warn_at": [0.1234]}, "with at most three digits after the point, got 0.1234"),
        ({"warn_at": [float("nan")]}, "with at most three digits after the point, got nan"),
        ({"warn_at": 0.8, "window": "60s"}, "warn_at: expected none for a limit without a window"),
        ({"warn_at": [True]}, "three digits after the point, got True"),
        ({"warn_at": ["most"]}, "three digits after the point, got 'most'"),
        ({"warn_at": [n / 20 for n in range(1, 12)]}, "warn_at: expected at most 10 parts"),
        (
            {"warn_at": [0.8], "unit": "streams", "amount": 1, "window": None},
            "warn_at: expected none for a limit without a window of the calendar",
        ),
    ],
)
def test_a_rule_that_cannot_be_is_refused(given: dict[str, Any], says: str):
    with pytest.raises(ConfigurationError) as caught:
        rule(**given)
    assert says in caught.value.detail


def test_parts_of_an_amount_are_exact_thousandths():
    assert rule(warn_at=[0.001, 0.29, 0.57, 1]).limit_of("ann").warn_at == (1, 290, 570, 1_000)
    assert rule().limit_of("ann").warn_at == ()


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ([rule(), rule(unit="tokens", amount=5)], "limits.own.unit: expected one unit"),
        ([rule(), rule(timezone="Asia/Tokyo")], "limits.own.timezone: expected one time zone"),
        ([rule(models=("huge",))], "limits.own.models: expected names of models (small, large)"),
        ([rule()], "models.large.price: expected a price, since the limit 'own' is of money"),
        ([rule(models=("large",))], "models.large.price: expected a price"),
    ],
)
def test_rules_that_do_not_fit_the_application_are_refused(rules: list[LimitRule], says: str):
    provider = DemoProvider()
    models = {"small": Model(provider=provider, prices=PRICE), "large": Model(provider=provider)}
    with pytest.raises(ConfigurationError) as caught:
        ChatNestApp(models=models, policies=standard_policies(limits=rules))
    assert says in caught.value.detail


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('limits = "none"', "limits: expected a list of tables"),
        ("[limits]\nname = 1", "limits: expected a list of tables"),
        ('[[limits]]\nname = "a"\nunit = "tokens"', "limits[0].amount: expected a value, got none"),
        ('[[limits]]\nnam = "a"', "limits[0].nam: expected a known key"),
        (
            '[[limits]]\nname = "a"\nunit = "dollars"\namount = 1',
            "limits[0].unit: expected 'requests' or 'tokens' or 'money' or 'streams'",
        ),
        (
            '[[limits]]\nname = "a"\nunit = "money"\namount = 1.5\nwindow = "day"',
            "limits[0].amount: expected",
        ),
    ],
)
def test_a_table_that_cannot_be_is_refused(tmp_path, text: str, says: str):
    file = tmp_path / "chatnest.toml"
    file.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        load_config(file, {}, {})
    assert says in caught.value.detail


def test_days_begin_in_the_zone_of_the_budgets_unless_they_say_otherwise(tmp_path):
    file = tmp_path / "chatnest.toml"
    table = '[[limits]]\nname = "{}"\nunit = "tokens"\namount = 1\n'
    file.write_text(
        '[budget]\ntimezone = "Asia/Tokyo"\n'
        + table.format("day")
        + 'window = "day"\n'
        + table.format("own")
        + 'window = "day"\ntimezone = "UTC"\n'
        + table.format("minute")
        + 'window = "60s"\n'
    )
    zones = {each.name: each.timezone for each in load_config(file, {}, {}).limits}
    assert zones == {"day": "Asia/Tokyo", "own": "UTC", "minute": "UTC"}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"window": "month"}, "$5.00 a month for each principal"),
        ({"per": "global", "models": ("large",)}, "$5.00 a day for all requests, of large"),
        ({"amount": {"free": "1", "pro": "2"}}, "$1.00 for free, $2.00 for pro a day for each"),
        ({"unit": "tokens", "amount": 20_000, "window": "60s"}, "20,000 tokens in 60 s for each"),
        (
            {"window": "lifetime", "mode": "shadow"},
            "in a lifetime for each principal, which refuses",
        ),
        (
            {"unit": "streams", "amount": 4, "window": None},
            "4 streams at a time for each principal",
        ),
    ],
)
def test_a_rule_is_described_to_its_operator(given: dict[str, Any], says: str):
    assert says in rule(**given).describe("USD")


async def limited(upstream: Any, *rules: LimitRule, **more: Any) -> Any:
    return serving(
        upstream,
        ledger=MemoryLedger(),
        prices=PRICE,
        policies=standard_policies(limits=rules),
        **more,
    )


async def test_a_turn_is_charged_what_it_costs_and_held_what_it_may(upstream):
    upstream.default = Answer.text("Hello there", usage=(1_000, 200))
    async with await limited(upstream, rule(window="month")) as app:
        async with Conversation(app, json=ask()) as c:
            await c.read_all()
            await c.finished()
        async with Conversation(app, method="GET", path="/chat/limits") as looked:
            await looked.read_all()
    (found,) = [each for each in looked.problem()["limits"] if each["name"] == "own"]
    assert (found["used"], found["unit"], found["currency"]) == ("0.003", "money", "USD")


async def test_who_has_no_money_left_is_refused_in_money(upstream):
    upstream.default = Answer.text("Hello there", usage=(1_000, 200))
    small = rule(amount="0.003", window="month")
    async with await limited(upstream, small) as app:
        for status in (200, 429):
            async with Conversation(app, json=ask()) as c:
                await c.read_all()
                await c.finished()
            assert c.status == status
    problem = c.problem()
    assert (problem["code"], problem["limit"]) == ("budget_exhausted", "own")
    assert problem["detail"] == (
        "This month's $0.003 is used up, or too little is left for this request."
    )
    assert int(c.headers["retry-after"]) > 0
    assert len(upstream.requests) == 1


async def test_a_team_shares_its_money_and_a_stranger_has_none_of_it(upstream, caplog):
    upstream.default = Answer.text("Hello there", usage=(1_000, 200))

    def identify(scope: Any) -> Identity:
        name = dict(scope["headers"]).get(b"x-user", b"eve").decode()
        return Identity(name, groups={} if name == "eve" else {"team": "acme"})

    team = rule(name="team", per="team", amount="0.003")
    async with await limited(upstream, team, identify=identify) as app:
        statuses = []
        for name in ("ann", "bob", "eve", "eve"):
            async with Conversation(app, json=ask(), headers={"x-user": name}) as c:
                await c.read_all()
                await c.finished()
            statuses.append(c.status)
    assert statuses == [200, 429, 200, 200]
    said = [each.getMessage() for each in caplog.records if "without a group" in each.message]
    assert len(said) == 1
    assert "limit=team per=team" in said[0]


async def test_a_limit_too_small_for_a_request_says_so_without_a_wait(upstream):
    small = rule(amount="0.000001")
    async with await limited(upstream, small) as app, Conversation(app, json=ask()) as c:
        await c.read_all()
    problem = c.problem()
    assert (c.status, problem["retryable"]) == (429, False)
    assert "retry-after" not in c.headers
    assert problem["detail"].startswith("This request needs at least $0.00")


async def test_a_shadow_refuses_nothing_and_is_not_shown(upstream):
    upstream.default = Answer.text("Hello there", usage=(1_000, 200))
    async with await limited(upstream, rule(amount="0", mode="shadow")) as app:
        async with Conversation(app, json=ask()) as c:
            await c.read_all()
            await c.finished()
        async with Conversation(app, method="GET", path="/chat/limits") as looked:
            await looked.read_all()
    assert c.status == 200
    assert "own" not in [each["name"] for each in looked.problem()["limits"]]
