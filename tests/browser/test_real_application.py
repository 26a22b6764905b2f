"""The page that docs/tutorial/real-application.md builds, in a browser, as it stands there."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from docsite.files import blocks_of, write_files
from tests.browser.conftest import PATIENCE
from tests.clients.node import MISSING, modules
from tests.docs.walk import SERVER, Walk

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext
else:
    pytest.importorskip("playwright")
from playwright.sync_api import expect

from tests.browser.thread import ask, shows

pytestmark = [
    *(pytest.mark.browser, pytest.mark.node, pytest.mark.process),
    pytest.mark.skipif(bool(MISSING), reason=MISSING),
]

PAGE = Path(__file__).parents[2] / "docs/tutorial/real-application.md"
TEXT = PAGE.read_text()
SHOWN, REFUSED = [
    each.text for each in blocks_of(TEXT) if each.language == "text" and "tokens" in each.text
]


def key_of(name: str) -> str:
    (key,) = re.findall(rf"^\$ export {name}=(\S+)$", TEXT, re.MULTILINE)
    return str(key)


def build(walk: Walk) -> None:
    """Save the files of the page, and make its bundle with the command of the page."""
    write_files(PAGE, walk.place)
    (walk.place / "node_modules").symlink_to(modules())
    shown = r"^\$ npx (esbuild [^\n]+)\n(.*?)^```"
    ((command, output),) = re.findall(shown, TEXT, re.MULTILINE | re.DOTALL)
    printed = walk.run(f"node_modules/.bin/{command}")
    assert without_figures(printed) == without_figures(output)


def without_figures(text: str) -> str:
    return re.sub(r"[\d.]+(?=[km]?b\b|m?s\b)", "N", text).strip()


def test_the_page_signs_in_and_shows_answers_and_refusals(context: "BrowserContext", tmp_path):
    thrown: list[str] = []
    context.on("weberror", lambda error: thrown.append(str(error.error)))
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    with Walk(PAGE, tmp_path) as walk:
        build(walk)
        started = [command for command in walk.commands() if SERVER.match(command)]
        walk.type(started[-2])  # step 6
        for command in walk.commands():
            if command.startswith(("export ", "ask()")):
                walk.type(command)
        walk.type("ask $CLEO")  # step 5
        page.goto(f"http://127.0.0.1:{walk.port}/")
        page.get_by_label("Your key").fill("gueßed")
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("alert")).to_have_text("This key is not known.")
        page.get_by_label("Your key").fill(key_of("CLEO"))
        page.get_by_role("button", name="Sign in").click()
        before, _, _ = SHOWN.partition("\n")
        shows(page, before)
        ask(page, "Show me a table")
        shows(page, SHOWN.partition("\n")[2])
        expect(page.locator("main > p").first).not_to_have_text(before)

        walk.type(started[-1])  # with 300 tokens
        page.reload()
        ask(page, "Hello!")
        refused = re.sub(r"\d+ hours", r"\\d+ \\w+", REFUSED.strip())
        expect(page.get_by_role("alert")).to_have_text(re.compile(refused))
    assert thrown == []
