"""Plans: what an Identity, a plan and a key open, and what they never widen."""

import hashlib
import re
from datetime import UTC, date, datetime, timedelta, timezone
from enum import StrEnum
from typing import Any

import msgspec
import pytest
from django.utils.functional import SimpleLazyObject

from chatnest import (
    BALANCED,
    CONSTRAINED,
    EXPANDED,
    BearerKey,
    BearerKeys,
    ChatNestApp,
    ConfigurationError,
    DemoProvider,
    Identity,
    Model,
    Plan,
)
from chatnest.errors import ForbiddenProfile
from chatnest.identity.access import Access
from chatnest.identity.plan_lookup import PlanLookup

PROFILES = {p.name: p for p in (CONSTRAINED, BALANCED, EXPANDED)}
PLANS = {
    "free": Plan(profiles=["constrained"]),
    "pro": Plan(profiles=["expanded", "balanced"]),
    "named": Plan(),
}
MODELS = {"constrained": ("small",), "balanced": ("small", "tiny", "large"), "expanded": ("large",)}


def access(*, identify: Any = lambda _: "ann", allowed: Any = None, **more: Any) -> Access:
    options: dict[str, Any] = {"plans": PLANS, "models": MODELS, **more}
    return Access(
        identify=identify, profiles=PROFILES, default="balanced", allowed=allowed, **options
    )


class Text(StrEnum):
    PRO = "pro"


# ---------------------------------------------------------------- the identity


def test_an_identity_may_have_a_plan_and_narrow_what_it_opens():
    identity = Identity("ann", plan=Text.PRO, profiles=["balanced"], models=("small",))
    assert (identity.plan, type(identity.plan)) == ("pro", str)
    assert (identity.profiles, identity.models) == ({"balanced"}, {"small"})
    plain = Identity("ann")
    assert (plain.plan, plain.profiles, plain.models) == (None, None, None)
    assert msgspec.structs.replace(plain, plan="p" * 64).plan == "p" * 64


@pytest.mark.parametrize("plan", ["", "1st", "a b", "a:b", "\xe4", "te\nam", "a" * 65, "\ud800"])
def test_a_plan_that_is_no_word_is_a_value_error(plan):
    with pytest.raises(ValueError, match=r"^plan: expected a name of 1 to 64 letters") as e:
        Identity("ann", plan=plan)
    assert str(e.value).isprintable()
    assert len(str(e.value)) < 300


@pytest.mark.parametrize("plan", [5, True, b"pro", SimpleLazyObject(lambda: "pro")])
def test_a_plan_of_another_type_is_a_type_error(plan):
    with pytest.raises(TypeError, match=r"^plan: expected a str, got "):
        Identity("ann", plan=plan)


@pytest.mark.parametrize("field", ["profiles", "models"])
@pytest.mark.parametrize("names", ["balanced", 5, {"a": 1}.get])
def test_names_that_are_no_list_are_a_type_error(field, names):
    with pytest.raises(TypeError, match=rf"^{field}: expected a list of names, got "):
        msgspec.structs.replace(Identity("ann"), **{field: names})
    with pytest.raises(TypeError, match=rf"^{field}: expected a str, got int"):
        msgspec.structs.replace(Identity("ann"), **{field: [5]})


# ---------------------------------------------------------------- what a plan opens


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("identity", "opened", "default"),
    [
        (Identity("ann"), ["constrained", "balanced"], "balanced"),
        (Identity("ann", plan="free"), ["constrained"], "constrained"),
        (Identity("ann", plan="pro"), ["expanded", "balanced"], "expanded"),
        (Identity("ann", plan="named"), ["constrained", "balanced"], "balanced"),
        (Identity("ann", plan="pro", profiles=["balanced"]), ["balanced"], "balanced"),
        (Identity("ann", profiles=["constrained", "expanded"]), ["constrained"], "constrained"),
        (Identity("ann", plan="free", profiles=["expanded"]), [], None),
        (Identity("ann", plan="pro", profiles=()), [], None),
        (Identity("ann", models=["large"]), ["balanced"], "balanced"),
        (Identity("ann", models=["tiny"], plan="pro"), ["balanced"], "balanced"),
        (Identity("ann", models=["nope"], plan="pro"), [], None),
        (Identity("ann", models=(), plan="pro"), [], None),
        (Identity("ann", plan="pro", models=["small"], profiles=["expanded"]), [], None),
    ],
)
async def test_a_plan_opens_its_profiles_and_an_identity_narrows_them(identity, opened, default):
    rules = access()
    assert await rules.allowed(identity) == opened
    assert [each.name for each in await rules.open_profiles(identity)][:1] == opened[:1] or default
    if default is None:
        with pytest.raises(ForbiddenProfile, match="Open to you: none"):
            await rules.profile(identity, None)
    else:
        assert (await rules.profile(identity, None)).name == default
        assert next(iter(await rules.open_profiles(identity))).name == default
    for name in PROFILES:
        if name in opened:
            assert (await rules.profile(identity, name)).name == name
        else:
            with pytest.raises(ForbiddenProfile):
                await rules.profile(identity, name)


