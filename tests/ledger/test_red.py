"""Each guard taken out, and the check that rests on it seen to fail.

The checks are run against the real thing too, so that they are known to tell the difference.
"""

from collections.abc import Awaitable, Callable

import anyio
import pytest
from anyio.lowlevel import checkpoint

from chatnest.ledger import model
from chatnest.ledger.base import (
    Admitted,
    Charge,
    Hold,
    Ledger,
    Refused,
    Reservation,
    Settlement,
)
from chatnest.ledger.books import HoldRecord, HoldState
from chatnest.ledger.counted import counted_at
from chatnest.ledger.dictbooks import DictBooks
from chatnest.ledger.memory import MemoryLedger
from chatnest.ledger.standing import standing_of
from tests.ledger.support import MINUTE, Clock, admit, balance, budget, rate, refuse, streams, wish

pytestmark = pytest.mark.anyio

Check = Callable[[Ledger, Clock], Awaitable[None]]


# ---------------------------------------------------------------- the checks


async def never_more_than_fits(ledger: Ledger, _: Clock) -> None:
    async with anyio.create_task_group() as tasks:
        for _number in range(20):
            tasks.start_soon(ledger.reserve, wish(budget(1_000), tokens=500))
    assert await balance(ledger, budget(1_000)) == (0, 1_000)


async def charged_once(ledger: Ledger, _: Clock) -> None:
    hold = (await admit(ledger, wish(budget(1_000)))).hold
    for _attempt in range(2):
        await ledger.settle(hold, Charge(tokens=70))
    assert await balance(ledger, budget(1_000)) == (70, 0)


async def held_once(ledger: Ledger, _: Clock) -> None:
    reservation = wish(budget(1_000))
    for _attempt in range(2):
        await admit(ledger, reservation)
    assert await balance(ledger, budget(1_000)) == (0, 100)


async def a_crash_frees_its_slot(ledger: Ledger, clock: Clock) -> None:
    await admit(ledger, wish(streams(1)))
    clock.now += MINUTE
    await admit(ledger, wish(streams(1)))


async def a_refusal_costs_nothing(ledger: Ledger, _: Clock) -> None:
    await refuse(ledger, wish(rate(1), budget(10), tokens=100))
    await admit(ledger, wish(rate(1), budget(10), tokens=10))


async def a_late_settlement_corrects(ledger: Ledger, clock: Clock) -> None:
    hold = (await admit(ledger, wish(budget(1_000)))).hold
    clock.now += MINUTE
    await ledger.settle(hold, Charge(tokens=30))
    assert await balance(ledger, budget(1_000)) == (30, 0)


async def a_lost_answer_holds_nothing(ledger: Ledger, _: Clock) -> None:
    reservation = wish(budget(1_000))
    await ledger.release(reservation)
    await ledger.reserve(reservation)  # it had been on its way
    assert await balance(ledger, budget(1_000)) == (0, 0)


# ---------------------------------------------------------------- the guards, taken out


def admit_at_once(ledger: MemoryLedger, wish: Reservation) -> Admitted:
    now = ledger._clock()
    books = ledger._books
    limits = counted_at(wish.limits, now).limits
    found = [(counted, standing_of(books, counted, now)) for counted in limits]
    amounts = model._amounts(wish, wish.output)
    hold, after = model._admit(books, wish, wish.output, amounts, found, now)
    return Admitted(hold=hold, states=after, now=now)


class ChecksFirstWritesLater(MemoryLedger):
    async def reserve(self, reservation: Reservation) -> Admitted | Refused:
        states = await self.usage(reservation.limits)
        await checkpoint()  # as a store that is asked twice
        if any(state.remaining < reservation.tokens for state in states):
            return Refused(state=states[0], retry_after=1, now=self._clock())
        return admit_at_once(self, reservation)


class SettlesByAddition(MemoryLedger):
    async def settle(self, hold: Hold, charge: Charge) -> Settlement:
        for line in hold.lines:
            counter = self._books.counter(line.key)
            counter.held = 0
            counter.settled += charge.tokens
        return Settlement(tokens=charge.tokens, first=True)


class KnowsNoIds(MemoryLedger):
    async def reserve(self, reservation: Reservation) -> Admitted | Refused:
        return admit_at_once(self, reservation)


class WithoutLeases(MemoryLedger):
    def __init__(self, *, clock: Clock) -> None:
        super().__init__(clock=clock)

        class Books(DictBooks):
            def due(self, now: int) -> list[HoldRecord]:
                return []

        self._books = Books(100)


class CountsEachLimitInTurn(MemoryLedger):
    async def reserve(self, reservation: Reservation) -> Admitted | Refused:
        answer: Admitted | Refused
        for limit in reservation.limits:
            answer = await super().reserve(
                wish(limit, tokens=reservation.tokens, min_tokens=reservation.min_output)
            )
            if isinstance(answer, Refused):
                break
        return answer


class ForgetsWhatExpired(MemoryLedger):
    async def settle(self, hold: Hold, charge: Charge) -> Settlement:
        await self.usage(())
        record = self._books.hold(hold.id)
        if record is not None and record.state is HoldState.EXPIRED:
            del self._books._records[hold.id]
        return await super().settle(hold, charge)


class LeavesNoTombstone(MemoryLedger):
    async def release(self, reservation: Reservation) -> None:
        if self._books.hold(reservation.id) is not None:
            await super().release(reservation)


GUARDS: list[tuple[type[MemoryLedger], Check]] = [
    (ChecksFirstWritesLater, never_more_than_fits),
    (SettlesByAddition, charged_once),
    (KnowsNoIds, held_once),
    (WithoutLeases, a_crash_frees_its_slot),
    (CountsEachLimitInTurn, a_refusal_costs_nothing),
    (ForgetsWhatExpired, a_late_settlement_corrects),
    (LeavesNoTombstone, a_lost_answer_holds_nothing),
]


@pytest.mark.parametrize(("broken", "check"), GUARDS, ids=lambda value: value.__name__)
async def test_without_its_guard_the_check_fails(
    broken: type[MemoryLedger], check: Check, clock: Clock
):
    with pytest.raises(AssertionError):
        await check(broken(clock=clock), clock)


@pytest.mark.parametrize("check", [check for _, check in GUARDS], ids=lambda check: check.__name__)
async def test_with_its_guard_it_passes(ledger: Ledger, clock: Clock, check: Check):
    await check(ledger, clock)
