"""Upgrades: a workaround for servers that read the body of an upgrade request as a new request.

uvicorn with httptools does this: its parser skips the body of a request with Upgrade and parses
the next read as a new request (request smuggling). No I/O.
"""

import logging
import sys
from typing import Final

from starlette.types import Message, Scope, Send

from chatnest.asgi.http import SEND_NOW

__all__ = ["close_after_upgrade", "closing", "warn_of_server"]

_log = logging.getLogger("chatnest.app")

_MISFRAMES: Final = "uvicorn.protocols.http.httptools_impl"


def close_after_upgrade(scope: Scope, send: Send) -> Send:
    """``send``, or for a request with ``Upgrade`` a ``send`` that closes the connection.

    A WebSocket that the server supports has another scope type and never gets here.
    """
    for name, _ in scope.get("headers", ()):
        if name == b"upgrade":
            return closing(send)
    return send


def closing(send: Send) -> Send:
    """A ``send`` whose response closes the connection."""

    async def send_and_close(message: Message) -> None:
        if message["type"] == "http.response.start":
            fields = [field for field in message.get("headers", ()) if field[0] != b"connection"]
            message = {**message, "headers": [*fields, (b"connection", b"close")]}
        await send(message)

    return send_and_close


def warn_of_server(scope: Scope) -> None:
    """Log a warning if ``scope`` comes from uvicorn's own protocol with httptools."""
    if SEND_NOW not in (scope.get("extensions") or {}) and _MISFRAMES in sys.modules:
        _log.warning(
            "request smuggling: uvicorn with httptools reads the body of a request with Upgrade as "
            "the next request, and trailers as header fields. Start uvicorn with --http "
            "chatnest.server:Protocol, or with --http h11."
        )
