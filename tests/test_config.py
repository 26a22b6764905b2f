"""What ``chatnest serve`` is told: a file, the environment over it, flags over both."""

import os
from pathlib import Path

import msgspec
import pytest

from chatnest.bounds import Bounds
from chatnest.cli import main
from chatnest.config.build import build_chat, open_profiles
from chatnest.config.sections import (
    ChatSection,
    Config,
    LedgerSection,
    ProviderSection,
    load_config,
)
from chatnest.errors import ConfigurationError
from chatnest.profiles import (
    ASSISTANT,
    BALANCED,
    CONSTRAINED,
    EXPANDED,
    HardCaps,
    Profile,
    check_profiles,
)
from chatnest.server.site import make_site

SAMPLE = """\
[provider]
model = "llama-3"
base_url = "http://127.0.0.1:8080/v1"

[chat]
path = "/chat"
format = "ai-sdk"
formats = ["native", "ai-sdk"]
system_prompt = "Be brief."
default_profile = "constrained"
allowed_profiles = ["constrained", "balanced"]
ping_interval = 5
usage_event = true
events = ["reasoning", "tools"]

[profiles.balanced]
max_output_tokens = 500
max_messages = 8
temperature = 0
daily_token_limit = 80_000
max_tokens_per_request = 4_096
requests_per_minute = 40
max_concurrent_streams = 3

[hard_caps]
requests_per_minute = 120

[identity]
header = "x-user"
trusted_proxies = ["10.0.0.0/8", "unix"]

[budget]
timezone = "Europe/Berlin"

[ledger]
url = "sqlite:/var/lib/chat.db"
"""


def load(text: str = "", environ=None, flags=None, *, folder: Path | None = None) -> Config:
    path = None
    if folder is not None:
        path = folder / "chatnest.toml"
        path.write_text(text, encoding="utf-8")
    return load_config(path, environ or {}, flags or {})


def told(text: str, folder: Path, environ=None) -> str:
    """What a configuration that cannot work is refused with; FILE for the file's path."""
    with pytest.raises(ConfigurationError) as caught:
        load(text, environ, folder=folder)
    return caught.value.detail.replace(str(folder / "chatnest.toml"), "FILE")


def profile(config: Config, name: str) -> Profile:
    return {profile.name: profile for profile in config.profiles}[name]


def test_nothing_told_leaves_the_defaults():
    config = load()

    assert config == Config()
    assert config.profiles == (CONSTRAINED, BALANCED, EXPANDED, ASSISTANT)
    assert (config.hard_caps, config.bounds) == (HardCaps(), Bounds())
    assert msgspec.to_builtins(config.server) == {
        "host": "127.0.0.1",
        "port": 8_000,
        "workers": 1,
        "head_seconds": 10.0,
        "idle_seconds": 75,
        "announce_seconds": 0.0,
        "drain_seconds": 10.0,
        "allow_origins": [],
        "allow_hosts": [],
        "access_log": "text",
        "access_log_principals": "names",
        "metrics_host": "127.0.0.1",
        "metrics_port": None,
    }
    assert (config.chat.path, config.chat.default_profile) == ("/api/chat", "balanced")
    assert (config.ledger.url, config.budget.timezone) == ("sqlite:chatnest.db", "UTC")
    assert (config.provider.model, config.provider.base_url) == ("gpt-4o-mini", None)


def test_an_empty_file_leaves_the_defaults(tmp_path):
    assert load("", folder=tmp_path) == Config()


def test_every_key_of_a_file_is_taken(tmp_path):
    config = load(SAMPLE, folder=tmp_path)

    assert (config.provider.model, config.provider.base_url) == (
        "llama-3",
        "http://127.0.0.1:8080/v1",
    )
    assert msgspec.to_builtins(config.chat) == {
        "path": "/chat",
        "format": "ai-sdk",
        "formats": ["native", "ai-sdk"],
        "system_prompt": "Be brief.",
        "client_system_prompt": None,
        "allow_client_system_prompt": None,
        "default_profile": "constrained",
        "allowed_profiles": ["constrained", "balanced"],
        "default_plan": None,
        "ping_interval": 5.0,
        "usage_event": True,
        "events": ["reasoning", "tools"],
        "charge_unanswered": None,
    }
    assert config.profiles == (
        CONSTRAINED,
        Profile(
            name="balanced",
            max_output_tokens=500,
            max_messages=8,
            temperature=0.0,
            daily_token_limit=80_000,
            max_tokens_per_request=4_096,
            requests_per_minute=40,
            max_concurrent_streams=3,
            min_output_tokens=64,
        ),
        EXPANDED,
        ASSISTANT,
    )
    assert config.hard_caps == HardCaps(requests_per_minute=120)
    assert (config.identity.header, config.identity.trusted_proxies) == (
        "x-user",
        ["10.0.0.0/8", "unix"],
    )
    assert config.budget.timezone == "Europe/Berlin"
    assert config.ledger.url == "sqlite:/var/lib/chat.db"
    assert check_profiles(config.profiles, config.hard_caps)