@pytest.mark.anyio
async def test_a_plan_replaces_allowed_profiles_also_if_they_are_a_function():
    rules = access(allowed=lambda _: ["constrained", "balanced"])
    assert await rules.allowed(Identity("ann", plan="pro")) == ["expanded", "balanced"]
    assert await rules.allowed(Identity("ann", plan="named")) == ["constrained", "balanced"]
    narrowed = Identity("ann", profiles=["balanced"])
    assert await rules.allowed(narrowed) == ["balanced"]


def test_profiles_of_plans_are_open_to_somebody():
    assert [each.name for each in access(plans={}).ever_open] == ["constrained", "balanced"]
    assert [each.name for each in access().ever_open] == list(PROFILES)


@pytest.mark.anyio
async def test_a_profile_that_a_plan_or_a_key_closes_is_no_news(caplog):
    rules = access()
    for identity in (Identity("ann", plan="free"), Identity("ann", profiles=["constrained"])):
        with pytest.raises(ForbiddenProfile):
            await rules.profile(identity, "balanced")
    with pytest.raises(ForbiddenProfile):
        await rules.profile(Identity("ann", plan="free"), "expanded")
    assert caplog.records == []


@pytest.mark.anyio
async def test_an_unknown_profile_of_an_identity_opens_nothing_and_is_logged_once(caplog):
    rules = access()
    for _ in range(3):
        found = await rules.allowed(Identity("ann", profiles=["balanced", "golden"]))
        assert found == ["balanced"]
    assert [record.getMessage() for record in caplog.records] == [
        "identify returned 'golden': there is no such profile"
    ]


# ---------------------------------------------------------------- whose plan it is


def by_table(table: dict[str, Any]) -> PlanLookup:
    async def plan_of(identity: Identity) -> str | None:
        found: str | None = table.get(identity.principal)
        return found

    return PlanLookup(plan_of, seconds=60, deadline=30)


@pytest.mark.anyio
async def test_the_plan_is_the_identitys_or_the_tables_or_the_default():
    rules = access(plan_lookup=by_table({"ann": "pro"}), default_plan="free")
    assert (await rules.with_plan(Identity("ann"))).plan == "pro"
    assert (await rules.with_plan(Identity("bob"))).plan == "free"
    assert (await rules.with_plan(Identity("ann", plan="named"))).plan == "named"
    assert (await access().with_plan(Identity("bob"))).plan is None
    kept = Identity("ann", groups={"team": "a"}, profiles=["balanced"], models=["small"])
    assert await rules.with_plan(kept) == msgspec.structs.replace(kept, plan="pro")


@pytest.mark.anyio
@pytest.mark.parametrize("plan", ["prp", "Pro", "unlimited", "p" * 64])
async def test_an_unknown_plan_opens_nothing(plan):
    with pytest.raises(ValueError, match=r"^identify\(\): expected one of the plans \(free, pro, "):
        await access().with_plan(Identity("ann", plan=plan))
    rules = access(plan_lookup=by_table({"ann": plan}), default_plan="free")
    for _ in range(2):  # from the table and from the cache
        with pytest.raises(ValueError, match=r"^plan_of\(\): expected one of the plans") as e:
            await rules.with_plan(Identity("ann"))
    assert repr(plan) in str(e.value)
    with pytest.raises(ValueError, match=r"expected one of the plans \(none\)"):
        await access(plans=None).with_plan(Identity("ann", plan=plan))


