"""The page of ``chatnest serve`` in a real browser: what a person sees, what the server gets."""

import json
import os
import re

import pytest

from tests.browser.stub import Gate, Stub, frame, token

try:
    from playwright.sync_api import Locator, Page, expect
except ImportError:
    if os.environ.get("CI"):
        raise
    pytest.skip("playwright is missing", allow_module_level=True)

pytestmark = pytest.mark.browser

USAGE = {"input_tokens": 12, "output_tokens": 400, "total_tokens": 412, "source": "provider"}


def visit(page: Page, site: Stub) -> None:
    page.goto(site.url)
    expect(page.locator("#limits-tokens")).not_to_be_empty()


def ask(page: Page, question: str) -> None:
    page.get_by_label("Your message").fill(question)
    page.keyboard.press("Enter")


def answer(page: Page) -> Locator:
    return page.locator(".answer").last


def prose(page: Page) -> Locator:
    return answer(page).locator(".prose")


def notice(page: Page) -> Locator:
    return answer(page).locator(".notice")


def retry(page: Page) -> Locator:
    return answer(page).locator(".retry")


def state(page: Page, name: str) -> None:
    expect(page.locator(".turn").last).to_have_attribute("data-state", name)


# ---------------------------------------------------------------- streaming


def test_an_answer_is_shown_while_it_is_written(page, site):
    gate = Gate()
    site.answer("Hello **wor", gate, "ld**, é😀.")
    visit(page, site)
    ask(page, "Hi?")

    expect(prose(page)).to_contain_text("Hello **wor")
    expect(answer(page)).to_have_attribute("aria-busy", "true")
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    gate.open()

    expect(prose(page)).to_have_text("Hello world, é😀.")
    expect(prose(page).locator("strong")).to_have_text("world")
    state(page, "done")
    expect(notice(page)).to_be_hidden()
    expect(page.get_by_role("button", name="Send")).to_be_visible()


def test_the_request_is_the_native_wires(page, site):
    site.answer("Four.")
    site.answer("Six.")
    visit(page, site)
    ask(page, "2 + 2?")
    state(page, "done")
    ask(page, "3 + 3?")
    expect(prose(page)).to_have_text("Six.")

    first, second = site.requests
    assert first.keys() == {"messages", "profile", "usageEvent", "linger"}
    assert [(m["role"], m["content"]) for m in first["messages"]] == [("user", "2 + 2?")]
    assert [(m["role"], m["content"]) for m in second["messages"]] == [
        ("user", "2 + 2?"),
        ("assistant", "Four."),
        ("user", "3 + 3?"),
    ]
    assert all(isinstance(m["id"], str) and m["id"] for m in second["messages"])


def test_frames_cut_anywhere_are_read(page, site):
    visit(page, site)
    whole = frame("start") + token('é😀\n"x"') + frame("ping") + token("two") + frame("done")
    for data in (whole, whole.replace(b"\n", b"\r\n"), b": comment\n" + whole):
        seen = page.evaluate(
            """async (bytes) => {
                const { readEvents } = await import("/assets/stream.js");
                const results = new Set();
                const feed = (pieces) => new ReadableStream({
                    start(controller) {
                        for (const piece of pieces) controller.enqueue(piece);
                        controller.close();
                    },
                });
                const whole = new Uint8Array(bytes);
                const bytewise = Array.from(whole, (byte) => new Uint8Array([byte]));
                const cuts = whole.keys().map((at) => [whole.slice(0, at), whole.slice(at)]);
                for (const pieces of [[whole], bytewise, ...cuts]) {
                    const events = [];
                    for await (const { name, data } of readEvents(feed(pieces))) {
                        events.push([name, data]);
                    }
                    results.add(JSON.stringify(events));
                }
                return [...results];
            }""",
            list(data),
        )
        assert [json.loads(result) for result in seen] == [
            [
                ["start", ""],
                ["token", json.dumps('é😀\n"x"', ensure_ascii=False)],
                ["ping", ""],
                ["token", '"two"'],
                ["done", ""],
            ]
        ]


