"""Tests say how long a call to the model takes, since hidden thinking is charged by its time."""

import pytest


class CallClock:
    """The clock of attempts, which stands still until a test moves it."""

    def __init__(self) -> None:
        self._now = 1_000.0

    def __call__(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        self._now += seconds


@pytest.fixture(autouse=True)
def call_clock(monkeypatch) -> CallClock:
    clock = CallClock()
    monkeypatch.setattr("chatnest.attempts.monotonic", clock)
    return clock
