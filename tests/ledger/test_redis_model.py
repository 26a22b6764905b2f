"""Random lives of a RedisLedger, beside the rules.

Redis charges an expired lease when its account is touched next, not when anything is: with a clock
that is set back, an account that nobody has touched in between shows it. So here every account is
touched before the clock moves.
"""

from collections.abc import Iterator
from typing import ClassVar

import pytest

from chatnest.ledger.audit import Adjustment
from chatnest.ledger.books import GRANTED, HoldState
from chatnest.ledger.limit import MOST
from chatnest.ledger.redis.keys import Part
from chatnest.ledger.redis.reader import account_of
from chatnest.ledger.redis.records import counted, read_entry
from chatnest.ledger.redis.usage import rows_of
from chatnest.ledger.verification import recounted
from tests.ledger.conftest import Tell
from tests.ledger.direct_redis import DirectRedis
from tests.ledger.lives import CrossingKey, Driver, Figures, Lives, Usage, in_shards, live
from tests.ledger.server import Server
from tests.ledger.support import DAY, Clock

LAPSING = HoldState.RESERVED, HoldState.EXPIRED


class RedisDriver(DirectRedis):
    """The commands go to a real server."""

    direct: ClassVar[DirectRedis]

    def __init__(self, clock: Clock, keep_days: int = 36_500) -> None:
        super().__init__(self.direct.server, self.direct.connection, clock, keep_days)

    def restart(self) -> None:
        """The server keeps what it has."""

    def crossings(self) -> list[CrossingKey]:
        """They are the same in the counters of an account, and among those to tell."""
        found = []
        for account in ("ann", "bob", "team", "house"):
            for field in self.ask("HKEYS", f"{self.prefix}:{{{account}}}:counters"):
                name, _, rest = field.decode().partition(":~!")
                period, colon, threshold = rest.partition(":")
                if colon:
                    found.append((name, account, period, int(threshold)))
        assert sorted(found) == sorted(self.pending())
        return found

    def pending(self) -> list[CrossingKey]:
        """Those to tell."""
        members = self.ask("ZRANGE", self.ledger._keys.of_pending("ann"), 0, -1)
        words = [member.decode().split(" ") for member in members]
        return [(w[0], w[-1], w[1], int(w[2])) for w in words]

    def figures(self) -> Figures:
        figures: Figures = {}
        for account in ("ann", "bob", "team", "house"):
            packed = self.ask("HGETALL", f"{self.prefix}:{{{account}}}:counters")
            for field, counter in zip(packed[::2], packed[1::2], strict=True):
                name, colon, day = field.decode().partition(":")
                if not colon or day == "late" or day.startswith("~"):
                    continue
                settled, held, overrun, expired, adjusted, *_ = *map(int, counter.split()), 0
                if settled or held or adjusted:
                    figures[f"{name}:{day}:{account}"] = settled, held, overrun, expired, adjusted
        return figures

    def usage(self) -> Usage:
        keys = self.ask("KEYS", f"{self.prefix}:*:usage:*")
        found = [[word.decode() for word in self.ask("HGETALL", key)] for key in keys]
        return rows_of(found, "1970-01-01")

    def recorded(self) -> Usage:
        entries = []
        for key in self.ask("KEYS", f"{self.prefix}:*:turns:*"):
            account = account_of(key.decode().partition("{")[2].partition("}")[0])
            for name, fields in self.ask("XRANGE", key, "-", "+"):
                words = [word.decode() for word in fields]
                entries.append(read_entry(account, name.decode(), words))
        return recounted(counted(entries))

    def adjust(self, adjustment: Adjustment) -> None:
        """The script of the audit, without its question whether the day is still kept."""
        ends = 0
        if adjustment.day != GRANTED:
            ends = self.ledger._books.end_of(adjustment.name, adjustment.day)
        field = f"{adjustment.name}:{adjustment.day}"
        keys = self.ledger._keys.of_adjustment(adjustment.account, adjustment.id)
        args = adjustment.id, field, adjustment.amount, adjustment.reason, ends, DAY, MOST
        self.run([self.ledger._steps.run("adjust", Part([adjustment.account]), args, keys)])

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
        self.touch_all()
        super().pass_time(milliseconds)

    def touch_all(self) -> None:
        self.look()
        for wish in self.all_wishes:  # what weighs on nothing is in no account
            record = self.books.hold(wish.id)
            if record and record.state in LAPSING and not record.hold.lines:
                self.both("reserve", wish)

    def teardown(self) -> None:
        if hasattr(self, "lives"):
            self.touch_all()
        super().teardown()


@pytest.mark.soak
@in_shards
def test_redis_lives_by_the_rules(shard: int, tell: Tell):
    live(LivesOfRedis, tell)
