"""Plans and tables of keys in a configuration: what they become, and what is wrong with them."""

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from chatnest import ConfigurationError, Identity, Plan
from chatnest.config.build import bearer_keys, build_chat, open_profiles
from chatnest.config.keys import KeySection
from chatnest.config.sections import Config, load_config
from chatnest.testing import Conversation

SECRET, OTHER = (hashlib.sha256(key).hexdigest() for key in (b"secret", b"other"))
TABLE = f"""
[ledger]
url = "memory:"

[plans.pro]
profiles = ["assistant", "expanded"]

[plans.free]
profiles = ["constrained"]

[identity.keys]
bob = "sha256:{OTHER}"

[identity.keys.ann]
hashes = ["sha256:{SECRET}"]
groups = {{ team = "acme" }}
plan = "pro"
profiles = ["expanded"]
models = ["default"]
expires = 2099-12-31
"""


def load(text: str, folder: Path, environ: dict[str, str] | None = None) -> Config:
    file = folder / "chatnest.toml"
    file.write_text(text)
    named = {f"CHATNEST_{name}": value for name, value in (environ or {}).items()}
    return load_config(file, named, {})


def found(config: Config, key: str) -> object:
    headers = [(b"authorization", f"Bearer {key}".encode())]
    return bearer_keys(config.identity.keys)({"type": "http", "headers": headers})


def test_a_file_has_plans_and_tables_of_keys(tmp_path):
    config = load(TABLE, tmp_path)
    assert config.plans == {
        "pro": Plan(profiles=("assistant", "expanded")),
        "free": Plan(profiles=("constrained",)),
    }
    assert config.identity.keys == {
        "bob": f"sha256:{OTHER}",
        "ann": KeySection(
            hashes=[f"sha256:{SECRET}"],
            groups={"team": "acme"},
            plan="pro",
            profiles=["expanded"],
            models=["default"],
            expires=datetime(2099, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        ),
    }
    assert found(config, "secret") == Identity(
        "key:ann", {"team": "acme"}, plan="pro", profiles=["expanded"], models=["default"]
    )
    assert found(config, "other") == "key:bob"


def test_workers_get_the_same(tmp_path):
    """``serve`` hands the configuration to its workers as JSON."""
    config = load(TABLE, tmp_path)
    assert msgspec.json.decode(msgspec.json.encode(config), type=Config) == config


def test_the_environment_may_write_a_table_alone():
    environ = {
        "CHATNEST_PLANS__PRO__PROFILES": "assistant, expanded",
        "CHATNEST_CHAT__DEFAULT_PLAN": "pro",
        "CHATNEST_IDENTITY__KEYS__ANN__HASHES": f"sha256:{SECRET},{OTHER}",
        "CHATNEST_IDENTITY__KEYS__ANN__PLAN": "pro",
        "CHATNEST_IDENTITY__KEYS__ANN__GROUPS__TEAM": "acme",
        "CHATNEST_IDENTITY__KEYS__ANN__PROFILES": "expanded",
        "CHATNEST_IDENTITY__KEYS__ANN__EXPIRES": "2099-12-31T12:00:00+02:00",
    }
    config = load_config(None, environ, {})
    assert config.plans == {"pro": Plan(profiles=("assistant", "expanded"))}
    assert config.chat.default_plan == "pro"
    assert (
        found(config, "secret")
        == found(config, "other")
        == Identity("key:ann", {"team": "acme"}, plan="pro", profiles=["expanded"])
    )
    key: Any = config.identity.keys["ann"]
    assert key.expires == datetime(2099, 12, 31, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("file", "environ", "hashes"),
    [
        (f'ann = "{SECRET}"', {"PLAN": "free"}, [SECRET]),
        (f'ann = ["{SECRET}", "{OTHER}"]', {"PLAN": "free"}, [SECRET, OTHER]),
        (f'ann = {{ hashes = "{SECRET}", plan = "free" }}', {"": OTHER}, [OTHER]),
        (f'ann = {{ hashes = "{SECRET}", plan = "free" }}', {"HASHES": OTHER}, [OTHER]),
        (f'ann = {{ hashes = "{SECRET}", plan = "pro" }}', {"PLAN": "free"}, [SECRET]),
        (f'ann = {{ hashes = "{SECRET}", expires = 2099-01-01 }}', {"PLAN": "free"}, [SECRET]),
    ],
)
def test_a_hash_in_the_environment_lifts_no_restriction_of_the_file(
    tmp_path, file, environ, hashes
):
    named = {f"IDENTITY__KEYS__ANN{'__' * bool(k)}{k}": value for k, value in environ.items()}
    config = load(f"[plans.free]\n[plans.pro]\n[identity.keys]\n{file}\n", tmp_path, named)
    key = config.identity.keys["ann"]
    assert isinstance(key, KeySection)
    assert key.plan == "free"
    assert ([key.hashes] if isinstance(key.hashes, str) else key.hashes) == hashes
    assert (key.expires is None) == ("expires" not in file)


def test_a_plan_needs_no_profiles(tmp_path):
    assert load("[plans.free]\n", tmp_path).plans == {"free": Plan()}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("[profiles.expanded]\nmax_messages = 12\n", ["constrained", "balanced", "expanded"]),
        (
            '[profiles.expanded]\nmax_messages = 12\n[plans.pro]\nprofiles = ["expanded"]\n',
            ["constrained", "balanced"],
        ),
        (
            '[profiles.balanced]\nmax_messages = 6\n[plans.pro]\nprofiles = ["balanced"]\n',
            ["constrained", "balanced"],
        ),
        (
            '[chat]\nallowed_profiles = ["expanded"]\n[plans.pro]\nprofiles = ["expanded"]\n',
            ["expanded"],
        ),
    ],
)
def test_a_profile_that_a_plan_sells_is_not_open_without_it(tmp_path, text, names):
    assert open_profiles(load(text, tmp_path)) == names


