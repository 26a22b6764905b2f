"""Upgrades: what is done about servers that read the body of a request to upgrade as a request.

uvicorn with httptools does: the parser skips such a body and goes on with another request wherever
the next read begins. No I/O.
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
    """``send``, or for a request with ``Upgrade`` one whose response closes the connection. A
    WebSocket that the server supports is no request, so it does not come here.
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
    """Log a warning if ``scope`` comes from uvicorn with httptools, by its own protocol."""
    if SEND_NOW not in (scope.get("extensions") or {}) and _MISFRAMES in sys.modules:
        _log.warning(
            "request smuggling: uvicorn with httptools reads the body of a request with Upgrade as "
            "the next request, and trailers as header fields. Start uvicorn with --http "
            "chatnest.server:Protocol, or with --http h11."
        )