@pytest.mark.parametrize(
    ("name", "value", "section", "key", "taken"),
    [
        ("CHATNEST_PROVIDER__MODEL", "m", "provider", "model", "m"),
        ("CHATNEST_PROVIDER__INCLUDE_USAGE", "false", "provider", "include_usage", False),
        ("CHATNEST_PROVIDER__THINK_TAGS", "true", "provider", "think_tags", True),
        ("CHATNEST_CHAT__PATH", "/c", "chat", "path", "/c"),
        ("CHATNEST_CHAT__PING_INTERVAL", "2.5", "chat", "ping_interval", 2.5),
        ("CHATNEST_CHAT__USAGE_EVENT", "true", "chat", "usage_event", True),
        ("CHATNEST_CHAT__USAGE_EVENT", "0", "chat", "usage_event", False),
        (
            "CHATNEST_CHAT__ALLOWED_PROFILES",
            "constrained, balanced",
            "chat",
            "allowed_profiles",
            ["constrained", "balanced"],
        ),
        ("CHATNEST_CHAT__ALLOWED_PROFILES", "", "chat", "allowed_profiles", []),
        (
            "CHATNEST_IDENTITY__TRUSTED_PROXIES",
            " 10.0.0.0/8 ,, unix,",
            "identity",
            "trusted_proxies",
            ["10.0.0.0/8", "unix"],
        ),
        ("CHATNEST_IDENTITY__TRUSTED_PROXIES", "::1", "identity", "trusted_proxies", ["::1"]),
        ("CHATNEST_HARD_CAPS__REQUESTS_PER_MINUTE", "120", "hard_caps", "requests_per_minute", 120),
        ("CHATNEST_HARD_CAPS__MAX_MESSAGES", "null", "hard_caps", "max_messages", None),
        ("CHATNEST_BUDGET__TIMEZONE", "Asia/Tokyo", "budget", "timezone", "Asia/Tokyo"),
        (
            *("CHATNEST_BUDGET__ANONYMOUS_DAILY_TOKEN_LIMIT", "5000"),
            *("budget", "anonymous_daily_token_limit", 5_000),
        ),
        (
            *("CHATNEST_BUDGET__ANONYMOUS_DAILY_TOKEN_LIMIT", "unlimited"),
            *("budget", "anonymous_daily_token_limit", "unlimited"),
        ),
        ("CHATNEST_IDENTITY__IPV6_PREFIX", "56", "identity", "ipv6_prefix", 56),
        ("CHATNEST_LEDGER__URL", "memory:", "ledger", "url", "memory:"),
        ("CHATNEST_SERVER__PORT", "9000", "server", "port", 9_000),
        ("CHATNEST_BOUNDS__BODY_BYTES", "1024", "bounds", "body_bytes", 1_024),
        ("CHATNEST_server__Host", "::1", "server", "host", "::1"),
    ],
)
def test_a_key_is_taken_from_the_environment(name, value, section, key, taken):
    config = load(environ={name: value, "PATH": "/bin", "CHATNEST": "x"})

    assert getattr(getattr(config, section), key) == taken


def test_a_profile_is_changed_in_the_environment():
    config = load(environ={"CHATNEST_PROFILES__BALANCED__MAX_MESSAGES": "9"})

    assert profile(config, "balanced") == msgspec.structs.replace(BALANCED, max_messages=9)
    assert profile(config, "expanded") == EXPANDED


def test_the_environment_goes_over_the_file_and_flags_over_both(tmp_path):
    text = '[server]\nhost = "file"\nport = 1\nworkers = 1\n[chat]\npath = "/file"\n'
    environ = {"CHATNEST_SERVER__HOST": "environ", "CHATNEST_SERVER__PORT": "2"}

    config = load(text, environ, {"server": {"host": "flag"}, "chat": {}}, folder=tmp_path)

    assert (config.server.host, config.server.port, config.server.workers) == ("flag", 2, 1)
    assert config.chat.path == "/file"


def test_the_environment_changes_one_key_of_a_profile_in_the_file(tmp_path):
    config = load(SAMPLE, {"CHATNEST_PROFILES__BALANCED__MAX_MESSAGES": "9"}, folder=tmp_path)

    assert profile(config, "balanced").max_messages == 9
    assert profile(config, "balanced").max_output_tokens == 500


def test_variables_of_other_shapes_are_not_ours(tmp_path):
    others = {
        "CHATNEST_LEDGER": "x",
        "CHATNEST": "x",
        "XCHATNEST_CHAT__PATH": "x",
        "chatnest_a__b": "",
    }

    assert load(environ=others) == Config()


def test_one_underscore_between_section_and_key_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r"expected two underscores .* got one"):
        load(environ={"CHATNEST_PROFILES_BALANCED_MAX_MESSAGES": "3"})


NEW = """\
[profiles.team]
max_output_tokens = 1
max_messages = 2
temperature = 1.5
daily_token_limit = 3
max_tokens_per_request = 4
requests_per_minute = 5
"""


def test_a_new_profile_is_added_after_those_that_ship(tmp_path):
    config = load(NEW, folder=tmp_path)

    assert [profile.name for profile in config.profiles] == [
        *("constrained", "balanced", "expanded", "assistant"),
        "team",
    ]
    assert profile(config, "team") == Profile(
        name="team",
        max_output_tokens=1,
        max_messages=2,
        temperature=1.5,
        daily_token_limit=3,
        max_tokens_per_request=4,
        requests_per_minute=5,
        max_concurrent_streams=4,
        min_output_tokens=64,
    )


