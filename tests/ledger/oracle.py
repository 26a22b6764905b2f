"""Oracle: random lives of the rules, beside what follows from the turns that were admitted.

The oracle has no counters, no buckets and no sums: for each question it looks at every turn. So it
is right for another reason than the rules are. A life has limits of every unit and window, for two
principals, their team and the house; amounts that change; grants; leases that end; late
settlements; holds that were too small; prices that change while turns run; and thresholds to warn
at, see thresholds.py. Beside that there are three kinds of lives: windows change, and days are
corrected by hand; clocks are set back and zones change as well; or days are forgotten that no
window has any more.

A life writes down what it did, so that every ledger can do the same: see stories.py.
"""

import random
from copy import copy
from datetime import date, timedelta
from operator import mul
from typing import Any

import msgspec

from chatnest.events import Usage
from chatnest.ledger import model
from chatnest.ledger.audit import Adjustment
from chatnest.ledger.base import Admitted, Charge, Cost, Hold, Limit, Refused, Reservation
from chatnest.ledger.books import GRANTED, HoldState, scale_of
from chatnest.ledger.counted import counted_at
from chatnest.ledger.sliding import Sliding
from chatnest.ledger.standing import refusal_of, standing_of
from chatnest.ledger.window import ListWindow
from chatnest.prices import Prices
from tests.ledger.lives import PlainBooks
from tests.ledger.spent import ENDED, Spent, local_day, midnight, turns_of_days, window_of
from tests.ledger.support import DAY, HOUR, MINUTE, SECOND, utc
from tests.ledger.thresholds import Thresholds

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
        limit("tokens", "tokens", who, 4_000, "day", warn_at=(500, 800)),
        limit("own", "money", who, 9_000, "month", starts=31, warn_at=(1, 500, 900, 1_000)),
        limit("asked", "requests", who, 12, "day", timezone="Asia/Tokyo", warn_at=(250, 1_000)),
        limit("prepaid", "money", who, 0, "lifetime", warn_at=(100, 900)),
    ]


SHARED = [
    limit(
        *("team", "money", "team", 12_000, "week"),
        starts=7,
        timezone="Europe/Berlin",
        warn_at=(300, 800),
    ),
    limit(
        *("house", "money", "house", 25_000, "month"),
        timezone="America/New_York",
        warn_at=(100, 200, 300),
    ),
    limit("house-tpm", "money", "house", 8_000, 120),
    limit("watched", "tokens", "house", 4_000, "day", mode="shadow", warn_at=(800, 1_000)),
]

STEP = 100
"""More milliseconds than there are buckets in a window."""


