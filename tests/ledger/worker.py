"""A worker process of its own, for tests: ``worker.py MODE FILE [NUMBER]``. One JSON line each."""

import json
import os
import sys
from collections.abc import Callable

import anyio

from chatnest.errors import LedgerUnavailable
from chatnest.ledger.base import Admitted, Charge, Limit, Reservation
from chatnest.ledger.sqlite import SQLiteLedger

BUDGET = Limit(name="tokens", kind="budget", account="all", limit=4_000)
HELD, COST = 100, 40


def say(**words: object) -> None:
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()


def wish(number: int) -> Reservation:
    return Reservation(id=f"{os.getpid()}-{number}", limits=(BUDGET,), tokens=HELD, min_tokens=HELD)


async def insist(operation: Callable[..., object], *arguments: object) -> object:
    """Until the file is free; every attempt has the same id."""
    while True:
        try:
            return await operation(*arguments)  # type: ignore[misc]
        except LedgerUnavailable:
            await anyio.lowlevel.checkpoint()


async def take(ledger: SQLiteLedger, number: int) -> Admitted | None:
    answer = await insist(ledger.reserve, wish(number))
    if not isinstance(answer, Admitted):
        return None
    (state,) = answer.states
    assert state.used + state.held <= BUDGET.limit
    return answer


async def hammer(path: str, count: int, *, settle: bool) -> None:
    """Take ``count`` holds, ten at a time, and settle them or not; tell how many there were."""
    ledger = SQLiteLedger(path, synchronous="NORMAL")
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


async def until_killed(path: str) -> None:
    """Hold one and keep it; hold and settle others for as long as it lives."""
    ledger = SQLiteLedger(path, synchronous="NORMAL")
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
    ledger = SQLiteLedger(path, synchronous="NORMAL")
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


if __name__ == "__main__":
    mode, path = sys.argv[1:3]
    if mode == "fork":
        fork(path)
    elif mode == "until-killed":
        anyio.run(until_killed, path)
    else:
        anyio.run(lambda: hammer(path, int(sys.argv[3]), settle=mode == "settle"))