@pytest.mark.parametrize(
    ("text", "environ", "demo", "names"),
    [
        ("", {}, False, ["constrained", "balanced"]),
        ("", {}, True, ["constrained", "balanced", "expanded", "assistant"]),
        ("[profiles.expanded]", {}, False, ["constrained", "balanced", "expanded"]),
        (
            "",
            {"CHATNEST_PROFILES__EXPANDED__MAX_MESSAGES": "8"},
            False,
            ["constrained", "balanced", "expanded"],
        ),
        (
            NEW.replace("daily_token_limit = 3", "daily_token_limit = 400000"),
            {},
            False,
            [
                *("constrained", "balanced"),
                "team",
            ],
        ),
        ("[profiles.balanced]\ndaily_token_limit = 20000", {}, False, ["balanced"]),
        ('[chat]\ndefault_profile = "constrained"', {}, False, ["constrained"]),
        ('[chat]\nallowed_profiles = ["expanded"]', {}, False, ["expanded"]),
        ('[chat]\nallowed_profiles = ["balanced"]\n' + NEW, {}, False, ["balanced"]),
        ('[chat]\nallowed_profiles = ["balanced"]', {}, True, ["balanced"]),
    ],
)
def test_open_are_the_default_what_is_nowhere_above_it_and_what_is_written(
    tmp_path, text, environ, demo, names
):
    path = tmp_path / "chatnest.toml"
    path.write_text(text, encoding="utf-8")
    assert open_profiles(load_config(path, environ, {}, demo=demo)) == names


WRONG = {
    "a section with a typo": (
        "[profile.balanced]\nmax_messages = 1",
        "FILE: profile: expected a known section, got an unknown one. Did you mean profiles?",
    ),
    "a key with a typo": (
        '[provider]\nmodle = "m"',
        (
            "FILE: provider.modle: expected a known key, got an unknown one. Did you mean "
            "provider.model?"
        ),
    ),
    "a key of a profile with a typo": (
        "[profiles.balanced]\nmax_mesages = 1",
        (
            "FILE: profiles.balanced.max_mesages: expected a known key, "
            "got an unknown one. Did you mean profiles.balanced.max_messages?"
        ),
    ),
    "a name in a profile": (
        '[profiles.balanced]\nname = "x"',
        (
            "FILE: profiles.balanced.name: expected a known key, "
            "got an unknown one. Did you mean profiles.balanced.models?"
        ),
    ),
    "a key that is like none": (
        "[budget]\nqqq = 1",
        "FILE: budget.qqq: expected a known key, got an unknown one. Did you mean budget.timezone?",
    ),
    "a key of another section": (
        '[chat]\nmodel = "m"',
        "FILE: chat.model: expected a known key, got an unknown one. Did you mean provider.model?",
    ),
    "a secret": (
        '[provider]\napi_key = "sk-secret"',
        (
            "FILE: provider.api_key: expected the secret in OPENAI_API_KEY alone, got it here. "
            "Remove it here and set OPENAI_API_KEY in the environment."
        ),
    ),
    "a key outside of all sections": (
        'model = "m"',
        "FILE: model: expected a known section, got an unknown one. Did you mean provider.model?",
    ),
    "a section that is a value": (
        "chat = 1",
        "FILE: chat: expected a section, got a value. Write [chat] above its keys.",
    ),
    "a section that is a list": (
        "[[chat]]\n",
        "FILE: chat: expected a section, got a value. Write [chat] above its keys.",
    ),
    "profiles that are a value": (
        "profiles = 1",
        "FILE: profiles: expected a section, got a value. Write [profiles] above its keys.",
    ),
    "a profile that is a value": (
        "[profiles]\nbalanced = 1",
        (
            "FILE: profiles.balanced: expected a section, got a value. Write [profiles.balanced] "
            "above its keys."
        ),
    ),
    "a string for a number": (
        '[server]\nport = "x"',
        "FILE: server.port: expected an integer, got 'x'.",
    ),
    "a number for a string": (
        "[chat]\npath = 5",
        "FILE: chat.path: expected a string, got an integer.",
    ),
    "a table for a string": (
        "[chat.path]\nx = 1",
        "FILE: chat.path: expected a string, got a table.",
    ),
    "a float for a whole number": (
        "[profiles.balanced]\nmax_messages = 3.5",
        "FILE: profiles.balanced.max_messages: expected an integer, got 3.5.",
    ),
    "a string for a boolean": (
        '[chat]\nusage_event = "yes"',
        "FILE: chat.usage_event: expected true or false, got 'yes'.",
    ),
    "a number for a list": (
        "[identity]\ntrusted_proxies = 5",
        "FILE: identity.trusted_proxies: expected a list, got an integer.",
    ),
    "a number in a list": (
        '[chat]\nallowed_profiles = ["balanced", 5]',
        "FILE: chat.allowed_profiles[1]: expected a string, got an integer.",
    ),
    "zero for a count": (
        "[profiles.balanced]\nmax_messages = 0",
        "FILE: profiles.balanced.max_messages: expected an integer >= 1, got 0.",
    ),
    "a temperature that is too high": (
        "[profiles.balanced]\ntemperature = 2.5",
        "FILE: profiles.balanced.temperature: expected a number from 0 to 2, got 2.5.",
    ),
    "a number in quotes": (
        '[server]\ndrain_seconds = "10"',
        "FILE: server.drain_seconds: expected a number, got '10'. Write it without quotes.",
    ),
    "a boolean in quotes": (
        '[chat]\nusage_event = "true"',
        "FILE: chat.usage_event: expected true or false, got 'true'. Write it without quotes.",
    ),
    "a boolean for a number": (
        "[server]\nworkers = true",
        "FILE: server.workers: expected an integer, got true.",
    ),
    "a string for a list": (
        '[chat]\nallowed_profiles = "balanced"',
        "FILE: chat.allowed_profiles: expected a list, got a string.",
    ),
    "a number of a profile in quotes": (
        '[profiles.balanced]\nmax_messages = "5"',
        (
            "FILE: profiles.balanced.max_messages: expected an integer, got '5'. Write it without "
            "quotes."
        ),
    ),
    "a key that is a number": (
        '[identity.keys]\nann = "sha256:x"\n"b.c" = 5',
        "FILE: identity.keys['b.c']: expected a string, a table or a list, got an integer.",
    ),
    "a number among keys": (
        '[identity.keys]\nann = ["sha256:x", 5]',
        "FILE: identity.keys['ann'][1]: expected a string, got an integer.",
    ),
    "a number that is none, where a word is one": (
        '[budget]\nanonymous_daily_token_limit = "5"',
        (
            "FILE: budget.anonymous_daily_token_limit: expected an integer or 'unlimited', got "
            "'5'. Write it without quotes."
        ),
    ),
    "a word that is none of two": (
        '[ledger]\nsynchronous = "full"',
        "FILE: ledger.synchronous: expected 'FULL' or 'NORMAL', got 'full'.",
    ),
    "a number for a word": (
        "[ledger]\nbudgets_when_away = 1",
        "FILE: ledger.budgets_when_away: expected 'refuse' or 'count', got 1.",
    ),
    "a key that stands above its section": (
        "port = 1\n[profiles]\n",
        "FILE: port: expected a known section, got an unknown one. Did you mean server.port?",
    ),
    "a port that is none": (
        "[server]\nport = 70000",
        "FILE: server.port: expected an integer from 0 to 65535, got 70000.",
    ),
    "no worker": (
        "[server]\nworkers = 0",
        "FILE: server.workers: expected an integer >= 1, got 0.",
    ),
    "an origin with a slash": (
        '[server]\nallow_origins = ["https://a.example/"]',
        (
            "FILE: server.allow_origins: expected an origin such as https://www.example.com or "
            "capacitor://localhost, got 'https://a.example/'. Write a scheme and a host in lower "
            "case, with no path and no slash after it."
        ),
    ),
    "a run that lingers for too long": (
        "[runs]\nlinger = 90",
        "FILE: runs.linger: expected a number from 0 to 60.0 (runs.max_linger), got 90.0.",
    ),
    "a run that is kept for no time": (
        "[runs]\nkeep = 0",
        "FILE: runs.keep: expected a number from 1 to 86,400, got 0.0.",
    ),
    "a run that could linger for days": (
        "[runs]\nmax_linger = 86_400",
        "FILE: runs.max_linger: expected a number from 0 to 3,600, got 86400.0.",
    ),
    "a bound of zero": (
        "[bounds]\nbody_bytes = 0",
        "FILE: bounds.body_bytes: expected a number > 0, got 0.",
    ),
    "a new profile that is not complete": (
        "[profiles.team]\nmax_messages = 5",
        (
            "FILE: profiles.team: expected all limits of a new profile, got none for "
            "max_output_tokens, temperature, daily_token_limit, max_tokens_per_request, "
            "requests_per_minute. Add them."
        ),
    ),
}


