"""Stories: what a life did, told to each ledger, which must answer as the rules did.

A ledger's own methods are driven, up to where they would wait, as in lives.py. A story begins in
empty books. So one file, and one connection to a server, are enough for many of them: what a life
costs are its steps.
"""

from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Self

from chatnest.ledger.base import Limit
from chatnest.ledger.books import scale_of, zone_of_scale
from chatnest.ledger.dictbooks import DictBooks
from chatnest.ledger.sqlite import adopt
from chatnest.ledger.sqlite.audit import SQLiteAudit
from tests.ledger.direct_redis import DirectRedis
from tests.ledger.lives import CrossingKey, Figures, finish, kept_usage
from tests.ledger.oracle import Life
from tests.ledger.server import Server
from tests.ledger.support import DAY, Clock
from tests.ledger.test_model import MemoryDriver, SQLiteDriver
from tests.ledger.test_redis_model import RedisDriver

Step = tuple[Coroutine[Any, Any, object], object]
"""A call that has begun, and the answer of the rules."""

_TABLES = (
    *("counters", "holds", "turns", "windows", "buckets", "adjustments", "zones"),
    *("watches", "crossings", "usage", "refusals"),
)


class Story:
    """Tells lives to the ledger of a driver."""

    driver: Any

    def __init__(self) -> None:
        self.clock = Clock()
        self.steps: list[Step] = []

    def tell(self, life: Life) -> None:
        """All of a life. At its end the counters are equal, unless days were forgotten; and so are
        the thresholds that were reached, and the roll-up of usage.
        """
        self.begin(life)
        for now, name, arguments, answer in life.story:
            if now != self.clock.now:
                self.pass_time(now)
            if hasattr(self, name):
                self.flush()
                getattr(self, name)(*arguments)
            else:
                call = getattr(self.driver.ledger, name)(*arguments)
                call.send(None) if self.waits else None
                self.steps.append((call, answer))
        self.flush()
        self.end(life)

    waits = True
    """Whether calls wait for an answer, and answers may be asked for together."""

    def begin(self, life: Life) -> None:
        """Empty books."""

    def pass_time(self, now: int) -> None:
        self.clock.now = now

    def flush(self) -> None:
        """Compare the answers to the calls so far."""

    def adjust(self, *arguments: Any) -> None:
        self.driver.adjust(*arguments)

    def prune(self) -> None:
        """Forget what is old."""

    def end(self, life: Life) -> None:
        if life.kind != "pruning":
            assert self.driver.figures() == figures_of(life)
        self.check_crossings(life)
        wanted = kept_usage(life.books.usage, life.latest)
        assert kept_usage(self.driver.usage(), life.latest) == wanted
        recorded = self.driver.recorded()
        assert recorded is None or kept_usage(recorded, life.latest) == wanted

    def check_crossings(self, life: Life) -> None:
        """Each once. A day that was forgotten has no exact ones after its end."""
        found = self.crossings(life)
        unsure = life.thresholds.late if life.kind == "pruning" else set()
        found = [key for key in found if key[:3] not in unsure]
        assert sorted(found) == sorted(k for k in life.books.crossings if k[:3] not in unsure)

    def crossings(self, life: Life) -> list[CrossingKey]:
        found: list[CrossingKey] = self.driver.crossings()
        return found


def figures_of(life: Life) -> Figures:
    return {
        key: (c.settled, c.held, c.overrun, c.expired, c.adjusted)
        for key, c in life.books.counters.items()
        if c.settled or c.held or c.adjusted
    }


class MemoryStory(Story):
    """Its calls never wait."""

    waits = False

    def begin(self, life: Life) -> None:
        self.driver, self.life = MemoryDriver(self.clock), life

    def flush(self) -> None:
        for call, answer in self.steps:
            assert finish(call, None) == answer
        self.steps.clear()

    def pass_time(self, now: int) -> None:
        self.flush()
        super().pass_time(now)

    def change_zone(self, name: str, scale: str) -> None:
        self._books.keep_zone(name, scale)

    def prune(self) -> None:
        """As if there were no more room."""
        for limit in budgets_of(self.life):
            self._books._drop_days(limit, self.clock.now)

    @property
    def _books(self) -> DictBooks:
        books: DictBooks = self.driver.ledger._books
        return books


class SQLiteStory(Story):
    """What happens at one time is one transaction. All stories are told to one file."""

    @classmethod
    @contextmanager
    def opened(cls) -> Iterator[Self]:
        story = cls()
        story.driver = SQLiteDriver(story.clock)
        yield story
        story.driver.end()

    def begin(self, life: Life) -> None:
        self._rows(";".join(f"DELETE FROM {table}" for table in _TABLES))

    def _rows(self, script: str) -> None:
        file = self.driver.ledger.file
        file.transact([lambda books: [books.execute(each) for each in script.split(";")]])

    def pass_time(self, now: int) -> None:
        self.flush()
        super().pass_time(now)

    def flush(self) -> None:
        steps, self.steps = self.steps, []
        if steps:
            answers = self.driver.ledger.commit()
            found = [finish(call, each) for (call, _), each in zip(steps, answers, strict=True)]
            assert found == [answer for _, answer in steps]

    def change_zone(self, name: str, scale: str) -> None:
        zone = zone_of_scale(scale)

        def change(books: Any) -> None:
            if books.zone(name) is None:  # an operator could not, nor need to
                books.keep_zone(name, scale)
            adopt.change_zone(books, name, zone)

        self.driver.ledger.file.transact([change])

    def prune(self) -> None:
        self.driver.ledger.file.prune()

    def end(self, life: Life) -> None:
        super().end(life)
        file = self.driver.ledger.file
        audit = SQLiteAudit(lambda: file, None, self.clock, KEEP, str)  # type: ignore[arg-type]
        with file.snapshot() as rows:
            assert audit._verify(rows).drifts == ()


KEEP = 35 * DAY


class RedisStory(Story):
    """All of a story is one round trip, but for what an operator does."""

    @classmethod
    @contextmanager
    def opened(cls, server: Server) -> Iterator[Self]:
        story = cls()
        with DirectRedis.connected(server) as RedisDriver.direct:
            yield story

    def begin(self, life: Life) -> None:
        keep_days = 2 if life.kind == "pruning" else 36_500
        self.driver = RedisDriver(self.clock, keep_days)
        limits = [*life.first["ann"], *life.first["shared"]]
        scales = {each.name: scale_of(each) for each in limits if each.kind == "budget"}
        self.driver.ledger._books._zones.learn(scales)

    def flush(self) -> None:
        steps, self.steps = self.steps, []
        driver = self.driver
        commands, driver.ledger.wire.commands = driver.ledger.wire.commands, []
        driver.connection.send_packed_command(driver.connection.pack_commands(commands))
        answers = [driver.connection.read_response() for _ in commands]
        found = [finish(call, each) for (call, _), each in zip(steps, answers, strict=True)]
        assert found == [answer for _, answer in steps]

    def change_zone(self, name: str, scale: str) -> None:
        """Scripts know days and their ends alone: the zones are those of their clients."""
        self.driver.ledger._books._zones.learn({name: scale})

    def crossings(self, life: Life) -> list[CrossingKey]:
        """An account forgets those of windows that ended long ago."""
        pending: list[CrossingKey] = self.driver.pending()
        return pending if life.kind == "pruning" else super().crossings(life)

    def end(self, life: Life) -> None:
        super().end(life)
        self.driver.end()


def budgets_of(life: Life) -> list[Limit]:
    limits = [*life.limits["ann"], *life.limits["bob"], *life.shared]
    return [each for each in limits if each.kind == "budget"]
