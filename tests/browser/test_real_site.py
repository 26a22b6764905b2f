"""The page before the real ``chatnest serve --demo``: the whole way, once."""

import json
import os
import re
import signal
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.servers.support import Process

try:
    from playwright.sync_api import Page, expect
except ImportError:
    if os.environ.get("CI"):
        raise
    pytest.skip("playwright is missing", allow_module_level=True)

pytestmark = pytest.mark.browser

SETTINGS = {
    "CHATNEST_PROFILES__CONSTRAINED__REQUESTS_PER_MINUTE": "1",
    "CHATNEST_SERVER__DRAIN_SECONDS": "0.1",
    "CHATNEST_LEDGER__URL": "memory:",
}


@dataclass
class RealSite:
    url: str

    def limit(self, name: str) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.url}api/chat/limits") as response:
            limits: list[dict[str, Any]] = json.load(response)["limits"]
        return next(limit for limit in limits if limit["name"] == name)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[RealSite]:
    command = ["-m", "chatnest", "serve", "--demo", "--port", "0"]
    with Process(command, cwd=tmp_path, **SETTINGS) as process:
        yield RealSite(f"http://127.0.0.1:{process.ready()}/")
        process.signal(signal.SIGTERM)
        process.wait()


def ask(page: Page, question: str) -> None:
    page.get_by_label("Your message").fill(question)
    page.keyboard.press("Enter")


def test_stream_stop_and_meet_a_limit(page: Page, site: RealSite):
    page.goto(site.url)
    expect(page.locator("#limits-tokens")).to_contain_text("70,000 of 70,000 tokens left today")

    ask(page, "Show me a table")
    expect(page.locator(".answer .prose table")).to_be_visible()
    expect(page.locator(".turn").last).to_have_attribute("data-state", "done", timeout=20_000)
    expect(page.locator("#limits-tokens")).not_to_contain_text("70,000 of")
    used = site.limit("tokens")["used"]
    assert used > 0

    ask(page, "Hello")
    expect(page.locator(".answer").last.locator(".prose")).not_to_be_empty()
    page.keyboard.press("Escape")
    expect(page.locator(".answer").last.locator(".notice")).to_contain_text("Stopped")
    page.wait_for_function(
        "async () => (await (await fetch('/api/chat/limits')).json()).limits"
        ".every((limit) => limit.held === 0)"
    )
    stopped = site.limit("tokens")["used"] - used
    assert 0 < stopped < 200  # the whole answer would be more

    page.get_by_label("Profile").select_option("constrained")
    ask(page, "Once more")
    expect(page.locator(".answer").last.locator(".notice")).to_contain_text(
        re.compile(r"\d+ s|second")
    )
    expect(page.locator(".answer").last.locator(".retry")).to_be_disabled()


# The first page of the test may be cut anywhere in an answer of some 60 words.
WHOLE = "() => document.querySelector('.turn:last-child .answer .prose').innerText"


def test_a_reload_in_the_middle_of_an_answer_loses_nothing(page: Page, site: RealSite):
    page.goto(site.url)
    expect(page.locator("#limits-tokens")).not_to_be_empty()  # the page is ready
    ask(page, "Show me a table")
    expect(page.locator(".turn").last).to_have_attribute("data-state", "done", timeout=20_000)
    whole = page.evaluate(WHOLE)

    ask(page, "Show me a table")
    expect(page.locator(".answer").last.locator(".prose")).not_to_be_empty()
    page.reload()
    expect(page.locator(".turn").last).to_have_attribute("data-state", "done", timeout=20_000)

    assert page.evaluate(WHOLE) == whole
    assert site.limit("requests")["used"] == 2


def test_a_network_that_is_gone_for_a_while_loses_nothing(page: Page, site: RealSite):
    page.goto(site.url)
    expect(page.locator("#limits-tokens")).not_to_be_empty()  # the page is ready
    ask(page, "Show me a table")
    expect(page.locator(".turn").last).to_have_attribute("data-state", "done", timeout=20_000)
    whole = page.evaluate(WHOLE)

    ask(page, "Show me a table")
    expect(page.locator(".answer").last.locator(".prose")).not_to_be_empty()
    page.context.set_offline(True)
    page.wait_for_timeout(5_000)
    page.context.set_offline(False)
    expect(page.locator(".turn").last).to_have_attribute("data-state", "done", timeout=30_000)

    assert page.evaluate(WHOLE) == whole
    assert site.limit("requests")["used"] == 2


def test_the_documented_forty_lines_survive_a_lost_network(page: Page, site: RealSite):
    how_to = Path(__file__).parents[2] / "docs/how-to/browser-client.md"
    (code,) = re.findall(r"```js\n(.*?)```", how_to.read_text(), re.DOTALL)
    page.goto(site.url)
    page.evaluate(f"() => {{ {code.replace('export ', '')} window.chat = chat; }}")
    ask_twice = """async (count) => {
        window.texts = ["", ""];
        const messages = [{ role: "user", content: "Show me a table" }];
        const read = (n) => chat("/api/chat", messages, { onText: (text) => (texts[n] += text) });
        await read(0);
        window.second = read(1);
    }"""
    page.evaluate(ask_twice)
    page.wait_for_function("() => texts[1] !== ''")
    page.context.set_offline(True)
    page.wait_for_timeout(1_000)
    page.context.set_offline(False)
    page.evaluate("() => second")

    first, second = page.evaluate("() => texts")
    assert first == second != ""
    assert site.limit("requests")["used"] == 2
