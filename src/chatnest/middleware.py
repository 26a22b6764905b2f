"""ChatNestMiddleware: a chat in front of any ASGI application, which gets everything else."""

from collections.abc import Sequence

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chatnest.app import ChatNestApp
from chatnest.asgi import local_path
from chatnest.cors import check_origins, with_cors
from chatnest.errors import ConfigurationError

__all__ = ["ChatNestMiddleware"]


class ChatNestMiddleware:
    """Serves ``path``, ``path/limits`` and ``path/runs/...`` by ``chat`` and passes the rest to
    ``app``: websockets, lifespan, and every other path, untouched.

    Lifespan goes to both; an application without it (Django) is served it. The outermost place
    sees the connection as it came; a place below authentication sees the user. Pages of
    ``allow_origins``, exact origins, may call the chat, with cookies, and nothing else by it.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        chat: ChatNestApp | None = None,
        path: str = "/api/chat",
        allow_origins: Sequence[str] = (),
    ) -> None:
        check_origins(allow_origins)
        if not path.startswith("/") or path.endswith(("/", "/limits")) or set("?#") & set(path):
            raise ConfigurationError(
                f"path {path!r} must begin with '/', have a name, not end with '/' or '/limits', "
                "and have no '?' or '#'"
            )
        self.app = app
        self.chat: ChatNestApp = chat if chat is not None else ChatNestApp()
        self._served = with_cors(self.chat, allow_origins) if allow_origins else self.chat
        self._paths = {path, f"{path}/limits"}
        self._runs = f"{path}/runs/"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application."""
        if scope["type"] == "http" and self._is_ours(local_path(scope)):
            await self._served(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def _is_ours(self, path: str) -> bool:
        return path in self._paths or path.startswith(self._runs)

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Start the chat before the application's startup completes, and close it before its
        shutdown does, so that what it settles is written while the application still stands.
        """
        answered = False

        async def around(message: Message) -> None:
            nonlocal answered
            answered = True
            if message["type"] == "lifespan.startup.complete":
                await self.chat.start()
            elif message["type"].startswith("lifespan.shutdown."):
                await self.chat.aclose()
            await send(message)

        try:
            async with self.chat.tended():
                await self.app(scope, receive, around)
        except Exception:
            if answered:
                raise
            # ASGI: an exception instead of an answer says that there is no lifespan. By now the
            # startup event may have been received, and the chat still wants its own.
        if not answered:
            await self._lifespan_alone(receive, send)

    async def _lifespan_alone(self, receive: Receive, send: Send) -> None:
        async with self.chat.lifespan():
            await send({"type": "lifespan.startup.complete"})
            while (await receive())["type"] != "lifespan.shutdown":
                pass
        await send({"type": "lifespan.shutdown.complete"})
