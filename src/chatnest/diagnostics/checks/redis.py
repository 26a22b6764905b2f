"""Checks of a Redis or Valkey server: access, durability, memory, failover, clock. No I/O."""

from collections.abc import Callable
from functools import wraps
from typing import Final

from chatnest.diagnostics.checks.base import Check, CheckFunction, Findings, fail, ok, skip, warn
from chatnest.stores.survey import RedisNode, RedisSurvey

__all__ = ["REDIS_CHECKS"]

_OLDEST: Final = 6
"""Oldest major version that supports RedisLedger's scripts."""

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
    return ok("redis.write", f"{survey.shown} answers and accepts writes")


def _scripts(findings: Findings) -> Check | None:
    survey = findings.survey
    if not isinstance(survey, RedisSurvey):
        return None
    name, why = "redis.scripts", survey.unscripted
    if survey.unwritable is not None:
        return skip(name, "not tried", "see redis.write")
    if why is not None:
        return fail(name, why.found, why.advice)
    return ok(name, "runs chatnest's scripts")


def _each_node(name: str) -> Callable[[Callable[[RedisSurvey, RedisNode], Check]], CheckFunction]:
    """Run a check on each primary and report the worst verdict, with its node in a cluster."""

    def of(check: Callable[[RedisSurvey, RedisNode], Check]) -> CheckFunction:
        @wraps(check)
        def worst(findings: Findings) -> Check | None:
            survey = findings.survey
            if not isinstance(survey, RedisSurvey):
                return None
            checks = [(check(survey, node), node.name) for node in survey.nodes]
            if not checks:
                return _not_reported(survey, name)
            result, node = max(checks, key=lambda pair: _SEVERITY[pair[0].level])
            where = f"{node}: " if node and result.level != "ok" else ""
            return Check(name, result.level, where + result.found, result.advice)

        return worst

    return of


def _not_reported(survey: RedisSurvey, name: str) -> Check:
    if survey.unwritable is not None:
        return skip(name, "not reported", "see redis.write")
    return skip(name, "INFO is refused", "grant it to the server's user")


@_each_node("redis.version")
def _version(_: RedisSurvey, node: RedisNode) -> Check:
    info = node.info or {}
    version = info.get("redis_version", "")
    shown = f"Redis {version}"
    if "valkey_version" in info:
        shown = f"Valkey {info['valkey_version']}"
    major = version.partition(".")[0]
    if not major.isdecimal():
        return skip("", "the server does not report its version", f"use Redis {_OLDEST} or newer")
    if int(major) < _OLDEST:
        return fail("", shown, f"use Redis {_OLDEST} or newer, or Valkey")
    return ok("", shown)


@_each_node("redis.role")
def _role(_: RedisSurvey, node: RedisNode) -> Check:
    role = (node.info or {}).get("role")
    if role == "master":
        return ok("", "primary")
    if role is None:
        return skip("", "the server does not report its role", "check that it is a primary")
    return fail("", f"not a primary: {role}", "use the primary's address, or redis+sentinel://")


@_each_node("redis.appendonly")
def _appendonly(_: RedisSurvey, node: RedisNode) -> Check:
    info = node.info or {}
    if info.get("aof_last_write_status", "ok") != "ok":
        return fail(
            "", "the last write to the append-only file failed", "check the server's disk and log"
        )
    match info.get("aof_enabled"):
        case "1":
            return ok("", "yes")
        case "0":
            return warn("", "no: a restart forgets all spending", "set appendonly yes")
    return skip("", "the server does not report it", "check that appendonly is yes")


@_each_node("redis.appendfsync")
def _appendfsync(_: RedisSurvey, node: RedisNode) -> Check:
    value = (node.config or {}).get("appendfsync")
    if (node.info or {}).get("aof_enabled") != "1":
        return skip("", "the server appends nothing", "see redis.appendonly")
    if value is None:
        return skip("", "CONFIG GET is refused", "check that appendfsync is always")
    if value == "always":
        return ok("", value)
    loses = "a second or more" if value == "everysec" else "many seconds"
    return warn(
        "",
        f"{value}: a crash of the server loses {loses}",
        "set appendfsync always if tokens cost money",
    )


@_each_node("redis.memory")
def _memory(_: RedisSurvey, node: RedisNode) -> Check:
    info = node.info or {}
    policy, limit = info.get("maxmemory_policy"), int(info.get("maxmemory", 0))
    if policy is None:
        return skip(
            "", "the server does not report it", "check that maxmemory-policy is noeviction"
        )
    if policy != "noeviction":
        advice = "set maxmemory-policy noeviction: an evicted key is a forgotten budget"
        when = f"at {limit:,} bytes" if limit else "once maxmemory is set"
        return fail("", f"{policy}, {when}: `chatnest serve` does not start", advice)
    used = int(info.get("used_memory", 0))
    if limit and used > _FULL * limit:
        return warn(
            "",
            f"noeviction, {used:,} of {limit:,} bytes used",
            "raise maxmemory: a full server refuses requests",
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
            return ok("", "none, so no failover can lose data")
        return warn("", "none", "add one: there is nothing to fail over to")
    if wanted is None:
        return skip(
            "", f"{count}; CONFIG GET is refused", "check that min-replicas-to-write is not 0"
        )
    if wanted == "0":
        return warn(
            "",
            f"{count}, with min-replicas-to-write 0: a failover forgets the requests that an "
            "isolated primary admitted",
            "set min-replicas-to-write 1, and min-replicas-max-lag as low as possible",
        )
    return ok("", f"{count}, min-replicas-to-write {wanted}")


@_each_node("redis.cluster")
def _cluster(survey: RedisSurvey, node: RedisNode) -> Check:
    enabled = (node.info or {}).get("cluster_enabled") == "1"
    if survey.kind != "cluster":
        if enabled:
            return fail(
                "",
                "a cluster node, configured as a single server",
                "use redis+cluster://HOST:6379",
            )
        return ok("", "none")
    info = node.cluster
    if info is None:
        return skip("", "CLUSTER INFO is refused", "check that all slots are served")
    assigned, good = (int(info.get(f"cluster_slots_{what}", 0)) for what in ("assigned", "ok"))
    if info.get("cluster_state") != "ok" or min(assigned, good) < _SLOTS:
        return fail(
            "",
            f"state {info.get('cluster_state')}, {good:,} of {_SLOTS:,} slots served",
            "read CLUSTER NODES",
        )
    return ok("", f"state ok, all of {_SLOTS:,} slots served")


@_each_node("redis.clock")
def _clock(_: RedisSurvey, node: RedisNode) -> Check:
    skew = node.skew
    if skew is None:
        return skip("", "TIME is refused", "grant it to the server's user: the scripts need it")
    if abs(skew) > _SKEW_SECONDS:
        way = "ahead of" if skew > 0 else "behind"
        return warn(
            "",
            f"{abs(skew):,.1f} s {way} this machine's clock",
            "synchronise both: the server's clock decides when a day ends",
        )
    return ok("", "same as this machine's clock")


def _round_trip(findings: Findings) -> Check | None:
    survey = findings.survey
    if not isinstance(survey, RedisSurvey):
        return None
    name, found = "redis.round_trip", survey.round_trip
    if found is None:
        return skip(name, "not measured", "see redis.write")
    shown = f"{found * 1000:.1f} ms, the median"
    if found > _ROUND_TRIP_SECONDS:
        return warn(name, shown, "move the server closer: each request waits for two round trips")
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
