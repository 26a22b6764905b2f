"""The React pages of docs/how-to/front-ends in a browser, as they stand, on another origin than
``chatnest serve --demo``.
"""

import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser.conftest import PATIENCE
from tests.clients.node import MISSING
from tests.docs.front_ends import PAGES, PIXEL, Program, Servers, bundle, limit, settled

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page, Route
else:
    pytest.importorskip("playwright")
from playwright.sync_api import expect

from tests.browser.thread import ask, shows

pytestmark = [
    *(pytest.mark.browser, pytest.mark.node, pytest.mark.process),
    pytest.mark.skipif(bool(MISSING), reason=MISSING),
]

USE_CHAT, ASSISTANT_UI = PAGES["use-chat"], PAGES["assistant-ui"]
WEATHER = "What is the weather in Oslo?"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


class Site:
    """The pages of one origin, and the chats that they may call."""

    def __init__(self, place: Path, port: int, servers: Servers) -> None:
        self.origin = f"http://localhost:{port}"
        self._place = place
        self._servers = servers
        self._count = 0

    def chat(self, config: str = "", **environ: str) -> int:
        """The port of a chat."""
        config = config.replace("http://localhost:5173", self.origin)
        allowed = {} if self.origin in config else {"CHATNEST_SERVER__ALLOW_ORIGINS": self.origin}
        return self._servers.port(config, **allowed, **environ)

    def page(self, program: Program, port: int) -> str:
        """The address of a page that calls the chat at a port."""
        self._count += 1
        folder = self._place / str(self._count)
        bundle(program, port, folder, draws="use-chat")
        return f"{self.origin}/{self._count}/"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    place = tmp_path_factory.mktemp("pages")
    handler = partial(Quiet, directory=str(place))
    with (
        ThreadingHTTPServer(("127.0.0.1", 0), handler) as server,
        Servers(tmp_path_factory.mktemp("servers")) as servers,
    ):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Site(place, server.server_port, servers)
        server.shutdown()


@pytest.fixture
def visit(context: "BrowserContext") -> "Iterator[Callable[[str], Page]]":
    """Opens a page, in which nothing may be thrown."""
    thrown: list[str] = []
    context.on("weberror", lambda error: thrown.append(str(error.error)))

    def opened(url: str) -> "Page":
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.goto(url)
        return page

    yield opened
    assert thrown == []


# ---------------------------------------------------------------- useChat


def test_a_page_of_another_origin_shows_the_answer(site: Site, visit):
    page = visit(site.page(USE_CHAT["App.jsx"], site.chat()))
    ask(page, "Show me a table")

    shows(page, USE_CHAT["Thread.jsx"].prints)


def test_stop_stops_the_answer(site: Site, visit):
    port = site.chat(OWN="a test")
    page = visit(site.page(USE_CHAT["App.jsx"], port))
    ask(page, "Hello!")
    expect(page.locator("body")).to_contain_text("canned answer")
    page.get_by_role("button", name="Stop").click()

    assert 0 < settled(port) < 200  # the whole answer would be more
    assert limit(port, "requests")["used"] == 1
    expect(page.get_by_role("button", name="Send")).to_be_enabled()


def test_without_linger_a_reload_stops_the_answer_and_finds_nothing(site: Site, visit):
    port = site.chat(OWN="a reload")
    page = visit(site.page(USE_CHAT["AppWithResume.jsx"], port))
    ask(page, "Hello!")
    expect(page.locator("body")).to_contain_text("canned answer")
    with page.expect_response("**/stream") as resumed:
        page.reload()

    assert resumed.value.status == 204
    assert 0 < settled(port) < 200
    assert limit(port, "requests")["used"] == 1


@pytest.mark.parametrize("at_the_chat", [False, True])
def test_a_page_of_next_js_reaches_the_chat_by_a_rewrite(
    site: Site, visit, context, tmp_path, at_the_chat
):
    """With the format at the path of the chat, ``useChat`` needs no setting."""
    port = site.chat('[chat]\nformat = "ai-sdk"\n' if at_the_chat else "")
    text = USE_CHAT["next.config.mjs"].text.replace(":8000", f":{port}")
    (tmp_path / "next.config.mjs").write_text(text)
    script = (
        "import config from './next.config.mjs';"
        "console.log(JSON.stringify(await config.rewrites()));"
    )
    ran = subprocess.run(
        ["node", "--input-type=module", "-e", script], cwd=tmp_path, capture_output=True, check=True
    )
    ((source, destination),) = [
        (each["source"].removesuffix("/:path*"), each["destination"].removesuffix("/:path*"))
        for each in json.loads(ran.stdout)
    ]

    def rewrite(route: "Route") -> None:
        route.continue_(url=route.request.url.replace(site.origin + source, destination))

    context.route(f"{site.origin}{source}**", rewrite)
    program = USE_CHAT["app/page.jsx"]
    assert program.text.startswith('"use client";\n')
    if at_the_chat:
        program = program._replace(text=program.text.replace("useChat({ transport })", "useChat()"))
    page = visit(site.page(program, port))
    ask(page, "Show me a table")

    shows(page, USE_CHAT["Thread.jsx"].prints)


