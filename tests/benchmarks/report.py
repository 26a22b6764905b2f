"""Tables of figures, as Markdown. No I/O."""

from collections.abc import Iterator

from tests.benchmarks.figures import Figures
from tests.benchmarks.targets import TARGETS

__all__ = ["METRICS", "busy", "table", "verdicts"]

METRICS: dict[str, tuple[tuple[str, str], ...]] = {
    "paced": (("us", "us of CPU a token"),),
    "burst": (("us", "us of CPU a token"),),
    "short": (("us", "us of CPU a request"),),
    "first": (("ms", "ms added, alone"), ("ms_busy", "ms added, core 70 % busy")),
    "refused": (("per_second", "refusals a second"), ("us", "us of CPU a refusal")),
    "idle": (("kib", "KiB a stream (unshared)"), ("kib_rss", "KiB a stream (resident)")),
    "wide": (
        ("open", "streams open at once"),
        ("lost", "streams lost"),
        ("ping_ms", "ms of ping jitter, p99"),
        ("us", "us of CPU a token"),
    ),
}
"""What is shown of each workload, in what words."""

_WATCHED = 0.9
"""Of a core: with more than this, the load may be what limits."""


def number(value: float) -> str:
    """Three digits are what a measurement is good for."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def table(figures: Figures) -> str:
    return "\n".join(_rows(figures))


def _rows(figures: Figures) -> Iterator[str]:
    yield "| workload | figure | server | median | rounds from-to | chatnest / it |"
    yield "|---|---|---|---:|---:|---:|"
    for workload, metrics in METRICS.items():
        for metric, words in metrics:
            for server in figures.servers(workload):
                median = figures.median(workload, server, metric)
                if median is None:
                    continue
                low, high = figures.spread(workload, server, metric)
                ratio = figures.ratio(workload, "chatnest", server, metric)
                shown = "" if ratio is None or server == "chatnest" else f"{ratio:.2f}"
                yield (
                    f"| {workload} | {words} | {server} | {number(median)} "
                    f"| {number(low)}-{number(high)} | {shown} |"
                )


def verdicts(figures: Figures) -> str:
    """Each target with its figure, and whether it is met."""
    rows = ["| target | bound | figure |", "|---|---|---|"]
    rows += [f"| {t.title()} | {t.text()} | {t.verdict(figures)} |" for t in TARGETS]
    return "\n".join(rows)


def busy(figures: Figures) -> str:
    """Which core was busy, so that one sees whether the server was what was measured."""
    rows = [
        "| workload | server | its core: it / strangers | the load's core |",
        "|---|---|---:|---:|",
    ]
    for workload in figures.workloads():
        for server in figures.servers(workload):
            shares = [
                figures.median(workload, server, metric)
                for metric in ("server_core", "strangers", "load_core")
            ]
            if None in shares:
                continue
            core, strangers, load = (share or 0.0 for share in shares)
            note = " (limits!)" if load > _WATCHED and load > core else ""
            rows.append(
                f"| {workload} | {server} | {core:.0%} / {strangers:.0%} | {load:.0%}{note} |"
            )
    return "\n".join(rows)
