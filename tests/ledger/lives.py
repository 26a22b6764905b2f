"""Random lives of ledgers: one machine, the rules over the plainest books, and a ledger beside.

What is driven is a ledger's own methods, up to where they would wait: a driver answers in place of
the writer thread or the server. An event loop would make this ten times slower.

After every operation two things are checked. The balances of all limits are the same on both
sides. And promise A: for every counter, ``settled + held <= ceiling + overrun``, where the ceiling
is the highest limit under which anything was admitted to that counter, since a limit that is
lowered does not undo what was admitted before, plus what holds that the books never saw brought
in, up to what they had held. At the admission itself the limit of that very moment must hold.
When a life ends, every figure of every counter is compared.

Time passing is no operation: the next one, whatever it is, meets the leases that have ended. And
in some lives the balances are looked at only when a group of operations has run, since a look
charges what is due.
"""

from collections import defaultdict
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Protocol

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from chatnest.ledger import days, model
from chatnest.ledger.base import Admitted, Charge, Hold, Ledger, Limit, Line, Reservation
from chatnest.ledger.model import Counter, HoldRecord, HoldState
from chatnest.ledger.window import ListWindow
from tests.ledger.support import DAY, HOUR, SECOND, Clock, budget, rate, streams, utc
from tests.support.soak import SOAKS, amount

REMEMBERED = HOUR
"""For how long every ledger knows a hold that has ended."""

