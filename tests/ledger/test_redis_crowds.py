"""Many who ask a RedisLedger at once: processes, tasks, event loops."""

import random
import subprocess
import threading
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from chatnest.errors import ConfigurationError
from chatnest.ledger.base import Admitted
from chatnest.ledger.redis import RedisLedger
from tests.ledger import worker
from tests.ledger.conftest import MakeRedis
from tests.ledger.processes import start, told_by
from tests.ledger.server import Server, running
from tests.ledger.support import (
    admit,
    balance,
    budget,
    wish,
)

pytestmark = [pytest.mark.anyio, pytest.mark.loops("asyncio")]


def admitted_by(processes: "list[subprocess.Popen[str]]") -> int:
    return sum(told_by(process)["admitted"] for process in processes)


def figures(server: Server) -> list[int]:
    """Settled, held, overrun, expired."""
    with server.client(decode_responses=True) as client:
        (counter,) = client.hgetall("chatnest:{all}:counters").values()
    return [int(figure) for figure in counter.split()[:4]]


@pytest.mark.redis
def test_four_processes_never_hold_and_settle_more_than_there_is(tmp_path: Path):
    with running(tmp_path) as server:
        # Each looks at every admission's figures, which are of one moment.
        taken = admitted_by([start("settle", server.url, 300) for _ in range(4)])

        assert 0 < taken < 1_200
        assert figures(server) == [taken * worker.COST, 0, 0, 0]
    assert worker.BUDGET.amount - worker.HELD < taken * worker.COST <= worker.BUDGET.amount


@pytest.mark.redis
def test_500_at_once_in_four_processes_get_what_there_is(tmp_path: Path):
    with running(tmp_path) as server:

        async def take_three() -> None:
            ledger = RedisLedger(server.url, timeout=10)
            for number in range(3):
                assert await worker.take(ledger, number)
            await ledger.aclose()

        anyio.run(take_three)
        workers = [start("burst", server.url, 125) for _ in range(4)]
        for process in workers:
            assert process.stdout
            assert "ready" in process.stdout.readline()
        for process in workers:
            assert process.stdin
            process.stdin.write("\n")
            process.stdin.flush()

        assert admitted_by(workers) == 37
        assert figures(server) == [0, worker.BUDGET.amount, 0, 0]


async def test_many_wait_for_few_connections(make_redis: MakeRedis, redis_server: Server):
    ledger = make_redis(max_connections=2)
    with redis_server.client() as client:
        before = len(client.client_list())
        answers: list[bool] = []

        async def ask() -> None:
            asked = wish(budget(3_700))
            answer = await ledger.reserve(asked)
            answers.append(isinstance(answer, Admitted))
            assert not isinstance(answer, Admitted) or answer.hold.id == asked.id

        async with anyio.create_task_group() as tasks:
            for _ in range(500):
                tasks.start_soon(ask)
        assert len(client.client_list()) <= before + 2
    assert (sum(answers), len(answers)) == (37, 500)


async def test_an_operation_that_is_cancelled_mixes_up_no_answers(make_redis: MakeRedis):
    ledger = make_redis(max_connections=3)
    dice = random.Random(1)
    limit = budget(10**6)
    asked = [wish(limit, tokens=number) for number in range(1, 200)]

    for reservation in asked:
        with anyio.move_on_after(dice.random() / 1000):
            await ledger.reserve(reservation)
        answer = await admit(ledger, reservation)
        assert (answer.hold.id, answer.hold.tokens) == (reservation.id, reservation.tokens)
    assert await balance(ledger, limit) == (0, sum(each.tokens for each in asked))


def test_two_event_loops_at_once(redis_server: Server):
    ledger = RedisLedger(redis_server.url, prefix="loops", timeout=10)
    admitted: list[bool] = []

    async def ask() -> None:
        answers = [await ledger.reserve(wish(budget(3_700))) for _ in range(50)]
        admitted.extend(isinstance(answer, Admitted) for answer in answers)
        await ledger.aclose()

    threads = [threading.Thread(target=anyio.run, args=(ask,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (sum(admitted), len(admitted)) == (37, 100)

    async def look() -> tuple[int, int]:
        try:
            return await balance(ledger, budget(3_700))
        finally:
            await ledger.aclose()

    assert anyio.run(look) == (0, 3_700)


@pytest.mark.loops("trio")
async def test_on_trio_it_says_what_to_do(anyio_backend: str):
    ledger = RedisLedger("redis://localhost")

    with pytest.raises(ConfigurationError, match="SQLiteLedger on trio"):
        await ledger.check()
    await ledger.aclose()
