"""The ASGI scope of an HTTP request, as a server would build it. No I/O."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["UNSET", "http_scope", "to_json", "with_defaults"]

UNSET: Any = object()
"""Default of an argument for which None is a valid value."""

_HOST = ("127.0.0.1", 8000)


def http_scope(
    *,
    method: str,
    path: str,
    root_path: str,
    query: str,
    headers: list[tuple[str, str]],
    client: tuple[str, int] | None,
    http_version: str,
    extras: Mapping[str, Any],
) -> dict[str, Any]:
    """Build an ASGI 3.0 scope. `extras` are added, and replace entries of the same key."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": http_version,
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": root_path,
        "headers": [(name.lower().encode("latin-1"), v.encode("latin-1")) for name, v in headers],
        "client": client,
        "server": _HOST,
        "extensions": {},
        **extras,
    }


def with_defaults(
    given: Mapping[str, str] | Iterable[tuple[str, str]], is_json: bool, body: bytes | None
) -> list[tuple[str, str]]:
    """Add the host, and the body's type and length, unless `given` has them or they are unknown."""
    pairs: list[tuple[str, str]] = list(given.items() if isinstance(given, Mapping) else given)  # pyright: ignore[reportAssignmentType]
    names = {name.lower() for name, _ in pairs}
    own = [("host", f"{_HOST[0]}:{_HOST[1]}")]
    if is_json:
        own.append(("content-type", "application/json"))
    if body is not None:
        own.append(("content-length", str(len(body))))
    return [pair for pair in own if pair[0] not in names] + pairs


def to_json(value: Any) -> bytes:
    """Return `value` as compact JSON in UTF-8."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
