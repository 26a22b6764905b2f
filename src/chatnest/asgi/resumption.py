"""Resumption: the fields by which a client comes back to an answer. No I/O.

draft-ietf-httpapi-idempotency-key-header-07: a structured-field string (RFC 8941, section 3.3.3).
A bare token is taken as well, since many clients send one.
"""

import re
from typing import Final

from starlette.types import Scope

from chatnest.asgi.heads import query_value
from chatnest.asgi.http import headers_named
from chatnest.errors import InvalidRequest

__all__ = ["idempotency_key", "last_event_id"]

_LONGEST: Final = 255
_LONGEST_VALUE: Final = 2 * _LONGEST + 2
"""Maximum characters of the field: in quotes, with a backslash before each character."""
_STRING: Final = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"')
_ESCAPED: Final = re.compile(r"\\(.)")
_BARE: Final = re.compile(r"[!#-+\--:<-\[\]-~]+")
"""Printable ASCII without quotes, backslashes, commas and semicolons."""

_NUMBER: Final = re.compile(r"[0-9]{1,15}")


def idempotency_key(scope: Scope) -> str | None:
    """The key of a request, or None. Raises InvalidRequest for one that is malformed."""
    values = headers_named(scope, b"idempotency-key")
    if not values:
        return None
    key = _key(values[0].strip(" \t")) if len(values) == 1 else ""
    if not 1 <= len(key) <= _LONGEST:
        raise InvalidRequest(
            f"Idempotency-Key: must be one string in double quotes, of 1 to {_LONGEST} printable "
            "ASCII characters."
        )
    return key


def _key(value: str) -> str:
    """The key that a field's value spells; empty if it spells none, or is too long for one."""
    if len(value) > _LONGEST_VALUE:
        return ""
    if quoted := _STRING.fullmatch(value):
        return _ESCAPED.sub(r"\1", quoted[1])
    return value if _BARE.fullmatch(value) else ""


def last_event_id(scope: Scope) -> int:
    """The number of the last event that a reader has seen: of ``Last-Event-ID`` (WHATWG HTML,
    section 9.2.4), else of ``?after=``, else 0. Raises InvalidRequest.
    """
    values = headers_named(scope, b"last-event-id")
    value = values[0] if values else query_value(scope, "after")
    if value is None:
        return 0
    if not _NUMBER.fullmatch(value):
        raise InvalidRequest("Last-Event-ID and after: must be the number of an event.")
    return int(value)