EACH = amount(250, 500)
in_shards = pytest.mark.parametrize("shard", range(amount(250, 20_000) // EACH))
"""Shards of lives: several processes share them, and each lets go of its memory at its end."""

SETTINGS = settings(
    max_examples=EACH,
    stateful_step_count=amount(50, 100),
    derandomize=not SOAKS,  # a soak is random: no two of its shards live the same lives
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
)


class PlainBooks:
    """Books that nothing was done for but to be right. They forget nothing."""

    def __init__(self) -> None:
        self.counters: defaultdict[str, Counter] = defaultdict(Counter)
        self.windows: defaultdict[str, ListWindow] = defaultdict(ListWindow)
        self.holds: dict[str, HoldRecord] = {}
        self.live: dict[str, HoldRecord] = {}
        self.zones: dict[str, str] = {}

    def counter(self, key: str) -> Counter:
        return self.counters[key]

    def window(self, key: str) -> ListWindow:
        return self.windows[key]

    def hold(self, hold_id: str) -> HoldRecord | None:
        return self.holds.get(hold_id)

    def add(self, record: HoldRecord) -> None:
        self.holds[record.hold.id] = self.live[record.hold.id] = record

    def zone(self, name: str) -> str | None:
        return self.zones.get(name)

    def keep_zone(self, name: str, zone: str) -> None:
        self.zones[name] = zone

    def due(self, now: int) -> list[HoldRecord]:
        ended = [key for key, record in self.live.items() if record.state]
        for key in ended:
            del self.live[key]
        return [record for record in self.live.values() if record.until <= now]


class Answer:
    """What a driven ledger waits for."""

    def __await__(self) -> Generator[None, Any, Any]:
        return (yield)


def finish(call: Coroutine[Any, Any, object], answer: object) -> object:
    try:
        call.send(answer)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it waits for something else")


Figures = dict[str, tuple[int, int, int, int]]


class Driver(Protocol):
    """Runs a ledger's calls without an event loop."""

    @property
    def ledger(self) -> Ledger: ...

    def run(self, calls: list[Coroutine[Any, Any, object]]) -> list[object]:
        """Their answers, in their order."""

    def restart(self) -> None:
        """End the process, as far as that can be played."""

    def figures(self) -> Figures:
        """Settled, held, overrun and expired of every counter that is not all zeros."""

    def end(self) -> None:
        """Leave nothing behind."""


FIRST_LIMITS = {
    "ann": [rate(4, 10), budget(1_000), streams(3)],
    "bob": [
        *(rate(4, 10, "bob"), budget(1_000, "bob", "America/New_York", "eastern")),
        streams(3, "bob"),
    ],
    "team": [
        *(rate(6, 10, "team"), budget(1_500, "team", "Europe/Berlin", "shared")),
        streams(5, "team"),
    ],
}
STARTS = ["2026-03-07T20:00", "2026-03-28T20:00", "2026-10-24T20:00", "2026-10-31T20:00"]
"""Evenings before days of 23 and of 25 hours, in New York and in Berlin."""

JUMPS = [step * sign for step in (SECOND, HOUR, DAY, 365 * DAY) for sign in (-1, 1)]
SHARES = st.sampled_from([0, 1, 40, 250, 600, 1_100])
LEASES = st.sampled_from([0, SECOND, 5 * SECOND, 30 * SECOND])
PICKS = st.integers(0, 15)
TIMES = st.sampled_from([1, 1, 1, 2, 3, 4, 5])


class Lives(RuleBasedStateMachine):
    """One life: a sequence of operations, answered by the rules and by a ledger alike."""

    def drive(self, clock: Clock) -> Driver:
        """The ledger's own side of a life."""
        raise NotImplementedError

    @initialize(start=st.sampled_from(STARTS), group=st.integers(1, 4), looks=st.integers(0, 3))
    def begin(self, start: str, group: int, looks: int) -> None:
        self.clock = Clock(utc(start))
        self.latest = self.clock.now
        self.books = PlainBooks()
        self.lives = self.drive(self.clock)
        self.limits = {account: list(limits) for account, limits in FIRST_LIMITS.items()}
        self.group = group
        self.looks_always = looks > 0
        self.moved = True
        self.steps = 0
        self.calls: list[Coroutine[Any, Any, object]] = []
        self.expected: list[object] = []
        self.wishes: list[Reservation] = []
        self.holds: list[Hold] = []
        self.ceilings: defaultdict[str, int] = defaultdict(int)
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
        self.moved = False
        return answer

    def again(self, times: int, name: str, *arguments: Any) -> Any:
        answers = [self.both(name, *arguments) for _ in range(times)]
        return answers[0]

    def look(self) -> None:
        """Every balance."""
        self.both("usage", tuple(limit for some in self.limits.values() for limit in some))

    def compare(self) -> None:
        calls, self.calls = self.calls, []
        expected, self.expected = self.expected, []
        self.steps = 0
        if calls:
            assert self.lives.run(calls) == expected

    def pass_time(self, milliseconds: int) -> None:
        self.compare()
        self.clock.now += milliseconds
        self.latest = max(self.latest, self.clock.now)
        self.moved = True

    def is_remembered(self, hold_id: str) -> bool:
        record = self.books.hold(hold_id)
        return (
            record is None
            or record.state is HoldState.RESERVED
            or self.latest < record.until + REMEMBERED
        )

    def pick_hold(self, pick: int) -> Hold | None:
        self.holds = [hold for hold in self.holds[-16:] if self.is_remembered(hold.id)]
        return self.holds[pick % len(self.holds)] if self.holds else None

    def pick_wish(self, pick: int) -> Reservation | None:
        self.wishes = [wish for wish in self.wishes[-16:] if self.is_remembered(wish.id)]
        return self.wishes[pick % len(self.wishes)] if self.wishes else None

    def new_id(self) -> str:
        self.made += 1
        return f"turn-{self.made}"

    # ------------------------------------------------ what may happen

    @rule(
        who=st.sampled_from(["ann", "bob"]),
        which=st.integers(1, 63),
        tokens=SHARES,
        least=SHARES,
        lease=LEASES,
        times=TIMES,
    )
    def reserve(  # noqa: PLR0917  # Hypothesis gives them by name
        self, who: str, which: int, tokens: int, least: int, lease: int, times: int
    ) -> None:
        both = [*self.limits[who], *self.limits["team"]]
        limits = tuple(limit for bit, limit in enumerate(both) if which >> bit & 1)
        reservation = Reservation(
            id=self.new_id(),
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
        for _ in range(times - 1):
            # One that was refused may be admitted now, should a lease of 0 have ended.
            again = self.both("reserve", reservation)
            if isinstance(again, Admitted) and not isinstance(answer, Admitted):
                self.holds.append(again.hold)
                self.check_admission(limits)
            answer = again

    def check_admission(self, limits: tuple[Limit, ...]) -> None:
        for limit in limits:
            key = model.counter_key(limit, self.clock.now)
            counter = self.books.counter(key)
            if limit.kind == "rate":
                assert len(self.books.window(key)) <= limit.limit
            else:
                assert counter.settled + counter.held <= limit.limit + counter.overrun
            self.ceilings[key] = max(self.ceilings[key], limit.limit)

    @rule(pick=PICKS, times=TIMES)
    def reserve_again(self, pick: int, times: int) -> None:
        wish = self.pick_wish(pick)
        for _ in range(times if wish else 0):
            known = self.books.hold(wish.id)  # type: ignore[union-attr]
            answer = self.both("reserve", wish)
            if known is None and isinstance(answer, Admitted):
                self.holds.append(answer.hold)
                self.check_admission(wish.limits)  # type: ignore[union-attr]

    @rule(pick=PICKS, lease=LEASES, times=TIMES)
    def renew(self, pick: int, lease: int, times: int) -> None:
        hold = self.pick_hold(pick)
        if hold is not None:
            self.again(times, "renew", hold, lease)

    @rule(pick=PICKS, tokens=SHARES, times=TIMES)
    def settle(self, pick: int, tokens: int, times: int) -> None:
        hold = self.pick_hold(pick)
        if hold is not None:
            self.again(times, "settle", hold, Charge(tokens=tokens))

    @rule(pick=PICKS, times=TIMES)
    def release(self, pick: int, times: int) -> None:
        wish = self.pick_wish(pick)
        if wish is not None:
            self.again(times, "release", wish)

    @rule(who=st.sampled_from(["ann", "bob"]), times=TIMES)
    def release_before_it_comes(self, who: str, times: int) -> None:
        limits = tuple(self.limits[who])
        wish = Reservation(id=self.new_id(), limits=limits, tokens=10, min_tokens=1)
        self.wishes.append(wish)
        self.again(times, "release", wish)

    @rule(tokens=SHARES, held=SHARES, times=TIMES)
    def settle_what_was_forgotten(self, tokens: int, held: int, times: int) -> None:
        key = model.counter_key(self.limits["ann"][1], self.clock.now)
        lines = (Line(key, "tokens"), Line("streams::ann", "streams"))
        hold = Hold(id=self.new_id(), tokens=held, lines=lines)
        self.holds.append(hold)
        self.again(times, "settle", hold, Charge(tokens=tokens))
        self.ceilings[key] += min(tokens, held)

    @rule(milliseconds=st.sampled_from([0, 1, 999, SECOND, 4_999, 5 * SECOND, 10 * SECOND]))
    def wait(self, milliseconds: int) -> None:
        self.pass_time(milliseconds)

    @rule(early=st.integers(0, 1))
    def wait_for_the_next_lease_to_end(self, early: int) -> None:
        ends = [
            record.until
            for record in self.books.live.values()
            if record.state is HoldState.RESERVED and record.until > self.clock.now
        ]
        if ends:
            self.pass_time(min(ends) - early - self.clock.now)

    @rule(early=st.integers(0, 1), who=st.sampled_from(["ann", "bob", "team"]))
    def wait_for_midnight(self, early: int, who: str) -> None:
        end = days.day_end(self.clock.now, self.limits[who][1].timezone)
        self.pass_time(end - early - self.clock.now)

    @rule(step=st.sampled_from(JUMPS))
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

    # ------------------------------------------------ what always holds

    @invariant()
    def nothing_is_overspent_and_balances_are_equal(self) -> None:
        if not hasattr(self, "books"):
            return
        self.steps += 1
        full = self.steps >= self.group
        if not self.moved and (full or self.looks_always):
            self.look()
        for key, counter in self.books.counters.items():
            assert counter.settled + counter.held <= self.ceilings[key] + counter.overrun, key
        if full:
            self.compare()

    def teardown(self) -> None:
        if hasattr(self, "lives"):
            try:
                self.look()
                self.compare()
                assert self.lives.figures() == {
                    key: (c.settled, c.held, c.overrun, c.expired)
                    for key, c in self.books.counters.items()
                    if c != Counter()
                }
            finally:
                for call in self.calls:
                    call.close()
                self.lives.end()


def live(machine: type[Lives], tell: Callable[[str], None]) -> None:
    """One shard of lives."""
    run_state_machine_as_test(machine, settings=SETTINGS)
    tell(f"{EACH} lives of {SETTINGS.stateful_step_count} steps, no difference")
