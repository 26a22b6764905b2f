"""A RedisLedger whose server is dead, frozen, deaf, full, or another one than before."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import anyio
import anyio.lowlevel
import pytest

from chatnest.errors import LedgerUnavailable
from chatnest.ledger.base import Admitted, Charge, Hold, Settlement
from chatnest.ledger.redis import RedisLedger
from chatnest.stores.redis import link as _redis_client
from tests.ledger.conftest import MakeRedis
from tests.ledger.server import PATIENCE, Server, binary, running
from tests.ledger.support import admit, balance, budget, streams, wish

pytestmark = [pytest.mark.anyio, pytest.mark.loops("asyncio")]

LIMITS = (budget(1_000), streams(9))


@pytest.fixture
def impatient(make_redis: MakeRedis) -> MakeRedis:
    """With the time that it has when nobody says anything. The others have ten seconds."""
    return partial(make_redis, timeout=0.25)


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address that is taken, and where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"redis://127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with running(tmp_path, "--repl-diskless-sync-delay", "0") as server:
        yield server


@pytest.fixture
def durable(tmp_path: Path) -> Iterator[Server]:
    """Answers after the disk has it. With ``everysec`` a busy disk may delay the write itself."""
    with running(tmp_path, "--appendonly", "yes", "--appendfsync", "always") as server:
        yield server


async def fails(operation: Callable[[], Awaitable[object]]) -> BaseException:
    """Gives the cause."""
    with anyio.fail_after(PATIENCE), pytest.raises(LedgerUnavailable) as caught:
        await operation()
    return caught.value.__cause__ or caught.value


async def comes_back(ledger: RedisLedger) -> None:
    with anyio.fail_after(PATIENCE):  # a failover takes some seconds
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


class Sent:
    """The commands that are sent: those of operations, and the probes."""

    def __init__(self) -> None:
        self.commands: list[str] = []
        self.probes = 0
        self.at_once = 0
        self.most_at_once = 0


@contextmanager
def counted(ledger: RedisLedger) -> Iterator[Sent]:
    sent = Sent()
    link = ledger._server.link()
    send = link._send

    async def counts(*command: str | int | bytes) -> object:
        if command[0] != "EXISTS":
            sent.commands.append(str(command[0]))
            return await send(*command)
        sent.probes += 1
        sent.at_once += 1
        sent.most_at_once = max(sent.most_at_once, sent.at_once)
        try:
            return await send(*command)
        finally:
            sent.at_once -= 1

    link._send = counts  # type: ignore[method-assign]
    yield sent
    link._send = send  # type: ignore[method-assign]


async def test_a_server_that_never_was(impatient: MakeRedis, nobody: str):
    ledger = impatient(nobody)
    hold = Hold(id="h", tokens=1, lines=())

    with counted(ledger) as sent:
        await fails(lambda: ledger.reserve(wish(*LIMITS)))
        assert sent.commands == ["EVALSHA"]
        for operation in operations(ledger, hold):
            await fails(operation)
        assert sent.commands == ["EVALSHA"]


async def test_nothing_waits_for_longer_than_it_was_given(
    make_redis: MakeRedis, server: Server, monkeypatch: pytest.MonkeyPatch
):
    given: list[float] = []

    def fail_after(seconds: float) -> AbstractContextManager[object]:
        given.append(seconds)
        return anyio.fail_after(min(seconds, 0.02))  # the clock of this test

    monkeypatch.setattr(
        _redis_client, "anyio", SimpleNamespace(fail_after=fail_after, Semaphore=anyio.Semaphore)
    )
    ledger = make_redis(server.url, timeout=0.25)
    hold = Hold(id="h", tokens=1, lines=())
    with server.frozen():
        for operation in operations(ledger, hold):
            given.clear()
            ledger._server.link()._breaker.close()
            await fails(operation)
            # With the wait for a connection, and for the exchange alone.
            assert given[:2] == [0.5, 0.25]
        assert max(given) < 0.6


async def test_a_server_that_is_killed_and_comes_back(
    durable: Server, make_redis: MakeRedis, impatient: MakeRedis
):
    ledger = impatient(durable.url, prefix="killed")
    patient = make_redis(durable.url, prefix="killed")
    hold = (await admit(patient, wish(*LIMITS))).hold
    settled = (await admit(patient, wish(*LIMITS))).hold
    await patient.settle(settled, Charge(tokens=30))

    durable.stop()

    assert isinstance(await fails(lambda: ledger.reserve(wish(*LIMITS))), Exception)
    with counted(ledger) as sent:
        for _ in range(50):
            for operation in operations(ledger, hold):
                await fails(operation)
    assert sent.commands == []

    durable.start()
    await comes_back(ledger)
    # Nothing that was acknowledged is lost, and nothing is done twice.
    assert await balance(patient, LIMITS[0]) == (30, 100)
    assert await patient.settle(settled, Charge(tokens=30)) == Settlement(tokens=30, first=False)
    assert await patient.settle(hold, Charge(tokens=40)) == Settlement(tokens=40, first=True)
    assert await balance(patient, LIMITS[0]) == (70, 0)
    assert await balance(patient, LIMITS[1]) == (0, 0)


async def test_a_server_that_is_frozen_and_thaws(
    server: Server, make_redis: MakeRedis, impatient: MakeRedis
):
    ledger, patient = impatient(server.url, prefix="f"), make_redis(server.url, prefix="f")
    hold = (await admit(patient, wish(*LIMITS))).hold
    unknown = wish(*LIMITS, tokens=200)

    with server.frozen(), counted(ledger) as sent, anyio.fail_after(PATIENCE):
        await fails(lambda: ledger.reserve(unknown))
        ledger._server.link()._breaker._interval = 0.01
        while sent.probes < 3:  # none of which comes through
            await fails(lambda: ledger.settle(hold, Charge(tokens=60)))
            await anyio.sleep(0.001)
        assert sent.commands == ["EVALSHA"]
        assert ledger._server.link()._breaker.is_open

    await comes_back(ledger)
    # It was carried out while nobody listened, or not; either way it is undone.
    await patient.release(unknown)
    assert await balance(patient, LIMITS[0]) == (0, 100)
    await patient.settle(hold, Charge(tokens=60))
    assert await balance(patient, LIMITS[0]) == (60, 0)
    assert await balance(patient, LIMITS[1]) == (0, 0)


async def test_of_many_at_once_few_find_a_frozen_server_and_the_others_are_told(
    server: Server, impatient: MakeRedis
):
    ledger = impatient(server.url, max_connections=3)

    with server.frozen(), counted(ledger) as sent:
        async with anyio.create_task_group() as tasks:
            for _ in range(100):
                tasks.start_soon(fails, lambda: ledger.reserve(wish(*LIMITS)))
        assert sent.commands == ["EVALSHA"] * 3
    await comes_back(ledger)
    slots = ledger._server.link()._slots
    assert slots.value == 3  # no connection is lost for good


async def test_a_settlement_whose_answer_was_lost_is_repeated(
    server: Server, make_redis: MakeRedis, impatient: MakeRedis
):
    ledger, patient = impatient(server.url, prefix="l"), make_redis(server.url, prefix="l")
    hold = (await admit(patient, wish(*LIMITS))).hold

    with server.frozen():
        await fails(lambda: ledger.settle(hold, Charge(tokens=60)))
    await comes_back(ledger)

    answers = [await patient.settle(hold, Charge(tokens=60)) for _ in range(2)]
    assert [answer.tokens for answer in answers] == [60, 60]
    assert answers[1].first is False
    assert await balance(patient, LIMITS[0]) == (60, 0)


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


async def test_while_the_breaker_is_open_nothing_is_sent(impatient: MakeRedis):
    async with deaf() as (url, heard):
        ledger = impatient(url)
        with counted(ledger) as sent:
            for _ in range(200):
                await fails(lambda: ledger.reserve(wish(*LIMITS)))
                await anyio.lowlevel.checkpoint()
        await ledger.aclose()

    assert sent.commands == ["EVALSHA"]
    assert b"".join(heard).count(b"EVALSHA") <= 1


async def test_one_probe_at_a_time(make_redis: MakeRedis):
    async with deaf() as (url, _):
        ledger = make_redis(url, timeout=0.02)
        link = ledger._server.link()
        link._breaker._interval = 0.001
        with counted(ledger) as sent, anyio.fail_after(PATIENCE):
            while sent.probes < 5:
                async with anyio.create_task_group() as tasks:
                    for _ in range(20):
                        tasks.start_soon(fails, ledger.check)
                await anyio.sleep(0.005)
        await ledger.aclose()
        assert sent.most_at_once == 1
        assert link._probing
        assert link._probing.done()


async def test_waiting_for_a_connection_is_bounded_and_no_fault_of_the_server(
    impatient: MakeRedis,
):
    ledger = impatient(max_connections=1)
    link = ledger._server.link()
    async with link._slots:
        cause = await fails(ledger.check)
    assert isinstance(cause, TimeoutError)
    assert not link._breaker.is_open
    await comes_back(ledger)


async def test_who_comes_too_late_while_others_have_answers_opens_nothing(make_redis: MakeRedis):
    ledger = make_redis()
    await ledger.check()
    link = ledger._server.link()
    send = link._send
    check = ledger._server.scripts["check"].sha
    waits, time_is_up = anyio.Event(), anyio.Event()

    async def sends(*command: str | int | bytes) -> object:
        if command[1] == check:
            waits.set()
            await time_is_up.wait()
            raise TimeoutError
        return await send(*command)

    link._send = sends  # type: ignore[method-assign]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(fails, ledger.check)
        await waits.wait()
        await ledger.usage(LIMITS)
        time_is_up.set()
    assert not link._breaker.is_open
    await fails(ledger.check)  # and now nobody has
    assert link._breaker.is_open


async def test_an_answer_that_is_an_error_opens_nothing(
    make_redis: MakeRedis, redis_server: Server
):
    ledger = make_redis(prefix="wrong")
    with redis_server.client() as client:
        client.set("wrong:{ann}:counters", "no hash", px=60_000)

    cause = await fails(lambda: ledger.reserve(wish(*LIMITS)))

    assert "WRONGTYPE" in str(cause)
    await admit(ledger, wish(budget(100, account="bob")))


async def test_a_full_server_is_told_by_check(server: Server, make_redis: MakeRedis):
    ledger = make_redis(server.url)
    with server.client() as client:
        client.config_set("maxmemory", 1)
        cause = await fails(ledger.check)
        assert "OOM" in str(cause) or "maxmemory" in str(cause)
        await fails(lambda: ledger.reserve(wish(*LIMITS)))
        client.config_set("maxmemory", 0)
    await ledger.check()
    await admit(ledger, wish(*LIMITS))


async def test_a_replica_is_told_by_check(server: Server, make_redis: MakeRedis, tmp_path: Path):
    (tmp_path / "replica").mkdir()
    with running(tmp_path / "replica", "--replicaof", f"127.0.0.1 {server.port}") as replica:
        with replica.client() as client:  # until then it reads what there is, and says just that
            replica.wait_until(lambda: client.info()["master_link_status"] == "up")
        ledger = make_redis(replica.url)
        cause = await fails(ledger.check)
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
        "sentinel down-after-milliseconds main 60000\n"
        "sentinel failover-timeout main 2000\n"
    )
    replica_of = ("--replicaof", f"127.0.0.1 {server.port}")
    with running(folders[0], *replica_of) as replica, sentinel(folders[1]) as guard:
        with server.client() as client, replica.client() as other, guard.client() as asked:
            server.wait_until(lambda: other.info()["master_link_status"] == "up")
            server.wait_until(lambda: asked.sentinel_masters()["main"]["num-slaves"] == 1)
            ledger = make_redis(f"redis+sentinel://{guard.address}/main")
            hold = (await admit(ledger, wish(*LIMITS))).hold
            client.set("last", 1)  # WAIT waits for writes of its own connection alone
            assert client.wait(1, 1_000 * PATIENCE) == 1
            server.stop()
            await fails(lambda: ledger.settle(hold, Charge(tokens=60)))

            asked.execute_command("SENTINEL SET", "main", "down-after-milliseconds", 1_000)
            await comes_back(ledger)
            assert other.info()["role"] == "master"
        answer = await ledger.settle(hold, Charge(tokens=60))
        assert answer == Settlement(tokens=60, first=True)
        assert await balance(ledger, LIMITS[0]) == (60, 0)


class Sentinel(Server):
    def command(self) -> list[str]:
        settings = str(self.folder / "sentinel.conf")
        return [binary(), settings, "--port", str(self.port), "--sentinel"]


@contextmanager
def sentinel(folder: Path) -> Iterator[Server]:
    guard = Sentinel(folder)
    try:
        yield guard.start()
    finally:
        guard.stop()


async def test_a_probe_that_was_ended_by_others_begins_again(make_redis: MakeRedis, nobody: str):
    ledger = make_redis(nobody)
    await fails(ledger.check)
    link = ledger._server.link()
    ended = link._probing
    assert ended
    ended.cancel()
    await asyncio.wait([ended])

    await fails(ledger.check)

    assert link._probing is not ended
    assert link._probing
    assert not link._probing.done()


async def test_an_abandoned_probe_ends_with_its_loop(nobody: str):
    ledger = RedisLedger(nobody)
    await fails(ledger.check)
    probing = ledger._server.link()._probing
    assert probing
    await ledger.aclose()

    assert probing.done()
    await fails(ledger.check)  # a new link
    await ledger.aclose()


async def test_admissions_go_on_after_the_server_was_restarted_unnoticed(
    durable: Server, make_redis: MakeRedis
):
    ledger = make_redis(durable.url)
    await admit(ledger, wish(*LIMITS))
    durable.stop()
    durable.start()

    # The connection in the pool is a dead one, and scripts are gone.
    again = wish(*LIMITS)
    with anyio.fail_after(PATIENCE):
        answer = None
        while not isinstance(answer, Admitted):
            try:
                answer = await ledger.reserve(again)
            except LedgerUnavailable:
                await anyio.sleep(0.01)
    assert await balance(ledger, LIMITS[0]) == (0, 200)
