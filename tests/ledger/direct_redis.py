"""A RedisLedger without an event loop: its very commands, many at a time, over one connection."""

import itertools
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self, cast

from redis.connection import Connection

from chatnest.ledger.books import scale_of
from chatnest.ledger.redis import RedisLedger
from chatnest.ledger.redis.mark import Mark
from chatnest.stores.redis import Link, Script
from tests.ledger.lives import FIRST_LIMITS, Answer, finish
from tests.ledger.server import Server
from tests.ledger.support import Clock

_numbers = itertools.count()


def scales_of_lives() -> dict[str, str]:
    limits = [limit for some in FIRST_LIMITS.values() for limit in some]
    return {limit.name: scale_of(limit) for limit in limits if limit.kind == "budget"}


ZONES = {"tokens": "UTC", "eastern": "America/New_York", "shared": "Europe/Berlin"}
"""Of the limits of those who use this. To look one up is a step of its own."""


class _Wire:
    """Gives the driver a command, and the script its answer."""

    def __init__(self) -> None:
        self.commands: list[tuple[Any, ...]] = []

    async def run(self, script: Script, keys: list[str], args: list[str | int]) -> Any:
        self.commands.append(("EVALSHA", script.sha, len(keys), *keys, *args))
        return await Answer()


class _WiredLedger(RedisLedger):
    """Operations wait until somebody has those answers of the server."""

    def __init__(self, url: str, prefix: str, clock: Clock, keep_days: int) -> None:
        super().__init__(url, prefix=prefix, clock=clock, keep_days=keep_days)
        self.wire = _Wire()
        self._server.link = lambda: cast("Link", self.wire)  # type: ignore[method-assign]


class DirectRedis:
    """Keys of its own on that server, by a connection that others may use in turn.

    What the tests' clock does to a day, the server's does not. So nothing ends for a century.
    """

    def __init__(
        self,
        server: Server,
        connection: Connection,
        clock: Clock,
        keep_days: int = 100 * 365,
    ) -> None:
        self.server = server
        self.connection = connection
        self.prefix = f"direct-{next(_numbers)}"
        self.ledger = _WiredLedger(server.url, self.prefix, clock, keep_days)
        mark, books = Mark("direct"), self.ledger._books
        self.ask("SET", self.ledger._keys.mark, str(mark))
        books._take(mark)  # as if an operation had begun them: each is one step then
        books._zones.learn(ZONES | scales_of_lives())
        books._ready.add(self.ledger._keys.mark)

    @classmethod
    @contextmanager
    def connected(cls, server: Server, *options: Any) -> Iterator[Self]:
        connection = Connection(port=server.port, protocol=2)
        connection.connect()
        direct = cls(server, connection, *(options or (Clock(),)))
        for script in direct.ledger._server.scripts.values():
            direct.ask("SCRIPT", "LOAD", script.text)
        yield direct
        connection.disconnect()

    def ask(self, *command: Any) -> Any:
        self.connection.send_command(*command)
        return self.connection.read_response()

    def run(self, calls: Sequence[Coroutine[Any, Any, object]]) -> list[object]:
        """Calls to the ledger, each of one step, in one round trip."""
        for call in calls:
            call.send(None)
        commands, self.ledger.wire.commands = self.ledger.wire.commands, []
        self.connection.send_packed_command(self.connection.pack_commands(commands))
        answers = [self.connection.read_response() for _ in commands]
        return [finish(call, answer) for call, answer in zip(calls, answers, strict=True)]
