"""A worker process of its own, for tests: ``worker.py MODE WHERE [NUMBER ...]``.

It prints JSON, a line at a time. WHERE is a file, or the URL of a Redis server.
"""

import atexit
import json
import os
import random
import signal
import sys
import threading
from collections.abc import Callable

import anyio
import anyio.to_thread

from chatnest.errors import LedgerUnavailable
from chatnest.ledger.base import Admitted, Charge, Ledger, Limit, Refused, Reservation
from chatnest.ledger.redis import RedisLedger
from chatnest.ledger.sqlite import SQLiteLedger

BUDGET = Limit(name="tokens", unit="tokens", window="day", account="all", amount=4_000)
HELD, COST = 100, 40


def say(**words: object) -> None:
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()


def open_ledger(where: str) -> Ledger:
    if where.startswith("redis:"):
        return RedisLedger(where)
    return SQLiteLedger(where, synchronous="NORMAL")


def wish(number: int) -> Reservation:
    return Reservation(id=f"{os.getpid()}-{number}", limits=(BUDGET,), output=HELD, min_output=HELD)


async def insist(operation: Callable[..., object], *arguments: object) -> object:
    """Until the file is free; every attempt has the same id."""
    while True:
        try:
            return await operation(*arguments)  # type: ignore[misc]
        except LedgerUnavailable:
            await anyio.lowlevel.checkpoint()


async def take(ledger: Ledger, number: int) -> Admitted | None:
    answer = await insist(ledger.reserve, wish(number))
    if not isinstance(answer, Admitted):
        return None
    (state,) = answer.states
    assert state.used + state.held <= BUDGET.amount
    return answer


async def hammer(path: str, count: int, *, settle: bool) -> None:
    """Take ``count`` holds, ten at a time, and settle them or not; tell how many there were."""
    ledger = open_ledger(path)
    taken = []

    async def turns(first: int) -> None:
        for number in range(first, count, 10):
            admitted = await take(ledger, number)
            if admitted is not None:
                taken.append(admitted)
                if settle:
                    await insist(ledger.settle, admitted.hold, Charge(tokens=COST))

    async with anyio.create_task_group() as tasks:
        for first in range(10):
            tasks.start_soon(turns, first)
    await ledger.aclose()
    say(admitted=len(taken))


async def burst(path: str, count: int) -> None:
    """Ask for ``count`` holds at the same time, when a line has been read."""
    ledger = open_ledger(path)
    await insist(ledger.check)
    taken = []

    async def ask(number: int) -> None:
        if await take(ledger, number):
            taken.append(number)

    say(ready=os.getpid())
    await anyio.to_thread.run_sync(sys.stdin.readline)
    async with anyio.create_task_group() as tasks:
        for number in range(count):
            tasks.start_soon(ask, number)
    await ledger.aclose()
    say(admitted=len(taken))


