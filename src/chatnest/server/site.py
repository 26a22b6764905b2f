"""The application of ``chatnest serve``: the page, its assets, health checks, and the chat."""

import logging
import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, nullcontext
from importlib.resources import files
from pathlib import Path
from typing import Final

import anyio
import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chatnest.app import ChatNestApp
from chatnest.asgi.http import NO_SNIFFING
from chatnest.config.build import access_log_of, build_chat, naming_keys
from chatnest.config.catalogue import facts_of
from chatnest.config.sections import Config
from chatnest.errors import (
    ChatNestError,
    ConfigurationError,
    LedgerUnavailable,
    ServerShutdown,
)
from chatnest.middleware import ChatNestMiddleware
from chatnest.server.access_lines import AccessLines
from chatnest.server.announcement import Announcement, OfParent
from chatnest.server.front import Front
from chatnest.server.hosts import OnlyForHosts, hosts_of
from chatnest.server.interpreter import serving_only
from chatnest.server.metrics_page import MetricsPage
from chatnest.server.shared_cells import SharedCells
from chatnest.stores.reasons import reason_of
from chatnest.wire import NativeFormat

__all__ = ["CONFIG_VARIABLE", "create_app", "log_warnings", "make_site"]

CONFIG_VARIABLE: Final = "CHATNEST_RESOLVED_CONFIG"
"""Environment variable by which ``chatnest serve`` passes the configuration to its workers."""

_log = logging.getLogger("chatnest.cli")

_PAGE_HEADERS: Final = (
    (
        b"content-security-policy",
        b"; ".join(
            (
                b"default-src 'none'",
                b"script-src 'self'",
                b"style-src 'self'",
                b"img-src 'self' data:",
                b"connect-src 'self'",
                b"base-uri 'none'",
                b"form-action 'none'",
                b"frame-ancestors 'none'",
            )
        ),
    ),
    NO_SNIFFING,
    (b"x-dns-prefetch-control", b"off"),  # no DNS query for a link until it is clicked
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cache-control", b"no-cache"),
)


def create_app(
    announcement: Announcement | OfParent | None = None,
    listener: socket.socket | None = None,
    metered: SharedCells | MetricsPage | None = None,
) -> ASGIApp:
    """Build the application of a worker from the configuration in its environment.

    The application accepts connections of ``listener`` itself, beside uvicorn; see Door. Its
    metrics are counted in the cells of ``metered``, or shown on its page.
    """
    log_warnings()
    config = msgspec.json.decode(os.environ[CONFIG_VARIABLE], type=Config)
    accesses = access_log_of(config)
    lines = AccessLines(sys.stdout) if accesses else None
    chat = build_chat(config, accesses)
    if isinstance(metered, SharedCells):
        chat.measure(metered)
    elif metered is not None:
        metered.show(chat.metrics)
    return make_site(config, chat, announcement, listener, lines)


def log_warnings() -> None:
    """Log warnings to standard error, with a time and the logger's name."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")


def make_site(
    config: Config,
    chat: ChatNestApp,
    announcement: Announcement | OfParent | None = None,
    listener: socket.socket | None = None,
    lines: AccessLines | None = None,
) -> ASGIApp:
    """Build the page at ``/``, the health checks ``/healthz`` and ``/readyz``, and the chat.

    Raises ConfigurationError if the chat's path is one of the others.
    """
    page = Path(str(files("chatnest.server") / "pages" / "chat"))
    settings = {
        "chat_path": config.chat.path + _native_path(chat),
        "model": chat.provider.model,
        "models": [msgspec.to_builtins(facts) for facts in facts_of(config, chat.models)],
        "demo": config.demo,
        "default_profile": config.chat.default_profile,
        "keys": bool(config.identity.keys),
    }

    async def index(_: Request) -> Response:
        return FileResponse(page / "index.html")

    async def settings_json(_: Request) -> Response:
        return JSONResponse(settings)

    async def healthz(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(_: Request) -> Response:
        try:
            if announcement is not None and announcement.begun:
                raise ServerShutdown
            await chat.ready()
        except ChatNestError as exc:
            content = {"status": exc.code}
            if isinstance(exc, LedgerUnavailable):
                content["reason"] = str(reason_of(exc))
            return JSONResponse(content, status_code=exc.status)
        return JSONResponse({"status": "ok"})

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_end_with_parent)
            with serving_only(), announcement.before_end() if announcement else nullcontext():
                yield
            tasks.cancel_scope.cancel()

    site = Starlette(
        routes=[
            Route("/", index),
            Route("/settings.json", settings_json),
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Mount("/assets", StaticFiles(directory=page)),
        ],
        lifespan=lifespan,
    )
    with naming_keys(config):
        _check_path(config.chat.path, site.routes)
        app: ASGIApp = ChatNestMiddleware(
            _with_page_headers(site),
            chat=chat,
            path=config.chat.path,
            allow_origins=config.server.allow_origins,
            openai_at_root=True,
        )
    hosts = hosts_of(config)
    app = app if hosts is None else OnlyForHosts(app, hosts, chat.formats)
    app = app if lines is None else lines.of(app)
    front = Front(
        *(app, chat.intake, config.chat.path, listener),
        by_origin=bool(config.server.allow_origins),
        format=chat.formats.of(""),
    )
    chat.when_draining(front.close)
    return front


def _native_path(chat: ChatNestApp) -> str:
    """The path of the native format, which the page speaks. Raises ConfigurationError."""
    for format_ in chat.formats.all:
        if isinstance(format_, NativeFormat):
            return format_.path
    raise ConfigurationError(
        "chat.formats: expected native among them, because the page speaks it, got others. Add it."
    )


def _check_path(path: str, routes: Iterable[BaseRoute]) -> None:
    for route in routes:
        if not isinstance(route, Route | Mount):
            continue
        below = isinstance(route, Mount) and path.startswith(f"{route.path}/")
        if path == route.path != "/" or below:
            raise ConfigurationError(
                f"path: expected a path that chatnest serve does not use, got {path!r} "
                f"(it serves {route.path}). Choose another, such as /api/chat."
            )


async def _end_with_parent() -> None:
    """End this worker as by SIGTERM if its parent was killed, because no signal would follow."""
    parent = multiprocessing.parent_process()
    if parent is not None and sys.platform != "win32":
        await anyio.wait_readable(parent.sentinel)  # readable once the parent has exited
        _log.warning("parent exited: worker=%d. The worker ends, too.", os.getpid())
        os.kill(os.getpid(), signal.SIGTERM)


def _with_page_headers(app: ASGIApp) -> ASGIApp:
    async def with_headers(scope: Scope, receive: Receive, send: Send) -> None:
        async def add(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_PAGE_HEADERS]
            await send(message)

        await app(scope, receive, add)

    return with_headers
