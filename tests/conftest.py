"""Fixtures for every test: the event loops, an upstream with a socket, an application."""

import logging
from collections.abc import Iterator

import pytest

from chatnest.testing import FakeUpstream
from tests.soak import SOAKS, Progress


def pytest_configure(config: pytest.Config) -> None:
    if SOAKS:
        config.pluginmanager.register(Progress(config))


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    """Every async test runs on both event loops."""
    return request.param


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    """An OpenAI-compatible server of the test's own, on a free port of the loopback."""
    with FakeUpstream() as fake:
        yield fake


@pytest.fixture(autouse=True)
def _no_key_of_the_developer(monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    logging.getLogger("openai").setLevel(logging.NOTSET)
