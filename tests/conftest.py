"""Fixtures for every test: the event loops, an upstream with a socket, an application."""

import gc
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from chatnest.bounds import Bounds
from chatnest.streams.intake import Intake
from chatnest.testing import FakeUpstream
from tests.servers.support import LEFT_BEHIND
from tests.support import processes
from tests.support.soak import SOAKS, Progress

# By default an example must not take longer than 200 ms: a machine that is slow fails nothing.
settings.register_profile("any pace", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any pace")


LOOPS = {"asyncio": "asyncio", "uvloop": ("asyncio", {"use_uvloop": True}), "trio": "trio"}

_OF_THE_MACHINE = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--loops", default=",".join(LOOPS), help="event loops, of those that a test runs on"
    )


def pytest_configure(config: pytest.Config) -> None:
    for name in (*_OF_THE_MACHINE, "SSL_CERT_DIR", "PORT"):  # which chatnest obeys
        os.environ.pop(name, None)
        os.environ.pop(name.lower(), None)
    if SOAKS:
        config.pluginmanager.register(Progress(config))


@pytest.fixture
def anyio_backend(request):
    """The event loop: asyncio and trio for every async test, unless it is marked with others."""
    return LOOPS[request.param]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test on the event loops that its nearest marker ``loops`` names."""
    if "anyio_backend" in metafunc.fixturenames:
        marker = metafunc.definition.get_closest_marker("loops")
        names = marker.args if marker is not None else ("asyncio", "trio")
        chosen = metafunc.config.getoption("loops").split(",")
        few = [name for name in names if name in chosen]
        metafunc.parametrize("anyio_backend", few or names, indirect=True)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With ``-m "not process"``, do not import what needs the packages of more than unit tests."""
    unwanted = "not process" in config.getoption("markexpr")
    return True if unwanted and processes.is_folder(collection_path) else None


def pytest_itemcollected(item: pytest.Item) -> None:
    processes.mark(item)


def pytest_collection_finish() -> None:
    """The millions of objects of 16,000 tests are garbage for no test: no collection walks them."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    return (yield from processes.watch(item))


@pytest.fixture(autouse=True)
def _no_chat_is_refused_for_a_busy_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a bound is the default: a test may run beside others, on a machine that is slow."""

    def unhurried(lag_seconds: float, *arguments: Any, **options: Any) -> Intake:
        lag_seconds = 60.0 if lag_seconds == Bounds().lag_seconds else lag_seconds
        return Intake(lag_seconds, *arguments, **options)

    monkeypatch.setattr("chatnest.parts.Intake", unhurried)


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    """An OpenAI-compatible server of the test's own, on a free port of the loopback."""
    with FakeUpstream() as fake:
        yield fake


class _LeftBehind(logging.Handler):
    """asyncio raises nothing for what was left behind: it only says so, when it is collected."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if LEFT_BEHIND.search(said := record.getMessage()):
            self.said.append(said)


_left_behind = _LeftBehind()
logging.getLogger("asyncio").addHandler(_left_behind)


@pytest.fixture(autouse=True)
def _nothing_is_left_behind() -> Iterator[None]:
    """By this test, or by one before it."""
    yield
    said = _left_behind.said.copy()
    _left_behind.said.clear()
    assert said == []


@pytest.fixture(autouse=True)
def _no_key_of_the_developer(monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    logging.getLogger("openai").setLevel(logging.NOTSET)
