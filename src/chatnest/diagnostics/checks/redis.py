"""Checks of a Redis or Valkey server: whether it keeps what it is told, and how well. No I/O."""

from collections.abc import Callable
from functools import wraps
from typing import Final

from chatnest.diagnostics.checks.base import Check, CheckFunction, Findings, fail, ok, skip, warn
from chatnest.stores.survey import RedisNode, RedisSurvey

__all__ = ["REDIS_CHECKS"]

_OLDEST: Final = 6
"""The first major version that has all that RedisLedger's scripts use."""

_SLOTS: Final = 16_384
_FULL: Final = 0.8
_SKEW_SECONDS: Final = 1.0
_ROUND_TRIP_SECONDS: Final = 0.010

_SEVERITY: Final = {"ok": 0, "skip": 1, "warn": 2, "fail": 3}


def _reach(findings: Findings) -> Check | None:
    survey = findings.survey
    if not isinstance(survey, RedisSurvey):
        return None
    why = survey.unwritable
    if why is not None:
        return fail("redis.write", f"{survey.shown}: {why.found}", why.advice)
    return ok("redis.write", f"{survey.shown} answers, and takes writes")


def _scripts(findings: Findings) -> Check | None:
    survey = findings.survey
    if not isinstance(survey, RedisSurvey):
        return None
    name, why = "redis.scripts", survey.unscripted
    if survey.unwritable is not None:
        return skip(name, "not tried", "see redis.write")
    if why is not None:
        return fail(name, why.found, why.advice)
    return ok(name, "it runs our scripts")


def _each_node(name: str) -> Callable[[Callable[[RedisSurvey, RedisNode], Check]], CheckFunction]:
    """The worst of what a check says of each primary, with the name of that one in a cluster."""

    def of(check: Callable[[RedisSurvey, RedisNode], Check]) -> CheckFunction:
        @wraps(check)
        def worst(findings: Findings) -> Check | None:
            survey = findings.survey
            if not isinstance(survey, RedisSurvey):
                return None
            checks = [(check(survey, node), node.name) for node in survey.nodes]
            if not checks:
                return _not_told(survey, name)
            result, node = max(checks, key=lambda pair: _SEVERITY[pair[0].level])
            where = f"{node}: " if node and result.level != "ok" else ""
            return Check(name, result.level, where + result.found, result.advice)

        return worst

    return of


def _not_told(survey: RedisSurvey, name: str) -> Check:
    if survey.unwritable is not None:
        return skip(name, "not told", "see redis.write")
    return skip(name, "INFO is refused", "let the server's user use it")


@_each_node("redis.version")
def _version(_: RedisSurvey, node: RedisNode) -> Check:
    info = node.info or {}
    version = info.get("redis_version", "")
    shown = f"Redis {version}"
    if "valkey_version" in info:
        shown = f"Valkey {info['valkey_version']}"
    major = version.partition(".")[0]
    if not major.isdecimal():
        return skip("", "it does not tell its version", f"Redis {_OLDEST} is the oldest that works")
    if int(major) < _OLDEST:
        return fail("", shown, f"use Redis {_OLDEST} or newer, or Valkey")
    return ok("", shown)


@_each_node("redis.role")
def _role(_: RedisSurvey, node: RedisNode) -> Check:
    role = (node.info or {}).get("role")
    if role == "master":
        return ok("", "primary")
    if role is None:
        return skip("", "it does not tell its role", "see that it is a primary")
    return fail("", f"not a primary: {role}", "name the primary, or use redis+sentinel://")


@_each_node("redis.appendonly")
def _appendonly(_: RedisSurvey, node: RedisNode) -> Check:
    info = node.info or {}
    if info.get("aof_last_write_status", "ok") != "ok":
        return fail(
            "", "its last write to the append-only file failed", "look at its disk and its log"
        )
    match info.get("aof_enabled"):
        case "1":
            return ok("", "yes")
        case "0":
            return warn("", "no: a restart forgets what was spent", "set appendonly yes")
    return skip("", "it does not tell", "see that appendonly is yes")


@_each_node("redis.appendfsync")
def _appendfsync(_: RedisSurvey, node: RedisNode) -> Check:
    value = (node.config or {}).get("appendfsync")
    if (node.info or {}).get("aof_enabled") != "1":
        return skip("", "nothing is appended", "see redis.appendonly")
    if value is None:
        return skip("", "CONFIG GET is refused", "see yourself that appendfsync is always")
    if value == "always":
        return ok("", value)
    loses = "the last second and more" if value == "everysec" else "many seconds"
    return warn(
        "", f"{value}: a crash of the server loses {loses}", "for money, set appendfsync always"
    )


