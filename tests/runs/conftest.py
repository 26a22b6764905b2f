"""Run logs of every kind, over servers that the ledgers' tests have."""

from collections.abc import AsyncIterator
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
