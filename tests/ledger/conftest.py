from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from chatnest.ledger.base import Ledger
from chatnest.ledger.memory import MemoryLedger
from chatnest.ledger.sqlite import SQLiteLedger
from tests.ledger.support import Clock


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "sqlite"])
async def ledger(
    request: pytest.FixtureRequest, anyio_backend: str, clock: Clock, tmp_path: Path
) -> AsyncIterator[Ledger]:
    ledger: Ledger
    if request.param == "memory":
        ledger = MemoryLedger(clock=clock)
    else:
        # NORMAL saves the tests thousands of waits for the disk, and changes no answer.
        ledger = SQLiteLedger(tmp_path / "ledger.db", clock=clock, synchronous="NORMAL")
    yield ledger
    await ledger.aclose()