@pytest.mark.parametrize(("text", "message"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_in_a_file_is_named_with_its_path(tmp_path, text, message):
    assert told(text, tmp_path) == message


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        (
            {"CHATNEST_CHAT__PTAH": "/x"},
            (
                "the environment: chat.ptah: expected a known key, got an unknown one. Did you "
                "mean chat.path?"
            ),
        ),
        (
            {"CHATNEST_CHATS__PATH": "/x"},
            (
                "the environment: chats: expected a known section, got an unknown one. Did you "
                "mean chat?"
            ),
        ),
        (
            {"CHATNEST_PROFILES__BALANCED": "1"},
            (
                "the environment: profiles.balanced: expected a section, got a value. Write "
                "[profiles.balanced] above its keys."
            ),
        ),
        (
            {"CHATNEST_PROFILES__BALANCED__MESSAGES": "1"},
            (
                "the environment: profiles.balanced.messages: expected a known key, "
                "got an unknown one. Did you mean profiles.balanced.max_messages?"
            ),
        ),
        (
            {"CHATNEST_SERVER__PORT": "x"},
            "the environment: server.port: expected an integer, got 'x'.",
        ),
        (
            {"CHATNEST_SERVER__PORT": ""},
            "the environment: server.port: expected an integer, got ''.",
        ),
        (
            {"CHATNEST_CHAT__USAGE_EVENT": "maybe"},
            "the environment: chat.usage_event: expected true or false, got 'maybe'.",
        ),
        (
            {"CHATNEST_CHAT__PATH__X": "1"},
            "the environment: chat.path: expected a string, got a table.",
        ),
        (
            {"CHATNEST_CHAT__PATH": "/x", "CHATNEST_CHAT__PATH__Y": "1"},
            (
                "the environment: CHATNEST_CHAT__PATH__Y: expected a section above it, got a key "
                "with a value. Remove one of the two variables."
            ),
        ),
        (
            {"CHATNEST_CHAT__PATH__Y": "1", "CHATNEST_CHAT__PATH": "/x"},
            (
                "the environment: CHATNEST_CHAT__PATH: expected a key, got a section with keys of "
                "its own. Remove this variable or the ones below it."
            ),
        ),
    ],
)
def test_what_is_wrong_in_the_environment_is_named_with_its_path(tmp_path, environ, message):
    assert told("", tmp_path, environ) == message


