"""One world for all tests of a worker: the clients and the server start once."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from chatnest.testing import Answer
from tests.clients.node import MISSING
from tests.clients.world import CLIENTS, Client, World, world


@pytest.fixture(scope="session")
def _one_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("world")) as found:
        yield found


@pytest.fixture
def here(_one_world: World) -> World:
    """The world, with an upstream that has seen nothing."""
    upstream = _one_world.upstream
    upstream.requests.clear()
    upstream.default = Answer()
    upstream.unscript()
    return _one_world


@pytest.fixture
def lingering(tmp_path: Path) -> Iterator[World]:
    """A world whose answers go on for a while without a reader."""
    with world(tmp_path, linger=30.0) as found:
        yield found


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest) -> Client:
    """Each client."""
    found = CLIENTS[request.param]
    if found.language == "JavaScript" and MISSING:
        pytest.skip(MISSING)
    return found
