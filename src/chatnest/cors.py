"""CORS: the pages of other origins that may call the chat, and what they may read. No I/O."""

import re
from collections.abc import Sequence
from typing import Final

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from chatnest.asgi import NO_SNIFFING
from chatnest.errors import ConfigurationError

__all__ = ["check_origins", "with_cors"]

_ORIGIN: Final = re.compile(r"https?://[a-z0-9.-]+(:[0-9]+)?|https?://\[[0-9a-f:]+\](:[0-9]+)?")


def check_origins(origins: Sequence[str], *, name: str = "allow_origins") -> None:
    """Raise ConfigurationError for what a browser never sends as an Origin, and for ``*``: with
    cookies, it would let every page ask in the name of whoever looks at it. ``name`` is what they
    are called where they were given.
    """
    if isinstance(origins, str):
        raise ConfigurationError(f"{name} is a list of origins, not a string")
    for origin in origins:
        if not _ORIGIN.fullmatch(origin):
            raise ConfigurationError(
                f"{name}: {origin!r} is no origin, such as "
                "https://www.example.com: a scheme, a host, and no path or slash after it"
            )


def with_cors(app: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    """Let pages of these origins call the chat, with cookies, and read what they need of it."""
    middleware = CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=["authorization", "content-type", "idempotency-key", "last-event-id"],
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
