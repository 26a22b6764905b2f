"""Link: the connections of one event loop to a Redis or Valkey server."""

import asyncio
import hashlib
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from contextvars import Context
from functools import partial
from typing import Any, Final

import anyio
from redis.exceptions import (
    ClusterError,
    NoScriptError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
)
from redis.exceptions import (
    ConnectionError as RedisConnectionError,
)
from redis.exceptions import (
    TimeoutError as RedisTimeoutError,
)

from chatnest.errors import ConfigurationError, LedgerUnavailable
from chatnest.stores.breaker import Breaker
from chatnest.stores.redis.address import Address

__all__ = ["Link", "Script"]

_UNAVAILABLE: Final = (
    RedisConnectionError,
    RedisTimeoutError,
    RedisClusterException,
    ClusterError,
    OSError,
    TimeoutError,
    RuntimeError,  # uvloop raises it for a transport that has just been closed
)
"""The failures that open the breaker. A server that answers with an error is available."""

_FAILURES: Final = (RedisError, *_UNAVAILABLE)

_SCANNED: Final = 1_000
"""Keys that a server examines for one answer to SCAN."""


class Script:
    """A Lua script, and the SHA by which the server caches it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha: str = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


class Link:
    """The server, seen from one event loop: bounded connections, bounded waits, no retries.

    An exchange takes at most ``timeout``, and at most twice as long including the wait for a
    connection. After a failed exchange, all operations fail at once until a probe succeeds.
    """

    def __init__(self, address: Address) -> None:
        try:
            asyncio.get_running_loop()
        except RuntimeError as exc:
            raise ConfigurationError(
                "ledger: expected the server to run on asyncio, which redis-py needs, got another "
                "event loop. Run the server on asyncio, or use SQLiteLedger on trio."
            ) from exc
        self._client = address.connect()
        self._longest = 2 * address.timeout
        self._exchange = address.exchange
        self._slots = anyio.Semaphore(address.max_connections, fast_acquire=True)
        self._answered_at = -math.inf
        self._breaker = Breaker()
        self._probing: asyncio.Task[None] | None = None

    async def run(
        self, script: Script, keys: Sequence[str | bytes], args: Sequence[str | int | bytes]
    ) -> Any:
        """Run a script by its SHA, or by its text if the server has lost it."""

        async def run() -> Any:
            try:
                return await self._send("EVALSHA", script.sha, len(keys), *keys, *args)
            except NoScriptError:  # it has not run
                return await self._send("EVAL", script.text, len(keys), *keys, *args)

        return await self._guard(keys[0], run)

    async def write(self, key: str) -> None:
        """Write a value that expires within seconds."""
        await self._guard(key, lambda: self._send("SET", key, "1", "PX", 10_000))

    async def scan(self, pattern: str) -> set[str]:
        """The keys that match, from all primaries of a cluster."""
        scan = self._client.redis.scan
        found: set[str] = set()
        for options in (await self._primaries()).values():
            cursor = 0
            while True:
                page = partial(scan, cursor, match=pattern, count=_SCANNED, **options)
                cursor, keys = await self._guard("", page)
                found.update(key.decode() for key in keys)
                if isinstance(cursor, dict):
                    (cursor,) = cursor.values()
                if not cursor:
                    break
        return found

    async def info(self) -> dict[str, Any]:
        """The server's ``INFO``."""
        info: dict[str, Any] = await self._guard("", self._client.redis.info)
        return info

    async def ask(self, *command: str) -> dict[str, Any]:
        """The answer of each primary of a cluster, by its name. A single server's name is ""."""
        execute = self._client.redis.execute_command
        return {
            name: await self._guard("", partial(execute, *command, **options))
            for name, options in (await self._primaries()).items()
        }

    async def _primaries(self) -> dict[str, dict[str, Any]]:
        """The options that send a command to each primary, by its name."""
        redis = self._client.redis
        if not hasattr(redis, "get_primaries"):
            return {"": {}}
        await self._guard("", redis.ping)  # makes a cluster's client learn its nodes
        return {node.name: {"target_nodes": node} for node in redis.get_primaries()}

    async def aclose(self) -> None:
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.wait([self._probing])
        for close in self._client.closers:
            with suppress(*_FAILURES):
                await close()

    async def _send(self, *command: str | int | bytes) -> Any:
        return await self._client.redis.execute_command(*command)

    async def _guard(self, key: str | bytes, work: Callable[[], Awaitable[Any]]) -> Any:
        self._refuse_while_open()
        begun = math.inf
        try:
            with anyio.fail_after(self._longest):
                async with self._slots:
                    self._refuse_while_open()
                    begun = time.monotonic()
                    with anyio.fail_after(self._exchange):
                        answer = await work()
        except _FAILURES as exc:
            # A timeout while waiting for a connection does not show that the server is
            # unavailable. Nor does one in a busy process, if others got an answer since then.
            if not isinstance(exc, _UNAVAILABLE):
                self._answered_at = time.monotonic()
            elif self._answered_at < begun < math.inf:
                self._open(key)
            if isinstance(exc, ReadOnlyError):
                await self._reconnect()
            raise LedgerUnavailable from exc
        self._answered_at = time.monotonic()
        return answer

    def _refuse_while_open(self) -> None:
        if self._breaker.is_open:
            if self._probing is None or self._probing.done():
                self._start_probing("")  # the task was cancelled
            raise LedgerUnavailable

    async def _reconnect(self) -> None:
        """Reconnect to a primary that was demoted: its name may resolve to another server now."""
        pool = getattr(self._client.redis, "connection_pool", None)
        if pool is not None:
            await pool.disconnect(inuse_connections=False)

    def _open(self, key: str | bytes) -> None:
        if self._breaker.open():
            self._start_probing(key)

    def _start_probing(self, key: str | bytes) -> None:
        # The task outlives its request, so that no other request waits for an unavailable server.
        # `aclose` ends it.
        loop = asyncio.get_running_loop()
        self._probing = loop.create_task(self._probe(key), context=Context())

    async def _probe(self, key: str | bytes) -> None:
        while self._breaker.is_open:
            await asyncio.sleep(self._breaker.pause())
            if await self._answers(key):
                self._breaker.close()

    async def _answers(self, key: str | bytes) -> bool:
        try:
            with anyio.fail_after(min(self._longest, self._exchange)):
                await self._send("EXISTS", key or "chatnest")
        except RedisError as exc:
            return not isinstance(exc, _UNAVAILABLE)  # an error reply is an answer, too
        except Exception:  # noqa: BLE001  # if the probes ended, the breaker would stay open
            return False
        return True
