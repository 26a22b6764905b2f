"""One and the same chat under frameworks, as they would mount it, and under Hypercorn."""

import importlib
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import anyio
import anyio.from_thread
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, SimpleUser
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket

from chatnest import (
    ChatNestApp,
    ChatNestMiddleware,
    ConfigurationError,
    MemoryLedger,
    OpenAIProvider,
)
from chatnest.ledger.base import Limit
from chatnest.ledger.sqlite import SQLiteLedger
from chatnest.testing import Answer, Conversation, FakeUpstream
from tests.servers.support import KEY, PATIENCE, Client, ask, uvicorn_thread

DONE = b"event: done\ndata: \n\n"
App = Callable[..., Any]


def make_chat(upstream: FakeUpstream, **options: Any) -> ChatNestApp:
    provider = OpenAIProvider(base_url=upstream.base_url, api_key=KEY)
    return ChatNestApp(**{"provider": provider, **options})


async def hello(_: Request) -> PlainTextResponse:
    return PlainTextResponse("hello from the host")


async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text(await websocket.receive_text())
    await websocket.close()


def fastapi_route(chat: ChatNestApp) -> App:
    api = FastAPI()
    api.add_route("/api/chat", chat, methods=["POST"])  # type: ignore[arg-type]  # ASGI
    api.add_route("/api/chat/limits", chat, methods=["GET"])  # type: ignore[arg-type]  # ASGI
    api.add_route("/hello", hello)
    return api


def starlette_route(chat: ChatNestApp) -> App:
    return Starlette(
        routes=[
            Route("/api/chat", chat, methods=["POST"]),
            Route("/api/chat/limits", chat, methods=["GET"]),
            Route("/hello", hello),
        ]
    )


def starlette_mount(chat: ChatNestApp) -> App:
    return Starlette(routes=[Mount("/api", chat), Route("/hello", hello)])


def fastapi_mount(chat: ChatNestApp) -> App:
    api = FastAPI()
    api.mount("/api", chat)
    api.add_route("/hello", hello)
    return api


def around_starlette(chat: ChatNestApp) -> App:
    return ChatNestMiddleware(Starlette(routes=[Route("/hello", hello)]), chat=chat)


def inside_starlette(chat: ChatNestApp) -> App:
    return Starlette(
        routes=[Route("/hello", hello)], middleware=[Middleware(ChatNestMiddleware, chat=chat)]
    )


def inside_fastapi(chat: ChatNestApp) -> App:
    api = FastAPI()
    api.add_middleware(ChatNestMiddleware, chat=chat)
    api.add_middleware(GZipMiddleware, minimum_size=1)
    api.add_route("/hello", hello)
    return api


def behind_http_middleware(chat: ChatNestApp) -> App:
    api = FastAPI()

    @api.middleware("http")
    async def note(request: Request, call_next: Any) -> Any:
        response = await call_next(request)
        response.headers["x-noted"] = "1"
        return response

    api.add_route("/api/chat", chat, methods=["POST"])  # type: ignore[arg-type]  # ASGI
    api.add_route("/api/chat/limits", chat, methods=["GET"])  # type: ignore[arg-type]  # ASGI
    api.add_route("/hello", hello)
    return api


