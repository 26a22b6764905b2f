from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from chatnest.ledger.base import Ledger
from chatnest.ledger.memory import MemoryLedger
from chatnest.ledger.redis import RedisLedger
from chatnest.ledger.sqlite import SQLiteLedger
from tests.ledger.server import Server, running, running_cluster
from tests.ledger.support import Clock


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Redis is for asyncio alone."""
    items[:] = [item for item in items if not _is_redis_on_trio(item)]


def _is_redis_on_trio(item: pytest.Item) -> bool:
    params = (
        item.callspec.params
        if isinstance(item, pytest.Function) and hasattr(item, "callspec")
        else {}
    )
    ledgers = params.get("ledger"), params.get("tokyo")
    return params.get("anyio_backend") == "trio" and "redis" in str(ledgers)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
async def books(path: Path, clock: Clock) -> AsyncIterator[SQLiteLedger]:
    """What only SQLiteLedger can, is asked of this one."""
    ledger = SQLiteLedger(path, clock=clock, synchronous="NORMAL")
    yield ledger
    await ledger.aclose()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One for each worker that runs tests. Tests have a prefix each."""
    with running(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_cluster(tmp_path_factory.mktemp("cluster")) as server:
        yield server


Tell = Callable[[str], None]


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Tell:
    """Has a soak show a line when this test has ended."""
    return lambda line: record_property("soak", line)


MakeRedis = Callable[..., RedisLedger]


@pytest.fixture
async def make_redis(anyio_backend: str, redis_server: Server) -> AsyncIterator[MakeRedis]:
    """Makes RedisLedgers, each with keys of its own, and closes them at the end."""
    made: list[RedisLedger] = []

    def make(url: str = redis_server.url, **options: Any) -> RedisLedger:
        made.append(RedisLedger(url, **{"prefix": uuid4().hex, "timeout": 10, **options}))
        return made[-1]

    yield make
    for ledger in made:
        await ledger.aclose()


@pytest.fixture(params=["memory", "sqlite", "redis", "redis+cluster"])
async def ledger(
    request: pytest.FixtureRequest, anyio_backend: str, clock: Clock, tmp_path: Path
) -> AsyncIterator[Ledger]:
    ledger: Ledger
    if request.param == "memory":
        ledger = MemoryLedger(clock=clock)
    elif request.param == "sqlite":
        # NORMAL saves the tests thousands of waits for the disk, and changes no answer.
        ledger = SQLiteLedger(tmp_path / "ledger.db", clock=clock, synchronous="NORMAL")
    else:
        server = "redis_cluster" if "cluster" in request.param else "redis_server"
        address = request.getfixturevalue(server).address
        # What is asked here is what it answers; how soon, is asked elsewhere.
        ledger = RedisLedger(
            f"{request.param}://{address}", prefix=uuid4().hex, timeout=10, clock=clock
        )
    yield ledger
    await ledger.aclose()
