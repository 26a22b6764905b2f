"""Resumption: the fields with which a client retries a request or resumes an answer. No I/O.

draft-ietf-httpapi-idempotency-key-header-07: the key is a structured-field string (RFC 8941,
section 3.3.3). A token without quotes is accepted too, since many clients send one.
"""

import re
from typing import Final

from starlette.types import Scope

from chatnest.asgi.heads import query_value
from chatnest.asgi.http import headers_named
from chatnest.errors import InvalidRequest

__all__ = ["idempotency_key", "last_event_id"]

_LONGEST: Final = 255
"""Maximum characters of a key."""
_LONGEST_VALUE: Final = 2 * _LONGEST + 2
"""Maximum characters of the field: a key in quotes, with a backslash before each character."""
_STRING: Final = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"')
_ESCAPED: Final = re.compile(r"\\(.)")
_BARE: Final = re.compile(r"[!#-+\--:<-\[\]-~]+")
"""Printable ASCII without quotes, backslashes, commas and semicolons."""

_NUMBER: Final = re.compile(r"[0-9]{1,15}")


def idempotency_key(scope: Scope) -> str | None:
    """The Idempotency-Key of a request, or None. Raises InvalidRequest if it is malformed."""
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
    """The key in a field's value, or an empty string if the value is malformed or too long."""
    if len(value) > _LONGEST_VALUE:
        return ""
    if quoted := _STRING.fullmatch(value):
        return _ESCAPED.sub(r"\1", quoted[1])
    return value if _BARE.fullmatch(value) else ""


def last_event_id(scope: Scope) -> int:
    """The number of the last event that the client has read, or 0. It comes from ``Last-Event-ID``
    (WHATWG HTML, section 9.2.4), or else from ``?after=``. Raises InvalidRequest.
    """
    values = headers_named(scope, b"last-event-id")
    value = values[0] if values else query_value(scope, "after")
    if value is None:
        return 0
    if not _NUMBER.fullmatch(value):
        raise InvalidRequest("Last-Event-ID and after: must be the number of an event.")
    return int(value)
