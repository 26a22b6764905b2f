"""Random lives of ledgers: one machine, the rules over the plainest books, and a ledger beside.

What is driven is a ledger's own methods, up to where they would wait: a driver answers in place of
the writer thread or the server. An event loop would make this ten times slower.

After every operation two things are checked. The balances of all limits are the same on both
sides. And promise A, in two halves. At an admission, each limit holds for the sum of its window:
``settled + adjusted + held <= amount + grants + overrun``. And between admissions ``settled + held
- overrun`` of a counter never rises, but for holds that the books never saw. When a life ends,
every figure of every counter is compared, and every threshold that was crossed.

The limits are of all units and windows, and change while holds run: their amounts, their windows,
and whether they are enforced. Operators grant and correct.

Time passing is no operation: the next one, whatever it is, meets the leases that have ended. And
in some lives the balances are looked at only when a group of operations has run, since a look
charges what is due.
"""

from collections import defaultdict
from collections.abc import Callable, Coroutine, Generator, Mapping
from typing import Any, Protocol

import msgspec
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
from chatnest.ledger.audit import Adjustment
from chatnest.ledger.base import (
    Admitted,
    Charge,
    Cost,
    Facts,
    Hold,
    Ledger,
    Limit,
    Line,
    Reservation,
)
from chatnest.ledger.books import (
    EVER,
    GRANTED,
    Counter,
    HoldRecord,
    HoldState,
    counter_key,
)
from chatnest.ledger.calendar import span_of_window
from chatnest.ledger.limit import Unit, Window
from chatnest.ledger.sliding import Sliding
from chatnest.ledger.usage import KEPT_DAYS, UsageRow, Use, first_day, row_of, use_of
from chatnest.ledger.watch import Crossing, Watch, WatchRow
from chatnest.ledger.window import ListWindow
from tests.ledger.support import DAY, HOUR, SECOND, Clock, budget, rate, streams, utc
from tests.support.soak import SOAKS, amount

REMEMBERED = HOUR
"""For how long every ledger knows a hold that has ended."""

