"""What ``chatnest doctor`` makes of findings that are hard to bring about, or many."""

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from chatnest.config.sections import Config, ProviderSection, load_config
from chatnest.diagnostics.checks import CHECKS, Findings
from chatnest.stores.survey import RedisNode, RedisSurvey, SQLiteSurvey


def redis(**node: Any) -> RedisSurvey:
    said = {"redis_version": "7.2.4", "role": "master", "aof_enabled": "1", "maxmemory": "0"}
    said |= {"maxmemory_policy": "noeviction", "cluster_enabled": "0", "connected_slaves": "0"}
    kind = node.pop("kind", "plain")
    round_trip = node.pop("round_trip", 0.001)
    whole: dict[str, Any] = {
        "info": said | node.pop("info", {}),
        "config": {"appendfsync": "always", "min-replicas-to-write": "0"},
        "skew": 0.0,
        **node,
    }
    return RedisSurvey(
        shown="redis://h",
        kind=kind,
        unwritable=None,
        unscripted=None,
        nodes=(RedisNode(name="", **whole),),
        round_trip=round_trip,
    )


def file(**survey: Any) -> SQLiteSurvey:
    whole: dict[str, Any] = {"file_system": "ext4", "free": 10**12, "unusable": None} | survey
    return SQLiteSurvey(path="x", library="3.53.0", wal_is_safe=True, exists=True, **whole)


def checked(survey: object = None, environ: Mapping[str, str] | None = None, **findings: Any):
    """Verdicts by name, from findings with which all is well but for what is said."""
    settings = {"CHATNEST_SERVER__HOST": "10.0.0.1"} | dict(environ or {})
    whole: dict[str, Any] = {
        "config": load_config(None, settings, {}),
        "has_key": True,
        "base_url": "",
        "survey": survey,
        "open_files": 4_096,
        "versions": {},
    } | findings
    found = Findings(**whole)
    return {check.name: check for make in CHECKS if (check := make(found)) is not None}


def test_all_is_well():
    for survey in (redis(), file()):
        assert {check.level for check in checked(survey).values()} == {"ok"}


@pytest.mark.parametrize(
    ("limits", "found"),
    [
        (
            {"MAX_OUTPUT_TOKENS": "3000"},
            "max_output_tokens (3000) is never reached: max_tokens_per_request is 2048",
        ),
        (
            {"DAILY_TOKEN_LIMIT": "2000"},
            "max_tokens_per_request (2048) is never reached: daily_token_limit is 2000",
        ),
        (
            {"MIN_OUTPUT_TOKENS": "1000"},
            "min_output_tokens (1000) is never reached: max_output_tokens is 400",
        ),
        ({"MAX_OUTPUT_TOKENS": "20"}, ""),
        ({"MIN_OUTPUT_TOKENS": "400"}, ""),
    ],
)
def test_a_limit_that_is_never_reached_is_told(limits: dict[str, str], found: str):
    environ = {f"CHATNEST_PROFILES__BALANCED__{key}": value for key, value in limits.items()}
    check = checked(None, environ)["profiles"]

    assert check.level == ("warn" if found else "ok")
    if found:
        assert check.found == f"balanced: {found}"
    else:
        assert check.found.startswith("open: ")


@pytest.mark.parametrize(
    ("environ", "found"),
    [
        ({}, "open: constrained, balanced; closed: expanded, assistant"),
        (
            {"CHAT__DEFAULT_PROFILE": "expanded"},
            "open: constrained, balanced, expanded; closed: assistant",
        ),
        (
            {"CHAT__ALLOWED_PROFILES": "expanded"},
            "open: expanded; closed: constrained, balanced, assistant",
        ),
        (
            {"PROFILES__EXPANDED__MAX_MESSAGES": "8"},
            "open: constrained, balanced, expanded; closed: assistant",
        ),
        (
            {"PLANS__PRO__PROFILES": "expanded, balanced"},
            "open: constrained, balanced; by the plan pro: expanded, balanced; closed: assistant",
        ),
    ],
)
def test_open_profiles_are_named(environ: dict[str, str], found: str):
    named = {f"CHATNEST_{key}": value for key, value in environ.items()}
    assert checked(None, named)["profiles"].found == found