def around_no_lifespan(chat: ChatNestApp) -> App:
    inner = Starlette(routes=[Route("/hello", hello)])

    async def like_django(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise ValueError("Django can only handle ASGI/HTTP connections")
        await inner(scope, receive, send)

    return ChatNestMiddleware(like_django, chat=chat)


HOSTS = [
    fastapi_route,
    starlette_route,
    starlette_mount,
    fastapi_mount,
    around_starlette,
    inside_starlette,
    inside_fastapi,
    behind_http_middleware,
    around_no_lifespan,
]


def check(upstream: FakeUpstream, port: int) -> None:
    """A stream that arrives as it is made, a refusal, the limits, the host's own, a cancel."""
    with Client(port) as client:
        upstream.script(Answer.stall(1))
        reply = client.chat()
        assert reply.status == 200
        assert reply.until(b'data: "Hello"\n\n').count(b"event: token") == 1
        upstream.release()
        assert reply.read_all().endswith(DONE)
        assert reply.text == "Hello world!"
        client.request("POST", body={})
        refused = client.reply()
        assert (refused.status, refused.json()["code"]) == (400, "invalid_request")
        limits = {limit["name"]: limit for limit in client.get("/api/chat/limits").json()["limits"]}
        assert (limits["tokens"]["used"], limits["tokens"]["held"]) == (12, 0)
        assert client.get("/hello").body == b"hello from the host"
        assert client.get("/nothing").status in {404, 405}
    upstream.script(Answer.stall(1))
    with Client(port) as client:
        client.chat().until(b'data: "Hello"\n\n')
    upstream.wait(lambda u: u.aborted == 1 and not u.open_sockets, timeout=PATIENCE)


@pytest.mark.parametrize("host", HOSTS)
def test_the_same_chat_under_uvicorn(upstream, host):
    with uvicorn_thread(host(make_chat(upstream)), lifespan="auto") as port:
        check(upstream, port)


@contextmanager
def hypercorn_thread(app: App, backend: str) -> Iterator[int]:
    """Hypercorn with ``app`` on an event loop of its own; gives its port."""
    pytest.importorskip("hypercorn")
    from hypercorn.config import Config

    serve: Any = importlib.import_module(f"hypercorn.{backend}").serve
    listener = socket.create_server(("127.0.0.1", 0))
    config: Any = Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.graceful_timeout = 1
    config.errorlog = None
    opened = anyio.from_thread.BlockingPortalProvider(backend)
    with opened as portal:
        stop = portal.call(anyio.Event)
        started = threading.Event()

        async def run() -> None:
            started.set()
            await serve(app, config, shutdown_trigger=stop.wait)

        sockets = config.create_sockets()
        port = sockets.insecure_sockets[0].getsockname()[1]
        config.create_sockets = lambda: sockets
        serving = portal.start_task_soon(run)
        started.wait()
        try:
            yield port
        finally:
            portal.call(stop.set)
            serving.result(15)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("host", [starlette_route, around_no_lifespan])
def test_the_same_chat_under_hypercorn(upstream, host, backend):
    with hypercorn_thread(host(make_chat(upstream)), backend) as port:
        check(upstream, port)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_chat_alone_under_hypercorn(upstream, backend):
    with hypercorn_thread(make_chat(upstream), backend) as port, Client(port) as client:
        assert client.chat().read_all().endswith(DONE)


# ---------------------------------------------------------------- who is asking


class ByHeader(AuthenticationBackend):
    async def authenticate(self, conn: Any) -> tuple[AuthCredentials, SimpleUser] | None:
        name = conn.headers.get("x-user")
        return (AuthCredentials(["authenticated"]), SimpleUser(name)) if name else None


@pytest.mark.parametrize("kind", ["route", "middleware"])
def test_the_user_whom_starlette_has_authenticated_is_the_principal(upstream, kind):
    ledger = MemoryLedger()
    chat = make_chat(upstream, ledger=ledger)
    authentication = Middleware(AuthenticationMiddleware, backend=ByHeader())
    if kind == "route":
        app = Starlette(
            routes=[Route("/api/chat", chat, methods=["POST"])], middleware=[authentication]
        )
    else:
        ours = Middleware(ChatNestMiddleware, chat=chat)
        app = Starlette(middleware=[authentication, ours])
    with uvicorn_thread(app) as port, Client(port) as client:
        for headers in (["X-User: ann"], ["X-User: ann"], ["X-User: bob"], []):
            client.request("POST", body=ask(), headers=headers)
            assert client.reply().read_all().endswith(DONE)

    async def used(account: str) -> int:
        limit = Limit(name="tokens", unit="tokens", window="day", account=account, amount=1)
        return (await ledger.usage((limit,)))[0].used

    accounts = ("user:ann", "user:bob", "addr:127.0.0.1")
    assert [anyio.run(used, account) for account in accounts] == [24, 12, 12]


# ---------------------------------------------------------------- what the middleware passes on


@pytest.mark.anyio
async def test_everything_else_goes_to_the_application_untouched(upstream):
    seen: list[tuple[Any, ...]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope, receive, send))

    async def receive() -> Any:
        raise AssertionError

    async def send(message: Any) -> None:
        raise AssertionError

    wrapped = ChatNestMiddleware(app, chat=make_chat(upstream), path="/chat")
    scopes: list[dict[str, Any]] = [
        {"type": "http", "path": "/chatter", "method": "GET"},
        {"type": "http", "path": "/chat//", "method": "GET"},
        {"type": "http", "path": "/chat/limits/x", "method": "GET"},
        {"type": "websocket", "path": "/chat"},
        {"type": "something"},
    ]
    for scope in scopes:
        await wrapped(scope, receive, send)
    assert [call[0] for call in seen] == scopes
    assert all(call[0] is scope for call, scope in zip(seen, scopes, strict=True))
    assert {call[1:] for call in seen} == {(receive, send)}


