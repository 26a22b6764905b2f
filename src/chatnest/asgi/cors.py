"""CORS: the pages of other origins that may call the chat, and what they may read. No I/O."""

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
"""Browsers write the hosts of http and https in lower case. Other schemes are those of apps and
extensions, such as capacitor://localhost; their hosts stay as they are (WHATWG URL, section 3.5).
"""


def check_origins(origins: Sequence[str], *, name: str = "allow_origins") -> None:
    """Raise ConfigurationError for what a browser never sends as an Origin, and for ``*``: with
    cookies, any page could then ask in its visitor's name. ``name`` is the setting's name.
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
    """Let pages of these origins call the chat, with cookies, and read what they need of it.

    Every header field that they ask for is allowed: tracing libraries add fields of their own to
    each request, and the origin alone decides who may call.
    """
    middleware = CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=["*"],
        allow_credentials=True,
        expose_headers=[
            *("Retry-After", "RateLimit", "RateLimit-Policy"),
            *("ChatNest-Request-Id", "ChatNest-Run-Id", "Idempotency-Replayed"),
        ],
        max_age=600,
    )
    name, value = (each.decode() for each in NO_SNIFFING)
    middleware.preflight_headers[name] = value
    return middleware