EACH = amount(80, 500)
in_shards = pytest.mark.parametrize("shard", range(amount(80, 20_000) // EACH))
"""Shards of lives: several processes share them, and each lets go of its memory at its end."""

SETTINGS = settings(
    max_examples=EACH,
    stateful_step_count=amount(50, 100),
    derandomize=not SOAKS,  # a soak is random: no two of its shards live the same lives
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
)


CrossingKey = tuple[str, str, str, int]

ALL_DAYS = "0", EVER, -1
"""The first of them, the last, and the end that they must be after."""


class PlainBooks:
    """Books that nothing was done for but to be right. They forget nothing."""

    def __init__(self) -> None:
        self.counters: defaultdict[str, Counter] = defaultdict(Counter)
        self.windows: defaultdict[str, ListWindow] = defaultdict(ListWindow)
        self.holds: dict[str, HoldRecord] = {}
        self.live: dict[str, HoldRecord] = {}
        self.zones: dict[str, str] = {}
        self.slidings: defaultdict[str, Sliding] = defaultdict(Sliding)
        self.watch_rows: defaultdict[tuple[str, str, str], WatchRow] = defaultdict(WatchRow)
        self.crossings: dict[CrossingKey, Crossing] = {}
        self.usage: defaultdict[UsageRow, Use] = defaultdict(Use)

    def spend(self, row: UsageRow, use: Use, sign: int) -> None:
        self.usage[row].add(use, sign)

    def watched(self, name: str, account: str, period: str) -> WatchRow:
        return self.watch_rows[name, account, period]

    def watches(self, name: str, account: str) -> list[Watch]:
        rows = [row for key, row in self.watch_rows.items() if key[:2] == (name, account)]
        return [row.watch for row in rows if row.watch is not None]

    def cross(self, crossing: Crossing) -> None:
        assert crossing.key not in self.crossings
        self.crossings[crossing.key] = crossing

    def sliding(self, key: str) -> Sliding:
        return self.slidings[key]

    def keep_ever(self, name: str) -> None:
        pass

    def sums(self, name: str, account: str, first: str, last: str, start: int) -> tuple[int, int]:
        rows = self.rows(name, account, first, last, start)
        return sum(c.settled + c.adjusted for c in rows), sum(c.held for c in rows)

    def rows(self, name: str, account: str, first: str, last: str, start: int) -> list[Counter]:
        return [
            counter
            for key, counter in self.counters.items()
            if key.startswith(f"{name}:") and key.endswith(f":{account}")
            if first <= key.split(":")[1] <= last and counter.ends > start
        ]

    def all_sums(self, name: str, account: str) -> tuple[int, int]:
        return self.sums(name, account, *ALL_DAYS)

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
        due = [record for record in self.live.values() if record.until <= now]
        return sorted(due, key=lambda record: record.until)


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


Figures = dict[str, tuple[int, int, int, int, int]]
Usage = dict[UsageRow, Use]


class Driver(Protocol):
    """Runs a ledger's calls without an event loop."""

    @property
    def ledger(self) -> Ledger: ...

    def run(self, calls: list[Coroutine[Any, Any, object]]) -> list[object]:
        """Their answers, in their order."""

    def restart(self) -> None:
        """End the process, as far as that can be played."""

    def adjust(self, adjustment: Adjustment) -> None:
        """A correction or a grant by an operator, at once."""

    def figures(self) -> Figures:
        """Settled, held, overrun, expired and adjusted of every counter that is not all zeros."""

    def crossings(self) -> list[CrossingKey]:
        """Every threshold that was crossed."""

    def usage(self) -> Usage:
        """The roll-up, without rows that are all zeros."""

    def recorded(self) -> Usage | None:
        """The same by the records, where there are any."""

    def end(self) -> None:
        """Leave nothing behind."""


def _others(account: str, zone: str) -> list[Limit]:
    """Limits of the other units and windows, with the names of one zone."""

    def limit(
        name: str, unit: Unit, amount: int, window: Window, starts: int = 1, *warn_at: int
    ) -> Limit:
        return Limit(
            name=f"{name}-{zone[:3]}",
            unit=unit,
            account=account,
            amount=amount,
            window=window,
            starts=starts,
            timezone="UTC" if isinstance(window, int) else zone,
            warn_at=warn_at,
        )

    return [
        limit("minute", "tokens", 1_200, 10),
        limit("burst", "money", 2_500, 60),
        limit("calls", "requests", 5, "day", 1, 200, 1_000),
        limit("dollars", "money", 6_000, "month", 31, 1, 100, 500),
        limit("dollars", "money", 2_000, "day", 1, 3),
        limit("prepaid", "money", 0, "lifetime", 1, 1, 500),
        limit("weekly", "tokens", 3_000, "week", 3, 1, 200),
    ]


FIRST_LIMITS = {
    "ann": [rate(4, 10), budget(1_000), streams(3), *_others("ann", "UTC")],
    "bob": [
        *(rate(4, 10, "bob"), budget(1_000, "bob", "America/New_York", "eastern")),
        *(streams(3, "bob"), *_others("bob", "America/New_York")),
    ],
    "team": [
        *(rate(6, 10, "team"), budget(1_500, "team", "Europe/Berlin", "shared")),
        *(streams(5, "team"), *_others("team", "Europe/Berlin")),
    ],
}
OF_ONE = len(FIRST_LIMITS["ann"])
STARTS = [
    *("2026-03-07T20:00", "2026-03-28T20:00", "2026-10-24T20:00", "2026-10-31T20:00"),
    *("2026-01-30T20:00", "2028-02-28T20:00"),
]
"""Evenings before days of 23 and of 25 hours, in New York and in Berlin, and near the ends of
months."""

JUMPS = [step * sign for step in (SECOND, HOUR, DAY, 31 * DAY, 365 * DAY) for sign in (-1, 1)]
SHARES = st.sampled_from([0, 1, 40, 250, 600, 1_100])
COSTS = st.sampled_from([Cost(0, 0), Cost(0, 0), Cost(3, 1), Cost(40, 7), Cost(900, 0)])
LEASES = st.sampled_from([0, SECOND, 5 * SECOND, 30 * SECOND])
WHO = st.sampled_from(["ann", "bob", "team"])
PICKS = st.integers(0, 15)
TIMES = st.sampled_from([1, 1, 1, 2, 3, 4, 5])
WHICH = st.one_of(
    st.integers(1, 63).map(lambda bits: [bit % 3 + bit // 3 * OF_ONE for bit in _ones(bits)]),
    st.lists(st.integers(0, 2 * OF_ONE - 1), min_size=1, max_size=6, unique=True),
)
"""Which of one's own limits and of the team's: of the first three of each, or of all."""


def _ones(bits: int) -> list[int]:
    return [bit for bit in range(bits.bit_length()) if bits >> bit & 1]


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
        self.all_wishes: list[Reservation] = []
        self.holds: list[Hold] = []
        self.ceilings: defaultdict[str, int] = defaultdict(int)
        self.charges: dict[str, tuple[Charge, int]] = {}
        self.made = 0
        # The books know the zones of all names from the first admission on.
        first = Reservation(
            id="first",
            limits=tuple(
                msgspec.structs.replace(limit, mode="shadow")
                for some in FIRST_LIMITS.values()
                for limit in some
            ),
            output=0,
            min_output=0,
        )
        self.both("reserve", first)
        self.both("release", first)

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
        which=WHICH,
        tokens=SHARES,
        least=SHARES,
        read=st.sampled_from([0, 0, 30]),
        money=COSTS,
        lease=LEASES,
        times=TIMES,
    )
    def reserve(  # noqa: PLR0917  # Hypothesis gives them by name
        self,
        who: str,
        which: list[int],
        tokens: int,
        least: int,
        read: int,
        money: Cost,
        lease: int,
        times: int,
    ) -> None:
        both = [*self.limits[who], *self.limits["team"]]
        reservation = Reservation(
            id=self.new_id(),
            limits=tuple(both[index] for index in which),
            output=tokens,
            min_output=min(tokens, least),
            input_tokens=read,
            money=money,
            lease=lease,
        )
        self.wishes.append(reservation)
        self.all_wishes.append(reservation)
        for _ in range(times):
            # One that was refused may be admitted now, should a lease of 0 have ended.
            self.reserve_one(reservation)

    def reserve_one(self, wish: Reservation) -> None:
        known = self.books.hold(wish.id)
        answer = self.both("reserve", wish)
        if known is None and isinstance(answer, Admitted):
            self.holds.append(answer.hold)
            self.check_admission(wish)

    def check_admission(self, wish: Reservation) -> None:
        now, books = self.clock.now, self.books
        for limit in wish.limits:
            key, cost = counter_key(limit, now), wish.costs()[limit.unit]
            counter = books.counter(key)
            if limit.kind != "rate":
                self.ceilings[key] = counter.settled + counter.held - counter.overrun
            if limit.mode == "shadow" or cost == Cost(0, 0):
                continue
            if limit.window is None:
                assert counter.held <= limit.amount
            elif limit.kind == "budget":
                span = ALL_DAYS
                if limit.window != "lifetime":
                    found = span_of_window(limit, now)
                    span = found.first, found.last, found.start
                rows = books.rows(limit.name, limit.account, *span)
                counted = sum(c.settled + c.adjusted + c.held - c.overrun for c in rows)
                granted = books.counter(f"{limit.name}:{GRANTED}:{limit.account}").adjusted
                if limit.window != "lifetime":
                    granted = 0
                assert counted <= limit.amount + granted
            elif limit.unit == "requests":
                assert len(books.window(key)) <= limit.amount
            else:
                assert books.sliding(key).weight <= limit.amount

    @rule(pick=PICKS, times=TIMES)
    def reserve_again(self, pick: int, times: int) -> None:
        wish = self.pick_wish(pick)
        if wish is not None:
            for _ in range(times):
                self.reserve_one(wish)

    @rule(pick=PICKS, lease=LEASES, times=TIMES)
    def renew(self, pick: int, lease: int, times: int) -> None:
        hold = self.pick_hold(pick)
        if hold is not None:
            self.again(times, "renew", hold, lease)

    @rule(pick=PICKS, tokens=SHARES, money=SHARES, times=TIMES)
    def settle(self, pick: int, tokens: int, money: int, times: int) -> None:
        hold = self.pick_hold(pick)
        if hold is not None:
            self.settle_one(times, hold, charge_of(pick, tokens, money))

    def settle_one(self, times: int, hold: Hold, charge: Charge) -> None:
        if self.again(times, "settle", hold, charge).first:
            self.charges[hold.id] = charge, self.clock.now

    @rule(pick=PICKS, times=TIMES)
    def release(self, pick: int, times: int) -> None:
        wish = self.pick_wish(pick)
        if wish is not None:
            self.again(times, "release", wish)

    @rule(who=st.sampled_from(["ann", "bob"]), times=TIMES)
    def release_before_it_comes(self, who: str, times: int) -> None:
        limits = tuple(self.limits[who])
        wish = Reservation(id=self.new_id(), limits=limits, output=10, min_output=1)
        self.wishes.append(wish)
        self.again(times, "release", wish)

    @rule(
        tokens=SHARES,
        held=SHARES,
        indexes=st.lists(st.integers(1, OF_ONE - 1), max_size=3, unique=True),
        times=TIMES,
    )
    def settle_what_was_forgotten(
        self, tokens: int, held: int, indexes: list[int], times: int
    ) -> None:
        limits = [self.limits["ann"][index] for index in indexes]
        lines = {
            key: Line(key, limit.unit, 1 if limit.kind == "rate" else -1)
            for limit in limits
            for key in [counter_key(limit, self.clock.now)]
        }
        hold = Hold(id=self.new_id(), tokens=held, money=held, lines=tuple(lines.values()))
        self.holds.append(hold)
        self.settle_one(times, hold, charge_of(len(indexes), tokens, tokens))
        for line in hold.lines:
            if line.unit != "streams":
                self.ceilings[line.key] += 1 if line.unit == "requests" else min(tokens, held)

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

    @rule(early=st.integers(0, 1), who=WHO)
    def wait_for_midnight(self, early: int, who: str) -> None:
        end = days.day_end(self.clock.now, self.limits[who][1].timezone)
        self.pass_time(end - early - self.clock.now)

    @rule(early=st.integers(0, 1), who=WHO, index=st.integers(3, OF_ONE - 1))
    def wait_for_the_end_of_a_window(self, early: int, who: str, index: int) -> None:
        limit = self.limits[who][index]
        if limit.kind == "budget" and limit.window != "lifetime":
            end = span_of_window(limit, self.clock.now).end
            self.pass_time(end - early - self.clock.now)

    @rule(step=st.sampled_from(JUMPS))
    def set_the_clock(self, step: int) -> None:
        self.pass_time(step)

    @rule(
        who=WHO,
        index=st.integers(0, OF_ONE - 1),
        factor=st.sampled_from([0, 0.3, 0.5, 1, 2]),
        window=st.sampled_from([None, "day", "week", "month", "lifetime"]),
        starts=st.sampled_from([1, 3, 31]),
        is_shadow=st.booleans(),
        warn_at=st.sampled_from([(), (1,), (5, 300), (100, 200, 1_000)]),
    )
    def change_a_limit(  # noqa: PLR0917  # Hypothesis gives them by name
        self,
        who: str,
        index: int,
        factor: float,
        window: Window,
        starts: int,
        is_shadow: bool,
        warn_at: tuple[int, ...],
    ) -> None:
        first = FIRST_LIMITS[who][index]
        if isinstance(first.window, int):
            window, starts = first.window * (1 + is_shadow), 1
        elif first.window is None or window is None:
            window, starts = first.window, first.starts
        elif window in {"day", "lifetime"}:
            starts = 1
        elif window == "week":
            starts = min(starts, 7)
        self.limits[who][index] = msgspec.structs.replace(
            first,
            amount=int(first.amount * factor),
            window=window,
            starts=starts,
            mode="shadow" if is_shadow else "enforce",
            warn_at=warn_at if first.kind == "budget" else (),
        )

    @rule(who=WHO, index=st.integers(3, OF_ONE - 1), amount=st.sampled_from([-90, 40, 3_000]))
    def grant(self, who: str, index: int, amount: int) -> None:
        self.adjust(self.limits[who][index], GRANTED, amount)

    @rule(
        who=WHO,
        index=st.integers(1, OF_ONE - 1),
        amount=st.sampled_from([-700, -20, 20, 300]),
        ago=st.sampled_from([0, 0, 1, 20]),
    )
    def correct(self, who: str, index: int, amount: int, ago: int) -> None:
        limit = self.limits[who][index]
        self.adjust(limit, days.day_of(self.clock.now - ago * DAY, limit.timezone), amount)

    def adjust(self, limit: Limit, day: str, amount: int) -> None:
        if limit.kind != "budget":
            return
        self.compare()
        made = Adjustment(
            id=self.new_id(),
            account=limit.account,
            name=limit.name,
            day=day,
            amount=amount,
            reason="a test",
            at=self.clock.now,
        )
        model.correct(self.books, made, self.clock.now)
        self.lives.adjust(made)
        self.moved = False

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
                    key: (c.settled, c.held, c.overrun, c.expired, c.adjusted)
                    for key, c in self.books.counters.items()
                    if c.settled or c.held or c.adjusted
                }
                assert sorted(self.lives.crossings()) == sorted(self.books.crossings)
                self.check_usage()
            finally:
                for call in self.calls:
                    call.close()
                self.lives.end()

    def check_usage(self) -> None:
        """The roll-up of both sides, the records and what happened say the same."""
        expected: defaultdict[UsageRow, Use] = defaultdict(Use)
        for hold_id, record in self.books.holds.items():
            if record.state is HoldState.SETTLED:
                charge, now = self.charges[hold_id]
                expected[row_of(charge, now)].add(use_of(charge))
            elif record.state is HoldState.EXPIRED:
                hold = record.hold
                row = UsageRow(days.day_of(record.until, "UTC"), outcome="expired")
                expected[row].add(Use(1, hold.tokens, money=hold.money, estimated=1))
        wanted = self.kept(expected)
        assert self.kept(self.books.usage) == wanted
        assert self.kept(self.lives.usage()) == wanted
        recorded = self.lives.recorded()
        assert recorded is None or self.kept(recorded) == wanted

    def kept(self, usage: Mapping[UsageRow, Use]) -> Usage:
        return kept_usage(usage, self.latest)


def kept_usage(usage: Mapping[UsageRow, Use], latest: int) -> Usage:
    """The rows that every ledger keeps, however far the clock was ahead once."""
    first = first_day(latest, KEPT_DAYS)
    return {row: use for row, use in usage.items() if row.day >= first and use != Use()}


def charge_of(pick: int, tokens: int, money: int) -> Charge:
    """One of a few kinds of charges."""
    return Charge(
        tokens=tokens,
        money=money,
        input_tokens=tokens // 3,
        output_tokens=tokens - tokens // 3,
        source=("provider", "estimated")[pick % 2],
        outcome=("done", "cancelled")[pick // 2 % 2],
        principal=("ann", "bob")[pick // 4 % 2],
        model=("small", "large")[pick % 2],
        facts=Facts(groups={"team": "acme"} if pick % 3 else {}, cached_tokens=tokens // 6),
    )


def live(machine: type[Lives], tell: Callable[[str], None]) -> None:
    """One shard of lives."""
    run_state_machine_as_test(machine, settings=SETTINGS)
    tell(f"{EACH} lives of {SETTINGS.stateful_step_count} steps, no difference")
