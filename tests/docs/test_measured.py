"""The table of figures is what was measured, as it was kept."""

from tests.endurance.results import PAGE, kept, rendered


def test_the_page_shows_the_figures_that_are_kept():
    page = PAGE.read_text(encoding="utf-8")
    assert page == rendered(page), "python -m tests.endurance.results"
    assert kept()
