"""``chatnest check``: what it says of real servers, behind real proxies and bad networks."""

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import msgspec
import pytest
from starlette.applications import Starlette
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from chatnest import (
    BALANCED,
    BearerKeys,
    ChatNestApp,
    ChatNestMiddleware,
    DemoProvider,
    OpenAIProvider,
)
from chatnest.cli import main
from chatnest.diagnostics import probe
from chatnest.diagnostics.checks import Check
from chatnest.testing import Answer, FakeUpstream, FaultProxy
from tests.proxies.support import caddy, nginx, shown
from tests.servers.support import KEY, Process, uvicorn_thread

pytestmark = pytest.mark.process  # servers, mostly in threads

LONG = Answer(pieces=("word ",), repeat=390, pace=0.05)
"""Twenty seconds, if nobody leaves, as one does after three."""
BRIEF = Answer(pieces=("word ",), repeat=60, pace=0.02)
STREAM = ("frames", "pings", "leaving")
GZIP = "gzip on; gzip_types *; gzip_proxied any; gzip_http_version 1.0;"


class Visit:
    """What a run of the command said."""

    def __init__(self, code: int, output: str) -> None:
        self.code = code
        lines = [json.loads(line) for line in output.splitlines()]
        self.checks = {line["name"]: Check(**line) for line in lines}

    def __getitem__(self, name: str) -> Check:
        return self.checks[name]

    @property
    def levels(self) -> dict[str, str]:
        return {name: check.level for name, check in self.checks.items()}


Run = Callable[..., Visit]
Proxy = Callable[[str, Path], AbstractContextManager[int]]


