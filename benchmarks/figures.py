"""Figures: what was measured, by workload, server and metric, a number for each round."""

import json
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Series = dict[str, dict[str, dict[str, list[float]]]]


class Figures:
    """``about`` says where, when and with what they were measured."""

    def __init__(
        self, series: Series | None = None, about: Mapping[str, Any] | None = None
    ) -> None:
        self.series: Series = series if series is not None else {}
        self.about = dict(about or {})

    @classmethod
    def read(cls, path: Path) -> "Figures":
        found = json.loads(path.read_text())
        return cls(found["series"], found["about"])

    def write(self, path: Path) -> None:
        """With three digits behind the point: more would be noise."""
        rounded = {
            workload: {
                server: {metric: [round(v, 3) for v in values] for metric, values in found.items()}
                for server, found in servers.items()
            }
            for workload, servers in self.series.items()
        }
        path.write_text(json.dumps({"about": self.about, "series": rounded}, indent=1) + "\n")

    def add(self, workload: str, server: str, metrics: Mapping[str, float]) -> None:
        place = self.series.setdefault(workload, {}).setdefault(server, {})
        for metric, value in metrics.items():
            place.setdefault(metric, []).append(value)

    def fail(self, workload: str, server: str, why: str) -> None:
        """A measurement that could not be made."""
        self.about.setdefault("failures", []).append(f"{workload} {server}: {why}")

    def workloads(self) -> list[str]:
        return list(self.series)

    def servers(self, workload: str) -> list[str]:
        return list(self.series.get(workload, {}))

    def all(self, workload: str, server: str, metric: str) -> list[float]:
        return self.series.get(workload, {}).get(server, {}).get(metric, [])

    def median(self, workload: str, server: str, metric: str) -> float | None:
        """None for what was not measured."""
        values = self.all(workload, server, metric)
        return statistics.median(values) if values else None

    def spread(self, workload: str, server: str, metric: str) -> tuple[float, float]:
        """The least and the most of the rounds."""
        values = self.all(workload, server, metric)
        return min(values), max(values)

    def ratio(self, workload: str, server: str, other: str, metric: str) -> float | None:
        ours, theirs = (self.median(workload, name, metric) for name in (server, other))
        return ours / theirs if ours is not None and theirs else None
