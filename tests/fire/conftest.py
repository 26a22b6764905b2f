"""Where these tests keep their books."""

import time
from pathlib import Path

import pytest

from tests.ledger.conftest import redis_server  # noqa: F401  # pytest finds it here


@pytest.fixture(params=["sqlite", "redis"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A ledger's address, with books of its own."""
    if request.param == "sqlite":
        return f"sqlite:{tmp_path / 'books.db'}"
    server = request.getfixturevalue("redis_server")
    return f"{server.url}#fire{time.monotonic_ns()}"