@pytest.mark.anyio
async def test_the_path_is_below_where_the_whole_is_mounted(upstream):
    async with Conversation(
        ChatNestMiddleware(Starlette(), chat=make_chat(upstream), path="/chat"),
        path="/root/chat",
        root_path="/root",
        json=ask(),
    ) as c:
        assert (await c.read_all()).endswith(DONE)


@pytest.mark.parametrize("path", ["chat", "/chat/", "/", ""])
def test_a_path_that_cannot_be_met_is_refused_at_the_start(upstream, path):
    with pytest.raises(ConfigurationError):
        ChatNestMiddleware(Starlette(), chat=make_chat(upstream), path=path)


def test_pages_of_named_origins_call_the_chat_and_nothing_else(upstream):
    page, other = "https://www.example.org", "https://evil.example.org"
    inner = Starlette(routes=[Route("/hello", hello)])
    app = ChatNestMiddleware(inner, chat=make_chat(upstream), allow_origins=[page])
    asking = (f"Origin: {page}", "Access-Control-Request-Method: POST")
    fields = "Access-Control-Request-Headers: authorization,baggage,content-type,sentry-trace"
    with uvicorn_thread(app) as port:
        with Client(port) as client:
            client.request("OPTIONS", headers=(*asking, fields))
            preflight = client.reply()
            assert preflight.status == 200
            assert preflight.headers["access-control-allow-origin"] == page
        with Client(port) as client:
            client.request("POST", body=ask(), headers=(f"Origin: {page}",))
            reply = client.reply()
            assert reply.read_all().endswith(DONE)
            assert reply.headers["access-control-allow-origin"] == page
            assert "ChatNest-Run-Id" in reply.headers["access-control-expose-headers"]
        for path, origin in [("/api/chat/limits", other), ("/hello", page)]:
            with Client(port) as client:
                found = client.get(path, f"Origin: {origin}")
                assert found.status == 200
                assert "access-control-allow-origin" not in found.headers


@pytest.mark.parametrize("origins", ["https://www.example.org", ["*"], ["https://a.example/"]])
def test_origins_that_are_none_are_refused_at_the_start(upstream, origins):
    with pytest.raises(ConfigurationError, match="allow_origins"):
        ChatNestMiddleware(Starlette(), chat=make_chat(upstream), allow_origins=origins)


def test_websockets_of_the_host_work(upstream):
    from starlette.testclient import TestClient

    host = Starlette(routes=[WebSocketRoute("/ws", echo)])
    app = ChatNestMiddleware(host, chat=make_chat(upstream))
    with TestClient(app) as client, client.websocket_connect("/ws") as websocket:
        websocket.send_text("hello")
        assert websocket.receive_text() == "hello"


