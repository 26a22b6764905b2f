"""The picture of the page for the docs: ``python -m tests.browser.picture`` writes it anew."""

import shutil
from pathlib import Path

from playwright.sync_api import expect, sync_playwright

from tests.browser.conftest import ARGUMENTS, CHROMIUMS
from tests.browser.stub import Stub, serving

FOLDER = Path(__file__).parents[2] / "docs/pictures"
QUESTION = "Which bread keeps fresh the longest?"
ANSWER = (
    "**Rye sourdough** keeps longest: five to seven days, since its acid slows down mould.\n\n"
    "| bread | days |\n|---|---|\n| rye sourdough | 5 to 7 |\n| wheat sourdough | 3 to 5 |\n"
    "| baguette | 1 |\n\nStore it in a cloth or a paper bag, cut side down."
)
USAGE = {"input_tokens": 21, "output_tokens": 74, "total_tokens": 95, "source": "provider"}


def take(path: Path) -> None:
    """Ask the page of ``chatnest serve`` a question, and save what it shows."""
    chromium = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    with serving(Stub()) as site, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 960, "height": 600})
        site.answer(ANSWER, usage=USAGE)
        page.goto(site.url)
        page.get_by_label("Your message").fill(QUESTION)
        page.keyboard.press("Enter")
        expect(page.locator(".answer table")).to_be_visible()
        page.screenshot(path=path, animations="disabled")
        browser.close()


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    take(FOLDER / "page.png")
