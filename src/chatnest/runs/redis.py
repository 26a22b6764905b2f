"""RedisRunLog: runs in Redis or Valkey, for any number of workers on any number of machines.

Each run has a hash slot, and so has each key, whose value is 'RUN FINGERPRINT'. A run is stored
before its key refers to it, and removed after the key. All keys of Redis expire by themselves.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping
from importlib.resources import files
from typing import Any, Final

import anyio

from chatnest.errors import LedgerUnavailable
from chatnest.runs.base import (
    REFUSED_SECONDS,
    Batch,
    Claim,
    Page,
    RunEnd,
    RunServer,
    RunSettings,
    Signals,
)

__all__ = ["RedisRunLog"]

_KEY_LIVES: Final = 86_400_000
"""Milliseconds for which a key refers to a run that never ends. The key holds two digests."""
_NO_BATCH: Final = Batch(first=0, count=0, data=b"")
_SLACK: Final = 5_000
"""Milliseconds by which a run outlives its key."""

_CLAIM: Final = """
local known = redis.call('GET', KEYS[1])
if known then return known end
local mine = ARGV[1] .. ' ' .. ARGV[2]
redis.call('SET', KEYS[1], mine, 'PX', ARGV[3])
return mine
"""
_END_KEY: Final = """
local known = redis.call('GET', KEYS[1])
if not known or string.sub(known, 1, #ARGV[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == 'drop' then
  redis.call('DEL', KEYS[1])
else
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
return 1
"""
_NOTE: Final = "redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])"
_NOTED: Final = "return redis.call('GET', KEYS[1])"


def _script(name: str) -> str:
    return files("chatnest.runs").joinpath(f"_redis_{name}.lua").read_text(encoding="utf-8")


_ADD: Final = _script("add")
_RUN: Final = _ADD + _script("run")
_APPEND: Final = _ADD + _script("append")
_SIGNALS: Final = _script("signals")
_AS_SIGNALS: Final = (
    None,
    Signals(cancelled=True),
    Signals(read=True),
    Signals(cancelled=True, read=True),
    Signals(forgotten=True),
)
"""The signals for each number that the script answers."""


class RedisRunLog:
    """Runs on the server of a RedisLedger, with its connections and settings."""

    poll_seconds: float = 0.1

    def __init__(self, server: RunServer, settings: RunSettings | None = None) -> None:
        self._server = server
        self._settings = settings if settings is not None else RunSettings()

    def __repr__(self) -> str:
        return f"RedisRunLog({self._server!r})"

    async def claim(
        self, key: str | None, *, owner: str, fingerprint: str, run_id: str, lease: float
    ) -> Claim:
        name = key if key is not None else run_id
        lives = int(lease * 1000)
        await self._run(run_id, "begin", owner, name, lives, lives + self._keep)
        known, print_ = await self._claimed(name, run_id, fingerprint)
        if known != run_id and not await self._run(known, "key"):
            # After half of a drop, or an eviction, the key refers to a missing run. Free it.
            await self._end_key(name, known, "drop")
            known, print_ = await self._claimed(name, run_id, fingerprint)
        if known != run_id:
            await self._run(run_id, "forget")
        return Claim(run_id=known, fingerprint=print_, mine=known == run_id)

    async def _claimed(self, name: str, run_id: str, fingerprint: str) -> tuple[str, str]:
        claim = (run_id, fingerprint, _KEY_LIVES)
        packed = await self._server.script(_CLAIM, [self._key(name)], claim)
        known, print_ = packed.decode().split(" ")[:2]
        return known, print_

    async def append(self, batches: Mapping[str, Batch | None], *, lease: float) -> Collection[str]:
        lives = int(lease * 1000)
        unknown: list[str] = []

        async def append(run_ids: Collection[str]) -> None:
            adds = [batches[run_id] or _NO_BATCH for run_id in run_ids]
            parts = (part for batch in adds for part in (batch.first, batch.count, batch.data))
            args = (lives, self._settings.max_bytes, lives + self._keep, *parts)
            known = await self._server.script(_APPEND, self._all_places(run_ids), args)
            unknown.extend(i for i, found in zip(run_ids, known, strict=True) if not found)

        await self._for_each_slot(append, batches)
        return unknown

    async def signals(self, run_ids: Collection[str]) -> Mapping[str, Signals]:
        found: dict[str, Signals] = {}

        async def look(run_ids: Collection[str]) -> None:
            places = [self._places(run_id)[0] for run_id in run_ids]
            numbers = await self._server.script(_SIGNALS, places, ())
            for run_id, number in zip(run_ids, numbers, strict=True):
                signals = _AS_SIGNALS[number]
                if signals is not None:
                    found[run_id] = signals

        await self._for_each_slot(look, run_ids)
        return found

    async def _for_each_slot(
        self, operation: Callable[[Collection[str]], Awaitable[None]], run_ids: Collection[str]
    ) -> None:
        """Do an operation for all runs at once, or, in a cluster, for each one."""
        if not self._server.is_cluster:
            if run_ids:
                await operation(run_ids)
            return
        failures: list[LedgerUnavailable] = []

        async def one(run_id: str) -> None:
            try:
                await operation([run_id])
            except LedgerUnavailable as exc:
                failures.append(exc)

        async with anyio.create_task_group() as tasks:
            for run_id in run_ids:
                tasks.start_soon(one, run_id)
        if failures:
            raise failures[0]

    async def finish(self, run_id: str, end: RunEnd, batch: Batch | None = None) -> bool:
        keep = self._keep + _SLACK  # the run outlives its key, which refers to it
        last = batch or _NO_BATCH
        added = (self._settings.max_bytes, last.first, last.count, last.data)
        ended = (end.outcome, end.charged, end.source, keep)
        key = await self._run(run_id, "finish", *ended, *added)
        if key is not None:
            await self._end_key(key.decode(), run_id, "finish")
        return key is not None

    async def drop(self, run_id: str) -> None:
        key = await self._run(run_id, "key")
        if key is not None:  # the key first, so that it never refers to a missing run
            await self._end_key(key.decode(), run_id, "drop")
        await self._run(run_id, "drop", int(REFUSED_SECONDS * 1000))

    async def _end_key(self, name: str, run_id: str, how: str) -> None:
        ends = (f"{run_id} ", how, self._keep)
        await self._server.script(_END_KEY, [self._key(name)], ends)

    async def read(self, run_id: str, after: int, *, owner: str) -> Page | None:
        found = await self._run(run_id, "read", min(after, 1 << 53), owner)
        if found is None:
            return None
        dropped, last, outcome, charged, source, lost, batches = found
        end = None
        if outcome:
            end = RunEnd(outcome=outcome.decode(), charged=int(charged), source=source.decode())
        return Page(
            batches=tuple(_batch(packed) for packed in batches),
            dropped=int(dropped),
            last=int(last),
            end=end,
            lost=lost == 1,
        )

    async def cancel(self, run_id: str) -> None:
        await self._run(run_id, "cancel")

    async def note(self, name: str, text: str, *, seconds: float) -> None:
        await self._server.script(_NOTE, [self._note(name)], (text, int(seconds * 1000)))

    async def noted(self, name: str) -> str | None:
        found = await self._server.script(_NOTED, [self._note(name)], ())
        return None if found is None else found.decode()

    async def forget(self) -> None:
        """Do nothing: all keys expire by themselves."""

    async def aclose(self) -> None:
        """Do nothing: the ledger closes its connections."""

    @property
    def _keep(self) -> int:
        return int(self._settings.keep * 1000)

    async def _run(self, run_id: str, *args: str | int | bytes) -> Any:
        return await self._server.script(_RUN, self._places(run_id), args)

    def _places(self, run_id: str) -> list[str]:
        place = f"{self._server.prefix}:run:{{{run_id}}}"
        return [place, f"{place}:events"]

    def _all_places(self, run_ids: Collection[str]) -> list[str]:
        return [place for run_id in run_ids for place in self._places(run_id)]

    def _note(self, name: str) -> str:
        return f"{self._server.prefix}:note:{{{name}}}"

    def _key(self, name: str) -> str:
        return f"{self._server.prefix}:key:{{{name}}}"


def _batch(packed: bytes) -> Batch:
    first, count, data = packed.split(b" ", 2)
    return Batch(first=int(first), count=int(count), data=data)