def test_a_value_is_named_with_the_last_who_said_it(tmp_path):
    text = "[server]\nworkers = 0\nport = 1"
    environ = {"CHATNEST_SERVER__WORKERS": "-1", "CHATNEST_LEDGER__SYNCHRONOUS": "FULL"}
    with pytest.raises(
        ConfigurationError,
        match=r"^the environment: server\.workers: expected an integer >= 1, got -",
    ):
        load(text, environ, folder=tmp_path)
    with pytest.raises(
        ConfigurationError,
        match=r"^the command line: server\.workers: expected an integer >= 1, got -",
    ):
        load(text, environ, {"server": {"workers": -2}}, folder=tmp_path)
    config = load(
        "[server]\nport = 1", environ | {"CHATNEST_SERVER__WORKERS": "2"}, folder=tmp_path
    )
    assert config.sources == {
        "server.port": str(tmp_path / "chatnest.toml"),
        "server.workers": "the environment",
        "ledger.synchronous": "the environment",
    }


def test_a_whole_number_is_a_number_too(tmp_path):
    config = load(
        "[server]\ndrain_seconds = 5\n[profiles.balanced]\ntemperature = 1", folder=tmp_path
    )

    assert (config.server.drain_seconds, profile(config, "balanced").temperature) == (5.0, 1.0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CHATNEST_SERVER_PORT", "tcp://10.0.0.1:80"),
        ("CHATNEST_SERVER_PORT_80_TCP", "tcp://10.0.0.1:80"),
        ("CHATNEST_SERVER_PORT_80_TCP_ADDR", "10.0.0.1"),
        ("CHATNEST_SERVER_PORT_80_TCP_PORT", "80"),
        ("CHATNEST_SERVER_SERVICE_HOST", "10.0.0.1"),
        ("CHATNEST_SERVER_SERVICE_PORT_HTTP", "80"),
    ],
)
def test_what_kubernetes_says_of_a_service_is_not_for_us(name, value):
    assert load(environ={name: value}) == Config()


def test_a_profile_above_a_cap_is_named_with_both_values(tmp_path):
    config = load("[profiles.balanced]\ndaily_token_limit = 1_234_567", folder=tmp_path)

    with pytest.raises(ConfigurationError) as caught:
        check_profiles(config.profiles, config.hard_caps)
    assert caught.value.detail == (
        "profiles.balanced.daily_token_limit: expected at most hard_caps.daily_token_limit = "
        "500000, got 1234567. Lower the profile or raise the cap."
    )


def test_a_cap_below_a_profile_that_ships_is_named_too(tmp_path):
    config = load("[hard_caps]\nrequests_per_minute = 20", folder=tmp_path)

    with pytest.raises(
        ConfigurationError, match=r"profiles\.balanced\.requests_per_minute: .*, got 30"
    ):
        check_profiles(config.profiles, config.hard_caps)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigurationError) as caught:
        load_config(tmp_path / "none.toml", {}, {})

    assert (
        caught.value.detail == f"{tmp_path / 'none.toml'}: expected a readable file, got an error: "
        "No such file or directory. Check the path and its permissions."
    )


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(ConfigurationError) as caught:
        load_config(tmp_path, {}, {})

    assert caught.value.detail == (
        f"{tmp_path}: expected a readable file, got an error: Is a directory. Check the path and "
        "its permissions."
    )


def test_a_file_that_is_not_toml_is_told_by_line(tmp_path):
    assert told("[chat\n", tmp_path).startswith("FILE: expected TOML, got an error: Expected ']'")
    assert "line 2" in told('[chat]\npath = "/a\n', tmp_path)
    assert told("[chat]\n[chat]\n", tmp_path).startswith(
        "FILE: expected TOML, got an error: Cannot declare"
    )


def test_a_file_that_is_not_utf_8_is_named(tmp_path):
    path = tmp_path / "chatnest.toml"
    path.write_bytes(b'[chat]\npath = "/\xff"\n')

    with pytest.raises(ConfigurationError) as caught:
        load_config(path, {}, {})

    assert caught.value.detail == (
        f"{path}: expected text in UTF-8, got other bytes. Save the file in UTF-8."
    )


def test_a_configuration_survives_the_way_to_a_worker(tmp_path):
    config = load(SAMPLE + NEW, folder=tmp_path)

    assert msgspec.json.decode(msgspec.json.encode(config), type=Config) == config


# ---------------------------------------------------------------- the command line


@pytest.fixture
def _bare_environment(monkeypatch, tmp_path):
    for name in list(os.environ):
        if name.startswith(("CHATNEST_", "OPENAI_")):
            monkeypatch.delenv(name)
    monkeypatch.setattr("chatnest.server.serve._listen", lambda _: pytest.fail("it would serve"))
    monkeypatch.chdir(tmp_path)


def ended(capsys, *arguments: str) -> tuple[object, str, str]:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    out, err = capsys.readouterr()
    return caught.value.code, out, err


NO_KEY = (
    "chatnest: OPENAI_API_KEY: expected the key of a model's provider, got none. Set it, or run "
    "`chatnest serve --demo` for canned answers without a model.\n"
)


@pytest.mark.usefixtures("_bare_environment")
def test_serve_without_a_key_ends_with_one_sentence_and_both_ways_on(capsys, tmp_path):
    assert ended(capsys, "serve") == (2, "", NO_KEY)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("_bare_environment")
def test_a_key_that_is_empty_is_none(capsys, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "")

    assert ended(capsys, "serve") == (2, "", NO_KEY)


