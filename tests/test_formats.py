"""Wire formats: each has its path, renders its errors, and passes one contract."""

import contextlib
import json
import re
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import tests
from chatnest import (
    ChatNestApp,
    ChatNestMiddleware,
    ChatRequest,
    ConfigurationError,
    DemoProvider,
    Limit,
    Message,
    NativeFormat,
)
from chatnest.testing import Conversation, FormatContract, ProtocolViolation, parse_events
from chatnest.wire import FORMAT_NAMES, Formats, formats_of, named_formats
from tests.support.plain_format import Plain

PAGE = Path(tests.__file__).parent.parent / "docs/how-to/custom-format.md"
SHOWN, CONTRACT = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


def shown() -> SimpleNamespace:
    """The module that the page shows, with the contract."""
    module = ModuleType("lines")
    exec(compile(SHOWN + CONTRACT, str(PAGE), "exec"), module.__dict__)  # our page
    return SimpleNamespace(**module.__dict__)


LINES = shown()
ASK = {"messages": [{"role": "user", "content": "Hello"}]}
QUESTION = {"question": "Hello"}
RUN = "0" * 32


class TestLines(LINES.TestLines):  # type: ignore[misc, name-defined]  # the page's own
    pass


class TestNative(FormatContract):
    body = json.dumps(ASK).encode()

    def make(self) -> NativeFormat:
        return NativeFormat()

    def text(self, stream: bytes) -> str:
        return "".join(json.loads(e.data) for e in parse_events(stream) if e.event == "token")

    def ending(self, stream: bytes) -> object:
        last = parse_events(stream)[-1].event
        return last if last in {"done", "error"} else None


def chat(**options: Any) -> ChatNestApp:
    options.setdefault("formats", [NativeFormat(), LINES.Lines()])
    return ChatNestApp(provider=DemoProvider(pace=0), **options)


async def answer(app: Any, path: str, content: Any, **options: Any) -> Conversation:
    async with Conversation(app, json=content, path=path, **options) as c:
        await c.finished()
    return c


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["/api/chat", "/api/chat/", "/"])
async def test_the_chats_own_path_is_native(path):
    c = await answer(chat(), path, ASK)

    assert (c.status, c.headers["content-type"]) == (200, "text/event-stream")
    assert c.received.endswith(b"event: done\ndata: \n\n")


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["/api/chat/lines", "/lines", "/lines/"])
async def test_a_path_below_has_its_format(path):
    c = await answer(chat(), path, QUESTION)

    assert (c.status, c.headers["content-type"]) == (200, "application/x-ndjson")
    lines = [json.loads(line) for line in c.received.splitlines()]
    assert lines[0] == {"text": "This"}
    assert lines[-1] == {"end": "stop"}


REFUSED = {
    "a body": ("POST", "/lines", b"{}", 400, "invalid_request"),
    "a type": ("POST", "/lines", None, 415, "unsupported_media_type"),
    "a method": ("PUT", "/lines", b"{}", 405, "method_not_allowed"),
    "a run": ("GET", f"/lines/runs/{RUN}", b"", 404, "not_found"),
    "no run": ("GET", "/lines/runs/1", b"", 404, "not_found"),
}


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"), REFUSED.values(), ids=REFUSED
)
async def test_errors_are_in_the_format_of_the_path(method, path, body, status, code):
    headers = {} if body is None else {"content-type": "application/json"}
    alone = chat()
    wrapped = ChatNestMiddleware(never, chat=alone, path="/chat")
    for app, below in ((alone, ""), (wrapped, "/chat")):
        async with Conversation(
            app, method=method, path=below + path, body=body or b"{}", headers=headers
        ) as c:
            await c.finished()

        assert c.status == status
        assert json.loads(c.received)["error"] == code
        assert set(json.loads(c.received)) == {"error", "retry"}


AT_ROOT = {
    "embeddings": ("/v1/embeddings", 404, "not_found"),
    "a wrong run": ("/v1/chat/completions/runs/nope", 404, "not_found"),
    "no response": ("/v1/responses/resp_1", 404, "not_found"),
    "a body that is wrong": ("/v1/chat/completions", 400, "invalid_request"),
}


@pytest.mark.anyio
@pytest.mark.parametrize(("path", "status", "code"), AT_ROOT.values(), ids=AT_ROOT)
async def test_errors_at_the_root_are_those_of_openai(path, status, code):
    app = chat(formats=["native", "openai-chat", "openai-responses"])
    wrapped = ChatNestMiddleware(never, chat=app, path="/chat", openai_at_root=True)
    c = await answer(wrapped, path, {})

    assert c.status == status
    assert json.loads(c.received)["error"]["code"] == code


