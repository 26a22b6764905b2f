"""A RedisLedger whose server is dead, frozen, deaf, full, or another one than before."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from chatnest.errors import LedgerUnavailable
from chatnest.ledger.base import Admitted, Charge, Hold, Settlement
from chatnest.ledger.redis import RedisLedger
from tests.ledger.conftest import MakeRedis
from tests.ledger.server import Server, binary, free_port, running
from tests.ledger.support import admit, balance, budget, streams, wish

pytestmark = pytest.mark.anyio

LIMITS = (budget(1_000), streams(9))
FIRST, NEXT = 0.6, 0.005
"""Seconds that an operation may take, when the server is away, and when that is known."""
SLACK = 1.4
"""More of them, for machines on which much else is going on."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def make_redis(make_redis: MakeRedis) -> MakeRedis:
    """With the time that it has when nobody says anything."""
    return partial(make_redis, timeout=0.25)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with running(tmp_path) as server:
        yield server


@pytest.fixture
def durable(tmp_path: Path) -> Iterator[Server]:
    """Answers after the disk has it. With ``everysec`` a busy disk may delay the write itself."""
    with running(tmp_path, "--appendonly", "yes", "--appendfsync", "always") as server:
        yield server


async def fails(operation: Callable[[], Awaitable[object]]) -> tuple[float, BaseException]:
    """How long it takes to fail, and what the cause was."""
    begun = time.perf_counter()
    with pytest.raises(LedgerUnavailable) as caught:
        await operation()
    return time.perf_counter() - begun, caught.value.__cause__ or caught.value


async def comes_back(ledger: RedisLedger) -> None:
    with anyio.fail_after(30):  # a failover takes some seconds
        while True:
            try:
                await ledger.usage(LIMITS)
            except LedgerUnavailable:
                await anyio.sleep(0.01)
            else:
                return


def operations(ledger: RedisLedger, hold: Hold) -> list[Callable[[], Awaitable[object]]]:
    return [
        lambda: ledger.reserve(wish(*LIMITS)),
        lambda: ledger.renew(hold, 30_000),
        lambda: ledger.settle(hold, Charge(tokens=1)),
        lambda: ledger.release(wish(*LIMITS)),
        lambda: ledger.usage(LIMITS),
        ledger.check,
        ledger.facts,
    ]


@contextmanager
def counted(ledger: RedisLedger) -> Iterator[list[str]]:
    """The scripts that are sent; not the probes."""
    sent: list[str] = []
    link = ledger._link()
    send = link._send

    async def counts(*command: str | int) -> object:
        if command[0] != "EXISTS":
            sent.append(str(command[0]))
        return await send(*command)

    link._send = counts  # type: ignore[method-assign]
    yield sent
    link._send = send  # type: ignore[method-assign]


async def test_a_server_that_never_was(make_redis: MakeRedis):
    ledger = make_redis(f"redis://127.0.0.1:{free_port()}")
    hold = Hold(id="h", tokens=1, lines=())

    first, _ = await fails(lambda: ledger.reserve(wish(*LIMITS)))
    assert first < FIRST + SLACK
    with counted(ledger) as sent:
        for operation in operations(ledger, hold):
            await fails(operation)
    assert sent == []


async def test_a_server_that_is_killed_and_comes_back(durable: Server, make_redis: MakeRedis):
    ledger = make_redis(durable.url, prefix="killed")
    patient = make_redis(durable.url, prefix="killed", timeout=10)
    hold = (await admit(patient, wish(*LIMITS))).hold
    settled = (await admit(patient, wish(*LIMITS))).hold
    await patient.settle(settled, Charge(tokens=30))

    durable.stop()

    first, cause = await fails(lambda: ledger.reserve(wish(*LIMITS)))
    assert first < FIRST + SLACK
    assert isinstance(cause, Exception)
    with counted(ledger) as sent:
        begun = time.perf_counter()
        for _ in range(50):
            for operation in operations(ledger, hold):
                await fails(operation)
        assert time.perf_counter() - begun < 350 * NEXT + SLACK
    assert sent == []

    durable.start()
    await comes_back(ledger)
    # Nothing that was acknowledged is lost, and nothing is done twice.
    assert await balance(patient, LIMITS[0]) == (30, 100)
    assert await patient.settle(settled, Charge(tokens=30)) == Settlement(tokens=30, first=False)
    assert await patient.settle(hold, Charge(tokens=40)) == Settlement(tokens=40, first=True)
    assert await balance(patient, LIMITS[0]) == (70, 0)
    assert await balance(patient, LIMITS[1]) == (0, 0)