@_each_node("redis.memory")
def _memory(_: RedisSurvey, node: RedisNode) -> Check:
    info = node.info or {}
    policy, limit = info.get("maxmemory_policy"), int(info.get("maxmemory", 0))
    if policy is None:
        return skip("", "it does not tell", "see that maxmemory-policy is noeviction")
    if policy != "noeviction":
        advice = "set maxmemory-policy noeviction: a key that is evicted is a forgotten budget"
        when = f"of {limit:,} bytes" if limit else "as soon as there is a maxmemory"
        return fail("", f"{policy}, {when}: `chatnest serve` does not start", advice)
    used = int(info.get("used_memory", 0))
    if limit and used > _FULL * limit:
        return warn(
            "",
            f"noeviction, {used:,} of {limit:,} bytes used",
            "raise maxmemory: when it is full, requests are refused",
        )
    return ok("", f"noeviction, {limit:,} bytes" if limit else "noeviction, no maxmemory")


@_each_node("redis.replicas")
def _replicas(survey: RedisSurvey, node: RedisNode) -> Check:
    info = node.info or {}
    count, wanted = (
        int(info.get("connected_slaves", 0)),
        (node.config or {}).get("min-replicas-to-write"),
    )
    if not count:
        if survey.kind == "plain":
            return ok("", "none: no failover, and nothing that it could lose")
        return warn("", "none", "add one: there is nothing to fail over to")
    if wanted is None:
        return skip(
            "", f"{count}; CONFIG GET is refused", "see that min-replicas-to-write is not 0"
        )
    if wanted == "0":
        return warn(
            "",
            f"{count}, and min-replicas-to-write 0: a failover forgets what a primary that was cut "
            "off has admitted",
            "set min-replicas-to-write 1, and min-replicas-max-lag as low as it may be",
        )
    return ok("", f"{count}, min-replicas-to-write {wanted}")


@_each_node("redis.cluster")
def _cluster(survey: RedisSurvey, node: RedisNode) -> Check:
    enabled = (node.info or {}).get("cluster_enabled") == "1"
    if survey.kind != "cluster":
        if enabled:
            return fail(
                "",
                "a node of a cluster, behind an address for one server",
                "name it as redis+cluster://HOST:6379",
            )
        return ok("", "none")
    told = node.cluster
    if told is None:
        return skip("", "CLUSTER INFO is refused", "see that all slots are served")
    assigned, good = (int(told.get(f"cluster_slots_{what}", 0)) for what in ("assigned", "ok"))
    if told.get("cluster_state") != "ok" or min(assigned, good) < _SLOTS:
        return fail(
            "",
            f"state {told.get('cluster_state')}, {good:,} of {_SLOTS:,} slots served",
            "look at CLUSTER NODES",
        )
    return ok("", f"state ok, all of {_SLOTS:,} slots served")


@_each_node("redis.clock")
def _clock(_: RedisSurvey, node: RedisNode) -> Check:
    skew = node.skew
    if skew is None:
        return skip("", "TIME is refused", "let its user use it: the scripts do")
    if abs(skew) > _SKEW_SECONDS:
        way = "ahead of" if skew > 0 else "behind"
        return warn(
            "",
            f"{abs(skew):,.1f} s {way} this machine's",
            "synchronise both: its clock decides when a day ends",
        )
    return ok("", "as this machine's")


def _round_trip(findings: Findings) -> Check | None:
    survey = findings.survey
    if not isinstance(survey, RedisSurvey):
        return None
    name, found = "redis.round_trip", survey.round_trip
    if found is None:
        return skip(name, "not measured", "see redis.write")
    shown = f"{found * 1000:.1f} ms, the median"
    if found > _ROUND_TRIP_SECONDS:
        return warn(name, shown, "each request waits for two of them: bring the server nearer")
    return ok(name, shown)


REDIS_CHECKS: Final[tuple[CheckFunction, ...]] = (
    _reach,
    _scripts,
    _version,
    _role,
    _cluster,
    _appendonly,
    _appendfsync,
    _memory,
    _replicas,
    _clock,
    _round_trip,
)
