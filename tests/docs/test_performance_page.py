"""The figures of the page about performance are those of its JSON: nobody has typed any."""

from benchmarks.chart import chart
from benchmarks.page import FOLDER, figures_of_the_docs, filled


def test_the_figures_and_the_chart_are_those_that_were_measured():
    figures = figures_of_the_docs()
    page = (FOLDER / "performance.md").read_text()

    assert filled(page, figures) == page
    assert chart(figures) == (FOLDER / "performance.svg").read_text()