def dollars(picos: int) -> str:
    return f"{picos // 10**6}.{picos % 10**6:06}"


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
        self.grants: dict[str, list[int]] = {"ann": [], "bob": []}
        self.thresholds = Thresholds(self.turns, self.grants)
        self.tops: dict[tuple[str, str], int] = {}
        self.counts: dict[str, int] = {"admitted": 0, "refused": 0, "waits": 0}
        self.counts |= {"changed prices": 0, "warnings": 0, "by hand": 0}

    # ------------------------------------------------ the oracle

    def expire(self) -> bool:
        """Returns whether a lease has ended."""
        live = [turn for turn in self.turns.values() if turn.state is HoldState.RESERVED]
        ended = [turn for turn in live if turn.until <= self.now]
        for turn in ended:
            turn.state, turn.now = HoldState.EXPIRED, dict(turn.held)
            turn.ended = self.now
        for turn in sorted(ended, key=lambda turn: turn.until):
            self.thresholds.look(turn, self.now)
        return bool(ended)

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
        first, after = window_of(limit, self.now)  # a day ahead counts as well
        by_hand = self.thresholds.corrected(limit, first, after)
        least, most = [
            max(0, by_hand + sum(t.now[limit.unit] for t in some if t.state in ENDED))
            + sum(t.now[limit.unit] for t in some if t.state is HoldState.RESERVED)
            for some in turns_of_days(turns, limit, first, after)
        ]
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
        has_expired = self.expire()
        self.slide()
        limits = tuple(each for some in self.limits.values() for each in some)
        limits = (*limits, *self.shared)
        states = model.usage(self.books, limits, self.now)
        if self.kind == "clocks":  # a look after a clock was set back changes the windows
            model.usage(self.twin, limits, self.now)
        if always or has_expired or self.kind == "clocks" or self.dice.random() < 0.2:
            self.tell("usage", (limits,), states)
        for state in states:
            each = state.limit
            least, most = self.slides(each) if each.kind == "rate" else self.weighs(each)
            assert least <= state.used + state.held <= most, (each, least, most)
            if each.kind != "rate" and not self.odd:
                assert least == most == state.used + state.held, each
            if each.window == "lifetime":
                assert state.granted == sum(self.grants[each.account])
        self.check_thresholds()

    def check_thresholds(self) -> None:
        """The books have all that were reached, and no other. They would not take one twice."""
        found, known = self.books.crossings.keys(), self.thresholds
        assert known.least <= found <= known.most, (known.least - found, found - known.most)
        assert self.odd or known.least == known.most
        self.counts["warnings"] = len(found)

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
        chosen = tuple(each for each in known if dice.random() < self.chance(each))
        output = dice.choice([0, 1, 50, 400, 2_000])
        taken = dice.choice([0, 10, 300])
        bound = self.prices.at(self.now).bound(taken)
        priced = Cost(bound.fixed, bound.per_output)
        money = dice.choice([Cost(0, 0), priced, priced, Cost(1_000, 0), Cost(7, 1)])
        if not any(each.kind != "rate" or each.unit != "requests" for each in chosen):
            chosen = (*chosen, known[1])  # who weighs on nothing is in no account of Redis
        return Reservation(
            id=f"turn-{len(self.turns):04}-{dice.random()}",  # leases that end at once do so by it
            limits=chosen,
            output=output,
            min_output=min(output, dice.choice([0, 1, 64])),
            input_tokens=taken,
            money=money,
            lease=dice.choice([5, 30, 600]) * SECOND,
        )

    def chance(self, limit: Limit) -> float:
        """Without a grant, a lifetime refuses nearly everything."""
        return 0.1 if limit.window == "lifetime" and not self.grants[limit.account] else 0.5

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
                granted = sum(self.grants[each.account]) if each.window == "lifetime" else 0
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
        (counted,) = counted_at((limit,), self.now).limits
        standing = used, held, _, granted = standing_of(self.books, counted, self.now)
        cost = wish.costs()[limit.unit]
        needed = cost.fixed + cost.per_output * wish.min_output
        if not needed or used + held + needed <= limit.amount + granted:
            return False
        return refusal_of(self.books, counted, standing, needed, self.now).by_held

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
                self.thresholds.look(turn, self.now)
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
            self.thresholds.look(turn, self.now)

    def change(self) -> None:
        dice = self.dice
        limits = self.limits[dice.choice(["ann", "bob"])] if dice.random() < 0.7 else self.shared
        place = dice.randrange(len(limits))
        if limits is not self.shared and dice.random() < 0.3:
            place = -1  # a grant
        old = limits[place]
        if old.window == "lifetime":
            self.grants[old.account].append(dice.choice([500, 20_000]))
            self.correct(old, GRANTED, self.grants[old.account][-1])
        elif self.may_correct(old) and dice.random() < 0.5:
            day = local_day(self.now - dice.choice([0, 0, DAY, 20 * DAY]), old.timezone)
            amount = dice.choice([-900, -5, 3, 2_000])
            self.thresholds.corrections.append((old.name, old.account, day, amount))
            self.counts["by hand"] += 1
            self.correct(old, str(day), amount)
        elif old.kind == "budget" and self.kind != "pruning" and dice.random() < 0.5:
            window = dice.choice(["day", "week", "month"])
            limits[place] = msgspec.structs.replace(old, window=window, starts=1)
        else:
            amount = int(old.amount * dice.choice([0, 0.5, 1, 2]))
            limits[place] = msgspec.structs.replace(old, amount=amount)

    def may_correct(self, limit: Limit) -> bool:
        """A day that is forgotten, or that another zone counts, has no exact corrections."""
        return self.kind == "windows" and limit.kind == "budget" and limit.name in self.books.zones

    def correct(self, limit: Limit, day: str, amount: int) -> None:
        """A grant, or a correction of a day by hand."""
        made = Adjustment(
            id=f"by-hand-{len(self.story)}-{self.dice.random()}",
            account=limit.account,
            name=limit.name,
            day=day,
            amount=amount,
            reason="a test",
        )
        for books in (self.books, self.twin):
            model.correct(books, made, self.now)
        self.tell("adjust", (made,), None)
        self.thresholds.look_again(limit.name, limit.account, self.now)

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
