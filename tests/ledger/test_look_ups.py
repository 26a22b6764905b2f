"""What is only looked at, or refused, leaves no trace in any ledger."""

import sqlite3
from pathlib import Path

import pytest

from chatnest.ledger.base import Charge, Hold
from chatnest.ledger.memory import MemoryLedger
from chatnest.ledger.sqlite import SQLiteLedger
from tests.ledger.conftest import MakeRedis
from tests.ledger.server import Server
from tests.ledger.support import MINUTE, Clock, admit, budget, rate, refuse, streams, wish

pytestmark = pytest.mark.anyio


async def look_and_be_refused(ledger) -> None:
    for number in range(30):
        account = f"addr:{number}"
        limits = rate(9, account=account), streams(9, account=account), budget(50, account=account)
        everybody = budget(90, account="addr:all", name="anonymous-tokens")
        await ledger.usage((*limits, everybody))
        await refuse(ledger, wish(*limits, everybody))  # 100 tokens
        await refuse(ledger, wish(rate(0, account=account)))
        await refuse(ledger, wish(rate(9, account=account), streams(0, account=account)))
        await ledger.renew(Hold(id=f"none-{number}", tokens=5, lines=()), MINUTE)


async def test_in_memory(clock: Clock):
    ledger = MemoryLedger(clock=clock)
    await look_and_be_refused(ledger)
    assert repr(ledger) == "MemoryLedger(0 keys)"
    assert not ledger._books._records


async def test_in_a_file(books: SQLiteLedger, path: Path):
    await books.settle((await admit(books, wish(budget(100)))).hold, Charge(tokens=5))
    before = rows(path)
    await look_and_be_refused(books)
    assert rows(path) == before


def rows(path: Path) -> dict[str, int]:
    with sqlite3.connect(path) as connection:
        return {
            table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("counters", "windows", "holds", "turns", "adjustments")
        }


@pytest.mark.loops("asyncio")
async def test_on_a_server(make_redis: MakeRedis, redis_server: Server, clock: Clock):
    ledger = make_redis(clock=clock)
    await look_and_be_refused(ledger)
    with redis_server.client() as client:
        keys = client.keys(f"{ledger.prefix}:*")
    assert [key for key in keys if not key.endswith(b":mark")] == []  # which the books have anyway


@pytest.mark.loops("asyncio")
async def test_in_a_cluster(make_redis: MakeRedis, redis_cluster: Server, clock: Clock):
    ledger = make_redis(f"redis+cluster://{redis_cluster.address}", clock=clock)
    await look_and_be_refused(ledger)
    for number in range(30):
        states = await ledger.usage((rate(9, account=f"addr:{number}"), streams(9)))
        assert [(state.used, state.held) for state in states] == [(0, 0), (0, 0)]
