"""The page before a real server that wants keys: what is sent in whose name, and what is kept."""

import hashlib
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.browser.test_sign_in import KEY, NOT_KNOWN, ask, sign_in, signed_in, state
from tests.servers.support import Process

try:
    from playwright.sync_api import Page, Request, expect
except ImportError:
    if os.environ.get("CI"):
        raise
    pytest.skip("playwright is missing", allow_module_level=True)

pytestmark = pytest.mark.browser

BEARER = f"Bearer {KEY}"


@dataclass
class Site:
    url: str
    folder: Path
    process: Process


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A real server that knows one key."""
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    (tmp_path / "chatnest.toml").write_text(
        f'[identity.keys]\nann = "sha256:{digest}"\n[server]\ndrain_seconds = 0.1\n'
    )
    command = ["-m", "chatnest", "serve", "--demo", "--port", "0", "--config", "chatnest.toml"]
    with Process(command, cwd=tmp_path) as process:
        yield Site(f"http://127.0.0.1:{process.ready()}/", tmp_path, process)
        process.signal(signal.SIGTERM)
        process.wait()


def requests_of(page: Page) -> list[Request]:
    seen: list[Request] = []
    page.on("request", lambda request: seen.append(request))  # noqa: PLW0108  # playwright marks it
    return seen


def to_the_chat(seen: list[Request]) -> list[tuple[str, str | None]]:
    return [(r.method, r.headers.get("authorization")) for r in seen if "/api/chat" in r.url]


def test_a_key_opens_the_chat_and_every_request_carries_it(page: Page, site: Site):
    seen = requests_of(page)
    page.goto(site.url)
    expect(page.get_by_label("Sign in with your key")).to_be_focused()
    expect(page.get_by_role("button", name="Sign out")).to_be_hidden()
    page.get_by_label("Your message").fill("Too early")
    page.keyboard.press("Enter")
    expect(page.locator(".turn")).to_have_count(0)
    assert to_the_chat(seen) == []  # nothing is sent that can only be refused

    sign_in(page)
    signed_in(page)
    ask(page, "Show me a table")
    state(page, "done")

    page.reload()  # within the tab, it is kept
    signed_in(page)
    ask(page, "Show me a table")
    expect(page.locator(".answer").last.locator(".prose")).not_to_be_empty()
    page.reload()
    state(page, "done")
    ask(page, "Hello")
    expect(page.locator(".answer").last.locator(".prose")).not_to_be_empty()
    page.keyboard.press("Escape")
    expect(page.locator(".answer").last.locator(".notice")).to_contain_text("Stopped")
    page.wait_for_function(
        f"""async () => (await (await fetch("/api/chat/limits", {{
            headers: {{ Authorization: "{BEARER}" }}
        }})).json()).limits.every((limit) => limit.held === 0)"""
    )

    asked = to_the_chat(seen)
    assert {method for method, _ in asked} == {"GET", "POST", "DELETE"}
    assert any("/runs/" in r.url and r.method == "GET" for r in seen)
    assert {who for _, who in asked} == {BEARER}
    assert not any(r.headers.get("authorization") for r in seen if "/api/chat" not in r.url)
    assert not any(KEY in r.url for r in seen)
    assert KEY not in page.url


def test_the_key_is_in_no_log_and_no_file(page: Page, site: Site):
    page.goto(site.url)
    sign_in(page, "a-wrong-key-71aa")
    expect(page.locator("#sign-in-note")).to_contain_text(NOT_KNOWN)
    sign_in(page)
    signed_in(page)
    ask(page, "Show me a table")
    state(page, "done")

    site.process.signal(signal.SIGTERM)
    site.process.wait()
    files = [path for path in site.folder.iterdir() if path.is_file()]
    assert any(path.name.startswith("chatnest.db") for path in files)
    for secret in (KEY, "a-wrong-key-71aa"):
        assert secret not in "".join(site.process.lines)
        assert [path.name for path in files if secret.encode() in path.read_bytes()] == []


@pytest.mark.parametrize("key", ["wrong", "schlüssel", "two words", "x" * 70_000])
def test_a_wrong_key_is_a_sentence(page: Page, site: Site, key: str):
    page.goto(site.url)
    sign_in(page, key)

    expect(page.locator("#sign-in-note")).to_contain_text(NOT_KNOWN)
    expect(page.get_by_role("status")).to_contain_text(NOT_KNOWN)
    expect(page.get_by_label("Sign in with your key")).to_be_focused()
    assert page.evaluate("sessionStorage.getItem('chatnest.key')") is None
    sign_in(page, f"  {KEY} ")  # as it is pasted
    signed_in(page)


def test_signing_out_leaves_nothing_behind(page: Page, site: Site):
    page.goto(site.url)
    sign_in(page)
    signed_in(page)
    ask(page, "Hello")
    expect(page.locator(".answer").last.locator(".prose")).not_to_be_empty()
    seen = requests_of(page)
    with page.expect_request(lambda request: request.method == "DELETE") as stopped:
        page.get_by_role("button", name="Sign out").click()
    assert stopped.value.headers["authorization"] == BEARER  # the answer ends in its name

    expect(page.get_by_label("Sign in with your key")).to_be_focused()
    expect(page.get_by_label("Sign in with your key")).to_have_value("")
    expect(page.locator(".turn")).to_have_count(0)
    expect(page.locator("#limits")).to_be_hidden()
    kept = page.evaluate("JSON.stringify([{...sessionStorage}, {...localStorage}])")
    assert KEY not in kept
    assert "Hello" not in kept
    page.reload()
    expect(page.get_by_label("Sign in with your key")).to_be_focused()
    assert [method for method, _ in to_the_chat(seen)] == ["DELETE"]


def test_another_tab_has_no_key(page: Page, site: Site):
    page.goto(site.url)
    sign_in(page)
    signed_in(page)
    other = page.context.new_page()
    other.goto(site.url)
    expect(other.get_by_label("Sign in with your key")).to_be_focused()


def test_a_kept_key_that_is_no_longer_valid_is_asked_for_again(page: Page, site: Site):
    page.goto(site.url)
    expect(page.get_by_label("Sign in with your key")).to_be_focused()  # it has forgotten any other
    page.evaluate("sessionStorage.setItem('chatnest.key', 'of-yesterday')")
    page.reload()

    expect(page.locator("#sign-in-note")).to_contain_text("no longer accepts your key")
    assert page.evaluate("sessionStorage.getItem('chatnest.key')") is None
    expect(page.get_by_role("button", name="Send")).to_be_disabled()
