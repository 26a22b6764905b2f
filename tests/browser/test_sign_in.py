"""The page of a server that wants keys: in, out, and what becomes of the key."""

import os

import pytest

from tests.browser.stub import Stub

try:
    from playwright.sync_api import Page, expect
except ImportError:
    if os.environ.get("CI"):
        raise
    pytest.skip("playwright is missing", allow_module_level=True)

pytestmark = pytest.mark.browser

KEY = "the-key-of-ann-38d1"
NOT_KNOWN = "The server does not accept this key."


def sign_in(page: Page, key: str = KEY) -> None:
    page.get_by_label("Sign in with your key").fill(key)
    page.keyboard.press("Enter")


def signed_in(page: Page) -> None:
    expect(page.locator("#limits-tokens")).not_to_be_empty()
    expect(page.locator("#sign-in")).to_be_hidden()


def ask(page: Page, question: str) -> None:
    page.get_by_label("Your message").fill(question)
    page.keyboard.press("Enter")


def state(page: Page, name: str) -> None:
    expect(page.locator(".turn").last).to_have_attribute("data-state", name)


def test_a_key_that_is_taken_away_is_asked_for_again(page: Page, site: Stub):
    site.settings["keys"] = True
    page.goto(site.url)
    sign_in(page)
    signed_in(page)
    site.refuse(401, "unauthenticated")
    ask(page, "Still me?")

    expect(page.locator(".notice").last).to_contain_text("You are no longer signed in.")
    expect(page.locator("#sign-in-note")).to_contain_text("no longer accepts your key")
    expect(page.get_by_label("Sign in with your key")).to_be_focused()
    sign_in(page)
    signed_in(page)
    page.get_by_role("button", name="Edit message").click()
    page.keyboard.press("Enter")
    state(page, "done")


def test_a_server_that_is_away_is_not_a_wrong_key(page: Page, site: Stub):
    site.settings["keys"] = True
    page.goto(site.url)
    page.route("**/api/chat/limits", lambda route: route.abort())
    sign_in(page)

    expect(page.locator("#sign-in-note")).to_contain_text("cannot be reached")
    page.unroute("**/api/chat/limits")
    page.keyboard.press("Enter")
    signed_in(page)


def test_blocked_storage_costs_only_the_reload(page: Page, site: Stub):
    site.settings["keys"] = True
    page.add_init_script(
        "for (const name of ['localStorage', 'sessionStorage'])"
        " Object.defineProperty(window, name, { get() { throw new DOMException('blocked'); } })"
    )
    page.goto(site.url)
    sign_in(page)
    signed_in(page)
    ask(page, "Hello?")
    state(page, "done")


def test_without_keys_there_is_nothing_to_sign_in_to(page: Page, site: Stub):
    page.goto(site.url)
    signed_in(page)
    expect(page.get_by_role("button", name="Sign out")).to_be_hidden()
    site.refuse(401, "unauthenticated")
    ask(page, "Me?")
    expect(page.locator(".notice").last).to_contain_text("Reload the page to sign in")


@pytest.mark.parametrize("width", [320, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits(page: Page, site: Stub, width: int, scheme: str):
    site.settings["keys"] = True
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.set_viewport_size({"width": width, "height": 700})
    page.goto(site.url)
    expect(page.get_by_label("Sign in with your key")).to_be_focused()
    sign_in(page, "schlüssel")
    expect(page.locator("#sign-in-note")).to_contain_text(NOT_KNOWN)
    if folder := os.environ.get("CHATNEST_SHOTS"):
        page.screenshot(path=f"{folder}/out-{scheme}-{width}.png")
    wide = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    assert page.evaluate(wide)
    sign_in(page)
    signed_in(page)
    if folder:
        page.screenshot(path=f"{folder}/in-{scheme}-{width}.png")
    assert page.evaluate(wide)
    expect(page.locator("#sign-out")).to_be_in_viewport()
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()


def test_somebody_else_who_signs_in_sees_nothing_of_the_one_before(page: Page, site: Stub):
    site.settings["keys"] = True
    page.goto(site.url)
    sign_in(page)
    signed_in(page)
    ask(page, "My secret")
    state(page, "done")
    site.refuse(401, "unauthenticated")
    ask(page, "Still me?")
    expect(page.locator("#sign-in-note")).to_contain_text("no longer accepts your key")
    sign_in(page, "another-key-of-somebody-else")
    signed_in(page)

    expect(page.locator(".turn")).to_have_count(0)
    assert "My secret" not in page.evaluate("JSON.stringify(sessionStorage)")
