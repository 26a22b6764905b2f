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
    from playwright.sync_api import Page, Route, expect
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


NOTHING_IS_HELD = (
    "async () => (await (await fetch('/api/chat/limits')).json()).limits"
    ".every((limit) => limit.held === 0)"
)


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
    page.wait_for_function(NOTHING_IS_HELD)
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


HOW_TO = Path(__file__).parents[2] / "docs/how-to/browser-client.md"


def documented_client(page: Page, site: RealSite) -> None:
    """Put the function of docs/how-to/browser-client.md into the page, as ``chat``."""
    (code,) = re.findall(r"```js\n(.*?)```", HOW_TO.read_text(), re.DOTALL)
    page.goto(f"{site.url}healthz")  # of the same origin, and without a script of its own
    page.evaluate(f"() => {{ {code.replace('export ', '')} window.chat = chat; }}")


TELL = """async (url) => {
    let text = "";
    try {
        const messages = [{ role: "user", content: "A table" }];
        const headers = { "X-Who": "ann" };
        await chat(url, messages, { headers, onText: (piece) => (text += piece) });
    } catch (error) {
        return { told: error.told ?? null, message: error.message };
    }
    return { text };
}"""


def test_the_documented_client_survives_a_lost_network(page: Page, site: RealSite):
    documented_client(page, site)
    ask_twice = """async () => {
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


def test_the_documented_client_picks_up_what_was_cut_as_who_has_asked(page: Page, site: RealSite):
    documented_client(page, site)
    whole: list[str] = []
    asked: list[tuple[str, str | None]] = []
    page.on("request", lambda r: asked.append((r.method, r.headers.get("x-who"))))

    def cut(route: Route) -> None:
        response = route.fetch()
        tokens = re.findall(r'^event: token\nid: \d+\ndata: (".*")$', response.text(), re.MULTILINE)
        whole.append("".join(map(json.loads, tokens)))
        route.fulfill(response=response, body=response.body()[: len(response.body()) // 2])

    page.route("**/api/chat", cut)

    met = page.evaluate(TELL, "/api/chat")

    assert [met["text"]] == whole != [""]
    assert asked == [("POST", "ann"), ("GET", "ann")]
    assert site.limit("requests")["used"] == 1


def test_the_documented_client_stops_the_run_as_who_has_asked(page: Page, site: RealSite):
    documented_client(page, site)
    asked: list[tuple[str, str | None]] = []
    page.on("request", lambda r: asked.append((r.method, r.headers.get("x-who"))))
    stop = """async () => {
        const leaving = new AbortController();
        const messages = [{ role: "user", content: "Hello" }];
        await chat("/api/chat", messages, {
            headers: { "X-Who": "ann" },
            signal: leaving.signal,
            onText: () => leaving.abort(),
        });
    }"""
    page.evaluate(stop)
    page.wait_for_function(NOTHING_IS_HELD)

    assert asked[:2] == [("POST", "ann"), ("DELETE", "ann")]  # then come those about limits
    assert 0 < site.limit("tokens")["used"] < 200  # the whole answer would be more


def test_the_documented_client_tells_of_a_wrong_address_at_once(page: Page, site: RealSite):
    documented_client(page, site)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))

    met = page.evaluate(TELL, "/api/nowhere")

    assert len(asked) == 1
    assert (met["told"]["status"], met["told"]["code"]) == (404, "http_404")
    assert met["message"] == met["told"]["detail"] == "HTTP 404, and not from the chat."


@pytest.mark.parametrize("status", [413, 200])
def test_the_documented_client_does_not_repeat_what_a_proxy_refuses(
    page: Page, site: RealSite, status: int
):
    documented_client(page, site)
    asked: list[str] = []

    def proxy(route: Route) -> None:
        asked.append(route.request.method)
        route.fulfill(status=status, content_type="text/html", body="<h1>Welcome to nginx</h1>")

    page.route("**/api/chat", proxy)

    met = page.evaluate(TELL, "/api/chat")

    assert asked == ["POST"]
    assert (met["told"]["status"], met["told"]["code"]) == (status, f"http_{status}")


def test_the_documented_client_waits_for_a_server_behind_a_proxy(page: Page, site: RealSite):
    documented_client(page, site)
    keys: list[str] = []

    def proxy(route: Route) -> None:
        keys.append(route.request.headers["idempotency-key"])
        if len(keys) < 3:
            route.fulfill(status=502, content_type="text/html", body="<h1>Bad Gateway</h1>")
        else:
            route.continue_()

    page.route("**/api/chat", proxy)

    met = page.evaluate(TELL, "/api/chat")

    assert "canned answer" in met["text"]
    assert len(keys) == 3
    assert len(set(keys)) == 1


def test_the_documented_client_hands_on_what_the_chat_says(page: Page, site: RealSite):
    documented_client(page, site)

    met = page.evaluate(TELL.replace('"A table"', '""'), "/api/chat")

    assert (met["told"]["code"], met["told"]["retryable"]) == ("invalid_request", False)
    assert met["message"] == met["told"]["detail"]


def test_the_page_works_below_a_prefix_that_a_proxy_strips(page: Page, site: RealSite):
    asked: list[str] = []
    prefix = f"{site.url}assistant/"

    def strip(route: Route) -> None:
        asked.append(route.request.url)
        inside = route.request.url.startswith(prefix)
        route.continue_(url=route.request.url.replace(prefix, site.url) if inside else None)

    page.route("**/*", strip)
    page.goto(prefix)
    expect(page.locator("#limits-tokens")).to_contain_text("70,000 of")  # Enter sends from here on
    ask(page, "Hello?")
    expect(page.locator(".turn").last).to_have_attribute("data-state", "done", timeout=20_000)
    expect(page.locator("#limits-tokens")).not_to_contain_text("70,000 of")
    assert [url for url in asked if not url.startswith(prefix)] == []
    assert f"{prefix}api/chat" in asked