WRONG: dict[str, tuple[str, str]] = {
    "a number for a key": (
        "[identity.keys]\nann = 5",
        "FILE: identity.keys['ann']: expected a string, a table or a list, got an integer.",
    ),
    "an unknown field": (
        '[identity.keys.ann]\nhash = "x"',
        (
            "FILE: identity.keys['ann'].hash: expected a known key, got an unknown one. Did you "
            "mean identity.keys['ann'].hashes?"
        ),
    ),
    "another type": (
        '[identity.keys.ann]\nprofiles = "balanced"',
        "FILE: identity.keys['ann'].profiles: expected a list, got a string.",
    ),
    "a number for a plan": (
        "[identity.keys.ann]\nplan = 5",
        "FILE: identity.keys['ann'].plan: expected a string, got an integer.",
    ),
    "a group that is a number": (
        "[identity.keys.ann.groups]\nteam = 5",
        "FILE: identity.keys['ann'].groups['team']: expected a string, got an integer.",
    ),
    "a date in quotes": (
        '[identity.keys.ann]\nexpires = "2027-01-31"',
        (
            "FILE: identity.keys['ann'].expires: expected a date or a time, such as 2027-01-31 or "
            "2027-01-31T18:00:00Z, got a string. Write it without quotes."
        ),
    ),
    "a time of day": (
        "[identity.keys.ann]\nexpires = 12:00:00",
        (
            "FILE: identity.keys['ann'].expires: expected a date or a time, such as 2027-01-31 or "
            "2027-01-31T18:00:00Z, got 12:00:00."
        ),
    ),
    "seconds": (
        "[identity.keys.ann]\nexpires = 3600",
        (
            "FILE: identity.keys['ann'].expires: expected a date or a time, such as 2027-01-31 or "
            "2027-01-31T18:00:00Z, got 3600."
        ),
    ),
    "an unknown key of a plan": (
        '[plans.pro]\nprofile = "x"',
        (
            "FILE: plans.pro.profile: expected a known key, got an unknown one. Did you mean "
            "plans.pro.profiles?"
        ),
    ),
    "a value for a plan": (
        '[plans]\npro = "expanded"',
        "FILE: plans.pro: expected a section, got a value. Write [plans.pro] above its keys.",
    ),
}


