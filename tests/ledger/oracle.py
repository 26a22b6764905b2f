"""Oracle: random lives of the rules, beside what follows from the turns that were admitted.

The oracle has no counters, no buckets and no sums: for each question it looks at every turn. So it
is right for another reason than the rules are. A life has limits of every unit and window, for two
principals, their team and the house; amounts that change; grants; leases that end; late
settlements; holds that were too small; and prices that change while turns run. Beside that there
are three kinds of lives: windows change; clocks are set back and zones change as well; or days are
forgotten that no window has any more.

A life writes down what it did, so that every ledger can do the same: see stories.py.
"""

import random
from calendar import monthrange
from copy import copy
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import lru_cache
from operator import mul
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from chatnest.events import Usage
from chatnest.ledger import model
from chatnest.ledger.audit import Adjustment
from chatnest.ledger.base import Admitted, Charge, Cost, Hold, Limit, Refused, Reservation
from chatnest.ledger.books import GRANTED, HoldState, scale_of
from chatnest.ledger.sliding import Sliding
from chatnest.ledger.standing import refusal_of, state_of
from chatnest.ledger.window import ListWindow
from chatnest.prices import Price, Prices
from tests.ledger.lives import PlainBooks
from tests.ledger.support import DAY, HOUR, MINUTE, SECOND, utc

KINDS = ("windows", "clocks", "pruning")
ZONES = ("UTC", "Asia/Tokyo", "America/New_York", "Europe/Berlin", "Pacific/Kiritimati")
RATES = [(-1, 1_501, 9_001), (1, 701, 4_003), (4, 2_003, 11_111)]
"""Pico-dollars of a token of input and of output, from so many days after the start on."""

STARTS = [
    "2024-02-27T22:00",  # before a 29 February
    "2026-01-30T20:00",
    "2026-03-28T20:00",  # a day of 23 hours in Berlin
    "2026-10-31T20:00",  # a day of 25 hours in New York
    "2026-12-31T20:00",
]


def limit(
    name: str, unit: Any, account: str, amount: int, window: Any = None, **more: Any
) -> Limit:
    return Limit(name=name, unit=unit, account=account, amount=amount, window=window, **more)


def limits_of(who: str) -> list[Limit]:
    return [
        limit("rpm", "requests", who, 3, 60),
        limit("streams", "streams", who, 3),
        limit("tpm", "tokens", who, 2_500, 60),
        limit("tokens", "tokens", who, 4_000, "day"),
        limit("own", "money", who, 9_000, "month", starts=31),
        limit("asked", "requests", who, 12, "day", timezone="Asia/Tokyo"),
        limit("prepaid", "money", who, 0, "lifetime"),
    ]


SHARED = [
    limit("team", "money", "team", 12_000, "week", starts=7, timezone="Europe/Berlin"),
    limit("house", "money", "house", 25_000, "month", timezone="America/New_York"),
    limit("house-tpm", "money", "house", 8_000, 120),
    limit("watched", "tokens", "house", 4_000, "day", mode="shadow"),
]

STEP = 100
"""More milliseconds than there are buckets in a window."""


@dataclass
class Spent:
    """A turn as the oracle knows it. ``true`` is its time by a clock that nobody sets, and ``slid``
    the earliest time at which anybody has looked at it since.
    """

    at: int
    true: int
    limits: tuple[Limit, ...]
    held: dict[str, int]
    until: int
    price: tuple[Price, int, int] | None = None
    now: dict[str, int] = field(default_factory=dict)
    state: HoldState = HoldState.RESERVED
    ended: int = 0
    slid: int = 0
    days: dict[tuple[str, str], tuple[date, int]] = field(default_factory=dict)
    left: set[tuple[str, str, bool]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.now, self.slid = dict(self.held), self.at
        self.places = {(each.name, each.account) for each in self.limits}
        self.sliding = [each for each in self.limits if each.kind == "rate"]
        for each in self.limits:
            if each.kind == "budget":
                day = local_day(self.at, each.timezone)
                ends = midnight(day + timedelta(1), each.timezone)
                self.days[each.name, each.account] = day, ends

    def counts_on(self, name: str, account: str) -> bool:
        return (name, account) in self.places


def dollars(picos: int) -> str:
    return f"{picos // 10**6}.{picos % 10**6:06}"


def local_day(at: int, zone: str) -> date:
    return datetime.fromtimestamp(at / 1000, ZoneInfo(zone)).date()


@lru_cache(maxsize=10_000)
def midnight(day: date, zone: str) -> int:
    return round(datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone)).timestamp() * 1000)