def test_the_end_stays_in_view_only_for_who_is_there(page, site):
    gate = Gate()
    lines = [f"line {number}\n\n" for number in range(60)]
    site.answer(*lines, gate, *lines, "The last.")
    visit(page, site)
    ask(page, "Much, please.")
    expect(prose(page)).to_contain_text("line 59")
    expect(prose(page).get_by_text("line 59")).to_be_in_viewport()

    page.locator("#scroller").hover()
    page.mouse.wheel(0, -600)
    expect(page.get_by_role("button", name="Latest")).to_be_visible()
    before = page.locator("#scroller").evaluate("(element) => element.scrollTop")
    gate.open()
    expect(prose(page)).to_contain_text("The last.")
    assert page.locator("#scroller").evaluate("(element) => element.scrollTop") == before

    page.get_by_role("button", name="Latest").click()
    expect(prose(page).get_by_text("The last.")).to_be_in_viewport()


def test_an_unfinished_finish_is_noted(page, site):
    site.answer("It goes on and", usage=USAGE | {"finish_reason": "length"})
    visit(page, site)
    ask(page, "Tell me a story.")
    expect(notice(page)).to_contain_text("Cut short: the answer reached the maximum length")
    expect(answer(page).locator(".foot-text")).to_have_text("412 tokens")

    site.answer("I", usage=USAGE | {"finish_reason": "content_filter", "source": "estimated"})
    ask(page, "Another.")
    expect(notice(page)).to_contain_text("content filter")
    expect(answer(page).locator(".foot-text")).to_have_text("about 412 tokens")


# ---------------------------------------------------------------- stopping


@pytest.mark.parametrize("by", ["button", "Escape"])
def test_stop_closes_the_connection_and_keeps_the_text(page, site, by):
    site.hang("Once upon a")
    visit(page, site)
    ask(page, "A story?")
    expect(prose(page)).to_have_text("Once upon a")
    if by == "button":
        page.get_by_role("button", name="Stop").click()
    else:
        page.keyboard.press("Escape")

    assert site.saw_disconnect()
    expect(notice(page).locator(".notice-title")).to_have_text("Stopped")
    expect(prose(page)).to_have_text("Once upon a")
    state(page, "stopped")
    expect(page.get_by_label("Your message")).to_be_focused()


def test_stop_before_the_first_token(page, site):
    site.hang()
    visit(page, site)
    ask(page, "Hello?")
    expect(answer(page)).to_contain_text("Waiting for the first word")
    page.keyboard.press("Escape")
    assert site.saw_disconnect()
    state(page, "stopped")
    retry(page).click()
    expect(prose(page)).to_have_text("Yes.")


def test_a_new_chat_ends_the_old_answer(page, site):
    site.hang("Old")
    visit(page, site)
    ask(page, "Old?")
    expect(prose(page)).to_have_text("Old")
    page.get_by_role("button", name="New chat").click()
    assert site.saw_disconnect()
    expect(page.get_by_role("heading", name="What can I help with?")).to_be_visible()
    ask(page, "New?")
    expect(prose(page)).to_have_text("Yes.")
    assert [m["content"] for m in site.requests[-1]["messages"]] == ["New?"]


# ---------------------------------------------------------------- refusals


def test_a_rate_limit_counts_down_and_can_be_retried(page, site):
    page.clock.install()
    site.refuse(429, "rate_limited", retryable=True, retry_after=12)
    site.answer("At last.")
    visit(page, site)
    ask(page, "Now?")

    expect(notice(page)).to_contain_text("Not sent")
    expect(notice(page)).to_contain_text("faster than this chat allows")
    expect(retry(page)).to_be_disabled()
    expect(retry(page)).to_have_text(re.compile(r"Retry in ([1-9]|1[0-2]) s"))
    page.clock.fast_forward(5000)  # beside the time that passes meanwhile
    expect(retry(page)).to_have_text(re.compile(r"Retry in [1-7] s"))
    page.clock.fast_forward(8000)
    expect(retry(page)).to_be_enabled()
    expect(page.get_by_role("status")).to_have_text("You can retry now.")
    retry(page).click()

    expect(prose(page)).to_have_text("At last.")
    expect(page.locator(".turn")).to_have_count(1)
    assert [m["content"] for m in site.requests[1]["messages"]] == ["Now?"]


