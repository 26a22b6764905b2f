"""Random lives of ledgers: the rules over the plainest books, and each ledger beside them.

What is driven is the ledgers' own methods, up to where they would wait: MemoryLedger never does;
SQLiteLedger does for its writer thread, whose place is taken here by the very transactions that it
runs, of one to four operations each. An event loop and a thread would make this ten times slower.
The file is in memory or, so that it can be closed and opened again, on disk but not synced.

CHATNEST_HYPOTHESIS=soak raises the number of lives.
"""

import os
import tempfile
from collections import defaultdict
from collections.abc import Callable, Coroutine, Generator
from pathlib import Path
from typing import Any, ClassVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from chatnest.ledger import model
from chatnest.ledger._sqlite_books import RowBooks
from chatnest.ledger._sqlite_file import BookFile
from chatnest.ledger.base import Admitted, Charge, Hold, Ledger, Limit, Line, Reservation
from chatnest.ledger.memory import MemoryLedger
from chatnest.ledger.model import Counter, HoldRecord, HoldState
from chatnest.ledger.sqlite import SQLiteLedger
from tests.ledger.support import DAY, HOUR, SECOND, Clock, budget, rate, streams, utc

SOAKS = os.environ.get("CHATNEST_HYPOTHESIS") == "soak"
SETTINGS = settings(stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck))
REMEMBERED = HOUR
"""For how long every ledger knows a hold that has ended."""


class PlainBooks:
    """Books that nothing was done for but to be right. They forget nothing."""

    def __init__(self) -> None:
        self.counters: defaultdict[str, Counter] = defaultdict(Counter)
        self.windows: defaultdict[str, list[int]] = defaultdict(list)
        self.holds: dict[str, HoldRecord] = {}

    def counter(self, key: str) -> Counter:
        return self.counters[key]

    def window(self, key: str) -> list[int]:
        return self.windows[key]

    def hold(self, hold_id: str) -> HoldRecord | None:
        return self.holds.get(hold_id)

    def add(self, record: HoldRecord) -> None:
        self.holds[record.hold.id] = record

    def due(self, now: int) -> list[HoldRecord]:
        return [
            record
            for record in self.holds.values()
            if record.state is HoldState.RESERVED and record.until <= now
        ]


class _Answer:
    def __await__(self) -> Generator[None, Any, Any]:
        return (yield)


class DirectSQLiteLedger(SQLiteLedger):
    """Operations wait until ``commit`` runs them all, in one transaction and in this thread."""

    def __init__(self, path: str, clock: Clock) -> None:
        super().__init__(path, clock=clock)
        self.file = BookFile(
            path, clock=clock, synchronous="OFF", busy_timeout=0, keep_days=100 * 365
        )
        self.waiting: list[Callable[[RowBooks], object]] = []

    async def _run(self, operation: Callable[[RowBooks], Any]) -> Any:
        self.waiting.append(operation)
        return await _Answer()

    def commit(self) -> list[object]:
        operations, self.waiting = self.waiting, []
        return self.file.transact(operations)


class MemoryLives:
    """Drives a MemoryLedger."""

    def __init__(self, clock: Clock) -> None:
        self.ledger: Ledger = MemoryLedger(clock=clock)

    def run(self, calls: list[Coroutine[Any, Any, object]]) -> list[object]:
        return [finish(call, None) for call in calls]

    def restart(self) -> None:
        """It would forget everything."""

    def end(self) -> None:
        """Nothing to do."""


class SQLiteLives:
    """Drives a SQLiteLedger."""

    def __init__(self, clock: Clock) -> None:
        self._folder = tempfile.TemporaryDirectory()
        path = str(Path(self._folder.name) / "ledger.db")
        self.ledger = DirectSQLiteLedger(path, clock)

    def run(self, calls: list[Coroutine[Any, Any, object]]) -> list[object]:
        for call in calls:
            call.send(None)
        answers = self.ledger.commit()
        return [finish(call, answer) for call, answer in zip(calls, answers, strict=True)]

    def restart(self) -> None:
        self.ledger.file.close()

    def end(self) -> None:
        self.ledger.file.close()
        self._folder.cleanup()


def finish(call: Coroutine[Any, Any, object], answer: object) -> object:
    try:
        call.send(answer)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it waits for something else")


