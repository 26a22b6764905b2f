"""CORS: the origins whose pages may call the chat, and the headers that they may read. No I/O."""

import re
from collections.abc import Sequence
from typing import Final

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from chatnest.asgi.http import NO_SNIFFING
from chatnest.errors import ConfigurationError

__all__ = ["check_origins", "with_cors"]

_ORIGIN: Final = re.compile(
    r"https?://([a-z0-9._-]+|\[[0-9a-f:]+\])(:[0-9]+)?"
    r"|(?!https?:)[a-z][a-z0-9+.-]*://[A-Za-z0-9._~-]+(:[0-9]+)?"
)
"""Pattern of an Origin as browsers send it: http and https have hosts in lower case. Other schemes
belong to apps and extensions, such as capacitor://localhost, and keep the case of their hosts
(WHATWG URL, section 3.5).
"""


def check_origins(origins: Sequence[str], *, name: str = "allow_origins") -> None:
    """Raise ConfigurationError for a value that browsers never send as an Origin, and for ``*``.

    With ``*`` and cookies, any page could send requests in its visitor's name. ``name`` is the
    setting's name.
    """
    if isinstance(origins, str):
        raise ConfigurationError(f"{name}: expected a list of origins, got a string.")
    for origin in origins:
        if not _ORIGIN.fullmatch(origin):
            raise ConfigurationError(
                f"{name}: expected an origin such as https://www.example.com or "
                f"capacitor://localhost, got {origin!r}. Write a scheme and a host in lower case, "
                "with no path and no slash after it."
            )


def with_cors(app: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    """Let pages of these origins call the chat with cookies and read the headers that they need.

    All request headers are allowed: tracing libraries add their own to each request. The origin
    alone decides whether a page may call.
    """
    middleware = CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=["*"],
        allow_credentials=True,
        expose_headers=[
            *("Retry-After", "RateLimit", "RateLimit-Policy"),
            *("ChatNest-Request-Id", "ChatNest-Run-Id", "Idempotency-Replayed", "x-request-id"),
            "x-vercel-ai-ui-message-stream",
        ],
        max_age=600,
    )
    name, value = (each.decode() for each in NO_SNIFFING)
    middleware.preflight_headers[name] = value
    return middleware
