"""Server: the Redis or Valkey server of a RedisLedger, with a link for each event loop."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from anyio.lowlevel import RunVar

from chatnest.errors import ConfigurationError, LedgerUnavailable
from chatnest.ledger.redis import lua

if TYPE_CHECKING:
    from chatnest.stores.redis import Link, Script

__all__ = ["Server"]

_FACTS: Final = (
    "server_name",
    "redis_version",
    "valkey_version",
    "role",
    "aof_enabled",
    "maxmemory",
    "maxmemory_policy",
    "cluster_enabled",
    "connected_slaves",
    "aof_last_write_status",
)


class Server:
    """The server at ``url``. ``shown`` is the URL without user, password and options.

    Raises ConfigurationError if redis-py is missing or the URL is invalid.
    """

    def __init__(self, url: str, *, timeout: float, max_connections: int) -> None:
        try:
            from chatnest.stores import redis as client  # noqa: PLC0415  # an extra
        except ImportError as exc:
            raise ConfigurationError(
                "ledger: expected the package redis, got an installation without it. Install the "
                "extra: run pip install '.[redis]', in a copy of the repository."
            ) from exc
        address = client.Address(url, timeout=timeout, max_connections=max_connections)
        self.shown: str = address.shown
        self.kind: str = address.kind
        self.slot_of: Callable[[str], int] | None = client.slot_of if address.is_cluster else None
        self.scripts: dict[str, Script] = {
            name: client.Script(text) for name, text in lua.texts().items()
        }
        self._other_scripts: dict[str, Script] = {}
        self._make_script = client.Script
        self._make_link: Callable[[], Link] = partial(client.Link, address)
        self._links: RunVar[Link | None] = RunVar("chatnest_redis_link", None)

    def link(self) -> "Link":
        """The link of the running event loop."""
        link = self._links.get()
        if link is None:
            link = self._make_link()
            self._links.set(link)
        return link

    async def run_text(
        self, text: str, keys: Sequence[str], args: Sequence[str | int | bytes]
    ) -> Any:
        """Run a script that is not one of ``scripts``. Raises LedgerUnavailable."""
        if text not in self._other_scripts:
            self._other_scripts[text] = self._make_script(text)
        return await self.link().run(self._other_scripts[text], keys, args)

    async def facts(self) -> dict[str, str]:
        """The server's version, role, persistence, memory and cluster mode, from ``INFO``."""
        info = await self.link().info()
        return {name: str(info[name]) for name in _FACTS if name in info}

    async def policies(self) -> dict[str, str]:
        """The ``maxmemory-policy`` of each primary, by its name. Empty if the server is unavailable
        or does not report it.
        """
        try:
            answers = await self.link().ask("INFO", "memory")
        except LedgerUnavailable:
            return {}
        return {
            name: str(info["maxmemory_policy"])
            for name, info in answers.items()
            if "maxmemory_policy" in info
        }

    async def aclose(self) -> None:
        """Close the connections of the running event loop. A later operation opens new ones."""
        link = self._links.get()
        if link is not None:
            self._links.set(None)
            await link.aclose()