FIRST_LIMITS = {
    "ann": [rate(4, 10), budget(1_000), streams(3)],
    "bob": [rate(4, 10, "bob"), budget(1_000, "bob", "America/New_York"), streams(3, "bob")],
    "team": [rate(6, 10, "team"), budget(1_500, "team", "Europe/Berlin"), streams(5, "team")],
}
SHARES = st.sampled_from([0, 1, 40, 250, 600, 1_100])
LEASES = st.sampled_from([0, SECOND, 5 * SECOND, 30 * SECOND])
PICKS = st.integers(0, 15)


class Lives(RuleBasedStateMachine):
    """One life: a sequence of operations, answered by the rules and by a ledger alike."""

    driver: ClassVar[type[MemoryLives | SQLiteLives]]

    @initialize(group=st.integers(1, 4))
    def begin(self, group: int) -> None:
        self.clock = Clock(utc("2026-03-28T20:00"))
        self.latest = self.clock.now
        self.books = PlainBooks()
        self.lives = self.driver(self.clock)
        self.limits = {account: list(limits) for account, limits in FIRST_LIMITS.items()}
        self.group = group
        self.calls: list[Coroutine[Any, Any, object]] = []
        self.expected: list[object] = []
        self.wishes: list[Reservation] = []
        self.holds: list[Hold] = []
        self.made = 0

    # ------------------------------------------------ both sides

    def both(self, name: str, *arguments: Any) -> Any:
        """Run an operation by the rules at once, and by the ledger when its group is full."""
        given = arguments
        if name == "renew":
            given = (arguments[0].id, arguments[1])
        answer = getattr(model, name)(self.books, *given, self.clock.now)
        self.expected.append(answer)
        self.calls.append(getattr(self.lives.ledger, name)(*arguments))
        if len(self.calls) >= self.group:
            self.compare()
        return answer

    def look(self) -> object:
        """Every balance."""
        return self.both("usage", tuple(limit for some in self.limits.values() for limit in some))

    def compare(self) -> None:
        calls, self.calls = self.calls, []
        expected, self.expected = self.expected, []
        if calls:
            assert self.lives.run(calls) == expected

    def pass_time(self, milliseconds: int) -> None:
        self.compare()
        self.clock.now += milliseconds
        self.latest = max(self.latest, self.clock.now)

    def is_remembered(self, hold_id: str) -> bool:
        record = self.books.hold(hold_id)
        return (
            record is None
            or record.state is HoldState.RESERVED
            or self.latest < record.until + REMEMBERED
        )

    def pick_hold(self, pick: int) -> Hold | None:
        self.holds = [hold for hold in self.holds if self.is_remembered(hold.id)][-16:]
        return self.holds[pick % len(self.holds)] if self.holds else None

    # ------------------------------------------------ what may happen

    @rule(
        who=st.sampled_from(["ann", "bob"]),
        which=st.integers(1, 63),
        tokens=SHARES,
        least=SHARES,
        lease=LEASES,
    )
    def reserve(self, who: str, which: int, tokens: int, least: int, lease: int) -> None:
        both = [*self.limits[who], *self.limits["team"]]
        limits = tuple(limit for bit, limit in enumerate(both) if which >> bit & 1)
        self.made += 1
        reservation = Reservation(
            id=f"turn-{self.made}",
            limits=limits,
            tokens=tokens,
            min_tokens=min(tokens, least),
            lease=lease,
        )
        self.wishes.append(reservation)
        answer = self.both("reserve", reservation)
        if isinstance(answer, Admitted):
            self.holds.append(answer.hold)
            self.check_admission(limits)

    def check_admission(self, limits: tuple[Limit, ...]) -> None:
        for limit in limits:
            key = model.counter_key(limit, self.clock.now)
            counter = self.books.counter(key)
            if limit.kind == "rate":
                assert len(self.books.window(key)) <= limit.limit
            else:
                assert counter.settled + counter.held <= limit.limit + counter.overrun

    @rule(pick=PICKS, times=st.integers(1, 3))
    def reserve_again(self, pick: int, times: int) -> None:
        self.wishes = [wish for wish in self.wishes if self.is_remembered(wish.id)][-16:]
        for _ in range(times if self.wishes else 0):
            self.both("reserve", self.wishes[pick % len(self.wishes)])

    @rule(pick=PICKS, lease=LEASES)
    def renew(self, pick: int, lease: int) -> None:
        hold = self.pick_hold(pick)
        if hold is not None:
            self.both("renew", hold, lease)

    @rule(pick=PICKS, tokens=SHARES, times=st.integers(1, 3))
    def settle(self, pick: int, tokens: int, times: int) -> None:
        hold = self.pick_hold(pick)
        for _ in range(times if hold else 0):
            self.both("settle", hold, Charge(tokens=tokens))

    @rule(pick=PICKS)
    def release(self, pick: int) -> None:
        self.wishes = [wish for wish in self.wishes if self.is_remembered(wish.id)][-16:]
        if self.wishes:
            self.both("release", self.wishes[pick % len(self.wishes)])

    @rule(who=st.sampled_from(["ann", "bob"]))
    def release_before_it_comes(self, who: str) -> None:
        self.made += 1
        limits = tuple(self.limits[who])
        reservation = Reservation(id=f"turn-{self.made}", limits=limits, tokens=10, min_tokens=1)
        self.wishes.append(reservation)
        self.both("release", reservation)

    @rule(tokens=SHARES, held=SHARES)
    def settle_what_was_forgotten(self, tokens: int, held: int) -> None:
        self.made += 1
        key = model.counter_key(self.limits["ann"][1], self.clock.now)
        lines = (Line(key, "tokens"), Line("streams::ann", "streams"))
        self.holds.append(Hold(id=f"turn-{self.made}", tokens=held, lines=lines))
        self.both("settle", self.holds[-1], Charge(tokens=tokens))

    @rule(milliseconds=st.sampled_from([0, 1, 999, SECOND, 4_999, 5 * SECOND, 10 * SECOND]))
    def wait(self, milliseconds: int) -> None:
        self.pass_time(milliseconds)

    @rule(early=st.integers(0, 1))
    def wait_for_the_next_lease_to_end(self, early: int) -> None:
        ends = [
            record.until
            for record in self.books.holds.values()
            if record.state is HoldState.RESERVED and record.until > self.clock.now
        ]
        if ends:
            self.pass_time(min(ends) - early - self.clock.now)

    @rule(early=st.integers(0, 1), who=st.sampled_from(["ann", "bob", "team"]))
    def wait_for_midnight(self, early: int, who: str) -> None:
        end = model.day_end(self.clock.now, self.limits[who][1].timezone)
        self.pass_time(end - early - self.clock.now)

    @rule(step=st.sampled_from([-365 * DAY, -DAY, -HOUR, -SECOND, HOUR, DAY]))
    def set_the_clock(self, step: int) -> None:
        self.pass_time(step)

    @rule(
        who=st.sampled_from(["ann", "bob", "team"]),
        index=st.integers(0, 2),
        factor=st.sampled_from([0, 0.3, 0.5, 1, 2]),
    )
    def change_a_limit(self, who: str, index: int, factor: float) -> None:
        first = FIRST_LIMITS[who][index]
        self.limits[who][index] = Limit(
            name=first.name,
            kind=first.kind,
            account=first.account,
            limit=int(first.limit * factor),
            window=first.window,
            timezone=first.timezone,
        )

    @rule()
    def restart(self) -> None:
        self.compare()
        self.lives.restart()

    @precondition(lambda self: not self.calls)
    @invariant()
    def balances_are_equal(self) -> None:
        if hasattr(self, "books"):
            self.look()

    def teardown(self) -> None:
        if hasattr(self, "lives"):
            try:
                self.compare()
                self.look()
                self.compare()
            finally:
                for call in self.calls:
                    call.close()
                self.lives.end()


class LivesOfMemory(Lives):
    driver = MemoryLives


class LivesOfSQLite(Lives):
    driver = SQLiteLives


TestMemory = LivesOfMemory.TestCase
TestMemory.settings = settings(SETTINGS, max_examples=20_000 if SOAKS else 900)
TestSQLite = LivesOfSQLite.TestCase
TestSQLite.settings = settings(SETTINGS, max_examples=20_000 if SOAKS else 700)
