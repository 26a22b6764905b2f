"""The page of the docs about performance: its figures and its chart, written from the JSON."""

from collections.abc import Mapping
from pathlib import Path

from benchmarks import report
from benchmarks.chart import chart
from benchmarks.figures import Figures
from benchmarks.kinds import SERVERS
from benchmarks.workloads import WORKLOADS

__all__ = ["FOLDER", "figures_of_the_docs", "filled", "write"]

FOLDER = Path(__file__).parents[1] / "docs" / "discussion"
BEGIN = "<!-- written by: nox -s bench -- --write-docs -->\n"
END = "<!-- end of what was written -->\n"


def figures_of_the_docs() -> Figures:
    return Figures.read(FOLDER / "performance.json")


def write(figures: Figures) -> None:
    """The figures, the chart, and the part of the page between its marks."""
    figures.write(FOLDER / "performance.json")
    kept = figures_of_the_docs()  # with as many digits as everybody will have
    (FOLDER / "performance.svg").write_text(chart(kept))
    page = FOLDER / "performance.md"
    page.write_text(filled(page.read_text(), kept))


def filled(page: str, figures: Figures) -> str:
    """A page with the figures between its marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + "\n" + _written(figures) + "\n\n" + END + after


def _written(figures: Figures) -> str:
    about = figures.about
    versions = ", ".join(f"{name} {found}" for name, found in about["versions"].items())
    measured = (
        f"Measured on {about['date']}, on {about['machine']}, in {about['rounds']} rounds"
        f"{' of a quick run' if about['quick'] else ''}, with {versions}. Medians, and from the "
        "least to the most of the rounds."
    )
    parts = [
        "## Figures\n\n" + measured,
        "![What a token and a request cost](performance.svg)",
        report.costs(figures),
        report.others(figures),
        "### Targets\n\n" + report.verdicts(figures),
        "### Who was busy\n\n" + report.busy(figures),
        report.failures(figures),
        "## Workloads\n\n" + _list({w.name: w.what for w in WORKLOADS.values()}),
        "## Servers\n\n" + _list({name: kind.setting for name, kind in SERVERS.items()}),
    ]
    return "\n\n".join(part for part in parts if part)


def _list(rows: Mapping[str, str]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {k} | {v} |" for k, v in rows.items())])
