"""Heads: reading parts of a request's head within bounds. No I/O.

Each function checks lengths first and does expensive work later, since the request is not yet
authenticated.
"""

from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import unquote_plus

from starlette.types import Scope

from chatnest.errors import HeadTooLarge

__all__ = ["MOST_FIELDS", "Headers", "check_head", "query_value"]

MOST_FIELDS: Final = 128
"""Maximum header fields of a request. Browsers and proxies together send about forty."""

_QUERY_BYTES: Final = 8_192
"""Maximum bytes of a query. A whole URI should be supported up to 8,000 (RFC 9110, section 4.1)."""


class Headers(Mapping[str, str]):
    """The header fields of a request, read-only, as text in latin-1.

    Names are in lower case, and a look-up takes any case. A repeated field is one value, joined by
    a comma (RFC 9110, section 5.2), or for Cookie by a semicolon (RFC 9113, section 8.2.3). The
    repr shows names alone: values may be secrets.
    """

    __slots__ = ("_fields",)

    def __init__(self, scope: Scope) -> None:
        self._fields: dict[str, str] = {}
        for raw_name, raw_value in scope["headers"]:
            name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
            if name in self._fields:
                value = f"{self._fields[name]}{'; ' if name == 'cookie' else ', '}{value}"
            self._fields[name] = value

    def __getitem__(self, name: str) -> str:
        return self._fields[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __repr__(self) -> str:
        return f"Headers({', '.join(self._fields)})"


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