@pytest.mark.anyio
async def test_without_an_openai_format_the_root_is_the_applications():
    passed = []

    async def inner(scope, receive, send):
        passed.append(scope["path"])
        await send({"type": "http.response.start", "status": 404, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    wrapped = ChatNestMiddleware(inner, chat=chat(), path="/chat", openai_at_root=True)
    await answer(wrapped, "/v1/embeddings", {})

    assert passed == ["/v1/embeddings"]


OWN_PATHS = {
    "mounted": ("/api/chat", "GET", "/api/chat/runs/nope", 404),
    "mounted, a question": ("/api/chat", "POST", "/api/chat/runs/nope", 404),
    "alone": ("", "GET", "/api/chat/runs/nope", 404),
    "alone, a cancellation": ("", "DELETE", f"/api/chat/runs/{RUN[1:]}", 404),
    "alone, deeper": ("", "GET", f"/api/chat/runs/{RUN}/more", 404),
    "alone, another path": ("", "GET", "/api/chat", 405),
    "alone, a question": ("", "POST", "/v1/runs/chat", 200),
    "mounted below runs": ("/runs/chat", "GET", "/runs/chat", 405),
}


@pytest.mark.anyio
@pytest.mark.parametrize(("root", "method", "path", "status"), OWN_PATHS.values(), ids=OWN_PATHS)
async def test_a_path_below_runs_without_an_id_is_not_found(root, method, path, status):
    """A chat that is not mounted answers at every path, so a question there is at its own."""
    c = await answer(chat(), path, ASK, method=method, root_path=root)

    assert c.status == status


@pytest.mark.anyio
async def test_an_error_of_a_key_is_in_the_format_as_well():
    app = chat()
    headers = {"idempotency-key": '"k"'}
    await answer(app, "/lines", QUESTION, headers=headers)
    c = await answer(app, "/lines", {"question": "Another"}, headers=headers)

    assert (c.status, json.loads(c.received)["error"]) == (422, "idempotency_key_reused")


@pytest.mark.anyio
async def test_a_run_is_resumed_in_the_format_of_its_path():
    app = chat()
    first = await answer(app, "/lines", QUESTION, headers={"idempotency-key": '"k"'})
    run = first.headers["chatnest-run-id"]
    lines = await answer(app, f"/lines/runs/{run}", None, method="GET")
    native = await answer(app, f"/runs/{run}", None, method="GET")

    assert lines.received == first.received
    assert native.received.count(b"event: token") == first.received.count(b'{"text"')


@pytest.mark.anyio
async def test_without_a_format_at_the_chats_own_path_it_is_not_found():
    c = await answer(chat(formats=[LINES.Lines()]), "/elsewhere", ASK)

    assert (c.status, json.loads(c.received)) == (404, {"error": "not_found", "retry": False})


WRONG = ["lines", "/", "/a/", "/limits", "/a/limits", "/runs", "/a/runs/b", "/a?b", "/ü"]


@pytest.mark.parametrize("path", WRONG)
def test_a_path_that_cannot_work_is_refused(path):
    with pytest.raises(ConfigurationError, match="formats: expected a path such as"):
        chat(formats=[NativeFormat(path)])


def test_two_formats_cannot_have_one_path():
    with pytest.raises(ConfigurationError, match="a path of its own"):
        chat(formats=[NativeFormat(), NativeFormat("/a"), NativeFormat("/a")])


CHAT, OTHER = "c/1 x", "0" * 32
PLACES = {
    "/plain": ("chat", None),
    "/plain/c1/stream": ("GET DELETE", "c1"),
    f"/plain/{CHAT}/stream": ("GET DELETE", CHAT),
    "/plain/models": ("GET", None),
    "/plain/models/limits": ("GET", "limits"),
    "/plain/models/org/model:x": ("GET", "org/model:x"),
    f"/plain/run_{OTHER}/cancel": ("POST", OTHER),
    "/plain/run_nope/cancel": ("missing", None),
    "/plain/nothing": ("missing", None),
    "/plain/runs/nope": ("missing", None),
}


@pytest.mark.parametrize("prefix", ["", "/api/chat", "/plain-app"])
@pytest.mark.parametrize(("path", "found"), PLACES.items(), ids=PLACES)
def test_each_path_of_a_format_has_its_actions(prefix, path, found):
    formats = Formats([NativeFormat(), Plain()])
    kind, value = found

    for route in (formats.find(prefix + path), formats.at(path)):
        assert route is not None
        assert isinstance(route.format, Plain)
        assert (route.run_id or route.conversation or route.model) == value
        if route.actions is None:
            assert kind == ("missing" if route.is_missing else "chat")
        else:
            assert kind == " ".join(route.actions)


def test_a_path_of_no_format_is_the_applications_own():
    formats = Formats([NativeFormat(), Plain()])

    assert [formats.at(path) for path in ("/else", "/x/plain", "/x/plain/models")] == [None] * 3


def test_a_format_at_the_path_of_the_chat_has_conversations_without_a_slash():
    formats = Formats([Plain(""), NativeFormat("/native")])

    for route in (formats.find("/api/chat/c1/stream"), formats.at("/c1/stream")):
        assert route is not None
        assert route.conversation == "c1"
    assert formats.at("/c/1/stream") is None


def test_formats_are_named():
    formats = formats_of(["native", LINES.Lines()])

    assert [type(each).__name__ for each in formats] == ["NativeFormat", "Lines"]


@pytest.mark.parametrize("names", [["natve"], "native", [["native"]]])
def test_an_unknown_name_is_refused(names):
    with pytest.raises(ConfigurationError, match=r"formats: expected"):
        chat(formats=names)


def test_the_format_at_the_chats_path_is_one_of_the_formats():
    with pytest.raises(ConfigurationError, match=r"format: expected one of the formats \(\)"):
        named_formats([], "native")


def test_the_longest_path_wins():
    long, short, own = NativeFormat("/v1/chat"), NativeFormat("/chat"), NativeFormat()
    formats = Formats([own, short, long])

    found = {
        path: formats.of(path)
        for path in ("/v1/chat", "/api/v1/chat", "/v2/chat", "/chat/x", f"/chat/runs/{RUN}")
    }
    assert found == {
        "/v1/chat": long,
        "/api/v1/chat": long,
        "/v2/chat": short,
        "/chat/x": own,
        f"/chat/runs/{RUN}": short,
    }


@pytest.mark.parametrize("name", FORMAT_NAMES)
def test_each_format_can_be_at_the_path_of_the_chat(name):
    formats = Formats(named_formats(FORMAT_NAMES, name))
    for route in (formats.at(""), formats.find("/api/chat")):
        assert route is not None
        assert (route.format, route.is_missing, route.actions) == (formats.default, False, None)
    for other in formats.all[1:]:
        assert formats.find(f"/api/chat{other.path}") == formats.at(other.path)
    assert formats.at("/elsewhere") is None


async def never(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("the chat answers this itself")


@pytest.mark.anyio
async def test_a_format_without_pings_sends_no_empty_piece():
    app = chat(ping_interval=0.001)
    app.provider._pace = 0.005  # type: ignore[attr-defined]
    c = await answer(app, "/lines", QUESTION)

    assert all(message["body"] for message in c.messages[1:-1])
    assert json.loads(c.received.splitlines()[-1]) == {"end": "stop"}


class Broken(LINES.Lines):  # type: ignore[misc, name-defined]  # the page's own
    """Its frames fail from the third piece on."""

    path = "/broken"

    def frames(self, info: Any) -> Any:
        inner, seen = super().frames(info), 0

        def encode(events: Any) -> bytes:
            nonlocal seen
            seen += 1
            if seen > 3:
                raise ZeroDivisionError
            return bytes(inner.encode(events))

        return SimpleNamespace(encode=encode)


@pytest.mark.anyio
async def test_a_format_that_fails_is_a_fault_in_the_log_and_no_disconnect(caplog):
    ended: list[Any] = []
    observer = SimpleNamespace(observe=ended.append)
    app = chat(formats=[Broken()], observers=[observer])
    with contextlib.suppress(ProtocolViolation):
        await answer(app, "/broken", QUESTION)

    assert ended[-1].outcome == "internal_error"
    assert any(record.exc_info for record in caplog.records)


UNFIT: dict[str, dict[str, Any]] = {
    "no problem": {"problem": None},
    "no content type": {"content_type": None},
    "headers that are a list": {"headers": []},
    "headers that end the head": {"headers": {"x-a": "1\r\n"}},
    "no path": {"path": None},
}


@pytest.mark.parametrize("wrong", UNFIT.values(), ids=UNFIT)
def test_a_format_that_cannot_work_is_refused(wrong):
    unfit = type("Unfit", (LINES.Lines,), wrong)

    with pytest.raises(ConfigurationError, match="formats: expected"):
        chat(formats=[unfit()])


@pytest.mark.anyio
@pytest.mark.parametrize(
    "roles", [(), ("system", "user"), ("assistant",)], ids=["none", "system", "no question"]
)
async def test_a_format_cannot_let_clients_ask_for_others_or_for_nothing(roles):
    class Open(LINES.Lines):  # type: ignore[misc, name-defined]  # the page's own
        def parse(self, body: bytes, head: Any) -> ChatRequest:
            return ChatRequest(messages=tuple(Message.of(role, "Obey") for role in roles))

    c = await answer(chat(formats=[Open()]), "/lines", QUESTION)

    assert (c.status, json.loads(c.received)["error"]) == (400, "invalid_request")


@pytest.mark.anyio
async def test_the_format_shown_says_when_to_come_back():

    class Once:
        def limits(self, turn: Any) -> list[Limit]:
            return [Limit(name="once", unit="requests", account="all", amount=1, window=60)]

    app = chat(policies=[Once()])
    await answer(app, "/lines", QUESTION)
    c = await answer(app, "/lines", QUESTION)

    assert (c.status, json.loads(c.received)) == (429, {"error": "rate_limited", "retry": True})
    assert 0 < int(c.headers["retry-after"]) <= 60


@pytest.mark.parametrize("name", ["parse", "frames", "problem"])
def test_an_async_format_is_refused(name):
    async def late(*_: Any, **__: Any) -> None: ...

    unfit = type("Unfit", (LINES.Lines,), {name: late})

    with pytest.raises(ConfigurationError, match=f"{name}: expected a plain function"):
        chat(formats=[unfit()])


UNDER = "/api/chat"
SERVED = {
    (UNDER, "POST"): True,
    (f"{UNDER}/limits", "GET"): True,
    (f"{UNDER}/openapi.json", "GET"): True,
    (f"{UNDER}/ai-sdk", "POST"): True,
    (f"{UNDER}/ai-sdk/c1/stream", "GET"): True,
    (f"{UNDER}/ai-sdk/limits", "GET"): True,
    (f"{UNDER}/ag-ui", "POST"): True,
    (f"{UNDER}/v1/chat/completions", "POST"): True,
    (f"{UNDER}/v1/models/demo", "GET"): True,
    (f"{UNDER}/v1/responses/resp_{RUN}/cancel", "POST"): True,
    (f"{UNDER}/runs/nope", "GET"): True,
    (f"{UNDER}/else", "GET"): False,
    ("/ai-sdk", "POST"): False,
    ("/v1", "GET"): False,
    ("/x/v1/models", "GET"): False,
}
OF_OPENAI = [
    ("/v1/models", "GET"),
    ("/v1/chat/completions", "POST"),
    ("/v1/responses", "POST"),
    ("/v1/other", "GET"),
]


@pytest.mark.anyio
@pytest.mark.parametrize("openai_at_root", [True, False])
async def test_the_middleware_serves_the_paths_of_all_formats(openai_at_root):
    """And it passes on all others."""

    async def inner(scope, _, send):
        await send({"type": "http.response.start", "status": 418, "headers": []})
        await send({"type": "http.response.body", "body": scope["path"].encode()})

    app = ChatNestMiddleware(
        inner, chat=chat(formats=FORMAT_NAMES), path=UNDER, openai_at_root=openai_at_root
    )
    found = {}
    for path, method in [*SERVED, *OF_OPENAI]:
        c = await answer(app, path, {}, method=method)
        found[path, method] = c.status != 418

    assert found == SERVED | dict.fromkeys(OF_OPENAI, openai_at_root)


@pytest.mark.anyio
async def test_another_format_can_be_at_the_path_of_the_chat():
    app = ChatNestMiddleware(
        chat(), chat=chat(formats=named_formats(FORMAT_NAMES, "openai-chat")), path=UNDER
    )
    openai = await answer(app, UNDER, ASK | {"stream": True})
    native = await answer(app, f"{UNDER}/native", ASK)
    limits = await answer(app, f"{UNDER}/native/limits", None, method="GET")

    assert openai.received.endswith(b"data: [DONE]\n\n")
    assert native.received.endswith(b"event: done\ndata: \n\n")
    assert limits.status == 200
