"""Metrics: counts the turns of an application, for prometheus-client.

It counts when a turn ends, and when the ledger answers. It does no work per token.
"""

import platform
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, MutableSequence, Sequence
from importlib.metadata import version
from itertools import accumulate
from typing import Any, Literal, NamedTuple, Protocol

from chatnest.errors import ConfigurationError
from chatnest.ledger.base import Admitted, LimitState
from chatnest.ledger.limit import Limit
from chatnest.telemetry.base import Ended, Observation, Refused
from chatnest.telemetry.fill import Fill
from chatnest.telemetry.series import ABOVE, OTHER, Family, Known, Layout, families_of

__all__ = ["Cells", "LocalCells", "Metrics", "Row"]


class Row(NamedTuple):
    """The numbers of a worker, and whether that worker is running."""

    values: Sequence[float]
    is_live: bool


class Cells(Protocol):
    """The place where the numbers of an application are stored."""

    @property
    def mine(self) -> MutableSequence[float]:
        """The numbers of this worker, which it may change."""

    def rows(self) -> list[Row]:
        """The numbers of all workers."""


class LocalCells:
    """The numbers of an application with one worker."""

    def __init__(self, size: int) -> None:
        self.mine: MutableSequence[float] = array("d", bytes(8 * size))

    def rows(self) -> list[Row]:
        """See Cells."""
        return [Row(self.mine, is_live=True)]


class _Timed(NamedTuple):
    """A histogram: the places of its series in the array, and the bounds of its buckets."""

    places: Mapping[tuple[str, ...], int]
    bounds: tuple[float, ...]