class Crowd:
    """Turns of every kind, ten at a time, that fight for one account until the last tokens."""

    def __init__(self, where: str, count: int, budget: int) -> None:
        self._ledger = open_ledger(where)
        self._left = count
        self._operations = self._in_the_way = 0
        self._dice = random.Random(os.getpid())
        # A fraction of the budget each, so that running answers stand in each other's way.
        self._large = budget // 30
        self._limits = (
            Limit(name="tokens", unit="tokens", window="day", account="all", amount=budget),
            Limit(name="streams", unit="streams", account="all", amount=35),
        )

    async def run(self) -> dict[str, int]:
        """How many operations there were, and how often running answers stood in the way."""
        async with anyio.create_task_group() as tasks:
            for number in range(10):
                tasks.start_soon(self._turns, number)
        await self._ledger.aclose()
        return {"operations": self._operations, "in_the_way": self._in_the_way}

    async def _turns(self, number: int) -> None:
        while self._left > 0:
            number += 10
            await self._turn(self._wish(number))

    async def _do(self, operation: Callable[..., object], *arguments: object) -> object:
        """Now and then again, as by somebody whose answer was lost."""
        for _ in range(self._dice.choice([1, 1, 1, 2])):
            self._left -= 1
            self._operations += 1
            answer = await insist(operation, *arguments)
        return answer

    def _wish(self, number: int) -> Reservation:
        tokens = self._dice.choice([10, *[self._large] * 4])
        return Reservation(
            id=f"{os.getpid()}-{number}",
            limits=self._limits,
            output=tokens,
            min_output=max(1, tokens // 4),
            lease=self._dice.choice([1, 60_000, 60_000, 60_000]),
        )

    async def _turn(self, wish: Reservation) -> None:
        dice = self._dice
        answer = await self._do(self._ledger.reserve, wish)
        if not isinstance(answer, Admitted):
            self._in_the_way += isinstance(answer, Refused) and answer.by_held
            return
        hold = answer.hold
        if dice.random() < 0.3:
            await self._do(self._ledger.renew, hold, 60_000)
        if dice.random() < 0.1:
            await self._do(self._ledger.release, wish)
        elif hold.tokens > 10 or dice.random() < 0.7:  # or nobody ever does
            over = 5 if hold.tokens <= 10 else 0
            await self._do(self._ledger.settle, hold, Charge(tokens=dice.randrange(40) + over))


async def until_killed(path: str) -> None:
    """Hold one and keep it; hold and settle others for as long as it lives."""
    ledger = open_ledger(path)
    assert await take(ledger, 0)
    say(held=HELD)
    number = 0
    while True:
        number += 1
        admitted = await take(ledger, number)
        if admitted is not None:
            await insist(ledger.settle, admitted.hold, Charge(tokens=1))
        say(settled=number)


def fork(path: str) -> None:
    """Parent and child write in turn; the parent lets go of the file in between."""
    ledger = open_ledger(path)
    anyio.run(take, ledger, 0)
    to_child, to_parent = os.pipe(), os.pipe()
    if os.fork() == 0:
        anyio.run(take, ledger, 0)
        os.write(to_parent[1], b".")
        os.read(to_child[0], 1)
        anyio.run(take, ledger, 1)
        anyio.run(ledger.aclose)
        os._exit(0)
    os.read(to_parent[0], 1)
    anyio.run(take, ledger, 1)
    anyio.run(ledger.aclose)
    os.write(to_child[1], b".")
    _, status = os.wait()
    say(child=status)


def fork_meanwhile(path: str) -> None:
    """Fork while another thread has the writer's lock, which the child never gets back."""
    taken, forked = threading.Event(), threading.Event()
    os.register_at_fork(before=taken.wait)  # behind the ledger's own, which comes later
    ledger = SQLiteLedger(path, synchronous="NORMAL")
    anyio.run(take, ledger, 0)
    writer = ledger._writer
    assert writer is not None

    def have_lock() -> None:
        writer.thread.join()
        with writer._lock:
            taken.set()
            forked.wait()

    other = threading.Thread(target=have_lock)
    other.start()
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # which ends it, should it wait for the lock
        anyio.run(take, ledger, 1)
        sys.exit()
    forked.set()
    other.join()
    _, status = os.waitpid(child, 0)
    say(child=status)


def fork_at_first(path: str) -> None:
    """Fork while another thread uses the ledger for the first time."""
    ledger = SQLiteLedger(path, synchronous="NORMAL")

    def use_it() -> None:
        other = threading.Thread(target=anyio.run, args=(take, ledger, 0))
        other.start()
        other.join()

    os.register_at_fork(before=use_it)
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # which ends it, should it wait for its parent's thread
        anyio.run(take, ledger, 1)
        sys.exit()
    _, status = os.waitpid(child, 0)
    say(child=status)


def fork_while_closing(path: str) -> None:
    """Tell whether the thread that has the file is there still at the fork."""
    threads: list[threading.Thread] = []
    alive: list[bool] = []
    os.register_at_fork(before=lambda: alive.extend(each.is_alive() for each in threads))
    ledger = SQLiteLedger(path, synchronous="NORMAL")
    anyio.run(take, ledger, 0)
    writer = ledger._writer
    assert writer is not None
    threads.append(writer.thread)
    forking = threading.Event()
    os.register_at_fork(before=forking.set)  # before the ledger's own, which came earlier
    close = writer._file.close

    def close_late() -> None:
        forking.wait()
        close()

    writer._file.close = close_late  # type: ignore[method-assign]  # of this one alone
    other = threading.Thread(target=anyio.run, args=(ledger.aclose,))
    other.start()
    while ledger._writer is not None:
        other.join(0.001)
    child = os.fork()
    if child == 0:
        os._exit(0)
    other.join()
    _, status = os.waitpid(child, 0)
    say(child=status, alive=alive.count(True))


def at_exit(path: str) -> None:
    """Use a ledger again when the interpreter has told its writer to stop."""
    ledger = SQLiteLedger(path, synchronous="NORMAL")

    async def take_and_close() -> None:
        await take(ledger, 1)
        await ledger.aclose()
        say(at_exit=1)

    atexit.register(anyio.run, take_and_close)  # it comes after weakref's, which come later
    signal.alarm(20)  # which ends it, should it wait for ever
    anyio.run(take, ledger, 0)


if __name__ == "__main__":
    mode, path = sys.argv[1:3]
    if mode == "fork":
        fork(path)
    elif mode == "fork-meanwhile":
        fork_meanwhile(path)
    elif mode == "at-exit":
        at_exit(path)
    elif mode == "fork-at-first":
        fork_at_first(path)
    elif mode == "fork-while-closing":
        fork_while_closing(path)
    elif mode == "until-killed":
        anyio.run(until_killed, path)
    elif mode == "crowd":
        say(**anyio.run(Crowd(path, *map(int, sys.argv[3:])).run))
    elif mode == "burst":
        anyio.run(burst, path, int(sys.argv[3]))
    else:
        anyio.run(lambda: hammer(path, int(sys.argv[3]), settle=mode == "settle"))
