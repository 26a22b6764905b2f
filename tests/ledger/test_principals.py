"""Many principals, most of whom come once: what a ledger remembers of them is bounded."""

import gc
import random
import time
from collections import Counter as PyCounter
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from chatnest.ledger.base import Admitted, Charge, Hold, Ledger, Limit
from chatnest.ledger.books import Counter, HoldRecord, HoldState
from chatnest.ledger.memory import MemoryLedger
from tests.ledger.conftest import Tell
from tests.ledger.direct_redis import DirectRedis
from tests.ledger.lives import finish
from tests.ledger.server import running
from tests.ledger.support import HOUR, SECOND, Clock, budget, rate, streams, wish
from tests.support.soak import SOAKS, amount

Call = Coroutine[Any, Any, object]


def limits_of(number: int) -> tuple[Limit, ...]:
    who = f"principal-{number}"
    # Those who share an account, for want of room, are admitted as well.
    return rate(10**9, account=who), budget(10**9, account=who), streams(9, account=who)


def end_of(ledger: Ledger, number: int, hold: Hold) -> Iterator[Call]:
    """Most settle, some release, some fall silent, and some of these settle late."""
    if number % 10 == 1:
        yield ledger.release(wish(*limits_of(number), hold_id=hold.id))
    elif number % 10 != 2:
        yield ledger.settle(hold, Charge(tokens=50))


def resident() -> int:
    """Bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.soak
def test_memory_is_bounded_whoever_comes(clock: Clock, tell: Tell):
    principals, most = amount(3_000, 1_000_000), amount(300, 100_000)
    ledger = MemoryLedger(clock=clock, max_keys=most)
    books = ledger._books
    live = [ask(ledger, number, lease=100 * HOUR) for number in range(-20, 0)]
    before, begun = resident() if SOAKS else 0, time.process_time()
    others = objects()  # of tests before this one
    sizes = []

    for number in range(principals):
        clock.now += 2
        hold = ask(ledger, number)
        for call in end_of(ledger, number, hold):
            finish(call, None)
        if number % (principals // amount(10, 50)) == 0:
            sizes.append(assert_bounded(ledger, most))

    spent = time.process_time() - begun
    sizes.append(assert_bounded(ledger, most))
    if not SOAKS:  # it looks at all that there is in this process
        kinds, held = objects() - others, len(books._looks)
        assert kinds[HoldRecord] <= most + held + 1
        assert kinds[Counter] <= most + 2 * held + 2
    assert max(sizes) >= most  # the bound was met
    for hold in live:
        record = books.hold(hold.id)
        assert record is not None
        assert record.state is HoldState.RESERVED
        assert all(books.counter(line.key).held for line in hold.lines)
    if SOAKS:
        grown = (resident() - before) / 2**20
        tell(f"{principals} principals, {grown:.0f} MiB more, {spent:.0f} s")


def ask(ledger: MemoryLedger, number: int, lease: int = 30 * SECOND) -> Hold:
    answer = finish(ledger.reserve(wish(*limits_of(number), lease=lease)), None)
    assert isinstance(answer, Admitted)
    return answer.hold


def objects() -> PyCounter[type]:
    """How many there are in this process of each type. The garbage collector does not know of holds
    and their records, nor of dictionaries that have nothing but these.
    """
    gc.collect()
    found = {id(each): each for each in gc.get_objects()}
    for each in gc.get_referents(*found.values()):
        found[id(each)] = each
    unseen = [each for each in found.values() if type(each) is dict and not gc.is_tracked(each)]
    found |= {id(each): each for each in gc.get_referents(*unseen)}
    return PyCounter(map(type, found.values()))


def assert_bounded(ledger: MemoryLedger, most: int) -> int:
    """Gives how many holds there are."""
    books = ledger._books
    holds = books
    live = len(holds._looks)
    assert len(holds._records) <= most + live + 1  # what has just ended is filed at the next call
    assert len(holds._leases) <= 2 * live + 101
    assert len(holds._done) + len(holds._expired) <= most + 1
    assert len(holds._given) <= live + 1  # until the next call
    assert len(books._windows) <= most + 1
    assert len(books._counters) <= most + live + 2  # of streams one for each hold
    return len(holds._records)


@pytest.mark.process
@pytest.mark.soak
def test_every_key_in_redis_ends_by_itself_whoever_comes(tmp_path: Path, clock: Clock, tell: Tell):
    principals, at_once = amount(5_000, 1_000_000), 500
    dice = random.Random(1)
    late: list[Hold] = []
    begun = time.process_time()
    with running(tmp_path) as server, DirectRedis.connected(server, clock, 2) as direct:
        for first in range(0, principals, at_once):
            numbers = range(first, first + at_once)
            wishes = [wish(*limits_of(number)) for number in numbers]
            answers = direct.run([direct.ledger.reserve(each) for each in wishes])
            calls: list[Coroutine[Any, Any, object]] = [
                direct.ledger.settle(hold, Charge(tokens=70)) for hold in late
            ]
            late = []
            for number, answer in zip(numbers, answers, strict=True):
                assert isinstance(answer, Admitted)
                calls.extend(end_of(direct.ledger, number, answer.hold))
                if number % 10 == 2 and dice.random() < 0.5:
                    late.append(answer.hold)
                if number % 10 == 3:
                    calls.append(direct.ledger.renew(answer.hold, HOUR))
            direct.run(calls)
            clock.now += 31 * SECOND
        # The server's own count of its keys, and of those with an end.
        with server.client() as client:
            keys = client.info("keyspace")["db0"]
            memory = client.info("memory")["used_memory"] / 2**20
    assert keys["keys"] > 3 * principals
    assert keys["expires"] == keys["keys"] - 1  # the mark of the books stays
    spent = time.process_time() - begun
    tell(
        f"{principals} principals, {keys['keys']} keys, each with an end, "
        f"{memory:.0f} MiB, {spent:.0f} s"
    )