SENTENCES = {
    (400, "invalid_request", False): "Detail of invalid_request.",
    (401, "unauthenticated", False): "You are not signed in.",
    (403, "forbidden_profile", False): "may not use this profile",
    (413, "request_too_large", False): "too long for the chosen profile",
    (429, "too_many_streams", True): "Too many of your answers are running",
    (429, "budget_exhausted", True): "tokens are used up. The budget resets",
    (502, "upstream_unavailable", True): "cannot be reached at the moment",
    (503, "upstream_account", False): "Only its operator can change that.",
    (504, "upstream_timeout", True): "took too long to answer",
    (503, "ledger_unavailable", True): "Usage cannot be counted",
    (503, "server_shutdown", True): "is restarting",
    (418, "made_up", False): "Detail of made_up.",
}


@pytest.mark.parametrize(("refusal", "sentence"), SENTENCES.items(), ids=str)
def test_every_refusal_is_a_sentence(page, site, refusal, sentence):
    status, code, retryable = refusal
    site.refuse(status, code, retryable=retryable)
    visit(page, site)
    ask(page, "Please?")
    expect(notice(page)).to_contain_text(sentence)
    expect(page.get_by_role("status")).to_contain_text(sentence)
    expect(retry(page)).to_be_visible(visible=retryable)
    if retryable:
        expect(retry(page)).to_be_enabled()


def test_a_refused_message_goes_back_to_the_box(page, site):
    site.refuse(413, "request_too_large")
    visit(page, site)
    ask(page, "A long story\nwith lines")
    page.get_by_role("button", name="Edit message").click()
    expect(page.get_by_label("Your message")).to_have_value("A long story\nwith lines")
    expect(page.get_by_label("Your message")).to_be_focused()
    expect(page.locator(".turn")).to_have_count(0)


def test_a_refused_message_is_not_part_of_the_conversation(page, site):
    site.refuse(413, "request_too_large")
    visit(page, site)
    ask(page, "Too long")
    state(page, "refused")
    ask(page, "Short")
    expect(prose(page)).to_have_text("Yes.")
    assert [m["content"] for m in site.requests[1]["messages"]] == ["Short"]


def test_a_refusal_from_something_else_on_the_way(page, site):
    site.respond(502, b"<html><h1>Bad Gateway</h1></html>", "text/html")
    site.respond(200, b"<html>Please sign in</html>", "text/html")
    visit(page, site)
    ask(page, "Hello?")
    expect(notice(page)).to_contain_text("provider cannot be reached")
    retry(page).click()
    expect(notice(page)).to_contain_text("does not understand")
    expect(retry(page)).to_be_hidden()


def test_a_server_that_is_away(page, site):
    page.route("**/settings.json", lambda route: route.abort())
    page.goto(site.url)
    expect(page.locator("#banner")).to_contain_text("The server cannot be reached.")
    page.get_by_label("Your message").fill("Typed meanwhile")
    expect(page.get_by_role("button", name="Send")).to_be_disabled()

    page.unroute("**/settings.json")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("#banner")).to_be_hidden()
    expect(page.get_by_label("Your message")).to_have_value("Typed meanwhile")

    page.route("**/api/chat", lambda route: route.abort())
    page.get_by_role("button", name="Send").click()
    expect(notice(page)).to_contain_text("The server cannot be reached.")
    page.unroute("**/api/chat")
    retry(page).click()
    expect(prose(page)).to_have_text("Yes.")


# ---------------------------------------------------------------- answers that do not end


def test_an_error_in_the_middle_is_incomplete(page, site):
    site.fail("Half of an", code="upstream_interrupted")
    site.fail("Half of an", code="stream_timeout", retryable=False, charged=False)
    visit(page, site)
    ask(page, "All of it?")
    expect(prose(page)).to_have_text("Half of an")
    expect(notice(page)).to_contain_text("Incomplete")
    expect(notice(page)).to_contain_text("disconnected before the end. The tokens used count")
    state(page, "incomplete")

    retry(page).click()
    expect(notice(page)).to_contain_text("longer than this chat allows. No tokens were counted.")
    expect(retry(page)).to_be_hidden()