@pytest.mark.parametrize(("text", "message"), WRONG.values(), ids=WRONG)
def test_a_wrong_type_is_named_with_its_path(tmp_path, text, message):
    with pytest.raises(ConfigurationError) as e:
        load(text, tmp_path)
    assert e.value.detail.replace(str(tmp_path / "chatnest.toml"), "FILE") == message


def test_a_date_that_is_none_in_the_environment_is_named():
    with pytest.raises(ConfigurationError) as e:
        load_config(None, {"CHATNEST_IDENTITY__KEYS__ANN__EXPIRES": "soon"}, {})
    assert e.value.detail == (
        "the environment: identity.keys['ann'].expires: expected a date or a time, such as "
        "2027-01-31 or 2027-01-31T18:00:00Z, got another text."
    )


HASH = f'hashes = "{SECRET}"\n'
NOT_OPEN: dict[str, tuple[str, str]] = {
    "no hash": (
        '[identity.keys.ann]\nplan = "x"',
        (
            "identity.keys['ann'].hashes: expected at least one hash, got none. `chatnest key ann` "
            "makes a key and its hash."
        ),
    ),
    "an unknown plan": (
        f'[identity.keys.ann]\nplan = "prp"\n{HASH}[plans.pro]',
        (
            "identity.keys['ann'].plan: expected one of the plans (pro), got 'prp'. Correct the "
            "name, or add the plan."
        ),
    ),
    "a profile that is not open": (
        f'[identity.keys.ann]\nprofiles = ["expanded"]\n{HASH}',
        (
            "identity.keys['ann'].profiles: expected some of the profiles that are open to it "
            "(constrained, balanced), got 'expanded'. Correct the name, or open the profile by "
            "allowed_profiles."
        ),
    ),
    "an unknown model": (
        f'[identity.keys.ann]\nmodels = ["huge"]\n{HASH}',
        (
            "identity.keys['ann'].models: expected some of the models that are open to it "
            "(gpt-4o-mini, default), got 'huge'. Correct the name, or add the model to one of its "
            "profiles."
        ),
    ),
    "an unknown profile of a plan": (
        '[plans.pro]\nprofiles = ["expandde"]',
        (
            "plans.pro.profiles: expected names of profiles (constrained, balanced, expanded, "
            "assistant), got 'expandde'. Correct the name, or add the profile."
        ),
    ),
    "a plan without profiles": (
        "[plans.pro]\nprofiles = []",
        (
            "plans.pro.profiles: expected at least one name, got none. Leave it out for the "
            "profiles that are open without a plan."
        ),
    ),
    "an unknown default plan": (
        '[chat]\ndefault_plan = "pro"',
        (
            "chat.default_plan: expected one of the plans (none), got 'pro'. Correct the name, or "
            "add the plan."
        ),
    ),
}


@pytest.mark.parametrize(("text", "message"), NOT_OPEN.values(), ids=NOT_OPEN)
def test_a_name_that_leads_nowhere_stops_the_start(tmp_path, text, message, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-a-key")
    config = load(text, tmp_path, {"LEDGER__URL": "memory:"})
    with pytest.raises(ConfigurationError) as e:
        build_chat(config)
    assert e.value.detail == f"{tmp_path / 'chatnest.toml'}: {message}"


@pytest.mark.anyio
async def test_a_demo_keeps_plans_apart_and_accounts_too(tmp_path):
    file = tmp_path / "chatnest.toml"
    file.write_text(TABLE.replace('"default"', '"demo"'))
    chat = build_chat(load_config(file, {}, {}, demo=True))
    headers = {"authorization": "Bearer secret"}
    async with Conversation(chat, method="GET", path="/limits", headers=headers) as c:
        await c.read_all()
    await chat.aclose()
    assert (c.problem()["plan"], c.problem()["profiles"]) == ("pro", ["expanded"])