def window_of(limit: Limit, now: int) -> tuple[date, date]:
    """The first day of the window, and the one after its last."""
    return window_on(str(limit.window), limit.starts, local_day(now, limit.timezone))


@lru_cache(maxsize=10_000)
def window_on(window: str, starts: int, first: date) -> tuple[date, date]:
    """By a walk, day by day."""
    after = first + timedelta(1)
    while not begins(window, starts, first):
        first -= timedelta(1)
    while not begins(window, starts, after):
        after += timedelta(1)
    return first, after


def begins(window: str, starts: int, day: date) -> bool:
    if window == "week":
        return day.isoweekday() == starts
    if window == "month":
        return day.day == min(starts, monthrange(day.year, day.month)[1])
    return True


class Life:
    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.kind = KINDS[seed % len(KINDS)]
        self.now = self.latest = utc(self.dice.choice(STARTS))
        self.true = 0
        self.instants = {self.now}
        self.odd = False  # whether a clock was set back, or a zone changed
        self.story: list[tuple[int, str, tuple[Any, ...], object]] = []
        begins = local_day(self.now, "UTC")
        self.rates = [(begins + timedelta(days), taken, given) for days, taken, given in RATES]
        self.prices = Prices.of(
            [
                {"from": day.isoformat(), "input": dollars(taken), "output": dollars(given)}
                for day, taken, given in self.rates
            ]
        )
        self.books, self.twin = PlainBooks(), PlainBooks()
        self.limits = {who: limits_of(who) for who in ("ann", "bob")}
        self.shared = list(SHARED)
        self.first = {"ann": limits_of("ann"), "shared": list(SHARED)}
        self.turns: dict[str, Spent] = {}
        self.holds: dict[str, Hold] = {}
        self.grants: dict[str, int] = {"ann": 0, "bob": 0}
        self.tops: dict[tuple[str, str], int] = {}
        self.counts: dict[str, int] = {"admitted": 0, "refused": 0, "waits": 0}
        self.counts["changed prices"] = 0

    # ------------------------------------------------ the oracle

    def expire(self) -> None:
        for turn in self.turns.values():
            if turn.state is HoldState.RESERVED and turn.until <= self.now:
                turn.state, turn.now = HoldState.EXPIRED, dict(turn.held)
                turn.ended = self.now

    def slide(self) -> None:
        """Those that are ahead of the clock count from now on, and those that have left are gone,
        wherever the clock is set to. A bucket may leave a sixtieth of the window later.
        """
        for turn in self.turns.values():
            turn.slid = min(turn.slid, self.now)
            for each in turn.sliding:
                late = 0 if each.unit == "requests" else each.length // 60
                for is_late, extra in ((False, 0), (True, late)):
                    if turn.slid + each.length + extra <= self.now:
                        turn.left.add((each.name, each.account, is_late))

    def weighs(self, limit: Limit) -> tuple[int, int]:
        """What is used and held under a limit of the calendar, or of streams: at least, and with
        the days that other zones have made longer.
        """
        place = limit.name, limit.account
        turns = [t for t in self.turns.values() if t.counts_on(*place)]
        if limit.window is None:
            return (sum(t.state is HoldState.RESERVED for t in turns),) * 2
        if limit.window == "lifetime":
            return (sum(t.now[limit.unit] for t in turns),) * 2
        first, after = window_of(limit, self.now)
        start, least, most = midnight(first, limit.timezone), 0, 0
        longest: dict[date, int] = {}
        for turn in turns:
            day, ends = turn.days[place]
            longest[day] = max(longest.get(day, 0), ends)
        for turn in turns:
            day, ends = turn.days[place]
            if first - timedelta(1) <= day <= after:  # a day ahead counts as well
                least += turn.now[limit.unit] if ends > start else 0
                most += turn.now[limit.unit] if longest[day] > start else 0
        return least, most

    def slides(self, limit: Limit) -> tuple[int, int]:
        """What a sliding window has, and what it has with a bucket that is about to leave."""
        name, account, unit = limit.name, limit.account, limit.unit
        turns = [t for t in self.turns.values() if t.counts_on(name, account)]
        least, most = [
            # Requests are not given back.
            sum(1 if unit == "requests" else t.now[unit] for t in turns if place not in t.left)
            for place in [(name, account, False), (name, account, True)]
        ]
        return least, most

    def check(self, *, always: bool = False) -> None:
        self.expire()
        self.slide()
        limits = tuple(each for some in self.limits.values() for each in some)
        limits = (*limits, *self.shared)
        states = model.usage(self.books, limits, self.now)
        if self.kind == "clocks":  # a look after a clock was set back changes the windows
            model.usage(self.twin, limits, self.now)
        if always or self.kind == "clocks" or self.dice.random() < 0.2:
            self.tell("usage", (limits,), states)
        for state in states:
            each = state.limit
            least, most = self.slides(each) if each.kind == "rate" else self.weighs(each)
            assert least <= state.used + state.held <= most, (each, least, most)
            if each.kind != "rate" and not self.odd:
                assert least == most == state.used + state.held, each
            if each.window == "lifetime":
                assert state.granted == self.grants[each.account]

    def check_windows(self) -> None:
        """Of the requests admitted in any window, the costs are at most the amount, and what they
        cost beyond their holds.
        """
        for (name, account), top in self.tops.items():
            turns = [t for t in self.turns.values() if t.counts_on(name, account)]
            (unit, length) = next(
                (each.unit, each.length)
                for t in turns
                for each in t.limits
                if (each.name, each.account) == (name, account)
            )
            for first in turns:
                total = over = 0
                for turn in turns:
                    if first.true <= turn.true < first.true + length:
                        if unit == "requests":
                            total += 1
                            continue
                        total += turn.now[unit] if turn.state is not HoldState.RELEASED else 0
                        over += max(0, turn.now[unit] - turn.held[unit])
                assert total <= top + over, (name, account, total, top, over)

    # ------------------------------------------------ operations

    def wish(self) -> Reservation:
        dice, who = self.dice, self.dice.choice(["ann", "bob"])
        known = [*self.limits[who], *self.shared]
        chosen = tuple(
            each for each in known if dice.random() < (0.1 if each.window == "lifetime" else 0.5)
        )
        output = dice.choice([0, 1, 50, 400, 2_000])
        taken = dice.choice([0, 10, 300])
        bound = self.prices.at(self.now).bound(taken)
        priced = Cost(bound.fixed, bound.per_output)
        money = dice.choice([Cost(0, 0), priced, priced, Cost(1_000, 0), Cost(7, 1)])
        if not any(each.kind != "rate" or each.unit != "requests" for each in chosen):
            chosen = (*chosen, known[1])  # who weighs on nothing is in no account of Redis
        return Reservation(
            id=f"turn-{len(self.turns)}-{dice.random()}",
            limits=chosen,
            output=output,
            min_output=min(output, dice.choice([0, 1, 64])),
            input_tokens=taken,
            money=money,
            lease=dice.choice([5, 30, 600]) * SECOND,
        )

    def reserve(self) -> None:
        wish = self.wish()
        answer = model.reserve(self.books, wish, self.now)
        self.tell("reserve", (wish,), answer)
        without = tuple(each for each in wish.limits if each.mode == "enforce")
        alone = model.reserve(self.twin, msgspec.structs.replace(wish, limits=without), self.now)
        assert type(alone) is type(answer)
        if isinstance(answer, Refused):
            assert isinstance(alone, Refused)
            assert (alone.retry_after, alone.by_held) == (answer.retry_after, answer.by_held)
            self.counts["refused"] += 1
            self.check_wait(wish, answer)
            return
        assert isinstance(alone, Admitted)
        assert alone.hold.output == answer.hold.output  # a shadow has no part in it
        self.counts["admitted"] += 1
        self.admit(wish, answer.hold)

    def admit(self, wish: Reservation, hold: Hold) -> None:
        assert wish.min_output <= hold.output <= wish.output
        held = {"tokens": hold.tokens, "money": hold.money, "requests": 1, "streams": 1}
        assert hold.tokens == wish.input_tokens + hold.output
        assert hold.money == wish.money.fixed + wish.money.per_output * hold.output
        before = {id(each): self.weighs(each)[0] for each in wish.limits if each.kind != "rate"}
        for each in wish.limits:
            if each.mode == "enforce" and each.kind != "rate" and held[each.unit]:
                granted = self.grants[each.account] if each.window == "lifetime" else 0
                assert before[id(each)] + held[each.unit] <= each.amount + granted, each
            if each.kind == "rate" and each.mode == "enforce":
                place = each.name, each.account
                self.tops[place] = max(self.tops.get(place, 0), each.amount)
        self.holds[hold.id] = hold
        price = None
        if wish.money.per_output == self.prices.at(self.now).bound(0).per_output:
            _, taken, given = ([e for e in self.rates if self.begins(e[0])] or self.rates[:1])[-1]
            price = self.prices.at(self.now), taken, given
        self.turns[hold.id] = Spent(
            self.now, self.true, wish.limits, held, self.now + wish.lease, price
        )

    def begins(self, day: date) -> bool:
        return midnight(day, "UTC") <= self.now

    def check_wait(self, wish: Reservation, refused: Refused) -> None:
        """The wait is to the millisecond, on copies of the books that nobody else uses."""
        if self.odd:
            return  # a day that is ahead counts again, later
        wait = refused.retry_after
        if any(self.is_held(wish, each) for each in wish.limits):
            return  # how much of it is used in the end, nobody knows
        if wait is None:
            for later in (MINUTE, DAY, 40 * DAY):
                assert isinstance(self.asked_later(wish, later), Refused)
            return
        self.counts["waits"] += 1
        after = self.asked_later(wish, wait)
        assert isinstance(after, Admitted) or after.by_held, (refused, after)
        assert isinstance(self.asked_later(wish, wait - 1), Refused)

    def is_held(self, wish: Reservation, limit: Limit) -> bool:
        state, cost = state_of(self.books, limit, self.now), wish.costs()[limit.unit]
        needed = cost.fixed + cost.per_output * wish.min_output
        if not needed or state.used + state.held + needed <= limit.amount + state.granted:
            return False
        return refusal_of(self.books, state, needed, self.now).by_held

    def asked_later(self, wish: Reservation, wait: int) -> Admitted | Refused:
        return model.reserve(copy_of(self.books), wish, self.now + wait)

    def end(self) -> None:
        if not self.holds:
            return
        self.expire()
        hold = self.holds[self.dice.choice(list(self.holds))]
        turn = self.turns[hold.id]
        if turn.state is not HoldState.RESERVED and self.latest >= turn.ended + HOUR:
            return  # no ledger needs to know it
        if self.dice.random() < 0.2:
            wish = Reservation(id=hold.id, limits=turn.limits, output=0, min_output=0)
            for books in (self.books, self.twin):
                model.release(books, wish, self.now)
            self.tell("release", (wish,), None)
            if turn.state in {HoldState.RESERVED, HoldState.EXPIRED}:
                turn.state, turn.ended = HoldState.RELEASED, self.now
                turn.now = dict.fromkeys(turn.now, 0)
            return
        share = self.dice.choice([0.0, 0.2, 1.0, 1.7])
        charge = Charge(tokens=int(hold.tokens * share), money=int(hold.money * share))
        if turn.price is not None:  # the one in force at the admission, whatever it is by now
            price, *rates = turn.price
            classes = int((hold.tokens - hold.output) * share), int(hold.output * share)
            money = price.charge(Usage(*classes))
            assert money == -(-sum(map(mul, classes, rates)) // 1_000)
            assert money <= hold.money or share > 1
            charge = msgspec.structs.replace(charge, money=money)
            self.counts["changed prices"] += price != self.prices.at(self.now)
        found = model.settle(self.books, hold, charge, self.now)
        model.settle(self.twin, hold_of(self.twin, hold), charge, self.now)
        self.tell("settle", (hold, charge), found)
        assert found.first == (turn.state in {HoldState.RESERVED, HoldState.EXPIRED})
        if found.first:
            turn.state, turn.ended = HoldState.SETTLED, self.now
            turn.now |= {"tokens": charge.tokens, "money": charge.money}

    def change(self) -> None:
        dice = self.dice
        limits = self.limits[dice.choice(["ann", "bob"])] if dice.random() < 0.7 else self.shared
        place = dice.randrange(len(limits))
        old = limits[place]
        if old.window == "lifetime":
            more = dice.choice([500, 20_000])
            grant = Adjustment(
                id=f"grant-{len(self.story)}-{dice.random()}",
                account=old.account,
                name=old.name,
                day=GRANTED,
                amount=more,
                reason="a top-up",
            )
            for books in (self.books, self.twin):
                model.correct(books, grant, self.now)
            self.tell("adjust", (grant,), None)
            self.grants[old.account] += more
        elif old.kind == "budget" and self.kind != "pruning" and dice.random() < 0.5:
            window = dice.choice(["day", "week", "month"])
            limits[place] = msgspec.structs.replace(old, window=window, starts=1)
        else:
            amount = int(old.amount * dice.choice([0, 0.5, 1, 2]))
            limits[place] = msgspec.structs.replace(old, amount=amount)

    def change_zone(self) -> None:
        """Count the days of a name in another zone. An operator is refused while one is held."""
        self.expire()
        each = self.dice.choice([*self.limits["ann"], *self.shared])
        live = [t for t in self.turns.values() if t.state is HoldState.RESERVED]
        if each.kind != "budget" or any(e.name == each.name for t in live for e in t.limits):
            return
        self.odd = True
        zone = self.dice.choice(ZONES)
        for limits in (*self.limits.values(), self.shared):
            for place, other in enumerate(limits):
                if other.name == each.name:
                    limits[place] = msgspec.structs.replace(other, timezone=zone)
        scale = scale_of(msgspec.structs.replace(each, timezone=zone))
        for books in (self.books, self.twin):
            books.keep_zone(each.name, scale)
        self.tell("change_zone", (each.name, scale), None)

    def wait(self) -> None:
        dice = self.dice
        before = self.now
        if self.kind == "clocks" and dice.random() < 0.25:
            self.now -= dice.choice([SECOND, HOUR, DAY]) + dice.randrange(1, 999)
            self.odd = True
            self.meet_no_instant_again()
            return
        if dice.random() < 0.2:
            zone = dice.choice([*self.limits["ann"], *self.shared]).timezone
            end = midnight(local_day(self.now, zone) + timedelta(1), zone)
            self.now = max(self.now, end + dice.choice([-1, 0, 1]))
        else:
            self.now += dice.choice(
                [0, 1, 1, 999, SECOND, 5 * SECOND, 9 * SECOND, MINUTE, HOUR, DAY, 31 * DAY]
            )
        if self.odd and self.now != before:
            self.meet_no_instant_again()
        self.true += self.now - before
        self.instants.add(self.now)
        self.latest = max(self.latest, self.now)
        if self.kind == "pruning" and dice.random() < 0.3:
            self.tell("prune", (), None)

    def meet_no_instant_again(self) -> None:
        """The number of the first bucket in a window is its time. An instant that a clock shows
        twice, to the millisecond, could give it to two of them.
        """
        while any(abs(self.now - known) <= STEP for known in self.instants):
            self.now += STEP + 1
        self.instants.add(self.now)

    def tell(self, name: str, arguments: tuple[Any, ...], answer: object) -> None:
        """Write down a step, and what the rules answered."""
        self.story.append((self.now, name, arguments, answer))

    def step(self) -> None:
        chance = self.dice.random()
        if chance < 0.5:
            self.reserve()
        elif chance < 0.72:
            self.end()
        elif chance < 0.93:
            self.wait()
        elif chance < 0.97 or self.kind != "clocks":
            self.change()
        else:
            self.change_zone()
        self.check()

    def live(self, steps: int) -> None:
        """All of it."""
        for _ in range(steps):
            self.step()
        self.check(always=True)
        self.check_windows()


def copy_of(books: PlainBooks) -> PlainBooks:
    """Books of one's own with the same figures."""
    other = PlainBooks()
    other.zones = dict(books.zones)
    other.counters.update({key: copy(each) for key, each in books.counters.items()})
    other.holds = {key: copy(each) for key, each in books.holds.items()}
    other.live = {key: other.holds[key] for key in books.live}
    for key, window in books.windows.items():
        other.windows[key] = ListWindow(window)
    for key, sliding in books.slidings.items():
        other.slidings[key] = Sliding(sliding.serial, [copy(each) for each in sliding.buckets])
    return other


def hold_of(books: PlainBooks, hold: Hold) -> Hold:
    """The same hold in other books, whose buckets may have other numbers."""
    record = books.holds.get(hold.id)
    return hold if record is None else record.hold