@pytest.mark.parametrize("how", ["drop", "end_early"])
def test_an_end_without_a_terminal_event_is_incomplete(page, site, how):
    gate = Gate()  # a browser throws away what it has not read when the connection breaks
    getattr(site, how)("Half of an", gate)
    visit(page, site)
    ask(page, "All of it?")
    expect(prose(page)).to_have_text("Half of an")
    gate.open()
    expect(notice(page)).to_contain_text("Incomplete")
    expect(notice(page)).to_contain_text("The connection was lost before the end.")
    state(page, "incomplete")
    retry(page).click()
    expect(prose(page)).to_have_text("Yes.")
    state(page, "done")


def test_a_retry_that_is_refused_keeps_what_was_there(page, site):
    site.fail("Half of an", code="upstream_interrupted")
    site.refuse(429, "rate_limited", retryable=True, retry_after=60)
    visit(page, site)
    ask(page, "All of it?")
    retry(page).click()
    expect(notice(page)).to_contain_text("faster than this chat allows")
    expect(prose(page)).to_have_text("Half of an")
    state(page, "incomplete")


def test_a_reload_keeps_the_conversation_and_the_draft(page, site):
    site.answer("Kept.")
    site.hang("Cut off")
    visit(page, site)
    ask(page, "First?")
    expect(prose(page)).to_have_text("Kept.")
    ask(page, "Second?")
    expect(prose(page)).to_have_text("Cut off")
    page.get_by_label("Your message").fill("Third")
    page.reload()

    expect(page.locator(".bubble")).to_have_text(["First?", "Second?"])
    expect(page.locator(".prose")).to_have_text(["Kept.", "Cut off"])
    expect(notice(page)).to_contain_text("Incomplete")
    expect(page.get_by_label("Your message")).to_have_value("Third")


# ---------------------------------------------------------------- hostile text

HOSTILE = """
<img src=x onerror="window.hacked=1"> <script>window.hacked=2</script>

<svg><style><img src=x onerror=window.hacked=3></style></svg>

<div style="position:fixed;inset:0" onclick="window.hacked=4">over all</div>

<iframe src="javascript:window.hacked=5"></iframe>

[one](javascript:window.hacked=6) [two](data:text/html,<script>window.hacked=7</script>)
[three](JaVaScRiPt&colon;window.hacked=8) [four](vbscript:x) [five](/relative) [six](//evil.test/)
<javascript:window.hacked=9>

![tracker](https://evil.test/pixel.png) ![](data:image/svg+xml;base64,AAAA)
[![nested](https://evil.test/a.png)](https://evil.test/b)

[good](https://example.org/ "title") <mailto:somebody@example.org> https://example.com/

```"><img src=x onerror=window.hacked=10>
</code></pre><img src=x onerror=window.hacked=11>
```

| a |
|---|
| <b onmouseover=window.hacked=12>x</b><br>y |
"""


def test_hostile_markdown_is_inert(page, site):
    site.answer(*re.findall(r"(?s).{1,7}", HOSTILE), "\n\nThe end.")
    visit(page, site)
    ask(page, "Attack.")
    expect(prose(page)).to_contain_text("The end.")
    state(page, "done")

    allowed = "a,blockquote,br,button,code,del,div,em,h3,h4,h5,h6,hr,li,ol,p,pre,span,strong"
    allowed += ",table,tbody,td,th,thead,tr,ul"
    strangers = f"(root) => [...root.querySelectorAll('*')].filter((e) => !e.matches('{allowed}'))"
    assert prose(page).evaluate(f"(root) => ({strangers})(root).map((e) => e.outerHTML)") == []
    attributes = prose(page).evaluate(
        "(root) => [...new Set([...root.querySelectorAll('*')].flatMap((e) =>"
        " e.getAttributeNames()))].sort()"
    )
    assert not {name for name in attributes if name.startswith("on") or name in {"style", "src"}}

    links = prose(page).evaluate(
        "(root) => [...root.querySelectorAll('a')].map((a) => [a.protocol, a.target, a.rel])"
    )
    assert {protocol for protocol, _, _ in links} == {"https:", "mailto:"}
    assert {(target, rel) for _, target, rel in links} == {
        ("_blank", "noopener noreferrer nofollow")
    }
    assert page.evaluate("window.hacked") is None
    expect(prose(page)).to_contain_text("<script>window.hacked=2</script>")
    expect(prose(page).get_by_role("link", name="tracker")).to_be_visible()