class Lifespan:
    """Drives the lifespan of an application, as a server does."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.messages: list[Any] = []
        self._events = iter(["lifespan.startup", "lifespan.shutdown"])

    async def run(self) -> list[str]:
        async def receive() -> dict[str, str]:
            return {"type": next(self._events)}

        async def send(message: Any) -> None:
            self.messages.append(message)

        await self.app({"type": "lifespan"}, receive, send)
        return self.sent

    @property
    def sent(self) -> list[str]:
        return [message["type"] for message in self.messages]


COMPLETE = ["lifespan.startup.complete", "lifespan.shutdown.complete"]


class Chat(ChatNestApp):
    """Notes when it is started and closed."""

    def __init__(self, log: list[str], upstream: FakeUpstream) -> None:
        super().__init__(provider=OpenAIProvider(base_url=upstream.base_url))
        self._log = log

    async def start(self) -> None:
        self._log.append("chat starts")
        await super().start()

    async def aclose(self) -> None:
        await super().aclose()
        self._log.append("chat is closed")


@pytest.mark.anyio
async def test_lifespan_goes_to_both_and_the_chat_is_closed_within(upstream):
    log: list[str] = []

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        log.append("host starts")
        yield
        log.append("host is closed")

    app = ChatNestMiddleware(Starlette(lifespan=lifespan), chat=Chat(log, upstream))
    assert await Lifespan(app).run() == COMPLETE
    assert log == ["host starts", "chat starts", "host is closed", "chat is closed"]


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["raises", "raises after receiving", "returns"])
async def test_an_application_without_lifespan_is_served_it(upstream, kind):
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if kind == "raises after receiving":
            await receive()
        if kind != "returns":
            raise ValueError("there is no lifespan")

    log: list[str] = []
    assert await Lifespan(ChatNestMiddleware(app, chat=Chat(log, upstream))).run() == COMPLETE
    assert log == ["chat starts", "chat is closed"]


@pytest.mark.anyio
async def test_a_host_that_fails_to_start_fails(upstream):
    def fail() -> None:
        raise ValueError("no database")

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        fail()
        yield

    log: list[str] = []
    app = Lifespan(ChatNestMiddleware(Starlette(lifespan=lifespan), chat=Chat(log, upstream)))
    with pytest.raises(ValueError, match="no database"):
        await app.run()
    assert app.sent == ["lifespan.startup.failed"]
    assert log == []


@pytest.mark.anyio
async def test_the_chat_alone_has_a_lifespan(upstream):
    log: list[str] = []
    assert await Lifespan(Chat(log, upstream)).run() == COMPLETE
    assert log == ["chat starts", "chat is closed"]


MISSES = ["nope", "0" * 31, "0" * 33, "A" * 32, "0" * 32 + "/x"]


@pytest.mark.anyio
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize("miss", MISSES)
@pytest.mark.parametrize("mounted", [False, True])
async def test_what_is_below_runs_and_is_no_run_is_not_found(upstream, method, miss, mounted):
    """A POST there is no chat, which would cost something."""
    chat = make_chat(upstream)
    app, root = (chat, "/api/chat") if mounted else (ChatNestMiddleware(Starlette(), chat=chat), "")
    path = f"/api/chat/runs/{miss}"
    async with Conversation(app, method=method, path=path, root_path=root, json=ask()) as c:
        await c.finished()
    assert (c.status, c.problem()["code"]) == (404, "not_found")
    assert not upstream.requests


@pytest.mark.anyio
@pytest.mark.parametrize("mounted", [False, True])
async def test_a_slash_at_the_end_of_a_path_makes_no_difference(upstream, mounted):
    chat = make_chat(upstream)
    app, root = (chat, "/api/chat") if mounted else (ChatNestMiddleware(Starlette(), chat=chat), "")
    for method, path in [("POST", "/api/chat/"), ("GET", "/api/chat/limits/")]:
        async with Conversation(app, method=method, path=path, root_path=root, json=ask()) as c:
            await c.finished()
        assert c.status == 200


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["alone", "around Starlette", "around Django"])
async def test_a_ledger_that_can_never_work_fails_the_startup(tmp_path, upstream, kind):
    """uvicorn goes on where it is only raised."""

    async def no_lifespan(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"

    ledger = SQLiteLedger(tmp_path / "nowhere" / "x.db")
    chat = make_chat(upstream, ledger=ledger)
    hosts: dict[str, App] = {"around Starlette": Starlette(), "around Django": no_lifespan}
    host = hosts.get(kind)
    run = Lifespan(chat if host is None else ChatNestMiddleware(host, chat=chat))
    if kind == "around Starlette":  # which raises again what it has said
        with pytest.raises(ConfigurationError):
            await run.run()
    else:
        await run.run()
    assert run.sent == ["lifespan.startup.failed"]
    assert "in a directory that does not exist" in run.messages[0]["message"]


@pytest.mark.anyio
async def test_a_chat_that_breaks_as_it_starts_fails_the_startup(upstream):
    class Breaks(ChatNestApp):
        async def start(self) -> None:
            raise ZeroDivisionError("a fault")

    run = Lifespan(Breaks(provider=OpenAIProvider(base_url=upstream.base_url)))
    with pytest.raises(ZeroDivisionError):
        await run.run()
    assert run.messages == [
        {"type": "lifespan.startup.failed", "message": "ZeroDivisionError('a fault')"}
    ]


@pytest.mark.anyio
async def test_a_middleware_made_late_fails_the_startup_and_every_request():
    """Where nobody asks for lifespan, it is as it was."""
    host = Starlette()
    host.add_middleware(ChatNestMiddleware, path="chat/")
    run = Lifespan(host)
    assert await run.run() == ["lifespan.startup.failed"]
    assert "path: expected a path such as /api/chat, got 'chat/'" in run.messages[0]["message"]
    with pytest.raises(ConfigurationError):
        async with Conversation(host, method="GET", path="/hello") as c:
            await c.finished()


def test_a_middleware_made_early_raises():
    with pytest.raises(ConfigurationError, match="must begin"):
        ChatNestMiddleware(Starlette(), path="chat/")