@pytest.mark.parametrize(
    ("survey", "name", "level"),
    [
        (redis(info={"redis_version": "5.0.14"}), "redis.version", "fail"),
        (redis(info={"redis_version": ""}), "redis.version", "skip"),
        (redis(info={"role": "sentinel"}), "redis.role", "fail"),
        (redis(info={"aof_last_write_status": "err"}), "redis.appendonly", "fail"),
        (redis(info={"maxmemory": "100", "used_memory": "81"}), "redis.memory", "warn"),
        (redis(info={"connected_slaves": "2"}), "redis.replicas", "warn"),
        (redis(info={"connected_slaves": "2"}, config=None), "redis.replicas", "skip"),
        (redis(kind="sentinel"), "redis.replicas", "warn"),
        (redis(kind="cluster"), "redis.cluster", "skip"),
        (redis(kind="cluster", cluster={"cluster_state": "fail"}), "redis.cluster", "fail"),
        (redis(skew=1.5), "redis.clock", "warn"),
        (redis(skew=-1.5), "redis.clock", "warn"),
        (redis(skew=-0.5), "redis.clock", "ok"),
        (redis(skew=None), "redis.clock", "skip"),
        (redis(round_trip=0.011), "redis.round_trip", "warn"),
        (redis(info={"aof_enabled": "?"}), "redis.appendonly", "skip"),
        (file(file_system="nfs4"), "sqlite.file_system", "fail"),
        (file(file_system="fuse.sshfs"), "sqlite.file_system", "fail"),
        (file(file_system="overlay"), "sqlite.file_system", "warn"),
        (file(file_system="tmpfs"), "sqlite.file_system", "warn"),
        (file(file_system=None), "sqlite.file_system", "skip"),
        (file(free=100_000_000), "sqlite.disk", "warn"),
        (file(free=1_000_000), "sqlite.disk", "fail"),
        (file(free=None), "sqlite.disk", "skip"),
    ],
)
def test_stores(survey: RedisSurvey | SQLiteSurvey, name: str, level: str):
    check = checked(survey)[name]

    assert check.level == level
    assert bool(check.advice) == (level != "ok")


def test_a_server_that_tells_nothing():
    silent = RedisNode(name="", info={})
    found = checked(msgspec.structs.replace(redis(), nodes=(silent,)))

    levels = {check.level for name, check in found.items() if name.startswith("redis.")}
    assert levels == {"ok", "skip"}
    assert found["redis.role"].level == found["redis.memory"].level == "skip"


def test_the_worst_node_speaks_for_a_cluster():
    good, bad = redis().nodes[0], redis(skew=99.0).nodes[0]
    nodes = tuple(
        msgspec.structs.replace(node, name=name)
        for node, name in ((good, "a:1"), (bad, "b:1"), (good, "c:1"))
    )
    found = checked(msgspec.structs.replace(redis(), nodes=nodes))

    assert found["redis.clock"].found.startswith("b:1: 99.0 s ahead")
    assert found["redis.version"].found == "Redis 7.2.4"


@pytest.mark.parametrize(
    ("environ", "name", "level"),
    [
        ({"IDENTITY__TRUSTED_PROXIES": "10.0.0.0/8,unix"}, "identity.trusted_proxies", "ok"),
        ({"IDENTITY__TRUSTED_PROXIES": "10.0.0.1,0.0.0.0/0"}, "identity.trusted_proxies", "fail"),
        ({"IDENTITY__TRUSTED_PROXIES": "::/0"}, "identity.trusted_proxies", "fail"),
        ({"SERVER__HOST": "127.0.0.1"}, "identity.trusted_proxies", "warn"),
        ({"SERVER__HOST": "localhost"}, "identity.trusted_proxies", "warn"),
        (
            {"SERVER__HOST": "::1", "IDENTITY__HEADER": "x-user"},
            "identity.trusted_proxies",
            "ok",
        ),
        ({"IDENTITY__HEADER": "x-user"}, "identity.trusted_proxies", "warn"),
        ({"CHAT__PING_INTERVAL": "60"}, "chat.ping_interval", "warn"),
        ({"CHAT__PING_INTERVAL": "31"}, "bounds", "warn"),
        ({"BOUNDS__EARLY_START_SECONDS": "30"}, "bounds", "warn"),
        ({"BOUNDS__FIRST_BYTE_SECONDS": "300"}, "bounds", "warn"),
        ({"BOUNDS__IDLE_SECONDS": "300"}, "bounds", "warn"),
        ({"BOUNDS__LEDGER_SECONDS": "0.4"}, "bounds", "warn"),
        ({"BOUNDS__SETTLE_SECONDS": "0.6"}, "bounds", "warn"),
        ({"SERVER__DRAIN_SECONDS": "25"}, "server.drain_seconds", "warn"),
        ({"SERVER__DRAIN_SECONDS": "24"}, "server.drain_seconds", "ok"),
        ({"SERVER__ANNOUNCE_SECONDS": "15"}, "server.drain_seconds", "warn"),
        ({"SERVER__ANNOUNCE_SECONDS": "14"}, "server.drain_seconds", "ok"),
        ({"LEDGER__SYNCHRONOUS": "NORMAL"}, "sqlite.synchronous", "warn"),
    ],
)
def test_settings_of_the_service(environ: dict[str, str], name: str, level: str):
    settings = {f"CHATNEST_{key}": value for key, value in environ.items()}

    assert checked(file(), settings)[name].level == level


