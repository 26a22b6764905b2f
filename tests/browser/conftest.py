"""A Chromium, a page in it, and the site it looks at."""

import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, NoReturn

import pytest

from tests.browser.stub import Stub, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATIENCE = 30_000
"""Milliseconds for what takes ten of them."""
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


def missing(what: str) -> NoReturn:
    """Skip on somebody's machine; on CI it would hide that nothing was tested."""
    if os.environ.get("CI"):
        pytest.fail(f"{what} is missing, and CI is set")
    pytest.skip(f"{what} is missing")


# Not for the session: while the synchronous playwright lives, its event loop counts as running in
# this thread, and no test of another module could start one.
@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    try:
        from playwright.sync_api import expect, sync_playwright
    except ImportError:
        missing("playwright")
    path = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if path is None:
        missing("chromium")
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def server() -> Iterator[Stub]:
    with serving(Stub()) as stub:
        yield stub


@pytest.fixture
def site(server: Stub) -> Stub:
    """Where the page is, and what it will be answered. The one place that knows the server."""
    server.reset()
    return server


@pytest.fixture
def context(browser: "Browser") -> "Iterator[BrowserContext]":
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    yield context
    context.close()


@pytest.fixture
def page(context: "BrowserContext", site: Stub) -> "Iterator[Page]":
    """An empty page; at the end, nothing it did may have broken its CSP or thrown."""
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(f"thrown: {error}"))
    page.on("console", lambda message: faults.append(message.text))
    page.on(
        "request",
        lambda request: (
            None if request.url.startswith(site.url) else faults.append(f"left: {request.url}")
        ),
    )
    page.add_init_script(
        "addEventListener('securitypolicyviolation',"
        " (event) => console.error('CSP', event.violatedDirective, event.blockedURI))"
    )
    yield page
    # Chromium itself logs each response that is not 2xx, and each broken connection.
    assert [fault for fault in faults if not fault.startswith("Failed to load resource")] == []
