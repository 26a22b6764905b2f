"""Heads: what is read of a request's head, each part within its bound. No I/O.

A length is looked at before anything that takes longer than the length, since nobody knows yet who
is asking.
"""

from typing import Final
from urllib.parse import unquote_plus

from starlette.types import Scope

from chatnest.errors import HeadTooLarge

__all__ = ["MOST_FIELDS", "check_head", "query_value"]

MOST_FIELDS: Final = 128
"""Maximum fields of a head. Browsers and the proxies before us send about forty."""

_QUERY_BYTES: Final = 8_192
"""Maximum bytes of a query: as long as a whole URI should be supported (RFC 9110, section 4.1)."""


def check_head(scope: Scope) -> None:
    """Raise HeadTooLarge if the head has more fields, or a longer query, than are read."""
    fields, query = len(scope["headers"]), len(scope.get("query_string", b""))
    if fields > MOST_FIELDS:
        raise HeadTooLarge("The header", MOST_FIELDS, "fields", fields)
    if query > _QUERY_BYTES:
        raise HeadTooLarge("The query", _QUERY_BYTES, "bytes", query)


def query_value(scope: Scope, name: str) -> str | None:
    """The first value of a query's field that is not empty, or None. Raises HeadTooLarge.

    Names are compared before anything is decoded, so names that are percent-encoded do not count.
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
