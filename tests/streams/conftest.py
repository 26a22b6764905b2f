"""Every stream runs once more at a server that can send without waiting."""

import importlib
import pkgutil
import time
from typing import Any

import anyio
import pytest

import tests.streams
from tests.streams.short_cut import SendsNow
from tests.streams.support import PATIENCE


class StreamsClock:
    """The time that streams go by: the machine's, and what a test adds."""

    def __init__(self) -> None:
        self.looks = 0
        self._ahead = 0.0

    def __call__(self) -> float:
        self.looks += 1
        return time.monotonic() + self._ahead

    def advance(self, seconds: float) -> None:
        self._ahead += seconds

    async def looked_at(self) -> None:
        """Wait until streams have looked at it again."""
        seen = self.looks
        with anyio.fail_after(PATIENCE):
            while self.looks < seen + 5:  # noqa: ASYNC110  # it tells nobody
                await anyio.sleep(0.005)


@pytest.fixture
def clock(monkeypatch) -> StreamsClock:
    """Bounds of seconds are met when the test says so, however slow the machine. What a stream has
    to do by then is seen with its next ping.
    """
    clock = StreamsClock()
    for module in ("source", "generation", "response", "open_stream"):
        monkeypatch.setattr(f"chatnest.streams.{module}.monotonic", clock)
    return clock


class Waits:
    """The waits for the model's answers to begin."""

    def __init__(self) -> None:
        self._made: list[anyio.CancelScope] = []

    def __call__(self, **options: Any) -> anyio.CancelScope:
        self._made.append(anyio.CancelScope(**options))
        return self._made[-1]

    def end(self) -> None:
        """The time of the one that goes on is up."""
        self._made[-1].deadline = anyio.current_time()


@pytest.fixture
def waits(monkeypatch) -> Waits:
    waits = Waits()
    monkeypatch.setattr("chatnest.attempts.CancelScope", waits)
    return waits


_HERE = tests.streams.__path__, f"{tests.streams.__name__}."
_MODULES = [module.name for module in pkgutil.iter_modules(*_HERE)]


@pytest.fixture(autouse=True, params=["waits", "sends-now"])
def server(request, monkeypatch):
    """In the place of a test's own Conversation, and of those in its support."""
    if request.param == "sends-now":
        for name in _MODULES:
            module = importlib.import_module(name)
            if hasattr(module, "Conversation"):
                monkeypatch.setattr(module, "Conversation", SendsNow)
    return request.param
