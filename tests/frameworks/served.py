"""What a page's program is served as: itself, with what a host has besides.

That is a websocket, where its framework knows them, and notes of its start and stop in a file.
"""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

NOTES = Path("host.txt")


def note(word: str) -> None:
    with NOTES.open("a") as file:
        file.write(f"{word}\n")


async def _echo(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text(await websocket.receive_text())
    await websocket.close()


def _starlette(app: Any) -> None:
    router = app.router
    router.routes.append(WebSocketRoute("/ws", _echo))
    inner = router.lifespan_context

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[Any]:
        async with inner(app) as state:
            note("start")
            yield state
            note("stop")

    router.lifespan_context = lifespan


def _litestar(app: Any) -> None:
    from litestar import WebSocket, websocket

    @websocket("/ws")
    async def echo(socket: WebSocket[Any, Any, Any]) -> None:
        await socket.accept()
        await socket.send_text(await socket.receive_text())
        await socket.close()

    app = getattr(app, "app", app)
    app.register(echo)
    app.on_startup.append(lambda: note("start"))
    app.on_shutdown.append(lambda: note("stop"))


def _quart(app: Any) -> None:
    from quart import websocket

    @app.websocket("/ws")
    async def echo() -> None:
        await websocket.send(await websocket.receive())
        await websocket.close(1000)

    app.before_serving(lambda: note("start"))
    app.after_serving(lambda: note("stop"))


def _blacksheep(app: Any) -> None:
    from blacksheep import WebSocket

    @app.app.router.ws("/ws")
    async def echo(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text(await websocket.receive_text())
        await websocket.close()

    async def start(_: Any) -> None:
        note("start")

    async def stop(_: Any) -> None:
        note("stop")

    app.app.on_start += start
    app.app.on_stop += stop


def _falcon(app: Any) -> None:
    class Echo:
        async def on_websocket(self, req: Any, ws: Any) -> None:
            await ws.accept()
            await ws.send_text(await ws.receive_text())
            await ws.close()

    class Notes:
        async def process_startup(self, scope: Any, event: Any) -> None:
            note("start")

        async def process_shutdown(self, scope: Any, event: Any) -> None:
            note("stop")

    app.app.add_route("/ws", Echo())
    app.app.add_middleware(Notes())


def _sanic(app: Any) -> None:
    @app.app.websocket("/ws")
    async def echo(request: Any, ws: Any) -> None:
        await ws.send(await ws.recv())

    app.app.before_server_start(lambda *_: note("start"))
    app.app.after_server_stop(lambda *_: note("stop"))


_ADD: dict[str, Callable[[Any], None]] = {
    "fastapi": _starlette,
    "starlette": _starlette,
    "litestar": _litestar,
    "quart": _quart,
    "django": lambda _: None,
    "blacksheep": _blacksheep,
    "falcon": _falcon,
    "sanic": _sanic,
}


def _app() -> Any:
    module, _, attribute = os.environ["PAGE_APP"].partition(":")
    app = getattr(import_module(module), attribute)
    _ADD[module.partition("_")[0]](app)
    return app


app = _app()
