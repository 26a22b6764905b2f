"""Examines a Redis or Valkey server: its version, its settings, and the round trip to it."""

import time
from collections.abc import Awaitable, Callable
from statistics import median
from typing import Any, Final

from chatnest.errors import LedgerUnavailable
from chatnest.stores.reasons import reason_of
from chatnest.stores.redis import Link
from chatnest.stores.survey import Reason, RedisNode, RedisSurvey

__all__ = ["look"]

_PINGS: Final = 15
"""Round trips to measure."""

_INFO: Final = (
    *("server_name", "redis_version", "valkey_version", "role", "loading", "cluster_enabled"),
    *("aof_enabled", "aof_last_write_status", "rdb_last_bgsave_status"),
    *("maxmemory", "maxmemory_policy", "used_memory"),
    *("connected_slaves", "min_slaves_good_slaves"),
)
_CONFIG: Final = ("appendfsync", "min-replicas-to-write")
_CLUSTER: Final = ("cluster_state", "cluster_slots_assigned", "cluster_slots_ok")


async def look(
    link: Link,
    *,
    shown: str,
    kind: str,
    write: Callable[[], Awaitable[object]],
    script: Callable[[], Awaitable[object]],
    clock: Callable[[], int],
) -> RedisSurvey:
    """Examine a server. ``write`` writes a key and ``script`` runs a script; both are harmless."""
    unwritable = await _why_not(write)
    unscripted = await _why_not(script)
    info = await _ask(link, "INFO")
    configs = [await _ask(link, "CONFIG GET", name) for name in _CONFIG]
    clusters = await _ask(link, "CLUSTER INFO")
    skews = await _skews(link, clock)
    nodes = tuple(
        RedisNode(
            name=name,
            info=_some(info[name], _INFO),
            config=_config([config.get(name) for config in configs]),
            cluster=_some(clusters.get(name), _CLUSTER),
            skew=skews.get(name),
        )
        for name in info
    )
    return RedisSurvey(
        shown=shown,
        kind=kind,
        unwritable=unwritable,
        unscripted=unscripted,
        nodes=nodes,
        round_trip=await _round_trip(link),
    )


async def _why_not(work: Callable[[], Awaitable[object]]) -> Reason | None:
    try:
        await work()
    except LedgerUnavailable as exc:
        return reason_of(exc)
    return None


async def _ask(link: Link, *command: str) -> dict[str, Any]:
    """The answers of the primaries by their names, or nothing if one of them refuses."""
    try:
        return await link.ask(*command)
    except LedgerUnavailable:
        return {}


async def _skews(link: Link, clock: Callable[[], int]) -> dict[str, float]:
    before = clock()
    times = await _ask(link, "TIME")
    after = clock()
    skews = {}
    for name, (seconds, micros) in times.items():
        theirs = seconds * 1000 + micros // 1000
        # The server read its clock at some time between before and after.
        skews[name] = (min(0, theirs - before) + max(0, theirs - after)) / 1000
    return skews


async def _round_trip(link: Link) -> float | None:
    times = []
    for _ in range(_PINGS):
        begun = time.perf_counter()
        answers = await _ask(link, "PING")
        if not answers:
            return None
        times.append((time.perf_counter() - begun) / len(answers))
    return median(times)


def _config(answers: list[Any]) -> dict[str, str] | None:
    if None in answers:
        return None
    return {name: str(value) for answer in answers for name, value in answer.items()}


def _some(answer: Any, names: tuple[str, ...]) -> dict[str, str] | None:
    if not isinstance(answer, dict):
        return None
    return {name: str(answer[name]) for name in names if name in answer}