@pytest.mark.usefixtures("_bare_environment")
def test_what_is_wrong_in_a_file_ends_serve_with_one_sentence(capsys, tmp_path):
    path = tmp_path / "c.toml"
    path.write_text('[provider]\nmodle = "m"')

    assert ended(capsys, "serve", "--demo", "--config", str(path)) == (
        2,
        "",
        (
            f"chatnest: {path}: provider.modle: expected a known key, got an unknown one. Did you "
            "mean provider.model?\n"
        ),
    )


@pytest.mark.usefixtures("_bare_environment")
def test_a_profile_above_a_cap_ends_serve_with_one_sentence(capsys, monkeypatch):
    monkeypatch.setenv("CHATNEST_PROFILES__EXPANDED__MAX_MESSAGES", "21")

    assert ended(capsys, "serve", "--demo", "--ledger", "memory:") == (
        2,
        "",
        (
            "chatnest: the environment: profiles.expanded.max_messages: expected at most "
            "hard_caps.max_messages = 20, got 21. Lower the profile or raise the cap.\n"
        ),
    )


@pytest.mark.usefixtures("_bare_environment")
@pytest.mark.parametrize("command", ["serve", "doctor"])
@pytest.mark.parametrize(
    ("path", "taken"),
    [
        ("/healthz", "/healthz"),
        ("/readyz", "/readyz"),
        ("/settings.json", "/settings.json"),
        ("/assets", "/assets"),
        ("/assets/chat", "/assets"),
    ],
)
def test_a_path_of_the_servers_own_is_not_the_chats(capsys, command, path, taken):
    told = ended(capsys, command, "--demo", "--ledger", "memory:", "--path", path)

    assert told == (
        2,
        "",
        (
            "chatnest: the command line: chat.path: expected a path that chatnest serve does not "
            f"use, got '{path}' (it serves {taken}). Choose another, such as /api/chat.\n"
        ),
    )


@pytest.mark.parametrize("path", ["/assets-chat", "/readyz/chat", "/api/healthz"])
def test_a_path_beside_the_servers_own_is_free(path):
    config = Config(chat=ChatSection(path=path), ledger=LedgerSection(url="memory:"), demo=True)

    make_site(config, build_chat(config))


@pytest.mark.usefixtures("_bare_environment")
@pytest.mark.parametrize("command", ["serve", "doctor"])
@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("CHAT__PATH", "api", "chat.path: expected a path such as /api/chat, got 'api'."),
        ("CHAT__PATH", "/a?b", "chat.path: expected a path such as /api/chat, got '/a?b'."),
        ("CHAT__PING_INTERVAL", "0", "chat.ping_interval: expected a number > 0, got 0.0."),
        ("CHAT__DEFAULT_PROFILE", "mine", "chat.default_profile: expected names of profiles ("),
        ("CHAT__ALLOWED_PROFILES", "mine", "chat.allowed_profiles: expected names of profiles ("),
        (
            "CHAT__ALLOWED_PROFILES",
            "",
            "chat.allowed_profiles: expected at least one name, got none. ",
        ),
        ("BUDGET__TIMEZONE", "Mars", "budget.timezone: expected an IANA time zone, got 'Mars'. "),
        ("IDENTITY__TRUSTED_PROXIES", "10.0.0.0/99", "identity.trusted_proxies: '10.0.0.0/99' "),
        (
            *("BUDGET__ANONYMOUS_DAILY_TOKEN_LIMIT", "-1"),
            "budget.anonymous_daily_token_limit: expected an integer >= 0, got -1.",
        ),
        (
            *("BUDGET__ANONYMOUS_DAILY_TOKEN_LIMIT", "none"),
            "budget.anonymous_daily_token_limit: expected an integer or 'unlimited', got 'none'.",
        ),
        ("IDENTITY__IPV6_PREFIX", "31", "identity.ipv6_prefix: expected an integer from 32 to 128"),
        ("IDENTITY__HEADER", "x user", "identity.header: "),
        ("IDENTITY__KEYS__ANN", "x", "identity.keys['ann']: expected the SHA-256 of a key"),
        ("LEDGER__URL", "mysql://x", "ledger.url: expected memory:, sqlite:PATH or the URL of a "),
        ("LEDGER__URL", "redis://host:x", "ledger.url: expected the address of a Redis "),
        (
            "LEDGER__URL",
            "redis://host?foo=x",
            "ledger.url: expected options of redis-py after the ?, got an error: ",
        ),
        (
            "LEDGER__PREFIX",
            "a b",
            "ledger.prefix: expected a word without braces or spaces, got 'a b'",
        ),
        ("LEDGER__TIMEOUT", "0", "ledger.timeout: expected seconds above 0 and "),
        ("LEDGER__BUSY_TIMEOUT", "-1", "ledger.busy_timeout: expected seconds from 0 to "),
        (
            "LEDGER__MAX_CONNECTIONS",
            "0",
            "ledger.max_connections: expected an integer >= 1, got 0.",
        ),
    ],
)
def test_what_cannot_be_is_told_by_its_key_and_its_source(
    capsys, monkeypatch, *, command, name, value, told
):
    if name == "LEDGER__PREFIX":
        monkeypatch.setenv("CHATNEST_LEDGER__URL", "redis://127.0.0.1:9")
    monkeypatch.setenv(f"CHATNEST_{name}", value)

    code, out, err = ended(capsys, command, "--demo")

    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"chatnest: the environment: {told}")


