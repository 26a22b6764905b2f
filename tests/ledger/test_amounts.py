"""Random lives of the rules, beside an oracle that knows nothing but the turns that were admitted.

The oracle has no counters, no buckets and no sums: for each question it looks at every turn. So it
is right for another reason than the rules are. A life has limits of every unit and window, for two
principals, their team and the house; amounts and windows that change; grants; leases that end; late
settlements; and holds that were too small. The clock runs forward alone.
"""

import random
from calendar import monthrange
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest

from chatnest.ledger import model
from chatnest.ledger.base import Admitted, Charge, Cost, Hold, Limit, Refused, Reservation
from chatnest.ledger.books import GRANTED, HoldState
from chatnest.ledger.standing import refusal_of, state_of
from tests.ledger.lives import PlainBooks
from tests.ledger.support import DAY, HOUR, MINUTE, SECOND, utc
from tests.support.soak import amount

LIVES, STEPS = amount(2_000, 20_000), amount(50, 100)
SHARDS = 8

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


@dataclass
class Spent:
    """A turn as the oracle knows it."""

    at: int
    limits: tuple[Limit, ...]
    held: dict[str, int]
    now: dict[str, int] = field(default_factory=dict)
    state: HoldState = HoldState.RESERVED
    until: int = 0

    def counts_on(self, name: str, account: str) -> bool:
        return any((each.name, each.account) == (name, account) for each in self.limits)


def midnight(day: date, zone: str) -> int:
    return round(datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone)).timestamp() * 1000)


def start_of(limit: Limit, now: int) -> int:
    """When the window began: by a walk back, day by day."""
    day = datetime.fromtimestamp(now / 1000, ZoneInfo(limit.timezone)).date()
    while not begins(limit, day):
        day -= timedelta(1)
    return midnight(day, limit.timezone)


def begins(limit: Limit, day: date) -> bool:
    if limit.window == "week":
        return day.isoweekday() == limit.starts
    if limit.window == "month":
        return day.day == min(limit.starts, monthrange(day.year, day.month)[1])
    return True