@pytest.fixture
def check(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command in this process, and has its answer as JSON."""
    monkeypatch.delenv("CHATNEST_CHECK_HEADER", raising=False)

    def run(where: int | str, *arguments: str) -> Visit:
        url = f"http://127.0.0.1:{where}/api/chat" if isinstance(where, int) else where
        capfd.readouterr()
        with pytest.raises(SystemExit) as caught:
            main(["check", url, "--json", *arguments])
        assert isinstance(caught.value.code, int)
        return Visit(caught.value.code, capfd.readouterr().out)

    return run


@pytest.fixture
def check_calmly(check: Run) -> Run:
    """The same, again until ``well`` is so: where this machine is busy, its own delay looks
    like that of a proxy, which delays each time.
    """

    def run(where: int | str, *arguments: str, well: tuple[str, ...] = ("frames",)) -> Visit:
        for _ in range(20):
            found = check(where, *arguments)
            if all(found[name].level == "ok" for name in well):
                break
        return found

    return run


@contextmanager
def chat(upstream: FakeUpstream, answer: Answer = LONG, **options: Any) -> Iterator[int]:
    """A chat whose model says that; gives its port. h11 speaks HTTP/1.0 to whoever does."""
    upstream.default = answer
    provider = OpenAIProvider(base_url=upstream.base_url, api_key=KEY)
    app = ChatNestApp(**{"provider": provider, **options})
    with uvicorn_thread(app, http="h11", proxy_headers=False) as port:
        yield port


def bare(port: int, settings: str = "") -> str:
    return (
        f"server {{ listen 80; {settings} location / {{ proxy_pass http://127.0.0.1:{port}; }} }}"
    )


# ---------------------------------------------------------------- all is well


def test_chatnest_serve_is_well(check_calmly, tmp_path):
    arguments = ["-m", "chatnest", "serve", "--demo", "--port", "0", "--ledger", "memory:"]
    with Process(arguments, cwd=tmp_path) as process:
        found = check_calmly(process.ready(), well=("frames", "leaving"))
    assert set(found.levels.values()) == {"ok"}, found.checks
    assert set(found.levels) == {"limits", "runs", "errors", *STREAM, "cost"}
    assert found.code == 0


@pytest.mark.parametrize("proxy", [nginx, caddy])
def test_what_the_page_of_proxies_shows_is_well(proxy, upstream, check_calmly, tmp_path):
    with chat(upstream) as port:
        text = shown(proxy.__name__).replace("8000", str(port))
        with proxy(text, tmp_path) as outside:
            found = check_calmly(outside, well=("frames", "leaving"))
    assert [found[name].level for name in STREAM] == ["ok", "ok", "ok"], found.checks
    assert proxy.__name__ in found["limits"].found.lower()
    assert found.code == 0


def test_it_costs_one_answer_and_that_is_left(upstream, check):
    with chat(upstream) as port:
        found = check(port)
        assert [request.json["messages"][-1]["role"] for request in upstream.requests] == ["user"]
        upstream.wait(lambda u: u.aborted == 1)
    assert found["cost"].level == "ok"
    assert upstream.last.pieces_sent < 390


def test_a_dry_check_asks_no_model(upstream, check):
    with chat(upstream) as port:
        found = check(port, "--dry")
    assert found.levels == {
        **dict.fromkeys(("limits", "runs", "errors"), "ok"),
        **dict.fromkeys(STREAM, "skip"),
    }
    assert found.code == 0
    assert not upstream.requests


# ---------------------------------------------------------------- what holds frames back


def test_a_proxy_that_buffers_to_the_end(upstream, check, tmp_path):
    with (
        chat(upstream, BRIEF) as port,
        nginx(bare(port, "proxy_ignore_headers X-Accel-Buffering;"), tmp_path) as outside,
    ):
        found = check(outside)
    assert (found["frames"].level, found.code) == ("fail", 1), found.checks
    assert "held back" in found["frames"].found
    assert "proxy_ignore_headers" in found["frames"].advice
    assert found["leaving"].level == "skip"


def test_a_proxy_that_buffers_for_longer_than_one_waits(upstream, check, tmp_path, monkeypatch):
    monkeypatch.setattr(probe, "_FIRST_FRAME_SECONDS", 1.0)
    settings = "proxy_ignore_headers X-Accel-Buffering;"
    with chat(upstream) as port, nginx(bare(port, settings), tmp_path) as outside:
        found = check(outside)
        upstream.wait(lambda u: u.aborted == 1)
    assert (found["frames"].level, found.code) == ("fail", 1), found.checks
    assert found["frames"].found.startswith("no frame arrived while the server was writing")
    assert found["leaving"].level in {"ok", "warn"}  # that gets through
    assert found["cost"].level == "skip"  # no header came that says which run it is


def test_a_proxy_that_compresses_and_buffers(upstream, check, tmp_path):
    settings = f"{GZIP} proxy_http_version 1.1; proxy_ignore_headers X-Accel-Buffering;"
    with chat(upstream, BRIEF) as port, nginx(bare(port, settings), tmp_path) as outside:
        found = check(outside)
    assert (found["frames"].level, found.code) == ("fail", 1), found.checks
    assert found["frames"].found.startswith("held back, compressed by gzip, by ")


def test_a_proxy_that_compresses_at_once_is_well(upstream, check_calmly, tmp_path):
    with chat(upstream) as port, nginx(bare(port, GZIP), tmp_path) as outside:
        found = check_calmly(outside)
    assert found["frames"].level == "ok"
    assert "compressed by gzip" in found["frames"].found


# ---------------------------------------------------------------- what keeps a stop from the server


@contextmanager
def ignorant(proxy: Proxy, port: int, folder: Path) -> Iterator[int]:
    """Told to keep to itself that a client has left."""
    nginx_s = f"proxy_pass http://127.0.0.1:{port}; proxy_ignore_client_abort on;"
    caddy_s = f"reverse_proxy 127.0.0.1:{port} {{\n\t\tflush_interval -1\n\t}}"
    texts = (f"server {{ listen 80; location / {{ {nginx_s} }} }}", f":80 {{\n\t{caddy_s}\n}}\n")
    with proxy(texts[proxy is caddy], folder) as outside:
        yield outside


@pytest.mark.parametrize(
    ("proxy", "setting"),
    [(nginx, "proxy_ignore_client_abort"), (caddy, "flush_interval -1")],
)
def test_a_proxy_that_keeps_leaving_to_itself(proxy, setting, upstream, check_calmly, tmp_path):
    """The server hears of it when the proxy cannot send the next frames."""
    slow = Answer(pieces=("word ",), repeat=200, pace=0.25)
    with chat(upstream, slow) as port, ignorant(proxy, port, tmp_path) as outside:
        found = check_calmly(outside)
    assert (found["leaving"].level, found.code) == ("warn", 0), found.checks
    assert found["leaving"].found.endswith("perhaps only when it sends the next frames")
    assert setting in found["leaving"].advice


# ---------------------------------------------------------------- networks


def over_a_network(port: int, check: Run, fault: Callable[[FaultProxy], None]) -> Visit:
    async def visit_it() -> Visit:
        async with FaultProxy("127.0.0.1", port) as proxy:
            fault(proxy)
            return await anyio.to_thread.run_sync(check, proxy.port)

    return anyio.run(visit_it)


def test_a_long_way_is_no_fault(upstream, check_calmly):
    with chat(upstream) as port:
        found = over_a_network(port, check_calmly, lambda proxy: proxy.delay(0.15))
    assert [found[name].level for name in STREAM[:2]] == ["ok", "ok"], found.checks
    assert found["leaving"].level in {"ok", "warn"}
    assert found.code == 0
    milliseconds = int(found["limits"].found.split()[2])
    assert milliseconds >= 300


def test_a_way_on_which_no_end_gets_through(upstream, check_calmly, monkeypatch):
    monkeypatch.setattr(probe, "_DISCONNECT_SECONDS", 0.5)
    with chat(upstream) as port:
        found = over_a_network(port, check_calmly, lambda proxy: proxy.half_open(only="up"))
        upstream.wait(lambda u: u.aborted == len(u.requests))
    assert (found["leaving"].level, found.code) == ("fail", 1), found.checks
    assert found["leaving"].found.startswith("the server does not notice: the model goes on")
    assert found["cost"].level == "ok"  # the check has ended it, and has the receipt


def test_a_stream_that_is_cut_on_its_way(upstream, check):
    upstream.default = LONG
    app = ChatNestApp(provider=OpenAIProvider(base_url=upstream.base_url, api_key=KEY))

    async def cutting(scope: Any, receive: Any, send: Any) -> None:
        sent = 0

        async def some(message: Any) -> None:
            nonlocal sent
            sent += message["type"] == "http.response.body" and message.get("more_body", False)
            if sent > 5:
                raise OSError
            await send(message)

        await app(scope, receive, some)

    with uvicorn_thread(cutting, log_level="critical") as port:
        found = check(port)
    assert (found["frames"].level, found.code) == ("fail", 1), found.checks
    assert found["frames"].found.endswith(" s, the stream is cut off")


# ---------------------------------------------------------------- who is asking


def test_a_key_is_asked_for_and_never_shown(upstream, check, check_calmly, monkeypatch):
    keys = BearerKeys({"ann": "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"})
    with chat(upstream, identify=keys) as port:
        without = check(port)
        by_option = check_calmly(port, "--header", "Authorization: Bearer secret")
        monkeypatch.setenv("CHATNEST_CHECK_HEADER", "X-One: 1\nAuthorization: Bearer secret\n")
        by_environment = check(port, "--dry")
    assert (without["limits"].level, without.code, len(without.checks)) == ("fail", 1, 1)
    assert "--header" in without["limits"].advice
    assert by_option["limits"].level == by_environment["limits"].level == "ok"
    assert by_option.code == by_environment.code == 0
    told = [str(check) for found in (by_option, by_environment) for check in found.checks.values()]
    assert "secret" not in "".join(told)


# ---------------------------------------------------------------- other addresses


@contextmanager
def site(*routes: Route) -> Iterator[int]:
    with uvicorn_thread(Starlette(routes=list(routes))) as port:
        yield port


async def page(_: Any) -> HTMLResponse:
    return HTMLResponse("<p>Welcome")


async def elsewhere(_: Any) -> RedirectResponse:
    return RedirectResponse("https://www.example.org/chat/limits")


def test_what_is_no_chat(check):
    with site(Route("/page/limits", page), Route("/old/limits", elsewhere)) as port:
        for path, words in {"nothing": "404", "page": "200 text/html", "old": "307"}.items():
            found = check(f"http://127.0.0.1:{port}/{path}")
            assert (found.levels, found.code) == ({"limits": "fail"}, 1)
            assert found["limits"].found.startswith(words)
        assert "https://www.example.org/chat/limits" in found["limits"].advice


DEEP = b"[" * 200_000
GARBLED = {"content-encoding": "gzip"}
JSON = "application/json"
EVENTS = "text/event-stream"


@pytest.mark.parametrize(
    ("content", "headers", "words"),
    [
        (DEEP, {}, "200 application/json, by uvicorn: not from chatnest"),
        (b'{"limits":[{"name":"x","held":1e999}]}', {}, "200 application/json, by uvicorn: not"),
        (b"no gzip", GARBLED, "200 application/json, not valid gzip"),
    ],
    ids=["deep", "infinite", "garbled"],
)
def test_limits_that_cannot_be_read(content, headers, words, check):
    async def limits(_: Any) -> Response:
        return Response(content, media_type=JSON, headers=headers)

    with site(Route("/api/chat/limits", limits)) as port:
        found = check(port)
    assert (found.levels, found.code) == ({"limits": "fail"}, 1)
    assert found["limits"].found.startswith(words)


@pytest.mark.parametrize(
    ("content", "kind", "headers", "words"),
    [
        (DEEP, JSON, {}, "200 application/json instead of a stream"),
        (b"no gzip", JSON, GARBLED, "200 application/json, not valid gzip, inst"),
        (b"no gzip", EVENTS, GARBLED, "no frame can be read: the stream is not valid gzip"),
        (
            b"event: error\ndata: " + DEEP + b"\n\n",
            EVENTS,
            {},
            "the answer ended with the error unk",
        ),
    ],
    ids=["deep", "garbled", "a garbled stream", "a deep error"],
)
def test_an_answer_that_cannot_be_read(content, kind, headers, words, check):
    """Nor is what came of it."""
    app = ChatNestApp(provider=DemoProvider())
    headers = {**headers, "chatnest-run-id": "1" * 32}

    async def damaged(scope: Any, receive: Any, send: Any) -> None:
        replies = {"POST": kind, "DELETE": JSON}
        if (method := scope.get("method")) in replies:
            reply = Response(content, media_type=replies[method], headers=headers)
            await reply(scope, receive, send)
        else:
            await app(scope, receive, send)

    with uvicorn_thread(damaged) as port:
        found = check(port)
    assert [found[name].level for name in ("errors", "frames", "cost")] == ["fail", "fail", "skip"]
    assert found["frames"].found.startswith(words)
    assert found.code == 1


def test_a_route_that_was_forgotten(upstream, check_calmly):
    upstream.default = LONG
    app = ChatNestApp(provider=OpenAIProvider(base_url=upstream.base_url, api_key=KEY))
    routes = [
        Route("/api/chat", app, methods=["POST"]),
        Route("/api/chat/limits", app, methods=["GET"]),
    ]
    with site(*routes) as port:
        found = check_calmly(port)
    assert found["runs"].level == "warn"
    assert found["frames"].level == "ok"
    assert found["leaving"].level in {"ok", "warn"}
    assert found.code == 0


def test_a_slash_at_the_end_and_a_query_are_kept(upstream, check):
    queries = []
    app = ChatNestMiddleware(
        Starlette(), chat=ChatNestApp(provider=OpenAIProvider(base_url="http://[::1]:9/v1"))
    )

    async def noting(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            queries.append(scope["query_string"])
        await app(scope, receive, send)

    with uvicorn_thread(noting) as port:
        found = check(f"http://127.0.0.1:{port}/api/chat/?tenant=7", "--dry")
    assert found["limits"].level == found["runs"].level == found["errors"].level == "ok"
    assert set(queries) == {b"tenant=7"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["http://127.0.0.1:9/api/chat"],
            "URL: expected a server at 127.0.0.1 port 9, got an error: ",
        ),
        (
            ["http://ann:hunter2@127.0.0.1:9/api/chat"],
            "URL: expected a server at 127.0.0.1 port 9, got an error: ",
        ),
        (["example.org/api/chat"], "URL: expected an address such as"),
        (["http://[::1"], "URL: expected an address such as"),
        (["http://127.0.0.1:9/", "--header", "secret"], "--header: expected 'Name: value'"),
        (
            ["http://127.0.0.1:9/", "--header", "X: a\nsecret: b"],
            "--header: expected 'Name: value'",
        ),
    ],
)
def test_what_cannot_be_visited_is_a_sentence(arguments, words, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["check", *arguments])
    assert caught.value.code == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert words in errors
    assert "hunter2" not in errors
    assert "secret" not in errors


# ---------------------------------------------------------------- what the server says instead


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer.insufficient_quota(), "503 upstream_account instead of a stream"),
        (
            Answer.cut(5, pieces=("word ",), repeat=9),
            "the answer ended with the error ups",
        ),
    ],
)
def test_a_model_that_fails(answer, words, upstream, check):
    with chat(upstream, answer) as port:
        found = check(port)
    assert (found["frames"].level, found.code) == ("fail", 1)
    assert found["frames"].found.startswith(words)


def test_whoever_is_over_a_limit_is_told_when_to_come_back(upstream, check):
    once = msgspec.structs.replace(BALANCED, requests_per_minute=1)
    with chat(upstream, profiles=[once]) as port:
        assert "instead of a stream" not in check(port)["frames"].found
        again = check(port)
    assert again["frames"].found == "429 rate_limited instead of a stream"
    assert again["frames"].advice.startswith("try again in ")
    assert again.code == 1


def test_an_answer_that_is_too_short_tells_nothing(upstream, check):
    with chat(upstream, Answer()) as port:
        found = check(port)
    assert [found[name].level for name in STREAM] == ["skip"] * 3
    assert found.code == 0


def test_somebody_who_drops_the_query_is_found_out(upstream, check_calmly):
    upstream.default = LONG
    app = ChatNestApp(provider=OpenAIProvider(base_url=upstream.base_url, api_key=KEY))

    async def forgetful(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "query_string": b""}, receive, send)

    with uvicorn_thread(forgetful) as port:
        found = check_calmly(port)
    assert (found["pings"].level, found.code) == ("fail", 1), found.checks
    assert found["frames"].level == "ok"


def test_people_get_lines(upstream, capsys):
    app = ChatNestApp(provider=DemoProvider())
    with uvicorn_thread(app) as port, pytest.raises(SystemExit) as caught:
        main(["check", f"http://127.0.0.1:{port}/api/chat", "--dry"])
    assert caught.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("ok    limits   answers in ")
    assert lines[-1] == "6 checks: 3 ok, 0 warn, 0 fail, 3 skip"