@pytest.mark.usefixtures("_bare_environment")
@pytest.mark.parametrize("command", ["serve", "doctor"])
@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        (
            "CHATNEST_PROVIDER__ENCODING",
            "x",
            "the environment: provider.encoding: expected one of ",
        ),
        ("CHATNEST_PROVIDER__BASE_URL", "x", "the environment: provider.base_url: expected an "),
        (
            "CHATNEST_PROVIDER__BASE_URL",
            "http://x y/v1",
            "the environment: provider.base_url: expected an address without spaces ",
        ),
        (
            "CHATNEST_PROVIDER__MODEL",
            " ",
            "the environment: provider.model: expected the name of a model",
        ),
        (
            "CHATNEST_PROVIDER__PROJECT",
            "\n",
            "the environment: provider.project: expected printable ASCII",
        ),
        ("OPENAI_BASE_URL", "x", "OPENAI_BASE_URL: expected an address that begins with"),
        ("OPENAI_PROJECT_ID", "\n", "OPENAI_PROJECT_ID: expected printable ASCII"),
        ("OPENAI_API_KEY", "\n", "OPENAI_API_KEY: expected printable ASCII"),
    ],
)
def test_what_is_no_provider_is_told_by_its_key_or_variable(
    capsys, monkeypatch, *, command, name, value, told
):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    monkeypatch.setenv(name, value)

    code, out, err = ended(capsys, command, "--ledger", "memory:")

    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"chatnest: {told}")


@pytest.mark.usefixtures("_bare_environment")
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "the following arguments are required"),
        (("serve", "--port", "x"), "argument --port: invalid int value: 'x'"),
        (("serve", "--api-key", "sk"), "unrecognized arguments: --api-key"),
        (("chat",), "invalid choice: 'chat'"),
    ],
)
def test_arguments_that_do_not_exist_end_with_the_usage(capsys, arguments, told):
    code, out, err = ended(capsys, *arguments)

    assert (code, out) == (2, "")
    assert err.startswith("usage: chatnest")
    assert told in err


def test_help_and_version_need_nothing(capsys):
    code, out, err = ended(capsys, "--version")
    assert (code, out.startswith("chatnest "), err) == (0, True, "")

    code, out, err = ended(capsys, "serve", "--help")
    assert (code, err) == (0, "")
    assert "OPENAI_API_KEY" in out
    _, looks, _ = ended(capsys, "doctor", "--help")
    for flag in ("--config", "--host", "--port", "--path", "--ledger", "--workers", "--demo"):
        assert flag in out
        assert flag in looks


@pytest.mark.usefixtures("_bare_environment")
def test_flags_reach_the_server_over_the_environment(monkeypatch, tmp_path):
    served: list[Config] = []
    monkeypatch.setattr("chatnest.server.serve.serve", served.append)
    monkeypatch.setenv("CHATNEST_SERVER__PORT", "1")
    monkeypatch.setenv("CHATNEST_SERVER__WORKERS", "3")

    main(["serve", "--demo", "--host", "::1", "--port", "0", "--path", "/c", "--ledger", "memory:"])

    (config,) = served
    assert config.demo
    assert (config.server.host, config.server.port, config.server.workers) == ("::1", 0, 3)
    assert (config.chat.path, config.ledger.url) == ("/c", "memory:")


@pytest.mark.usefixtures("_bare_environment")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OPENAI_API_KEY", "sk-test"),
        ("OPENAI_BASE_URL", "http://127.0.0.1:1/v1"),
        ("CHATNEST_PROVIDER__BASE_URL", "http://127.0.0.1:1/v1"),
    ],
)
def test_a_key_or_a_server_of_ones_own_is_enough(monkeypatch, name, value):
    served: list[Config] = []
    monkeypatch.setattr("chatnest.server.serve.serve", served.append)
    monkeypatch.setenv(name, value)

    main(["serve"])

    assert [config.demo for config in served] == [False]


@pytest.mark.usefixtures("_bare_environment")
def test_an_interrupt_ends_with_the_shells_status(capsys, monkeypatch):
    def interrupted(config):
        raise KeyboardInterrupt

    monkeypatch.setattr("chatnest.server.serve.serve", interrupted)

    assert ended(capsys, "serve", "--demo") == (130, "", "")


@pytest.mark.parametrize("seconds", ["inf", "nan", "-1", "0", "1e6"])
def test_a_head_has_a_time_that_ends(seconds):
    with pytest.raises(ConfigurationError) as caught:
        load_config(None, {"CHATNEST_SERVER__HEAD_SECONDS": seconds}, {})
    assert caught.value.detail == (
        "the environment: server.head_seconds: expected seconds above 0 and at most 86,400, got "
        f"{float(seconds):g}. Leave it out for 10."
    )


@pytest.mark.parametrize("key", ["announce_seconds", "drain_seconds"])
@pytest.mark.parametrize("seconds", ["inf", "nan", "-1", "1e6"])
def test_what_comes_before_the_end_is_a_time_that_ends(key, seconds):
    with pytest.raises(ConfigurationError) as caught:
        load_config(None, {f"CHATNEST_SERVER__{key.upper()}": seconds}, {})
    assert caught.value.detail == (
        f"the environment: server.{key}: expected seconds from 0 to 86,400, got "
        f"{float(seconds):g}. Leave it out for the default."
    )


