"""Tables of figures, as Markdown. No I/O."""

from collections.abc import Iterable, Iterator, Sequence

from benchmarks.figures import Figures
from benchmarks.targets import TARGETS

__all__ = ["COLUMNS", "busy", "costs", "failures", "number", "others", "verdicts"]

COLUMNS = (
    ("keyed", "ratio", "token of a run / plain"),
    ("first", "ms", "first token, ms added"),
    ("first", "ms_busy", "on a core 70 % busy"),
    ("rush", "ms", "of 100 at once, ms"),
    ("rush", "p99_ms", "p99 of them, ms"),
    ("idle", "kib", "KiB for an idle stream"),
    ("wide", "open", "open at once"),
    ("wide", "lost", "of these lost"),
    ("wide", "ping_ms", "ping jitter p99, ms"),
    ("refused", "per_second", "refusals a second"),
)
"""What is shown beside the costs: workload, metric, and its words."""

COSTS = (("paced", "token"), ("burst", "token"), ("short", "request"))

_WATCHED = 0.9
"""Of a core: with more than this, the load may be what limits."""


def number(value: float) -> str:
    """Three digits are what a measurement is good for."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], aligned: str = "---:") -> str:
    lines = [head, ["---", *[aligned] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def costs(figures: Figures) -> str:
    """Microseconds of CPU with their spread, and chatnest's ratio to the others."""
    measured = [(w, unit) for w, unit in COSTS if figures.servers(w)]
    head = ["server"]
    for workload, unit in measured:
        head += [f"{workload}, us a {unit}", "chatnest / it"]
    servers = list(dict.fromkeys(s for w, _ in measured for s in figures.servers(w)))
    return _table(head, ([s, *_cost_cells(figures, s, measured)] for s in servers))


def _cost_cells(
    figures: Figures, server: str, measured: Sequence[tuple[str, str]]
) -> Iterator[str]:
    for workload, _ in measured:
        median = figures.median(workload, server, "us")
        if median is None:
            yield from ("", "")
            continue
        low, high = figures.spread(workload, server, "us")
        yield f"**{number(median)}** ({number(low)}-{number(high)})"
        ratio = figures.ratio(workload, "chatnest", server, "us")
        yield "" if ratio is None or server == "chatnest" else f"{ratio:.2f}"


def others(figures: Figures) -> str:
    """What is no cost of a token or request."""
    columns = [c for c in COLUMNS if any(_has(figures, s, c) for s in figures.servers(c[0]))]
    servers = list(dict.fromkeys(s for c in columns for s in figures.servers(c[0])))
    if not columns:
        return ""
    rows = [[server, *(_cell(figures, server, c) for c in columns)] for server in servers]
    return _table(["server", *(words for _, _, words in columns)], rows)


def _has(figures: Figures, server: str, column: tuple[str, str, str]) -> bool:
    return figures.median(column[0], server, column[1]) is not None


def _cell(figures: Figures, server: str, column: tuple[str, str, str]) -> str:
    workload, metric, _ = column
    median = figures.median(workload, server, metric)
    if median is None:
        return ""
    low, high = figures.spread(workload, server, metric)
    same = number(low) == number(high)
    return f"**{number(median)}**" + ("" if same else f" ({number(low)}-{number(high)})")


def verdicts(figures: Figures) -> str:
    """Each target with its figure, and whether it is met."""
    return _table(
        ["target", "bound", "figure"],
        ([target.title(), target.text(), target.verdict(figures)] for target in TARGETS),
        aligned="---",
    )


def busy(figures: Figures) -> str:
    """Which core was busy, so that one sees whether the server was what was measured."""
    rows = []
    for workload in figures.workloads():
        for server in figures.servers(workload):
            core = figures.median(workload, server, "server_core")
            load = figures.median(workload, server, "load_core")
            if core is None or load is None:
                continue
            waited = figures.median(workload, server, "waited")
            rows.append(
                [
                    f"{workload} {server}",
                    f"{core:.0%}",
                    "" if waited is None else f"{waited:.1%}",
                    f"{load:.0%}" + (" (limits!)" if load > _WATCHED and load > core else ""),
                ]
            )
    return _table(["", "busy, of its core", "waited for it", "load, of the other core"], rows)


def failures(figures: Figures) -> str:
    return "\n".join(f"- failed: {failure}" for failure in figures.about.get("failures", []))