def test_half_a_character_does_not_spoil_the_request(page, site):
    visit(page, site)
    page.get_by_label("Your message").evaluate("(box) => { box.value = 'cut \\ud83d'; }")
    page.get_by_label("Your message").press("End")
    page.get_by_label("Your message").dispatch_event("input")
    page.keyboard.press("Enter")
    state(page, "done")
    assert site.requests[0]["messages"][0]["content"] == "cut \ufffd"


def test_the_question_is_text(page, site):
    visit(page, site)
    ask(page, "<b>bold?</b> **no**")
    expect(page.locator(".bubble")).to_have_text("<b>bold?</b> **no**")


@pytest.mark.parametrize("text", [">" * 20_000 + " deep", "- " * 5_000 + "list", "*" * 30_000])
def test_markdown_that_is_made_to_hurt_is_shown_somehow(page, site, text):
    site.answer(text, "\n\nThe end.")
    visit(page, site)
    ask(page, "Hurt.")
    state(page, "done")
    expect(prose(page)).to_contain_text("The end.")


# ---------------------------------------------------------------- Markdown


def test_markdown_and_its_copy_buttons(page, site, context):
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    text = "# Title\n\n[a][1]\n\n```python\nprint(1)\n```\n\n| x | y |\n|--|--:|\n| 1 | 2 |\n\n"
    site.answer(*text, "- [x] done\n\n[1]: https://example.org/")
    visit(page, site)
    ask(page, "Everything.")
    state(page, "done")
    expect(prose(page).get_by_role("heading", level=3)).to_have_text("Title")
    expect(prose(page).get_by_role("link")).to_have_attribute("href", "https://example.org/")
    expect(prose(page).get_by_role("cell")).to_have_text(["1", "2"])
    expect(prose(page).locator(".code")).to_contain_text("python")

    page.get_by_role("button", name="Copy code").click()
    expect(page.get_by_role("status")).to_have_text("Copied.")
    assert page.evaluate("navigator.clipboard.readText()") == "print(1)"
    page.get_by_role("button", name="Copy answer").click()
    page.wait_for_function(
        "async () => (await navigator.clipboard.readText()).startsWith('# Title')"
    )


# ---------------------------------------------------------------- limits and profiles


def test_what_is_left_is_said_and_renewed(page, site):
    visit(page, site)
    expect(page.locator("#limits-tokens")).to_have_text(
        "68,800 of 70,000 tokens left today · resets in 14 h 14 min"
    )
    expect(page.locator("#limits-requests")).to_have_text("30 of 30 requests left this minute")
    ask(page, "Hi.")
    expect(page.locator("#limits-tokens")).to_contain_text("68,350 of 70,000 tokens left today")
    expect(page.locator("#limits-requests")).to_have_text("29 of 30 requests left this minute")


def test_the_profile_is_sent_and_remembered(page, site):
    visit(page, site)
    choice = page.get_by_label("Profile")
    expect(choice).to_have_value("balanced")
    choice.select_option("Expanded")
    ask(page, "Much?")
    state(page, "done")
    assert site.requests[0]["profile"] == "expanded"

    page.reload()
    expect(choice).to_have_value("expanded")
    assert site.profiles_asked_for[-1] == "expanded"


