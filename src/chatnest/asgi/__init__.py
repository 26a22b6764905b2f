"""ASGI helpers: bodies and responses, heads, upgrades, CORS."""

from chatnest.asgi.http import header

__all__ = ["header"]