class Life:
    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.now = utc(self.dice.choice(STARTS))
        self.books, self.twin = PlainBooks(), PlainBooks()
        self.limits = {who: limits_of(who) for who in ("ann", "bob")}
        self.shared = list(SHARED)
        self.turns: dict[str, Spent] = {}
        self.holds: dict[str, Hold] = {}
        self.grants: dict[str, int] = {"ann": 0, "bob": 0}
        self.tops: dict[tuple[str, str], int] = {}
        self.counts: dict[str, int] = {"admitted": 0, "refused": 0, "waits": 0}

    # ------------------------------------------------ the oracle

    def expire(self) -> None:
        for turn in self.turns.values():
            if turn.state is HoldState.RESERVED and turn.until <= self.now:
                turn.state, turn.now = HoldState.EXPIRED, dict(turn.held)

    def weighs(self, limit: Limit) -> int:
        """What is used and held under a limit of the calendar, or of streams."""
        turns = [t for t in self.turns.values() if t.counts_on(limit.name, limit.account)]
        if limit.window is None:
            return sum(t.state is HoldState.RESERVED for t in turns)
        if limit.window != "lifetime":
            start = start_of(limit, self.now)
            turns = [t for t in turns if t.at >= start]
        return sum(t.now[limit.unit] for t in turns if t.state is not HoldState.RELEASED)

    def slides(self, limit: Limit) -> tuple[int, int]:
        """What a sliding window has, and what it has with a bucket that is about to leave."""
        turns = [t for t in self.turns.values() if t.counts_on(limit.name, limit.account)]
        since = self.now - limit.length
        if limit.unit == "requests":  # they are not given back
            return (len([t for t in turns if t.at > since]),) * 2
        least = sum(t.now[limit.unit] for t in turns if t.at > since)
        return least, sum(t.now[limit.unit] for t in turns if t.at > since - limit.length // 60 - 1)

    def check(self) -> None:
        self.expire()
        limits = tuple(each for some in self.limits.values() for each in some)
        limits = (*limits, *self.shared)
        for state in model.usage(self.books, limits, self.now):
            each = state.limit
            if each.kind != "rate":
                assert state.used + state.held == self.weighs(each), each
            else:
                least, most = self.slides(each)
                assert least <= state.used <= most, each
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
                    if first.at <= turn.at < first.at + length:
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
        money = dice.choice([Cost(0, 0), Cost(taken * 2, 8), Cost(1_000, 0), Cost(7, 1)])
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
        before = {id(each): self.weighs(each) for each in wish.limits if each.kind != "rate"}
        for each in wish.limits:
            if each.mode == "enforce" and each.kind != "rate" and held[each.unit]:
                granted = self.grants[each.account] if each.window == "lifetime" else 0
                assert before[id(each)] + held[each.unit] <= each.amount + granted, each
            if each.kind == "rate" and each.mode == "enforce":
                place = each.name, each.account
                self.tops[place] = max(self.tops.get(place, 0), each.amount)
        self.holds[hold.id] = hold
        self.turns[hold.id] = Spent(
            self.now, wish.limits, held, dict(held), until=self.now + wish.lease
        )

    def check_wait(self, wish: Reservation, refused: Refused) -> None:
        """The wait is to the millisecond, on copies of the books that nobody else uses."""
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
        return model.reserve(deepcopy(self.books), wish, self.now + wait)

    def end(self) -> None:
        if not self.holds:
            return
        hold = self.holds[self.dice.choice(list(self.holds))]
        turn = self.turns[hold.id]
        self.expire()
        if self.dice.random() < 0.2:
            wish = Reservation(id=hold.id, limits=turn.limits, output=0, min_output=0)
            for books in (self.books, self.twin):
                model.release(books, wish, self.now)
            if turn.state in {HoldState.RESERVED, HoldState.EXPIRED}:
                turn.state = HoldState.RELEASED
                turn.now = dict.fromkeys(turn.now, 0)
            return
        share = self.dice.choice([0.0, 0.2, 1.0, 1.7])
        charge = Charge(tokens=int(hold.tokens * share), money=int(hold.money * share))
        found = model.settle(self.books, hold, charge, self.now)
        model.settle(self.twin, hold_of(self.twin, hold), charge, self.now)
        assert found.first == (turn.state in {HoldState.RESERVED, HoldState.EXPIRED})
        if found.first:
            turn.state = HoldState.SETTLED
            turn.now |= {"tokens": charge.tokens, "money": charge.money}

    def change(self) -> None:
        dice = self.dice
        limits = self.limits[dice.choice(["ann", "bob"])] if dice.random() < 0.7 else self.shared
        place = dice.randrange(len(limits))
        old = limits[place]
        if old.window == "lifetime":
            more = dice.choice([500, 20_000])
            for books in (self.books, self.twin):
                books.counter(f"{old.name}:{GRANTED}:{old.account}").adjusted += more
            self.grants[old.account] += more
        elif old.kind == "budget" and dice.random() < 0.5:
            window = dice.choice(["day", "week", "month"])
            limits[place] = msgspec.structs.replace(old, window=window, starts=1)
        else:
            amount = int(old.amount * dice.choice([0, 0.5, 1, 2]))
            limits[place] = msgspec.structs.replace(old, amount=amount)

    def wait(self) -> None:
        dice = self.dice
        if dice.random() < 0.2:
            zone = dice.choice([*self.limits["ann"], *self.shared]).timezone
            day = datetime.fromtimestamp(self.now / 1000, ZoneInfo(zone)).date() + timedelta(1)
            self.now = max(self.now, midnight(day, zone) + dice.choice([-1, 0, 1]))
            return
        self.now += dice.choice(
            [0, 1, 1, 999, SECOND, 5 * SECOND, 9 * SECOND, MINUTE, HOUR, DAY, 31 * DAY]
        )

    def step(self) -> None:
        chance = self.dice.random()
        if chance < 0.5:
            self.reserve()
        elif chance < 0.72:
            self.end()
        elif chance < 0.95:
            self.wait()
        else:
            self.change()
        self.check()


def hold_of(books: PlainBooks, hold: Hold) -> Hold:
    """The same hold in other books, whose buckets may have other numbers."""
    record = books.holds.get(hold.id)
    return hold if record is None else record.hold


@pytest.mark.parametrize("shard", range(SHARDS))
def test_the_rules_count_what_the_turns_cost(shard: int, record_property: Any) -> None:
    total: dict[str, int] = {}
    for number in range(LIVES // SHARDS):
        life = Life(1_000_003 * shard + number)
        for _ in range(STEPS):
            life.step()
        life.check_windows()
        for name, count in life.counts.items():
            total[name] = total.get(name, 0) + count
    record_property("soak", f"{LIVES // SHARDS} lives: {total}")
    assert min(total.values()) > LIVES // SHARDS