async def test_a_server_that_is_frozen_and_thaws(server: Server, make_redis: MakeRedis):
    ledger = make_redis(server.url)
    hold = (await admit(ledger, wish(*LIMITS))).hold
    unknown = wish(*LIMITS, tokens=200)

    with server.frozen():
        first, cause = await fails(lambda: ledger.reserve(unknown))
        assert first < FIRST + SLACK
        assert isinstance(cause, Exception)
        with counted(ledger) as sent:
            begun = time.perf_counter()
            # Over several probes, none of which comes through.
            while time.perf_counter() - begun < 1.5:
                once = time.perf_counter()
                await fails(lambda: ledger.settle(hold, Charge(tokens=60)))
                assert time.perf_counter() - once < NEXT + SLACK
                await anyio.sleep(0.001)
        assert sent == []
        assert ledger._link()._breaker.is_open

    await comes_back(ledger)
    # It was carried out while nobody listened, or not; either way it is undone.
    await ledger.release(unknown)
    assert await balance(ledger, LIMITS[0]) == (0, 100)
    await ledger.settle(hold, Charge(tokens=60))
    assert await balance(ledger, LIMITS[0]) == (60, 0)
    assert await balance(ledger, LIMITS[1]) == (0, 0)


async def test_many_at_once_find_a_frozen_server_in_the_time_of_one(
    server: Server, make_redis: MakeRedis
):
    ledger = make_redis(server.url, max_connections=3)
    await ledger.check()

    with server.frozen():
        begun = time.perf_counter()
        async with anyio.create_task_group() as tasks:
            for _ in range(100):
                tasks.start_soon(fails, lambda: ledger.reserve(wish(*LIMITS)))
        assert time.perf_counter() - begun < FIRST + SLACK
    await comes_back(ledger)
    async with anyio.create_task_group() as tasks:  # no connection is lost for good
        for _ in range(3):
            tasks.start_soon(ledger.check)


async def test_a_settlement_whose_answer_was_lost_is_repeated(
    server: Server, make_redis: MakeRedis
):
    ledger = make_redis(server.url)
    hold = (await admit(ledger, wish(*LIMITS))).hold

    with server.frozen():
        await fails(lambda: ledger.settle(hold, Charge(tokens=60)))
    await comes_back(ledger)

    answers = [await ledger.settle(hold, Charge(tokens=60)) for _ in range(2)]
    assert [answer.tokens for answer in answers] == [60, 60]
    assert answers[1].first is False
    assert await balance(ledger, LIMITS[0]) == (60, 0)


@asynccontextmanager
async def deaf() -> AsyncIterator[tuple[str, list[bytes]]]:
    """A listener that takes whatever comes, and never answers."""
    heard: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            heard.append(data)
        writer.close()

    listener = await asyncio.start_server(listen, "127.0.0.1", 0)
    async with listener:
        yield f"redis://127.0.0.1:{listener.sockets[0].getsockname()[1]}", heard


async def test_while_the_breaker_is_open_nothing_is_sent(make_redis: MakeRedis):
    async with deaf() as (url, heard):
        ledger = make_redis(url)
        await fails(lambda: ledger.reserve(wish(*LIMITS)))
        for _ in range(200):
            await fails(lambda: ledger.reserve(wish(*LIMITS)))
            await anyio.lowlevel.checkpoint()
        await ledger.aclose()

    assert b"".join(heard).count(b"EVALSHA") == 1


async def test_one_probe_at_a_time(make_redis: MakeRedis):
    async with deaf() as (url, heard):
        ledger = make_redis(url, timeout=0.02)
        link = ledger._link()
        link._breaker._interval = 0.001
        begun = time.perf_counter()
        while b"".join(heard).count(b"EXISTS") < 5:
            assert time.perf_counter() - begun < 30
            async with anyio.create_task_group() as tasks:
                for _ in range(20):
                    tasks.start_soon(fails, ledger.check)
            assert len([t for t in asyncio.all_tasks() if t is link._probing]) <= 1
            await anyio.sleep(0.005)
        await ledger.aclose()
        assert time.perf_counter() - begun > 4 * 0.02  # one after the other
        assert link._probing
        assert link._probing.done()


async def test_waiting_for_a_connection_is_bounded_and_no_fault_of_the_server(
    make_redis: MakeRedis,
):
    ledger = make_redis(max_connections=1, timeout=0.02)
    link = ledger._link()
    async with link._slots:
        _, cause = await fails(ledger.check)
    assert isinstance(cause, TimeoutError)
    assert not link._breaker.is_open
    await comes_back(ledger)


async def test_who_comes_too_late_while_others_have_answers_opens_nothing(make_redis: MakeRedis):
    ledger = make_redis(timeout=0.1)
    link = ledger._link()
    send = link._send
    late = anyio.Event()

    async def sends(*command: str | int) -> object:
        if command[0] == "SET":
            late.set()
            await anyio.sleep_forever()
        return await send(*command)

    link._send = sends  # type: ignore[method-assign]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(fails, ledger.check)
        await late.wait()
        await ledger.usage(LIMITS)
    assert not link._breaker.is_open
    await fails(ledger.check)  # and now nobody has
    assert link._breaker.is_open


