"""Random lives of a RedisLedger, beside the rules.

Redis charges an expired lease when its account is touched next, not when anything is: with a clock
that is set back, an account that nobody has touched in between shows it. So here every account is
touched before the clock moves.
"""

from collections.abc import Iterator
from typing import ClassVar

import pytest

from chatnest.ledger.model import HoldState
from tests.ledger.conftest import Tell
from tests.ledger.direct_redis import DirectRedis
from tests.ledger.lives import Driver, Figures, Lives, in_shards, live
from tests.ledger.server import Server
from tests.ledger.support import Clock

LAPSING = HoldState.RESERVED, HoldState.EXPIRED


class RedisDriver(DirectRedis):
    """The commands go to a real server."""

    direct: ClassVar[DirectRedis]

    def __init__(self, clock: Clock) -> None:
        super().__init__(self.direct.server, self.direct.connection, clock)

    def restart(self) -> None:
        """The server keeps what it has."""

    def figures(self) -> Figures:
        figures: Figures = {}
        for account in ("ann", "bob", "team"):
            packed = self.ask("HGETALL", f"{self.prefix}:{{{account}}}:counters")
            for field, counter in zip(packed[::2], packed[1::2], strict=True):
                settled, held, overrun, expired = map(int, counter.split())
                if settled or held or overrun or expired:
                    key = f"{field.decode()}:{account}"
                    figures[key] = settled, held, overrun, expired
        return figures

    def end(self) -> None:
        self.ask("FLUSHALL")


@pytest.fixture(autouse=True, scope="module")
def _server(redis_server: Server) -> Iterator[None]:
    with DirectRedis.connected(redis_server) as RedisDriver.direct:
        yield


class LivesOfRedis(Lives):
    def drive(self, clock: Clock) -> Driver:
        return RedisDriver(clock)

    def pass_time(self, milliseconds: int) -> None:
        self.look()
        for wish in self.wishes:  # what weighs on nothing is in no account
            record = self.books.hold(wish.id)
            if record and record.state in LAPSING and not record.hold.lines:
                self.both("reserve", wish)
        super().pass_time(milliseconds)


@pytest.mark.soak
@in_shards
def test_redis_lives_by_the_rules(shard: int, tell: Tell):
    live(LivesOfRedis, tell)
