"""The search of the site finds numbers and names, from a file and without a network."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from docsite.navigation import DOCS, ROOT

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext
else:
    pytest.importorskip("playwright")
from playwright.sync_api import expect

pytestmark = [pytest.mark.browser, pytest.mark.process]

PAGES = ("reference/errors", "how-to/troubleshooting", "how-to/claude")
"""Some of the pages: to build all takes a minute."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("furo", reason="the group docs is not installed")
    place = tmp_path_factory.mktemp("site")
    for page in PAGES:
        copy = place / f"source/{page}.md"
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(DOCS / f"{page}.md", copy)
    entries = "\n".join(PAGES)
    (place / "source/index.md").write_text(f"# Home\n\n```{{toctree}}\n{entries}\n```\n")
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-Q", "-c", str(ROOT / "docsite")]
    built = place / "built"
    subprocess.run([*command, str(place / "source"), str(built)], cwd=ROOT, check=True, timeout=120)
    return built


def speak_of(word: str) -> set[str]:
    return {page for page in PAGES if re.search(rf"\b{word}\b", (DOCS / f"{page}.md").read_text())}


def test_a_search_finds_numbers_and_names(site: Path, context: "BrowserContext"):
    context.set_offline(True)
    page = context.new_page()
    for question, word in {
        **{word: word for word in ("429", "503", "402", "o200k_base")},
        "why+429": "429",
        "429+zebra": "429",  # a word that no page has
        "zebra": "zebra",
    }.items():
        page.goto(f"{(site / 'search.html').as_uri()}?q={question}")
        expect(page.locator(".search-summary")).to_have_text(re.compile("found|did not match"))
        links = page.locator("ul.search > li > a").all()
        found = {(link.get_attribute("href") or "").partition(".html")[0] for link in links}
        assert found - {"index"} == speak_of(word), question  # which has the titles of all
        assert bool(found) == (word != "zebra")
