"""Heads: reading parts of a request's head within bounds. No I/O.

Each function checks lengths first and does expensive work later, since the request is not yet
authenticated.
"""

from typing import Final
from urllib.parse import unquote_plus

from starlette.types import Scope

from chatnest.errors import HeadTooLarge

__all__ = ["MOST_FIELDS", "check_head", "query_value"]

MOST_FIELDS: Final = 128
"""Maximum header fields of a request. Browsers and proxies together send about forty."""

_QUERY_BYTES: Final = 8_192
"""Maximum bytes of a query. A whole URI should be supported up to 8,000 (RFC 9110, section 4.1)."""


def check_head(scope: Scope) -> None:
    """Raise HeadTooLarge if the head has too many fields or too long a query."""
    fields, query = len(scope["headers"]), len(scope.get("query_string", b""))
    if fields > MOST_FIELDS:
        raise HeadTooLarge("The header", MOST_FIELDS, "fields", fields)
    if query > _QUERY_BYTES:
        raise HeadTooLarge("The query", _QUERY_BYTES, "bytes", query)


def query_value(scope: Scope, name: str) -> str | None:
    """The first non-empty value of a query parameter, or None. Raises HeadTooLarge.

    Names are compared before decoding, so percent-encoded names do not match.
    """
    query: bytes = scope.get("query_string", b"")
    if len(query) > _QUERY_BYTES:
        raise HeadTooLarge("The query", _QUERY_BYTES, "bytes", len(query))
    prefix = f"{name}=".encode()
    if prefix not in query:
        return None
    for field in query.split(b"&"):
        if field.startswith(prefix) and len(field) > len(prefix):
            return unquote_plus(field[len(prefix) :].decode("latin-1"))
    return None
