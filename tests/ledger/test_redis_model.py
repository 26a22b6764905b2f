"""Random lives of a RedisLedger, beside the rules: the machine of test_model.py, with one driver
more.

What is driven is the ledger's own methods, up to where they would wait for the server; its place is
taken by a blocking connection that sends the very commands, one to four at a time, to a real
server. An event loop would make this several times slower.

Redis charges an expired lease when its account is touched next, not when anything is: with a clock
that is set back, an account that nobody has touched in between shows it. So here every account is
touched before the clock moves.
"""

import itertools
from collections.abc import Coroutine, Iterator
from typing import Any, ClassVar, cast

import pytest
from hypothesis import settings
from redis.connection import Connection

from chatnest.ledger._redis_client import Link, Script
from chatnest.ledger.model import HoldState
from chatnest.ledger.redis import RedisLedger
from tests.ledger.server import Server
from tests.ledger.support import Clock
from tests.ledger.test_model import (
    SETTINGS,
    SOAKS,
    Lives,
    MemoryLives,
    SQLiteLives,
    _Answer,
    finish,
)

LAPSING = HoldState.RESERVED, HoldState.EXPIRED
_lives = itertools.count()


class _Wire:
    """Gives the driver a command, and the script its answer."""

    def __init__(self) -> None:
        self.commands: list[tuple[Any, ...]] = []

    async def run(self, script: Script, keys: list[str], args: list[str | int]) -> Any:
        self.commands.append(("EVALSHA", script.sha, len(keys), *keys, *args))
        return await _Answer()


class DirectRedisLedger(RedisLedger):
    """Operations wait until ``answers`` has those of the server."""

    def __init__(self, url: str, clock: Clock) -> None:
        # What the machine's clock does to a day, the server's does not: nothing may end here.
        super().__init__(url, prefix=f"life-{next(_lives)}", clock=clock, keep_days=4_000)
        self.wire = _Wire()

    def _link(self) -> Link:
        return cast("Link", self.wire)


class RedisLives:
    """Drives a RedisLedger."""

    server: ClassVar[Server]
    connection: ClassVar[Connection]

    def __init__(self, clock: Clock) -> None:
        self.ledger = DirectRedisLedger(self.server.url, clock)

    def run(self, calls: list[Coroutine[Any, Any, object]]) -> list[object]:
        for call in calls:
            call.send(None)
        commands, self.ledger.wire.commands = self.ledger.wire.commands, []
        self.connection.send_packed_command(self.connection.pack_commands(commands))
        answers = [self.connection.read_response() for _ in commands]
        return [finish(call, answer) for call, answer in zip(calls, answers, strict=True)]

    def restart(self) -> None:
        """The server keeps what it has."""

    def end(self) -> None:
        self.connection.send_command("FLUSHALL")
        self.connection.read_response()


@pytest.fixture(autouse=True, scope="module")
def _server(redis_server: Server) -> Iterator[None]:
    RedisLives.server = redis_server
    RedisLives.connection = Connection(port=redis_server.port, protocol=2)
    RedisLives.connection.connect()
    for script in RedisLedger(redis_server.url)._scripts.values():
        RedisLives.connection.send_command("SCRIPT", "LOAD", script.text)
        RedisLives.connection.read_response()
    yield
    RedisLives.connection.disconnect()


class LivesOfRedis(Lives):
    driver = cast("type[MemoryLives | SQLiteLives]", RedisLives)

    def pass_time(self, milliseconds: int) -> None:
        self.look()
        for wish in self.wishes:  # what weighs on nothing is in no account
            record = self.books.hold(wish.id)
            if record and record.state in LAPSING and not record.hold.lines:
                self.both("reserve", wish)
        super().pass_time(milliseconds)


TestRedis = LivesOfRedis.TestCase
TestRedis.settings = settings(SETTINGS, max_examples=20_000 if SOAKS else 500)