def test_tools_run_in_the_page(site: Site, visit):
    program = USE_CHAT["AppWithTools.jsx"]
    port = site.chat(program.config)
    page = visit(site.page(program, port))
    before = limit(port, "requests")["used"]
    ask(page, WEATHER)

    shows(page, program.prints)
    assert limit(port, "requests")["used"] == before + 2


def test_an_image_is_sent_and_a_pdf_is_refused_with_a_sentence(site: Site, visit):
    program = USE_CHAT["AppWithTools.jsx"]
    page = visit(site.page(program, site.chat(program.config)))
    image = {"name": "photo.png", "mimeType": "image/png", "buffer": PIXEL}
    page.get_by_label("Images").set_input_files(image)
    ask(page, "Show me a table with this")
    expect(page.locator("body")).to_contain_text("reads yours")
    assert page.get_by_role("alert").count() == 0

    pdf = {"name": "a.pdf", "mimeType": "application/pdf", "buffer": b"%PDF-1.4"}
    page.get_by_label("Images").set_input_files(pdf)
    ask(page, "And this")
    expect(page.get_by_role("alert")).to_contain_text("image")


REFUSALS = [
    ("AppWithTools.jsx", {}, "The profile 'balanced' does not allow tools."),
    (
        "App.jsx",
        {"CHATNEST_PROFILES__BALANCED__REQUESTS_PER_MINUTE": "1"},
        "The limit of requests in 60 seconds is 1. Try again in ",
    ),
    (
        "App.jsx",
        {"CHATNEST_PROFILES__BALANCED__MAX_TOKENS_PER_REQUEST": "65"},
        "A shorter message helps.",
    ),
]


@pytest.mark.parametrize(("name", "settings", "sentence"), REFUSALS)
def test_a_refusal_is_a_sentence(site: Site, visit, name, settings, sentence):
    page = visit(site.page(USE_CHAT[name], site.chat(**settings)))
    ask(page, "Show me a table")
    if "REQUESTS" in "".join(settings):
        expect(page.locator("body")).to_contain_text("reads yours")
        ask(page, "Once more")

    expect(page.get_by_role("alert")).to_contain_text(sentence)
    assert "{" not in page.get_by_role("alert").inner_text()


def test_with_linger_a_reload_resumes_and_stop_needs_its_lines(site: Site, visit):
    program = USE_CHAT["AppWithResume.jsx"]
    port = site.chat("[runs]\nlinger = 60\n")
    page = visit(site.page(program, port))
    ask(page, "Hello!")
    expect(page.locator("body")).to_contain_text("canned answer")
    page.reload()
    expect(page.locator("body")).to_contain_text("how they look", timeout=PATIENCE)
    assert page.inner_text("body").count("This is a **canned answer**") == 1
    whole = settled(port)
    assert limit(port, "requests")["used"] == 1

    ask(page, "Hello again!")
    expect(page.locator("body")).to_contain_text("canned answer", use_inner_text=True)
    expect(page.get_by_text("This is a **canned answer**")).to_have_count(2)
    page.get_by_role("button", name="Stop").click()
    assert 0 < settled(port) - whole < 450  # the conversation, and a part of the answer


# ---------------------------------------------------------------- assistant-ui


def test_assistant_ui_runs_tools_and_stops(site: Site, visit):
    program = ASSISTANT_UI["App.jsx"]
    port = site.chat(program.config, OWN="a test")
    page = visit(site.page(program, port))
    ask(page, WEATHER)
    shows(page, program.prints)

    before = settled(port)
    ask(page, "Hello!")
    expect(page.locator("body")).to_contain_text("no model has read")
    page.get_by_role("button", name="Stop").click()
    assert 0 < settled(port) - before < 400


def test_assistant_ui_shows_a_refusal_as_a_sentence(site: Site, visit):
    page = visit(site.page(ASSISTANT_UI["App.jsx"], site.chat()))
    ask(page, WEATHER)

    expect(page.get_by_role("alert")).to_have_text("The profile 'balanced' does not allow tools.")
