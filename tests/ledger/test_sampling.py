"""What somebody sees who looks at the books while four processes write them.

Each snapshot is of one moment: a script in Redis, a read transaction in SQLite. In each of them,
``settled + held <= limit + overrun``, and ``held`` is what the live holds add up to.
"""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.ledger.conftest import Tell
from tests.ledger.processes import start, told_by
from tests.ledger.server import Server, running
from tests.support.soak import amount

pytestmark = pytest.mark.process

OPERATIONS = amount(4_000, 300_000)
BUDGET = OPERATIONS * 5
"""So that it is used up shortly before the end: a turn costs some 20, and takes three of them."""

PROCESSES = 4


class Snapshot(NamedTuple):
    """The budget's figures, the streams', and what the live holds are, at one moment."""

    settled: int
    held: int
    overrun: int
    streams: int
    live_tokens: int
    live_streams: int


Look = Callable[[], Snapshot | None]


def check(seen: Snapshot) -> None:
    assert seen.settled + seen.held <= BUDGET + seen.overrun, seen
    assert seen.held == seen.live_tokens, seen
    assert seen.streams == seen.live_streams <= 35, seen


def watch(where: str, look: Look, tell: Tell) -> None:
    """Sample while they run; and once more at the end."""
    each = OPERATIONS // PROCESSES
    processes = [start("crowd", where, each, BUDGET) for _ in range(PROCESSES)]
    samples = 0
    try:
        while any(process.poll() is None for process in processes):
            seen = look()
            if seen is not None:
                check(seen)
                samples += 1
        told = [told_by(process) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    operations = sum(each["operations"] for each in told)
    last = look()
    assert last is not None
    check(last)
    assert operations >= OPERATIONS
    assert samples > 0
    # They stood in each other's way, and more was charged than had been held for it.
    assert sum(each["in_the_way"] for each in told) > 0
    assert last.settled > BUDGET / 2
    assert last.overrun > 0
    tell(f"{operations} operations, {samples} snapshots, no violation; at the end {last}")


SNAPSHOT = """
local figures, tokens, streams = redis.call('HGETALL', KEYS[1]), 0, 0
local holds = redis.call('HVALS', KEYS[2])
for _, packed in ipairs(holds) do
  local state, held, lines = string.match(packed, '^(%u) (%d+)[%d,]* %d+ ?(.*)$')
  if state == 'R' then
    if string.find(lines, 'T=', 1, true) then tokens = tokens + held end
    if string.find(lines, 'S=', 1, true) then streams = streams + 1 end
  end
end
return { figures, tokens, streams }
"""


def looks_into_redis(server: Server) -> Look:
    client = server.client(decode_responses=True)
    script = client.register_script(SNAPSHOT)

    def look() -> Snapshot | None:
        packed, tokens, streams = script(["chatnest:{all}:counters", "chatnest:{all}:holds"])
        counters = dict(zip(packed[::2], packed[1::2], strict=True))
        days = [figures for field, figures in counters.items() if field.startswith("tokens:")]
        if not days:
            return None  # nobody was there yet
        figures = [list(map(int, day.split()[:4])) for day in days]
        settled, held, overrun, _ = map(sum, zip(*figures, strict=True))
        running = int(counters["streams:"].split()[1])
        return Snapshot(settled, held, overrun, running, tokens, streams)

    return look


def looks_into_sqlite(path: Path) -> Look:
    def look() -> Snapshot | None:
        if not path.exists():
            return None
        with closing(sqlite3.connect(path, isolation_level=None, timeout=60)) as connection:
            try:
                connection.execute("BEGIN")
                budget = connection.execute(
                    "SELECT sum(settled), sum(held), sum(overrun) FROM counters"
                    " WHERE name = 'tokens'"
                ).fetchone()
                streams = connection.execute(
                    "SELECT sum(held) FROM counters WHERE name = 'streams'"
                ).fetchone()
                live = connection.execute(
                    "SELECT coalesce(sum(tokens), 0), count(*) FROM holds"
                    " WHERE state = 0 AND lines <> '[]'"
                ).fetchone()
            except sqlite3.OperationalError:  # its tables are being made
                return None
            return None if budget[0] is None else Snapshot(*budget, *streams, *live)

    return look


@pytest.mark.soak
def test_redis_is_never_seen_overspent(tmp_path: Path, tell: Tell):
    with running(tmp_path) as server:
        watch(server.url, looks_into_redis(server), tell)


@pytest.mark.soak
def test_sqlite_is_never_seen_overspent(tmp_path: Path, tell: Tell):
    path = tmp_path / "ledger.db"
    watch(str(path), looks_into_sqlite(path), tell)
