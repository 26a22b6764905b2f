"""The connections of one event loop to a Redis or Valkey server. The one place that knows redis-py.

Imported when a RedisLedger is made, since redis is an extra.
"""

import asyncio
import hashlib
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from contextvars import Context
from functools import partial
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit, urlunsplit

import anyio
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import ConnectionPool, SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.crc import key_slot
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

__all__ = ["Address", "Link", "Script", "slot_of"]

_AWAY: Final = (
    RedisConnectionError,
    RedisTimeoutError,
    RedisClusterException,
    ClusterError,
    OSError,
    TimeoutError,
    RuntimeError,  # uvloop's, for a transport that has just been closed
)
"""The failures that open the breaker. A server that answers with an error is there."""

_FAILURES: Final = (RedisError, *_AWAY)

_UNBOUNDED: Final = 2**31

_SCANNED: Final = 1_000
"""Keys that a server looks at for one answer."""


def slot_of(tag: str) -> int:
    """The slot of a cluster that keys with this hash tag are in."""
    return key_slot(tag.encode())


class Script:
    """A script, and the name by which the server knows it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha: str = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


class _Client(NamedTuple):
    """What runs commands, and what is to be closed after it."""

    redis: Any
    closers: tuple[Callable[[], Awaitable[None]], ...]


class Address:
    """Where the server is: an URL, and how to make a client of it.

    Raises ConfigurationError for an URL that says nothing, or too much.
    """

    def __init__(self, url: str, *, timeout: float, max_connections: int) -> None:
        try:
            self._read(url)
        except ValueError:
            raise ConfigurationError(
                f"url {self._redacted(url)!r} is no address of a Redis or Valkey server: use "
                "redis://host:6379/0, rediss://host:6379, redis+sentinel://host:26379/service or "
                "redis+cluster://host:6379"
            ) from None  # it may quote a password
        # One clock measures an operation, that of the link: redis-py's own timeouts and a cancel
        # scope that end in the same moment make a cancellation that nobody asked for. A cluster's
        # client needs its own, to learn which node is away; they end at another moment.
        inner = 0.9 * timeout if self.is_cluster else None
        self.exchange: float = math.inf if self.is_cluster else timeout
        self._options |= {
            "socket_timeout": inner,
            "socket_connect_timeout": inner,
            "retry": Retry(NoBackoff(), 0),
            "health_check_interval": 0,
            "decode_responses": False,
            "protocol": 2,  # no greeting: one round trip less for a new connection
            "driver_info": None,  # nor this one
        }
        self.timeout = timeout
        self.max_connections = max_connections
        try:
            self.connect()
        except (TypeError, ValueError, *_FAILURES) as exc:
            raise ConfigurationError(f"url has an option that does not fit: {exc}") from exc

    def _read(self, url: str) -> None:
        parts = urlsplit(url)
        kind, _, flavour = parts.scheme.partition("+")
        if kind not in {"redis", "rediss", "unix"} or flavour not in {"", "sentinel", "cluster"}:
            raise ValueError(parts.scheme)
        login, at, hosts = parts.netloc.rpartition("@")
        self.shown: str = self._redacted(url)
        self._nodes = [_host_and_port(host, flavour or kind) for host in hosts.split(",")]
        self._service, _, db = parts.path.strip("/").partition("/")
        path = parts.path if flavour == "" else f"/{db}"
        netloc = f"{login}{at}localhost" if flavour else parts.netloc
        options = dict(parse_url(urlunsplit((kind, netloc, path, parts.query, ""))))
        self._tls = options.get("connection_class") is SSLConnection
        wanted = str(options.pop("cluster", "false")).lower()
        if wanted not in {"true", "false"}:
            raise ValueError(wanted)
        self.is_cluster: bool = flavour == "cluster" or wanted == "true"
        self.is_sentinel: bool = flavour == "sentinel"
        self.kind: str = "cluster" if self.is_cluster else flavour or "plain"
        if self.is_sentinel and (self.is_cluster or not self._service):
            raise ValueError(parts.path)
        if self.is_cluster and kind == "unix":
            raise ValueError(parts.scheme)
        self._options: dict[str, Any] = options

    @staticmethod
    def _redacted(url: str) -> str:
        """Without user, password and options, also where it is no URL at all."""
        head, slashes, rest = url.partition("://")
        scheme, rest = (head + slashes, rest) if slashes else ("", url)
        place, _, options = rest.replace("#", "?").partition("?")
        if "@" in options:  # then the password may begin before the question mark
            return f"{scheme}..."
        return scheme + place.rpartition("@")[2]

    def connect(self) -> _Client:
        """A client for one event loop, which does nothing before its first command.

        Its pool is not bounded, since the link is.
        """
        if self.is_cluster:
            return self._cluster()
        if self.is_sentinel:
            return self._sentinel()
        pool: Any = ConnectionPool(**self._options)
        pool.make_connection()  # an unknown option shows here
        redis: Any = Redis.from_pool(pool)
        return _Client(redis, (redis.aclose,))

    def _cluster(self) -> _Client:
        left_out = {"connection_class", "host", "port"}
        redis: Any = RedisCluster(
            startup_nodes=[ClusterNode(host, port) for host, port in self._nodes],
            ssl=self._tls,
            max_connections=_UNBOUNDED,
            **{name: value for name, value in self._options.items() if name not in left_out},
        )
        return _Client(redis, (redis.aclose,))

    def _sentinel(self) -> _Client:
        left_out = {"connection_class", "host", "port"}
        options = {name: value for name, value in self._options.items() if name not in left_out}
        make: Any = Sentinel  # not typed
        sentinel = make(
            self._nodes,
            sentinel_kwargs={
                "socket_timeout": 0.3 * self.timeout,
                "socket_connect_timeout": 0.3 * self.timeout,
                "retry": Retry(NoBackoff(), 0),
                "protocol": 2,
                "driver_info": None,
            },
            ssl=self._tls,
            **options,
        )
        redis: Any = sentinel.master_for(self._service)
        redis.connection_pool.make_connection()
        return _Client(redis, (redis.aclose, sentinel.aclose))


def _host_and_port(text: str, kind: str) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    if kind != "unix" and not parts.hostname:
        raise ValueError(text)
    return parts.hostname or "localhost", parts.port or (26379 if kind == "sentinel" else 6379)


class Link:
    """The server, from one event loop: bounded connections, bounded waits, no second attempts.

    An exchange takes at most ``timeout``, together with the wait for its turn twice as long. After
    one that failed, those that follow fail at once, until a probe has come through.
    """

    def __init__(self, address: Address) -> None:
        try:
            asyncio.get_running_loop()
        except RuntimeError as exc:
            raise ConfigurationError(
                "RedisLedger needs asyncio, since redis-py does: run the server on asyncio, or use "
                "SQLiteLedger on trio"
            ) from exc
        self._client = address.connect()
        self._longest = 2 * address.timeout
        self._exchange = address.exchange
        self._slots = anyio.Semaphore(address.max_connections, fast_acquire=True)
        self._heard = -math.inf
        self._breaker = Breaker()
        self._probing: asyncio.Task[None] | None = None

    async def run(
        self, script: Script, keys: Sequence[str], args: Sequence[str | int | bytes]
    ) -> Any:
        """Run a script by its SHA; one that the server has lost, by its text."""

        async def run() -> Any:
            try:
                return await self._send("EVALSHA", script.sha, len(keys), *keys, *args)
            except NoScriptError:  # then it was not run
                return await self._send("EVAL", script.text, len(keys), *keys, *args)

        return await self._guard(keys[0], run)

    async def write(self, key: str) -> None:
        """Write something that is soon forgotten."""
        await self._guard(key, lambda: self._send("SET", key, "1", "PX", 10_000))

    async def scan(self, pattern: str) -> set[str]:
        """The keys that match, of all primaries of a cluster."""
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
        """What the server says of itself."""
        info: dict[str, Any] = await self._guard("", self._client.redis.info)
        return info

    async def ask(self, *command: str) -> dict[str, Any]:
        """What each primary of a cluster answers, by its name. The name of a server alone is ""."""
        execute = self._client.redis.execute_command
        return {
            name: await self._guard("", partial(execute, *command, **options))
            for name, options in (await self._primaries()).items()
        }

    async def _primaries(self) -> dict[str, dict[str, Any]]:
        """How to send something to each of them, by its name."""
        redis = self._client.redis
        if not hasattr(redis, "get_primaries"):
            return {"": {}}
        await self._guard("", redis.ping)  # a cluster's client learns its nodes by that
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

    async def _guard(self, key: str, work: Callable[[], Awaitable[Any]]) -> Any:
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
            # Who only waited for a connection says nothing about the server; nor does one who came
            # too late in a process that has more to do than it can, while others have answers.
            if not isinstance(exc, _AWAY):
                self._heard = time.monotonic()
            elif self._heard < begun < math.inf:
                self._open(key)
            if isinstance(exc, ReadOnlyError):
                await self._reconnect()
            raise LedgerUnavailable from exc
        self._heard = time.monotonic()
        return answer

    def _refuse_while_open(self) -> None:
        if self._breaker.is_open:
            if self._probing is None or self._probing.done():
                self._start_probing("")  # whatever ended it
            raise LedgerUnavailable

    async def _reconnect(self) -> None:
        """A primary that was demoted: its name may lead elsewhere by now."""
        pool = getattr(self._client.redis, "connection_pool", None)
        if pool is not None:
            await pool.disconnect(inuse_connections=False)

    def _open(self, key: str) -> None:
        if self._breaker.open():
            self._start_probing(key)

    def _start_probing(self, key: str) -> None:
        # It outlives the request that found out, so that no other has to wait for a server that is
        # away; `aclose` ends it.
        loop = asyncio.get_running_loop()
        self._probing = loop.create_task(self._probe(key), context=Context())

    async def _probe(self, key: str) -> None:
        while self._breaker.is_open:
            await asyncio.sleep(self._breaker.pause())
            if await self._answers(key):
                self._breaker.close()

    async def _answers(self, key: str) -> bool:
        try:
            with anyio.fail_after(min(self._longest, self._exchange)):
                await self._send("EXISTS", key or "chatnest")
        except RedisError as exc:
            return not isinstance(exc, _AWAY)  # a refusal is an answer, too
        except Exception:  # noqa: BLE001  # without a next probe it would be open for good
            return False
        return True
