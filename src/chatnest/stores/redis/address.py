"""Address: the URL of a Redis or Valkey server, and the redis-py client for it."""

import math
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit, urlunsplit

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import ConnectionPool, SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import ClusterError, RedisClusterException, RedisError

from chatnest.errors import ConfigurationError

__all__ = ["Address", "Client", "slot_of"]

_UNBOUNDED: Final = 2**31

_INVALID: Final = (
    TypeError,
    ValueError,
    RedisError,
    RedisClusterException,
    ClusterError,
    OSError,
    RuntimeError,
)
"""The failures of redis-py for options that it does not accept."""


def slot_of(tag: str) -> int:
    """The cluster slot of keys with this hash tag."""
    return key_slot(tag.encode())


class Client(NamedTuple):
    """A redis-py client, and the functions that close it."""

    redis: Any
    closers: tuple[Callable[[], Awaitable[None]], ...]


class Address:
    """The URL of a server, and how to make a client for it.

    Raises ConfigurationError if the URL is incomplete or has contradictory options.
    """

    def __init__(self, url: str, *, timeout: float, max_connections: int) -> None:
        try:
            self._read(url)
        except ValueError:
            raise ConfigurationError(
                "url: expected the address of a Redis or Valkey server, got "
                f"{self._redacted(url)!r}. Write redis://host:6379/0, rediss://host:6379, "
                "redis+sentinel://host:26379/service or redis+cluster://host:6379."
            ) from None  # the cause may quote a password
        # The link's clock alone limits an operation. If redis-py's own timeout and a cancel scope
        # ended at the same moment, a stray cancellation would remain. A cluster's client needs a
        # timeout to find out which node is unavailable; it is shorter than the scope's.
        inner = 0.9 * timeout if self.is_cluster else None
        self.exchange: float = math.inf if self.is_cluster else timeout
        self._options |= {
            "socket_timeout": inner,
            "socket_connect_timeout": inner,
            "retry": Retry(NoBackoff(), 0),
            "health_check_interval": 0,
            "decode_responses": False,
            "protocol": 2,  # no HELLO: one round trip less for a new connection
            "driver_info": None,  # no CLIENT SETINFO either
        }
        self.timeout = timeout
        self.max_connections = max_connections
        try:
            self.connect()
        except _INVALID as exc:
            raise ConfigurationError(
                f"url: expected options of redis-py after the ?, got an error: {exc}. Correct the "
                "options."
            ) from exc

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
        """The URL without user, password and options, even if it is malformed."""
        head, slashes, rest = url.partition("://")
        scheme, rest = (head + slashes, rest) if slashes else ("", url)
        place, _, options = rest.replace("#", "?").partition("?")
        if "@" in options:  # the password may begin before the question mark
            return f"{scheme}..."
        return scheme + place.rpartition("@")[2]

    def connect(self) -> Client:
        """Make a client for one event loop. It connects with its first command.

        Its pool is unbounded, since the link bounds the connections.
        """
        if self.is_cluster:
            return self._cluster()
        if self.is_sentinel:
            return self._sentinel()
        pool: Any = ConnectionPool(**self._options)
        pool.make_connection()  # raises for an unknown option
        redis: Any = Redis.from_pool(pool)
        return Client(redis, (redis.aclose,))

    def _cluster(self) -> Client:
        left_out = {"connection_class", "host", "port"}
        redis: Any = RedisCluster(
            startup_nodes=[ClusterNode(host, port) for host, port in self._nodes],
            ssl=self._tls,
            max_connections=_UNBOUNDED,
            **{name: value for name, value in self._options.items() if name not in left_out},
        )
        return Client(redis, (redis.aclose,))

    def _sentinel(self) -> Client:
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
        return Client(redis, (redis.aclose, sentinel.aclose))


def _host_and_port(text: str, kind: str) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    if kind != "unix" and not parts.hostname:
        raise ValueError(text)
    return parts.hostname or "localhost", parts.port or (26379 if kind == "sentinel" else 6379)