def test_a_remembered_profile_that_is_no_longer_open(page, site):
    page.add_init_script("localStorage.setItem('chatnest.profile', 'expanded')")
    page.route(
        "**/limits?profile=expanded",
        lambda route: route.fulfill(
            status=403,
            content_type="application/problem+json",
            body='{"status": 403, "code": "forbidden_profile", "retryable": false}',
        ),
    )
    visit(page, site)
    expect(page.get_by_label("Profile")).to_have_value("balanced")
    ask(page, "Hello?")
    state(page, "done")
    assert site.requests[0]["profile"] == "balanced"


def test_the_model_and_the_demo_are_named(page, site):
    site.settings |= {"demo": True, "model": "demo", "chat_path": "/other/chat"}
    visit(page, site)
    expect(page.get_by_text("Demo: canned answers, no model")).to_be_visible()
    expect(page.locator("#model")).to_have_text("demo")
    page.get_by_role("button", name="Explain server-sent events").click()
    expect(prose(page)).to_have_text("Yes.")
    assert site.requests[0]["messages"][0]["content"].startswith("Explain server-sent events")


# ---------------------------------------------------------------- for everybody


def test_the_keyboard_is_enough(page, site):
    site.refuse(503, "server_shutdown", retryable=True)
    site.hang("Writing, writing")
    visit(page, site)
    expect(page.get_by_label("Your message")).to_be_focused()
    page.keyboard.type("One line")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("and another")
    page.keyboard.press("Enter")
    expect(page.locator(".bubble")).to_have_text("One line\nand another")

    state(page, "refused")
    expect(retry(page)).to_be_enabled()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Shift+Tab")
    expect(retry(page)).to_be_focused()
    page.keyboard.press("Enter")
    expect(prose(page)).to_have_text("Writing, writing")
    expect(page.get_by_label("Your message")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_label("Profile")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Stop")).to_be_focused()
    page.keyboard.press("Space")
    assert site.saw_disconnect()
    state(page, "stopped")
    expect(page.get_by_label("Your message")).to_be_focused()
    outline = "(box) => getComputedStyle(box.closest('form')).outlineStyle"
    assert page.get_by_label("Your message").evaluate(outline) == "solid"


def test_an_enter_that_ends_a_composition_does_not_send(page, site):
    visit(page, site)
    page.get_by_label("Your message").fill("にほん")
    page.get_by_label("Your message").evaluate(
        "(box) => box.dispatchEvent(new KeyboardEvent('keydown',"
        " { key: 'Enter', isComposing: true, bubbles: true, cancelable: true }))"
    )
    expect(page.locator(".turn")).to_have_count(0)
    expect(page.get_by_label("Your message")).to_have_value("にほん")


def test_the_status_says_the_end_and_not_the_tokens(page, site):
    site.answer("one ", "two ", "three")
    visit(page, site)
    page.evaluate(
        """() => {
            window.said = [];
            const status = document.getElementById("status");
            new MutationObserver(() => status.textContent && window.said.push(status.textContent))
                .observe(status, { childList: true, characterData: true });
        }"""
    )
    ask(page, "Count.")
    expect(page.get_by_role("status")).to_have_text("The answer is complete, 3 words.")
    said = page.evaluate("window.said")
    assert said[-1:] == ["The answer is complete, 3 words."]
    assert set(said) <= {"Waiting for the answer.", "The answer is complete, 3 words."}
    assert page.locator("[aria-live]").count() == 1


LONG = "word" * 60 + "\n\n```\n" + "x" * 300 + "\n```\n\n|" + " column |" * 12 + "\n|" + "--|" * 12


@pytest.mark.parametrize("width", [320, 360, 768])
def test_nothing_scrolls_sideways_but_code_and_tables(page, site, width):
    page.set_viewport_size({"width": width, "height": 740})
    site.settings |= {"demo": True, "model": "a-model-with-a-name-that-is-rather-long-2026-11-23"}
    site.answer(LONG + "\n")
    visit(page, site)
    overflow = (
        "() => [document.documentElement, document.getElementById('scroller')]"
        ".map((element) => element.scrollWidth - element.clientWidth)"
    )
    assert page.evaluate(overflow) == [0, 0]
    ask(page, "W" * 200)
    state(page, "done")
    assert page.evaluate(overflow) == [0, 0]
    expect(page.get_by_role("button", name="Send")).to_be_in_viewport(ratio=1)
    expect(page.get_by_role("button", name="New chat")).to_be_in_viewport(ratio=1)


CONTRAST = """() => {
    const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const rgba = (colour) => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = colour;
        canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data];
    };
    const luminance = (colour) => rgba(colour).slice(0, 3)
        .map((c) => c / 255)
        .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
        .reduce((sum, c, index) => sum + c * [0.2126, 0.7152, 0.0722][index], 0);
    const ground = (element) => {
        for (let e = element; e; e = e.parentElement) {
            const colour = getComputedStyle(e).backgroundColor;
            if (rgba(colour)[3] === 255) return colour;
        }
        return "white";
    };
    const poor = [];
    let looked = 0;
    for (const element of document.body.querySelectorAll("*")) {
        const text = [...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
        if (!text || !element.checkVisibility()) continue;
        if (element.closest(":disabled,option,noscript")) continue;
        const [a, b] = [getComputedStyle(element).color, ground(element)].map(luminance);
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        looked += 1;
        if (ratio < 4.5) poor.push([element.className || element.tagName, ratio.toFixed(2)]);
    }
    return { poor, looked };
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast(page, site, scheme):
    page.emulate_media(color_scheme=scheme)
    site.settings["demo"] = True
    site.answer("# T\n\n[a](https://example.org) `b`\n\n> c\n\n```py\nd\n```\n\n|e|\n|-|\n|f|")
    site.fail("Half", code="upstream_interrupted")
    site.refuse(429, "rate_limited", retryable=True)
    visit(page, site)
    results = [page.evaluate(CONTRAST)]
    for end in ("done", "incomplete", "refused"):
        ask(page, f"To be {end}.")
        state(page, end)
        results.append(page.evaluate(CONTRAST))
    assert [result["poor"] for result in results] == [[], [], [], []]
    assert results[-1]["looked"] > 20


def test_the_theme_can_be_chosen_and_is_kept(page, site):
    page.emulate_media(color_scheme="light")
    visit(page, site)
    scheme = "getComputedStyle(document.documentElement).colorScheme"
    page.get_by_role("button", name="Switch to dark theme").click()
    assert page.evaluate(scheme) == "dark"
    page.reload()
    assert page.evaluate(scheme) == "dark"
    page.get_by_role("button", name="Switch to light theme").click()
    assert page.evaluate(scheme) == "light dark"  # the system's again


def test_without_motion_nothing_moves(page, site):
    page.emulate_media(reduced_motion="reduce")
    site.hang("Writing")
    visit(page, site)
    ask(page, "Still?")
    expect(prose(page)).to_have_text("Writing")
    assert page.locator(".dot").evaluate("(dot) => getComputedStyle(dot).animationName") == "none"
    page.keyboard.press("Escape")


def test_storage_that_is_blocked_costs_only_the_memory(page, site):
    page.add_init_script(
        "for (const name of ['localStorage', 'sessionStorage'])"
        " Object.defineProperty(window, name, { get() { throw new DOMException('blocked'); } })"
    )
    visit(page, site)
    ask(page, "Hello?")
    expect(prose(page)).to_have_text("Yes.")


def test_copying_works_without_a_secure_context(page, site):
    page.add_init_script("delete Navigator.prototype.clipboard")
    visit(page, site)
    ask(page, "Hello?")
    state(page, "done")
    page.get_by_role("button", name="Copy answer").click()
    expect(page.get_by_role("status")).to_have_text("Copied.")


def test_the_page_asks_for_nothing_but_what_it_says(page, site):
    seen: list[str] = []
    page.on("request", lambda request: seen.append(request.url.removeprefix(site.url)))
    visit(page, site)
    ask(page, "Hello?")
    state(page, "done")
    assert {path.split("?")[0] for path in seen if not path.startswith("/assets/")} <= {
        "/",
        "/settings.json",
        "/api/chat",
        "/api/chat/limits",
    }
