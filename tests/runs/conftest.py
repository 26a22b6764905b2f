"""Run logs of every kind, over servers that the ledgers' tests have."""

from collections.abc import AsyncIterator, Awaitable, Callable
from uuid import uuid4

import pytest

from chatnest import MemoryRunLog, RunLog, RunSettings
from chatnest.ledger.redis import RedisLedger
from chatnest.runs.redis import RedisRunLog
from chatnest.runs.sqlite import SQLiteRunLog
from tests.ledger.conftest import (  # noqa: F401  # pytest finds them here
    pytest_collection_modifyitems,
    redis_cluster,
    redis_server,
)


@pytest.fixture
def keep() -> int:
    """Seconds for which an ended run is known: longer than a test takes that does not say."""
    return 3_600


@pytest.fixture(params=["memory", "sqlite", "redis", "redis+cluster"])
async def ledger(request, anyio_backend, tmp_path, keep) -> AsyncIterator[RunLog]:
    """A run log, by the name that keeps Redis from trio."""
    settings = RunSettings(keep=keep, max_bytes=1_024)
    if request.param == "memory":
        yield MemoryRunLog(settings)
    elif request.param == "sqlite":
        log = SQLiteRunLog(tmp_path / "runs", settings)
        yield log
        await log.aclose()
    else:
        server = "redis_cluster" if "cluster" in request.param else "redis_server"
        address = request.getfixturevalue(server).address
        books = RedisLedger(f"{request.param}://{address}", prefix=uuid4().hex, timeout=10)
        yield RedisRunLog(books, settings)
        await books.aclose()


@pytest.fixture
def log(ledger: RunLog) -> RunLog:
    return ledger


@pytest.fixture
def lose() -> Callable[[RunLog], Awaitable[None]]:
    """Have a run log lose everything: a new process's memory, a deleted file, an empty server."""

    async def lose(log: RunLog) -> None:
        if isinstance(log, MemoryRunLog):
            MemoryRunLog.__init__(log, log._settings)
        elif isinstance(log, SQLiteRunLog):
            log._path.unlink()
        elif isinstance(log, RedisRunLog):
            for name in await names(log):
                await log._server.script("return redis.call('DEL', KEYS[1])", [name], ())

    return lose


@pytest.fixture
def remains() -> Callable[[RunLog], Awaitable[bool]]:
    """Whether a run log still has anything of any run."""

    async def remains(log: RunLog) -> bool:
        if isinstance(log, MemoryRunLog):
            return bool(log._runs)
        if isinstance(log, SQLiteRunLog):
            return await log._do(
                lambda rows: rows.execute("SELECT 1 FROM batches").fetchone() is not None
            )
        assert isinstance(log, RedisRunLog)
        return any(":run:" in name for name in await names(log))

    return remains


async def names(log: RedisRunLog) -> set[str]:
    """The keys of a run log on every server that it may have."""
    found: set[str] = set()
    for run in ("a" * 32, "b" * 32, "c" * 32):
        places = log._places(run)
        for place in (*places, log._key(run)):
            if await log._server.script("return redis.call('EXISTS', KEYS[1])", [place], ()):
                found.add(place)
    for key in ("k", "other"):
        place = log._key(key)
        if await log._server.script("return redis.call('EXISTS', KEYS[1])", [place], ()):
            found.add(place)
    return found