@pytest.mark.parametrize(
    ("text", "environ"),
    [
        ('[server]\nannounce_seconds = "soon"', {}),
        ("", {"CHATNEST_SERVER__ANNOUNCE_SECONDS": "soon"}),
    ],
)
def test_an_announcement_is_a_number(tmp_path, text, environ):
    assert told(text, tmp_path, environ).endswith(
        ": server.announce_seconds: expected a number, got 'soon'."
    )


def test_an_announcement_comes_from_a_file_or_the_environment(tmp_path):
    text = "[server]\nannounce_seconds = 7"
    assert load(text, folder=tmp_path).server.announce_seconds == 7
    environ = {"CHATNEST_SERVER__ANNOUNCE_SECONDS": "2.5"}
    assert load(text, environ, folder=tmp_path).server.announce_seconds == 2.5


@pytest.mark.parametrize(
    "origin",
    [
        *("*", "null", "www.example.com", "https://a.example/", "https://A", "https://*.example"),
        *("capacitor://", "Capacitor://localhost", "capacitor://localhost/", "file://"),
        *("https://a@example.com", "app://a b", "https:///a"),
    ],
)
def test_an_origin_is_exact(origin):
    with pytest.raises(ConfigurationError, match="allow_origins: expected an origin such as"):
        load_config(None, {"CHATNEST_SERVER__ALLOW_ORIGINS": origin}, {})


@pytest.mark.parametrize(
    "origin",
    [
        *("https://www.example.com", "http://localhost:5173", "http://[::1]:8000"),
        *("capacitor://localhost", "ionic://localhost", "tauri://localhost", "app://obsidian.md"),
        "chrome-extension://aapbdbdomjkkjkaonfhkkikfgjllcleb",
        "moz-extension://0f5b5b44-1a4c-4f7e-9a4e-6f3b9d2a1c11",
        "safari-web-extension://E1B52A6F-9C1D-4C3B-8F2B-0A7D3C5E9F10",
        *("vscode-webview://1qm5l8t2", "http://tauri.localhost", "com.example.app://callback"),
    ],
)
def test_an_origin_may_be_an_apps_or_an_extensions(origin):
    config = load_config(None, {"CHATNEST_SERVER__ALLOW_ORIGINS": origin}, {})
    assert config.server.allow_origins == [origin]


def test_an_encoding_that_does_not_exist_is_an_error_of_the_configuration():
    provider = ProviderSection(encoding="x", base_url="http://[::1]:9/v1")
    with pytest.raises(
        ConfigurationError, match=r"^provider.encoding: expected one of .*, got 'x'"
    ):
        build_chat(Config(provider=provider, ledger=LedgerSection(url="memory:")))


@pytest.mark.parametrize(
    ("text", "environ", "flags", "port"),
    [
        ("", {"PORT": "8080"}, {}, 8080),
        ("", {"PORT": " 8080 "}, {}, 8080),
        ("", {"PORT": ""}, {}, 8000),
        ("[server]\nport = 9000", {"PORT": "8080"}, {}, 9000),
        ("", {"PORT": "8080", "CHATNEST_SERVER__PORT": "9000"}, {}, 9000),
        ("", {"PORT": "8080"}, {"server": {"port": 0}}, 0),
        ("", {"PORT": "tcp://10.0.0.1:80"}, {"server": {"port": 0}}, 0),
    ],
)
def test_port_in_the_environment_is_the_port_where_nothing_else_names_one(
    tmp_path, text, environ, flags, port
):
    file = tmp_path / "chatnest.toml"
    file.write_text(text)
    config = load_config(file, environ, flags)
    assert config.server.port == port
    assert config.server.host == "127.0.0.1"


@pytest.mark.parametrize("port", ["tcp://10.0.0.1:80", "http", "70000", "-1"])
def test_a_port_of_the_environment_that_is_none_is_refused(port):
    with pytest.raises(ConfigurationError, match=r"^PORT in the environment: server\.port"):
        load_config(None, {"PORT": port}, {})


@pytest.mark.parametrize(
    ("environ", "place"),
    [
        ({"CHATNEST_CHAT__SYSTEM_PROMPT": "\udce4"}, "the environment: chat.system_prompt"),
        ({"CHATNEST_SERVER__ALLOW_HOSTS": "a,\udcff"}, "the environment: server.allow_hosts"),
        ({"CHATNEST_IDENTITY__KEYS__ANN": "\udcff"}, "the environment: identity.keys['ann']"),
        ({"OPENAI_API_KEY": "sk-\udce4"}, "the environment: OPENAI_API_KEY"),
    ],
)
def test_bytes_of_the_environment_that_are_not_utf_8_are_named(environ, place):
    with pytest.raises(ConfigurationError) as caught:
        load_config(None, environ, {})
    assert str(caught.value).startswith(f"{place}: expected text in UTF-8, got other bytes.")


def test_the_format_at_the_path_of_the_chat_is_one_of_its_formats(tmp_path):
    local = '[provider]\nbase_url = "http://127.0.0.1:1/v1"\nmodel = "m"\n'
    text = f'{local}[chat]\nformat = "ag-ui"\nformats = ["native", "ai-sdk"]\n'

    with pytest.raises(ConfigurationError, match=r"chat\.format: expected one of the formats"):
        build_chat(load(text, folder=tmp_path))


def test_an_unknown_format_is_an_error_with_the_known_ones(tmp_path):
    with pytest.raises(ConfigurationError, match=r"chat\.formats.*ai-sdk"):
        load('[chat]\nformats = ["native", "aisdk"]\n', folder=tmp_path)