# ---------------------------------------------------------------- at the start


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"plans": ["pro"]}, "plans: expected a dict of a Plan by name, got list."),
        ({"plans": {"pro": {}}}, "plans.pro: expected a Plan, got dict. Pass Plan(...)."),
        ({"plans": {"a b": Plan()}}, "plans: expected names of 1 to 64 letters, digits, '_' or "),
        ({"plans": {5: Plan()}}, "plans: expected names of 1 to 64 letters, digits, '_' or "),
        (
            {"plans": {"pro": Plan(profiles=[])}},
            "plans.pro.profiles: expected at least one name, got none. Leave it out for the ",
        ),
        (
            {"plans": {"pro": Plan(profiles=["balanced", "huge"])}},
            (
                "plans.pro.profiles: expected names of profiles (constrained, balanced, expanded, "
                "assistant), got 'huge'. Correct the name, or add the profile."
            ),
        ),
        (
            {"plans": {"pro": Plan()}, "default_plan": "free"},
            "default_plan: expected one of the plans (pro), got 'free'. Correct the name, or add ",
        ),
        ({"default_plan": "free"}, "default_plan: expected one of the plans (none), got 'free'."),
        (
            {"plan_of": lambda _: None},
            "plan_of: expected plans that it can name, got none. Pass plans={NAME: Plan(...)}.",
        ),
        (
            {"plans": {"pro": Plan()}, "plan_of": "pro"},
            "plan_of: expected an async function, got str.",
        ),
        (
            {"plans": {"pro": Plan()}, "plan_seconds": 0},
            "plan_seconds: expected a number > 0, got 0.",
        ),
    ],
)
def test_plans_that_cannot_work_stop_the_start(options, message):
    with pytest.raises(ConfigurationError) as e:
        ChatNestApp(provider=DemoProvider(), **options)
    assert e.value.detail.startswith(message)


@pytest.mark.parametrize("profiles", ["balanced", 5])
def test_a_plan_has_a_list(profiles):
    with pytest.raises(ConfigurationError, match=r"^profiles: expected a list of names of"):
        Plan(profiles=profiles)


# ---------------------------------------------------------------- keys

SECRET, OTHER = (hashlib.sha256(key).hexdigest() for key in (b"secret", b"other"))
NOON = datetime(2027, 1, 31, 12, tzinfo=UTC)


def bearing(key: str) -> dict[str, Any]:
    return {"type": "http", "headers": [(b"authorization", f"Bearer {key}".encode())]}


def test_a_key_may_have_groups_a_plan_and_a_choice():
    key = BearerKey(
        hashes=[SECRET, f"sha256:{OTHER}"],
        groups={"team": "acme"},
        plan="pro",
        profiles=["balanced"],
        models=["small"],
    )
    identify = BearerKeys({"ann": key, "bob": hashlib.sha256(b"third").hexdigest()})
    expected = Identity(
        "key:ann", groups={"team": "acme"}, plan="pro", profiles=["balanced"], models=["small"]
    )
    assert identify(bearing("secret")) == identify(bearing("other")) == expected
    assert identify(bearing("third")) == "key:bob"
    assert identify(bearing("nothing")) is None


@pytest.mark.parametrize(
    ("expires", "last"),
    [
        (date(2027, 1, 31), datetime(2027, 1, 31, 23, 59, 59, tzinfo=UTC)),
        (datetime(2027, 1, 31, 12), NOON),  # noqa: DTZ001  # as TOML has it
        (NOON, NOON),
        (datetime(2027, 1, 31, 14, tzinfo=timezone(timedelta(hours=2))), NOON),
    ],
    ids=str,
)
def test_a_key_is_refused_after_its_time_with_one_sentence_in_the_log(expires, last, caplog):
    now = last.timestamp()
    key = BearerKey(hashes=SECRET, expires=expires)
    identify = BearerKeys({"ann": key, "bob": OTHER}, clock=lambda: now)
    assert identify(bearing("secret")) == Identity("key:ann")
    assert caplog.records == []
    now += 1
    for _ in range(3):
        assert identify(bearing("secret")) is None
    assert identify(bearing("other")) == "key:bob"
    assert [record.getMessage() for record in caplog.records] == [
        (
            f"key expired: name='ann' expires={last.isoformat()}. Its requests get a 401. "
            "Set a later expires, or make a new key with `chatnest key`."
        )
    ]
    assert "secret" not in caplog.text


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hashes": "secret"}, "keys['ann']: expected the SHA-256 of a key in hexadecimal"),
        ({"hashes": []}, "keys['ann'].hashes: expected at least one hash, got none."),
        ({"groups": {"team": 5}}, "keys['ann'].groups['team']: expected a str, got int."),
        ({"groups": {"a b": "x"}}, "keys['ann'].groups: expected a name of 1 to 64 letters"),
        ({"plan": "a b"}, "keys['ann'].plan: expected a name of 1 to 64 letters"),
        ({"plan": 5}, "keys['ann'].plan: expected a str, got int."),
        ({"profiles": "balanced"}, "keys['ann'].profiles: expected a list of names, got str."),
        ({"profiles": []}, "keys['ann'].profiles: expected at least one name, got none."),
        ({"models": ()}, "keys['ann'].models: expected at least one name, got none."),
        ({"expires": "2027"}, "keys['ann'].expires: expected a date or a datetime, got str."),
        ({"expires": 5}, "keys['ann'].expires: expected a date or a datetime, got int."),
    ],
)
def test_a_field_of_a_key_that_is_wrong_is_named(fields, message):
    with pytest.raises(ConfigurationError) as e:
        BearerKeys({"ann": BearerKey(**{"hashes": SECRET, **fields})})
    assert e.value.detail.startswith(message)
    assert "secret" not in e.value.detail