async def test_an_answer_that_is_an_error_opens_nothing(
    make_redis: MakeRedis, redis_server: Server
):
    ledger = make_redis(prefix="wrong")
    with redis_server.client() as client:
        client.set("wrong:{ann}:counters", "no hash", px=60_000)

    _, cause = await fails(lambda: ledger.reserve(wish(*LIMITS)))

    assert "WRONGTYPE" in str(cause)
    await admit(ledger, wish(budget(100, account="bob")))


async def test_a_full_server_is_told_by_check(server: Server, make_redis: MakeRedis):
    ledger = make_redis(server.url)
    with server.client() as client:
        client.config_set("maxmemory", 1)
        _, cause = await fails(ledger.check)
        assert "OOM" in str(cause) or "maxmemory" in str(cause)
        await fails(lambda: ledger.reserve(wish(*LIMITS)))
        client.config_set("maxmemory", 0)
    await ledger.check()
    await admit(ledger, wish(*LIMITS))


async def test_a_replica_is_told_by_check(server: Server, make_redis: MakeRedis, tmp_path: Path):
    (tmp_path / "replica").mkdir()
    with running(tmp_path / "replica", "--replicaof", f"127.0.0.1 {server.port}") as replica:
        ledger = make_redis(replica.url)
        _, cause = await fails(ledger.check)
        assert "read only" in str(cause)
        assert (await ledger.facts())["role"] == "slave"

        with replica.client() as client:
            client.replicaof("NO", "ONE")
        await ledger.check()
        await admit(ledger, wish(*LIMITS))


async def test_sentinels_lead_to_the_new_primary(
    server: Server, make_redis: MakeRedis, tmp_path: Path
):
    folders = [tmp_path / name for name in ("replica", "sentinel")]
    for folder in folders:
        folder.mkdir()
    settings = folders[1] / "sentinel.conf"
    settings.write_text(
        f"sentinel monitor main 127.0.0.1 {server.port} 1\n"
        "sentinel down-after-milliseconds main 200\n"
        "sentinel failover-timeout main 2000\n"
    )
    replica_of = ("--replicaof", f"127.0.0.1 {server.port}")
    with running(folders[0], *replica_of) as replica, sentinel(folders[1]) as guard:
        with server.client() as client, replica.client() as other, guard.client() as asked:
            server.wait_until(lambda: other.info()["master_link_status"] == "up")
            server.wait_until(lambda: asked.sentinel_masters()["main"]["num-slaves"] == 1)
            ledger = make_redis(f"redis+sentinel://{guard.address}/main")
            hold = (await admit(ledger, wish(*LIMITS))).hold
            client.wait(1, 1_000)
            server.stop()
            await fails(lambda: ledger.settle(hold, Charge(tokens=60)))

            await comes_back(ledger)
            assert other.info()["role"] == "master"
        answer = await ledger.settle(hold, Charge(tokens=60))
        assert answer == Settlement(tokens=60, first=True)
        assert await balance(ledger, LIMITS[0]) == (60, 0)


@contextmanager
def sentinel(folder: Path) -> Iterator[Server]:
    guard = Server(folder)
    command = [binary(), str(folder / "sentinel.conf"), "--port", str(guard.port)]
    try:
        yield guard.start([*command, "--sentinel"])
    finally:
        guard.stop()


async def test_a_probe_that_was_ended_by_others_begins_again(make_redis: MakeRedis):
    ledger = make_redis(f"redis://127.0.0.1:{free_port()}")
    await fails(ledger.check)
    link = ledger._link()
    ended = link._probing
    assert ended
    ended.cancel()
    await asyncio.wait([ended])

    await fails(ledger.check)

    assert link._probing is not ended
    assert link._probing
    assert not link._probing.done()


async def test_an_abandoned_probe_ends_with_its_loop(redis_server: Server):
    ledger = RedisLedger(f"redis://127.0.0.1:{free_port()}")
    await fails(ledger.check)
    probing = ledger._link()._probing
    assert probing
    await ledger.aclose()

    assert probing.done()
    await fails(ledger.check)  # a new link
    await ledger.aclose()


async def test_admissions_go_on_after_the_server_was_restarted_unnoticed(
    server: Server, make_redis: MakeRedis
):
    ledger = make_redis(server.url)
    await admit(ledger, wish(*LIMITS))
    server.stop()
    server.start()

    # The connection in the pool is a dead one; books and scripts are gone.
    again = wish(*LIMITS)
    with anyio.fail_after(5):
        answer = None
        while not isinstance(answer, Admitted):
            try:
                answer = await ledger.reserve(again)
            except LedgerUnavailable:
                await anyio.sleep(0.01)
    assert await balance(ledger, LIMITS[0]) == (0, 100)