def test_the_announcement_is_part_of_the_end():
    settings = {"CHATNEST_SERVER__ANNOUNCE_SECONDS": "7.5"}

    assert checked(file())["server.drain_seconds"].found == "10 s, and 5 s to settle"
    assert checked(file(), settings)["server.drain_seconds"].found == (
        "10 s, and 5 s to settle, after 7.5 s of server.announce_seconds"
    )


def test_redis_may_take_half_of_what_a_ledger_may():
    settings = {"CHATNEST_LEDGER__TIMEOUT": "0.3"}

    assert checked(redis(), settings)["bounds"].level == "warn"
    assert checked(None, settings)["bounds"].level == "ok"


@pytest.mark.parametrize(
    ("has_key", "url", "levels"),
    [
        (True, "", ("ok", "ok")),
        (False, "", ("fail", "ok")),
        (False, "https://models.internal/v1", ("ok", "ok")),
        (True, "http://user:hunter2@models.internal/v1", ("ok", "warn")),
        (True, "http://127.0.0.1:8080/v1", ("ok", "ok")),
        (True, "http://localhost:8080/v1", ("ok", "ok")),
        (True, "http://[::1]:8080/v1", ("ok", "ok")),
    ],
)
def test_the_provider(has_key: bool, url: str, levels: tuple[str, str]):
    found = checked(has_key=has_key, base_url=url)

    assert (found["provider.key"].level, found["provider.base_url"].level) == levels
    assert "hunter2" not in found["provider.base_url"].found


def provider(**settings: object) -> Config:
    return Config(provider=ProviderSection(**settings))  # type: ignore[arg-type]


def test_how_a_server_is_reached_is_shown():
    assert checked()["provider.network"].found == "directly"
    found = checked(proxy="proxy:3128, from HTTPS_PROXY", trust="SSL_CERT_FILE")
    assert found["provider.network"].found == (
        "through the proxy proxy:3128, from HTTPS_PROXY, trusting SSL_CERT_FILE"
    )


@pytest.mark.parametrize(
    ("url", "model", "level"),
    [
        ("http://127.0.0.1:11434/v1", "gpt-4o-mini", "warn"),
        ("http://ollama:11434/v1", "gpt-4o-mini", "warn"),
        ("http://192.168.1.5:1234/v1", "gpt-4o-mini", "warn"),
        ("http://127.0.0.1:11434/v1", "llama3.2", "ok"),
        ("https://openrouter.ai/api/v1", "gpt-4o-mini", "ok"),
        ("", "gpt-4o-mini", "ok"),
    ],
)
def test_a_local_server_with_the_default_model_is_a_warning(url: str, model: str, level: str):
    found = checked(base_url=url, config=provider(model=model))
    assert found["provider.model"].level == level


@pytest.mark.parametrize(
    ("settings", "level"),
    [
        ({"model": "gpt-5-mini"}, "fail"),
        ({"model": "gpt-5-mini", "reasoning_effort": "high"}, "fail"),
        ({"model": "gpt-5-mini", "reasoning_effort": "minimal"}, "ok"),
        ({"model": "gpt-4o"}, "ok"),
        ({"model": "gpt-5-mini", "reasons": False}, "ok"),
        ({"model": "deployment", "reasons": True}, "fail"),
    ],
)
def test_a_reasoning_model_with_too_little_output_fails(settings: dict[str, Any], level: str):
    assert checked(config=provider(**settings))["provider.model"].level == level


@pytest.mark.parametrize(("limit", "level"), [(4_095, "warn"), (4_096, "ok"), (None, "skip")])
def test_open_files(limit: int | None, level: str):
    assert checked(open_files=limit)["machine.open_files"].level == level


@pytest.mark.parametrize(
    ("expires", "level"), [("2020-01-31", "warn"), ("2999-01-31", "ok"), (None, "ok")]
)
def test_keys_that_have_expired_are_named(expires: str | None, level: str):
    name = "CHATNEST_IDENTITY__KEYS__ANN__"
    keys = {f"{name}HASHES": "0" * 64, **({f"{name}EXPIRES": expires} if expires else {})}
    verdict = checked(None, keys)["identity"]
    assert verdict.level == level
    if level == "warn":
        assert verdict.found == "the keys of ann have expired, and get a 401"


def test_bearer_keys_say_who_is_asking():
    keys = {"CHATNEST_IDENTITY__KEYS__ANN": "0" * 64, "CHATNEST_SERVER__HOST": "127.0.0.1"}

    verdicts = checked(redis(), keys)

    assert verdicts["identity"].found == "by bearer keys, users: 1; listens on 127.0.0.1"
    assert verdicts["identity.trusted_proxies"].level == "ok"