def test_a_mapping_is_no_key():
    with pytest.raises(ConfigurationError, match=r"^keys\['ann'\]: expected a hash, a list of"):
        BearerKeys({"ann": {"hashes": SECRET}})


KEYED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "a plan that does not exist": (
        {"plan": "prp"},
        {},
        "keys['ann'].plan: expected one of the plans (free, pro, named), got 'prp'.",
    ),
    "a profile that does not exist": (
        {"profiles": ["golden"]},
        {},
        (
            "keys['ann'].profiles: expected some of the profiles that are open to it (constrained, "
            "balanced), got 'golden'. Correct the name, or open the profile by allowed_profiles."
        ),
    ),
    "a profile that is not open": (
        {"profiles": ["balanced", "expanded"]},
        {},
        "keys['ann'].profiles: expected some of the profiles that are open to it (constrained, ",
    ),
    "a profile that its plan does not open": (
        {"plan": "free", "profiles": ["balanced"]},
        {"allowed": ["balanced"]},
        (
            "keys['ann'].profiles: expected some of the profiles that are open to it "
            "(constrained), got 'balanced'. Correct the name, or open the profile by the plan "
            "'free'."
        ),
    ),
    "a profile that the default plan does not open": (
        {"profiles": ["balanced"]},
        {"default_plan": "free"},
        "keys['ann'].profiles: expected some of the profiles that are open to it (constrained), ",
    ),
    "an unknown profile, where a function decides": (
        {"profiles": ["golden"]},
        {"allowed": lambda _: ["balanced"]},
        (
            "keys['ann'].profiles: expected some of the profiles that are open to it (constrained, "
            "balanced, expanded), got 'golden'."
        ),
    ),
    "an unknown profile, where a table decides": (
        {"profiles": ["golden"]},
        {"plan_lookup": by_table({})},
        (
            "keys['ann'].profiles: expected some of the profiles that are open to it (constrained, "
            "balanced, expanded), got 'golden'."
        ),
    ),
    "a model that does not exist": (
        {"models": ["small", "huge"]},
        {},
        (
            "keys['ann'].models: expected some of the models that are open to it "
            "(small, tiny, large), got 'huge'. Correct the name, or add the model to one of its "
            "profiles."
        ),
    ),
    "a model that its profiles do not have": (
        {"plan": "pro", "profiles": ["expanded"], "models": ["small"]},
        {},
        "keys['ann'].models: expected some of the models that are open to it (large), got 'small'.",
    ),
}


@pytest.mark.parametrize(("fields", "options", "message"), KEYED.values(), ids=KEYED)
def test_a_key_that_names_what_is_not_open_to_it_stops_the_start(fields, options, message):
    identify = BearerKeys({"ann": BearerKey(hashes=SECRET, **fields)})
    with pytest.raises(ConfigurationError) as e:
        access(identify=identify, **options)
    assert e.value.detail.startswith(message)


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ({"profiles": ["expanded"]}, {"plan_lookup": by_table({})}),
        ({"profiles": ["expanded"]}, {"allowed": lambda _: ["expanded"]}),
        ({"plan": "pro", "profiles": ["expanded"], "models": ["large"]}, {}),
        ({"plan": "named", "profiles": ["balanced"], "models": ["tiny"]}, {}),
    ],
)
def test_a_key_may_name_what_can_be_open_to_it(fields, options):
    access(identify=BearerKeys({"ann": BearerKey(hashes=SECRET, **fields)}), **options)


def test_the_application_checks_its_keys():
    identify = BearerKeys({"ann": BearerKey(hashes=SECRET, models=["other"])})
    models = {"small": Model(provider=DemoProvider(), aliases=("tiny",))}
    message = re.escape(
        "keys['ann'].models: expected some of the models that are open to it (small, tiny)"
    )
    with pytest.raises(ConfigurationError, match=message):
        ChatNestApp(models=models, identify=identify)
