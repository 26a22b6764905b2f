"""The text of the metrics: prometheus-client's own, for a small part of its work."""

import sys
from typing import Any, Final

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from chatnest.telemetry import Refused
from chatnest.telemetry.exposition import Exposition
from chatnest.telemetry.metrics import Metrics, Row
from chatnest.telemetry.series import Known, Layout, families_of
from tests.metrics.test_access_log import ended
from tests.metrics.test_metrics import KNOWN

LARGE = Known(
    models=tuple(f"model-{number}" for number in range(50)),
    upstreams=tuple(f"upstream-{number}" for number in range(50)),
    profiles=tuple(f"profile-{number}" for number in range(20)),
    limits=tuple(f"limit-{number}" for number in range(40)),
    currency="USD",
)
_PART: Final = 500
"""Maximum lines of a part, between which an event loop may run."""


class Workers:
    """The cells of several workers, as the parent of their processes reads them."""

    def __init__(self, size: int, count: int) -> None:
        self._rows = [[float(place % 7) for place in range(size)] for _ in range(count)]
        self.mine = self._rows[0]

    def rows(self) -> list[Row]:
        return [Row(row, is_live=number > 0) for number, row in enumerate(self._rows)]


def metrics_of(known: Known, workers: int) -> Metrics:
    return Metrics(known, Workers(Layout(families_of(known)).size, workers))


def written(metrics: Metrics) -> str:
    registry = CollectorRegistry()
    registry.register(metrics)
    return generate_latest(registry).decode()


@pytest.mark.parametrize("workers", [1, 4])
def test_the_text_is_the_one_of_prometheus_client(workers):
    metrics = metrics_of(KNOWN, workers)
    exposition = Exposition(metrics)
    for _ in range(2):
        assert b"".join(exposition.parts()).decode() == written(metrics)
        metrics.observe(ended(model="small", money=5))
        metrics.observe(Refused(id="1", time=0, status=429, code="rate_limited", limit="tokens"))


def test_large_numbers_are_exact():
    metrics = Metrics(KNOWN)
    exposition = Exposition(metrics)
    metrics.observe(ended(input_tokens=9_007_199_254_740_990, output_tokens=0, held=1))
    assert "chatnest_overrun_tokens_total 9007199254740989.0\n" in text_of(exposition)


def text_of(exposition: Exposition) -> str:
    return b"".join(exposition.parts()).decode()


@pytest.mark.parametrize("workers", [1, 4])
def test_a_scrape_calls_few_functions_and_may_be_interrupted(workers, record_property):
    """Seconds differ between machines, so calls are counted, also those of functions in C. Before,
    there were some thirty for each line.
    """
    exposition = Exposition(metrics_of(LARGE, workers))
    calls = 0

    def count(_: Any, event: str, __: Any) -> None:
        nonlocal calls
        calls += event in {"call", "c_call"}

    sys.setprofile(count)
    try:
        parts = [*exposition.parts()]
    finally:
        sys.setprofile(None)
    lines = [part.count(b"\n") for part in parts]
    record_property("work", f"{calls} calls for {sum(lines)} lines in {len(parts)} parts")
    assert sum(lines) > 24_000
    assert calls < 0.2 * sum(lines)
    assert max(lines) <= _PART