class Metrics:
    """The metrics of an application: a collector for any registry of prometheus-client.

    Use it with ``registry.register(chat.metrics)``. All series exist from the start. Their labels
    come from the configuration, and any other name is counted as ``other``.
    """

    sees: tuple[type[Observation], ...] = (Refused, Ended)

    def __init__(self, known: Known, cells: Cells | None = None) -> None:
        self.layout: Layout = Layout(families_of(known))
        layout = self.layout
        self._cells: Cells = cells if cells is not None else LocalCells(layout.size)
        self._fill = Fill(known.limits, OTHER)
        self._currency = known.currency
        self._expired = 0.0
        places = self._places = layout.places
        self._names: dict[str, frozenset[str]] = {
            label: frozenset(values) for each in layout.families for label, values in each.labels
        }
        timed = {each.name: _Timed(places[each.name], each.bounds) for each in layout.families}
        self._first = timed["chatnest_first_token_seconds"]
        self._stream = timed["chatnest_stream_seconds"]
        self._token = timed["chatnest_output_token_seconds"]
        self._ledger = timed["chatnest_ledger_seconds"]
        self._streams, self._held, self._waiting, self._down, self._overrun = (
            places[f"chatnest_{name}"][()]
            for name in ("streams", "held_tokens", "outbox_waiting", "ledger_up", "overrun_tokens")
        )

    # ------------------------------------------------ counting

    def observe(self, event: Observation) -> None:
        """See Observer."""
        if isinstance(event, Refused):
            self._refused(event)
        if not isinstance(event, Ended):
            return
        cells, places, names = self._cells.mine, self._places, self._names
        model = event.model if event.model in names["model"] else OTHER
        profile = event.profile if event.profile in names["profile"] else OTHER
        outcome = event.outcome if event.outcome in names["outcome"] else OTHER
        cells[places["chatnest_turns"][model, profile, outcome]] += 1
        for call in event.calls:
            upstream = call.model if call.model in names["upstream"] else OTHER
            result = call.outcome or "done"
            result = result if result in names["outcome"] else OTHER
            cells[places["chatnest_attempts"][upstream, result]] += 1
        if not event.held:
            return  # it was never admitted
        cells[self._streams] -= 1
        cells[self._held] -= event.held
        first, tokens = event.first_piece_seconds, event.output_tokens
        each = None
        if first is not None and tokens > 1:
            each = (event.seconds - first) / (tokens - 1)
        timed = (self._first, first), (self._stream, event.seconds), (self._token, each)
        for (series, bounds), seconds in timed:
            if seconds is not None:
                place = series[model,]
                cells[place + bisect_left(bounds, seconds)] += 1
                cells[place + len(bounds) + 1] += seconds
        if event.source != "none":
            self._charged(event, model)

    def admitted(self, admission: Admitted) -> None:
        """See BooksObserver."""
        cells, limits = self._cells.mine, self._names["limit"]
        cells[self._streams] += 1
        cells[self._held] += admission.hold.tokens
        for name in admission.over:
            limit = name if name in limits else OTHER
            cells[self._places["chatnest_refusals"][limit, "false"]] += 1
        self._fill.note(admission.states)

    def called(
        self, operation: Literal["reserve", "settle", "release"], seconds: float, *, failed: bool
    ) -> None:
        """See BooksObserver."""
        cells, place = self._cells.mine, self._ledger.places[operation,]
        bounds = self._ledger.bounds
        cells[place + bisect_left(bounds, seconds)] += 1
        cells[place + len(bounds) + 1] += seconds
        cells[self._down] = failed
        if failed:
            cells[self._places["chatnest_ledger_failures"][operation,]] += 1

    def _refused(self, event: Refused) -> None:
        cells = self._cells.mine
        if event.limit is not None:
            limit = event.limit if event.limit in self._names["limit"] else OTHER
            cells[self._places["chatnest_refusals"][limit, "true"]] += 1
        else:
            code = event.code if event.code in self._names["code"] else OTHER
            cells[self._places["chatnest_rejections"][code,]] += 1

    def _charged(self, event: Ended, model: str) -> None:
        cells, places, facts = self._cells.mine, self._places, event.facts
        cached = min(facts.cached_tokens, event.input_tokens)
        written = min(facts.cache_written_tokens, event.input_tokens - cached)
        thought = min(facts.reasoning_tokens, event.output_tokens)
        for name, tokens in (
            ("input", event.input_tokens - cached - written),
            ("cached", cached),
            ("cache_written", written),
            ("output", event.output_tokens - thought),
            ("reasoning", thought),
        ):
            cells[places["chatnest_tokens"][model, name, event.source]] += tokens
        cells[places["chatnest_spend"][model, self._currency]] += event.money
        if not facts.price:
            cells[places["chatnest_unpriced_turns"][model,]] += 1
        more = event.input_tokens + event.output_tokens - event.held
        if more > 0:
            cells[self._overrun] += more

    # ------------------------------------------------ gauges

    def note(self, *, waiting: int, now: int) -> None:
        """Publish the number of ``waiting`` operations, and how full the limits are at ``now``
        (ms, by the ledger's clock).
        """
        cells, places = self._cells.mine, self._places
        cells[self._waiting] = waiting
        for limit, ratios in self._fill.ratios(now):
            cells[places["chatnest_limit_used_ratio"][limit,]] = max(ratios, default=0.0)
            for above in ABOVE:
                count = sum(map(float(above).__le__, ratios))
                cells[places["chatnest_limit_accounts"][limit, above]] = count

    def found(self, *, up: bool) -> None:
        """Publish whether the ledger is available."""
        self._cells.mine[self._down] = not up

    def fullest(self, now: int) -> tuple[Limit, ...]:
        """The limits to read from the ledger again. Pass their states to ``read``."""
        return self._fill.fullest(now)

    def read(self, states: Iterable[LimitState]) -> None:
        """Store states that were read from the ledger."""
        self._fill.note(states)

    # ------------------------------------------------ the collector

    def describe(self) -> Iterator[Any]:
        """The metrics without their values, for a registry."""
        core = _core()
        for each in self.layout.families:
            yield core.Metric(each.name, each.help, each.kind)

    def collect(self) -> Iterator[Any]:
        """The metrics of prometheus-client, each with all of its series. Raises ConfigurationError
        without the package prometheus-client.
        """
        core, rows = _core(), self._cells.rows()
        for each, values in zip(self.layout.families, self.values(rows), strict=True):
            metric = core.Metric(each.name, each.help, each.kind)
            for (name, labels), value in zip(each.samples(), values, strict=True):
                metric.add_sample(name, labels, value)
            yield metric
        yield from self.others(rows)

    def rows(self) -> list[Row]:
        """The numbers of all workers at this moment."""
        return self._cells.rows()

    def values(self, rows: list[Row]) -> Iterator[list[float]]:
        """For each family of the layout, the values of its samples, in their order."""
        everything = _sums([row.values for row in rows], self.layout.size)
        live = [row.values for row in rows if row.is_live] or [[0.0] * self.layout.size]
        for each in self.layout.families:
            places = self._places[each.name].values()
            first = next(iter(places))
            numbers = everything[first : first + len(places) * each.width]
            if each.kind == "gauge":
                yield _gauges(each, live, places)
            elif each.bounds:
                yield _histograms(numbers, each.width)
            else:
                yield numbers if each.scale == 1 else [value / each.scale for value in numbers]

    def others(self, rows: list[Row]) -> Iterator[Any]:
        """The metrics of prometheus-client that are not in the layout."""
        core = _core()
        lost = sum(row.values[self._streams] for row in rows if not row.is_live)
        lost += sum(row.values[self.layout.lost] for row in rows)
        # A row that a new worker is just taking over is neither dead nor counted yet.
        self._expired = max(self._expired, lost)
        yield core.CounterMetricFamily(
            "chatnest_expired_holds",
            "Holds of workers that were killed. Their leases charge them.",
            self._expired,
        )
        yield core.GaugeMetricFamily(
            "chatnest_workers", "Workers that run.", sum(row.is_live for row in rows)
        )
        build = core.GaugeMetricFamily(
            "chatnest_build_info", "Always 1.", labels=("version", "python")
        )
        build.add_metric((version("chatnest"), platform.python_version()), 1)
        yield build


def _sums(rows: list[Sequence[float]], size: int) -> list[float]:
    """The sum of each number over the rows."""
    if len(rows) == 1:
        return list(rows[0])
    return list(map(sum, zip(*rows, strict=True))) if rows else [0.0] * size


def _gauges(family: Family, live: list[Sequence[float]], places: Iterable[int]) -> list[float]:
    merge: Any = sum if family.together == "sum" else max
    found: list[float] = [merge([row[place] for row in live]) for place in places]
    return [float(not value) for value in found] if family.together == "none" else found


def _histograms(numbers: list[float], width: int) -> list[float]:
    """The cumulative buckets of each series, its count and its sum."""
    found: list[float] = []
    for at in range(0, len(numbers), width):
        found += accumulate(numbers[at : at + width - 1])
        found += (found[-1], numbers[at + width - 1])
    return found


def _core() -> Any:
    try:
        # Imported here, since a chat without metrics does not need the package.
        from prometheus_client import core  # noqa: PLC0415
    except ImportError:
        raise ConfigurationError(
            "metrics: expected the package prometheus-client, got none. Install the extra "
            "`metrics`: pip install '.[metrics]' in a copy of the repository."
        ) from None
    return core
