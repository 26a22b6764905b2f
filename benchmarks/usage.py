"""The time of ``chatnest usage`` on a million turns, in a file and in Redis.

    python -m benchmarks.usage [--redis redis://127.0.0.1:6379/0] [--runs 7]

The turns are of 30 days, by 1,250 principals of 50 teams, with 8 models. Their roll-up is written
to an empty ledger at once, as the settlements would have left it. Each query is a process of its
own, as at a shell. A figure is the median in seconds: of the clock, and of the CPU, which does not
count the server's. The last column is the clock's beyond that of the same command on an empty
ledger, which is the start of Python and the imports.
"""

import argparse
import asyncio
import os
import random
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from collections import defaultdict
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from chatnest.ledger.base import Limit
from chatnest.ledger.days import day_of, days_between
from chatnest.ledger.redis import RedisLedger
from chatnest.ledger.redis.keys import tag_of
from chatnest.ledger.sqlite import SQLiteLedger
from chatnest.ledger.usage import UsageRow, Use, day_before, groups_text

TURNS = 1_000_000
DAYS, PRINCIPALS, TEAMS = 30, 1_250, 50
MODELS = [f"model-{number}" for number in range(8)]
WEIGHTS = [32, 24, 18, 12, 8, 6, 4, 3]
QUERIES = ("principal", "day,model", "team", "day,principal,model")
EPOCH = date(1970, 1, 1).toordinal()


def rows() -> dict[UsageRow, Use]:
    """The roll-up of the turns."""
    dice, found = random.Random(1), defaultdict[UsageRow, Use](Use)
    today = day_of(time.time_ns() // 1_000_000, "UTC")
    days = days_between(day_before(today, DAYS - 1), today)
    models = dice.choices(MODELS, WEIGHTS, k=TURNS)
    for model in models:
        number = dice.randrange(PRINCIPALS)
        taken, given = dice.randrange(50, 4_000), dice.randrange(10, 900)
        row = UsageRow(
            day=dice.choice(days),
            principal=f"user:{number:05}@example.org",
            model=model,
            profile="expanded",
            outcome="done",
            groups=groups_text({"team": f"team-{number % TEAMS}"}),
        )
        cost = taken * 250 + given * 2_000
        found[row].add(Use(1, taken + given, taken, taken // 3, 0, given, given // 4, cost))
    return found


async def begin(ledger: RedisLedger | SQLiteLedger) -> None:
    """Let a ledger make its books."""
    await ledger.usage((Limit(name="streams", unit="streams", account="ann", amount=1),))
    await ledger.aclose()


def fill_file(path: Path, found: dict[UsageRow, Use]) -> str:
    """Write the roll-up to a file. Returns its address."""
    asyncio.run(begin(SQLiteLedger(path)))
    file = sqlite3.connect(path)
    marks = ", ".join("?" * (len(UsageRow._fields) + len(Use.__struct_fields__)))
    with file:
        file.executemany(
            f"INSERT INTO usage VALUES ({marks})",
            [(*row, *msgspec.structs.astuple(use)) for row, use in found.items()],
        )
    file.close()
    return f"sqlite:{path}"


def fill_server(url: str, prefix: str, found: dict[UsageRow, Use]) -> None:
    """Write the roll-up to a server, as the ledger's scripts keep it."""
    import redis

    asyncio.run(begin(RedisLedger(url, prefix=prefix, timeout=30)))
    hashes: defaultdict[str, dict[Any, Any]] = defaultdict(dict)
    for row, use in found.items():
        number = date.fromisoformat(row.day).toordinal() - EPOCH
        names = msgspec.json.encode(
            (row.principal, row.model, row.profile, row.outcome, row.groups)
        )
        key = f"{prefix}:{{{tag_of(row.principal)}}}:usage:{row.day[:7]}"
        figures = ",".join(map(str, msgspec.structs.astuple(use)))
        hashes[key][f"{number} {names.decode()}"] = figures
    pipe = redis.Redis.from_url(url).pipeline(transaction=False)
    for key, fields in hashes.items():
        pipe.hset(key, mapping=fields)
    pipe.execute()


def write_config(folder: str, words: str) -> Path:
    """A configuration with a ledger."""
    config = Path(folder) / f"{uuid.uuid4().hex}.toml"
    config.write_text(f"[ledger]\n{words}\n", encoding="utf-8")
    return config


def measure(config: Path, by: str, runs: int) -> tuple[float, float, int]:
    """The seconds of the clock and of the CPU, and the lines of the answer."""
    clock, cpu, lines = [], [], 0
    command = [sys.executable, "-m", "chatnest", "usage", "--csv", "--by", by, "--since", "30d"]
    for _ in range(runs):
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        answer = subprocess.run(
            [*command, "--config", str(config)], check=True, capture_output=True, env=os.environ
        )
        clock.append(time.perf_counter() - began)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        lines = answer.stdout.count(b"\n") - 1
    return median(clock), median(cpu), lines


def main() -> None:
    """Fill the ledgers, and print a row for each query."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.usage", description=__doc__)
    parser.add_argument("--redis", default="", help="the URL of a Redis or Valkey server")
    parser.add_argument("--runs", type=int, default=7)
    given = parser.parse_args()
    found = rows()
    sys.stdout.write(f"{TURNS:,} turns in {len(found):,} rows\n")
    with tempfile.TemporaryDirectory() as folder:
        empty = {"sqlite": f'url = "{fill_file(Path(folder) / "empty.db", {})}"'}
        ledgers = {"sqlite": f'url = "{fill_file(Path(folder) / "books.db", found)}"'}
        if given.redis:
            prefix = uuid.uuid4().hex
            fill_server(given.redis, prefix, found)
            fill_server(given.redis, f"{prefix}-empty", {})
            empty["redis"] = f'url = "{given.redis}"\nprefix = "{prefix}-empty"'
            ledgers["redis"] = f'url = "{given.redis}"\nprefix = "{prefix}"'
        for name, words in ledgers.items():
            start, _, _ = measure(write_config(folder, empty[name]), QUERIES[0], given.runs)
            config = write_config(folder, words)
            for by in QUERIES:
                clock, cpu, lines = measure(config, by, given.runs)
                row = f"{name:7} --by {by:20} {lines:8,} rows {clock:6.2f} s {cpu:6.2f} s of CPU"
                sys.stdout.write(f"{row} {clock - start:6.2f} s\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
