"""The time of a reservation by the number of its limits, here and in another source tree.

    python -m benchmarks.reserve --before ../before/src [--redis redis://127.0.0.1:6379/0]

Both trees run in a process of their own, and take turns of a few reservations. A figure is the
median in microseconds, and the last column its ratio to that of the other tree.
"""

import argparse
import asyncio
import inspect
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any, Self

from chatnest.ledger.base import Charge, Limit, Reservation
from chatnest.ledger.memory import MemoryLedger
from chatnest.ledger.redis import RedisLedger
from chatnest.ledger.sqlite import SQLiteLedger

SIZES = {3: "ann:rbs", 6: "ann:rbs team:rb house:b", 9: "ann:rbs team:rbs house:rb plan:b"}
"""The limits of each account: a rate, a budget, and streams."""

MIXES = {"tokens of a day": ("tokens", "day"), "money of a month": ("money", "month")}
"""Units and windows of the budgets. The other tree may know the first of them alone."""

TURNS, EACH, WARM = 40, 25, 50
MOST = 10**12
IS_OLD = "unit" not in inspect.signature(Limit).parameters
"""Whether this is a tree from before limits had units."""


def limits_of(size: int, mix: str) -> tuple[Limit, ...]:
    """The limits of one reservation."""
    unit, window = MIXES[mix]
    found = []
    for word in SIZES[size].split():
        account, kinds = word.split(":")
        for kind in kinds:
            each: dict[str, dict[str, Any]] = {
                "r": {"name": "requests", "unit": "requests", "window": 60},
                "b": {"name": f"{unit}-{window}", "unit": unit, "window": window},
                "s": {"name": "streams", "unit": "streams"},
            }
            given: dict[str, Any] = {"account": account, "amount": MOST} | each[kind]
            if IS_OLD:
                known = {"r": "rate", "b": "budget", "s": "concurrency"}[kind]
                given = {"account": account, "name": given["name"], "kind": known, "limit": MOST}
                given |= {"window": 60} if kind == "r" else {}
            found.append(Limit(**given))
    return tuple(found)


def wish(limits: tuple[Limit, ...]) -> Reservation:
    """A reservation of an output that is not lowered."""
    given: dict[str, Any] = {"tokens": 600, "min_tokens": 64}
    if not IS_OLD:
        from chatnest.ledger.base import Cost  # the other tree has none

        given = {"output": 500, "min_output": 64, "input_tokens": 100, "money": Cost(30_000, 2_000)}
    return Reservation(id=uuid.uuid4().hex, limits=limits, **given)


async def serve(folder: str, redis: str) -> None:
    """Run the turns that the other process asks for, one a line."""
    ledgers: dict[str, Any] = {
        "memory": MemoryLedger(),
        "sqlite": SQLiteLedger(Path(folder) / f"{uuid.uuid4().hex}.db", synchronous="NORMAL"),
        "redis": RedisLedger(redis, prefix=uuid.uuid4().hex, timeout=30) if redis else None,
    }
    for line in sys.stdin:
        name, size, mix, count = json.loads(line)
        limits, ledger, spent = limits_of(size, mix), ledgers[name], []
        for _ in range(count):
            asked = wish(limits)
            begun = time.perf_counter_ns()
            admitted = await ledger.reserve(asked)
            spent.append(time.perf_counter_ns() - begun)
            await ledger.settle(admitted.hold, Charge(tokens=120))
        sys.stdout.write(f"{json.dumps(spent)}\n")
        sys.stdout.flush()


class Tree:
    """A process with the ledgers of one source tree."""

    def __init__(self, source: str, folder: str, redis: str) -> None:
        root = str(Path(__file__).parents[1])
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__)), "--serve", folder, "--redis", redis],
            env=os.environ | {"PYTHONPATH": os.pathsep.join([source, root])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)

    def turn(self, name: str, size: int, mix: str, count: int) -> list[int]:
        """The nanoseconds of each reservation of a turn."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{json.dumps([name, size, mix, count])}\n")
        self._process.stdin.flush()
        found: list[int] = json.loads(self._process.stdout.readline())
        return found


def compare(now: Tree, before: Tree, names: list[str]) -> None:
    """Print a row for each ledger, number of limits and mix."""
    plain = next(iter(MIXES))
    for name in names:
        for size in SIZES:
            spent: dict[str, list[int]] = {"before": [], **{mix: [] for mix in MIXES}}
            for number in range(TURNS):
                count = EACH if number else WARM
                turns = {"before": before.turn(name, size, plain, count)}
                turns |= {mix: now.turn(name, size, mix, count) for mix in MIXES}
                for which, found in turns.items() if number else ():
                    spent[which] += found
            old = median(spent.pop("before")) / 1_000
            for mix, found in spent.items():
                new = median(found) / 1_000
                row = f"{name:7} {size} {mix:17} {old:8.1f} {new:8.1f} {new / old:6.2f}"
                sys.stdout.write(f"{row}\n")
                sys.stdout.flush()


def main() -> None:
    """Compare, or serve the process that compares."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reserve", description=__doc__)
    parser.add_argument("--before", help="the src folder of the other tree")
    parser.add_argument("--redis", default="", help="the URL of a Redis or Valkey server")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        asyncio.run(serve(given.serve, given.redis))
        return
    here = str(Path(__file__).parents[1] / "src")
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        now = stack.enter_context(Tree(here, folder, given.redis))
        before = stack.enter_context(Tree(given.before or here, folder, given.redis))
        compare(now, before, ["memory", "sqlite", *(["redis"] if given.redis else [])])


if __name__ == "__main__":
    main()
