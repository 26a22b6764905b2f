"""ChatNestMiddleware: a chat in front of any ASGI application, which gets all other requests."""

from collections.abc import Sequence
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chatnest._util.identifiers import new_request_id
from chatnest._util.loops import is_in_event_loop
from chatnest.app import ChatNestApp
from chatnest.asgi.cors import check_origins, with_cors
from chatnest.asgi.http import local_path, respond
from chatnest.asgi.upgrades import close_after_upgrade
from chatnest.errors import ConfigurationError, NotFound
from chatnest.lifespan import fail_startup
from chatnest.wire import WireFormat

__all__ = ["ChatNestMiddleware"]

_OPENAI: Final = "/v1/"
"""The beginning of all paths of OpenAI's API."""

_RESERVED: Final = ("/", "/limits", "/usage")


class ChatNestMiddleware:
    """Serves ``path``, ``path/limits``, ``path/usage`` and ``path/runs/...`` with ``chat``, and
    passes everything else to ``app``: other paths, websockets, lifespan. These pass unchanged,
    except that the response to a request with ``Upgrade`` closes the connection.

    Lifespan events go to both. For an application without lifespan (Django), the middleware
    handles them. As the outermost layer it sees the connection's own address; below authentication
    it sees the user. Pages of ``allow_origins``, which are exact origins, may call the chat with
    cookies; the other paths are not opened to them. With ``openai_at_root`` the chat's paths that
    begin with ``/v1/`` are served at the root as well.

    Raises ConfigurationError. If an event loop runs already, as in Starlette's ``add_middleware``,
    the startup fails instead.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        chat: ChatNestApp | None = None,
        path: str = "/api/chat",
        allow_origins: Sequence[str] = (),
        openai_at_root: bool = False,
    ) -> None:
        self.app = app
        self._failure: ConfigurationError | None = None
        try:
            self._set_up(chat, path, allow_origins)
            self._openai_at_root = openai_at_root
        except ConfigurationError as exc:
            if not is_in_event_loop():
                raise
            self._failure = exc  # the application creates its middleware when it is first called

    def _set_up(self, chat: ChatNestApp | None, path: str, allow_origins: Sequence[str]) -> None:
        check_origins(allow_origins)
        if not path.startswith("/") or path.endswith(_RESERVED) or set("?#") & set(path):
            raise ConfigurationError(
                f"path: expected a path such as /api/chat, got {path!r}. It must begin with '/', "
                "must not end with '/', '/limits' or '/usage', and must not contain '?' or '#'."
            )
        self.chat: ChatNestApp = chat if chat is not None else ChatNestApp()
        self._served: ASGIApp = self.chat
        self._missing: ASGIApp = self._respond_not_found
        if allow_origins:
            self._served = with_cors(self._served, allow_origins)
            self._missing = with_cors(self._missing, allow_origins)
        formats = self.chat.formats.paths
        others = [f"{each}/{name}" for each in ("", *formats) for name in ("limits", "usage")]
        below = [f"{path}{each}" for each in (*formats, *others, "/openapi.json")]
        self._paths = {*below, *(f"{each}/" for each in below)}
        self._path = path
        at_root = (each for each in self.chat.formats.all if each.path.startswith(_OPENAI))
        self._openai: WireFormat | None = next(at_root, None)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application."""
        if self._failure is not None:
            await self._fail(self._failure, scope, send)
        elif scope["type"] == "http":
            responsible = self._responsible(local_path(scope))
            if responsible is not self._served:  # the chat itself handles upgrades
                send = close_after_upgrade(scope, send)
            await responsible(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def _responsible(self, path: str) -> ASGIApp:
        if path in self._paths:
            return self._served
        at_root = self._openai_at_root and path.startswith(_OPENAI)
        if path.startswith(f"{self._path}/"):
            below = path[len(self._path) :]
        elif at_root:
            below = path
        else:
            return self.app
        route = self.chat.formats.at(below)
        if route is None:
            return self._missing if at_root and self._openai is not None else self.app
        return self._missing if route.is_missing else self._served

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Start the chat before the application's startup completes, and close it before the
        application's shutdown does: the chat settles its turns while the application still runs.
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
            # By the ASGI specification, an exception in place of a response means that the
            # application has no lifespan. The startup event may have been received by now, but
            # the chat still has to start.
        if not answered:
            await self.chat.serve_lifespan(receive, send)

    async def _fail(self, failure: ConfigurationError, scope: Scope, send: Send) -> None:
        """Serve nothing, so that an application never runs without its chat or its budget."""
        if scope["type"] != "lifespan":
            raise failure
        await fail_startup(failure, send)

    async def _respond_not_found(self, scope: Scope, _: Receive, send: Send) -> None:
        """Respond with a 404 below ``runs``, where a POST would otherwise start a new chat, and at
        the root to requests for parts of OpenAI's API that the chat does not have.
        """
        path = local_path(scope)
        below = path.removeprefix(self._path) if path.startswith(f"{self._path}/") else path
        route = self.chat.formats.at(below)
        format_ = self._openai or self.chat.formats.default
        if route is not None:
            format_ = route.format
        problem = format_.problem(NotFound(), request_id=new_request_id(), charged=False)
        await respond(scope, send, problem)
