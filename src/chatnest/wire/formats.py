"""Formats: which format a request belongs to, by its path. No I/O."""

import re
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from chatnest._util.arguments import check_plain
from chatnest.errors import ConfigurationError
from chatnest.wire.base import WireFormat

__all__ = ["Formats", "Route"]

_PATH: Final = re.compile(r"(/[A-Za-z0-9._~-]+)*")
_FIELD: Final = re.compile(r"[\t\x20-\x7e]+")
_RESERVED: Final = re.compile(r"(.*/)?(limits|runs(/.*)?)")


class Route(msgspec.Struct, frozen=True):
    """The format of a request. ``run_id`` is the id of the run in the path, if any. ``is_missing``
    is whether the path is below ``/runs`` without a valid run id.
    """

    format: WireFormat
    run_id: str | None = None
    is_missing: bool = False


class Formats:
    """The formats of an application. The longest matching path wins, so a chat can be mounted at
    any path.

    Raises ConfigurationError for paths that are invalid or used twice.
    """

    def __init__(self, formats: Sequence[WireFormat]) -> None:
        if not formats:
            raise ConfigurationError("formats: expected at least one format, got none.")
        for each in formats:
            _check(each)
        longest_first = sorted(formats, key=lambda each: len(each.path), reverse=True)
        self._routes = {each.path: Route(each) for each in longest_first}
        if len(self._routes) < len(formats):
            raise ConfigurationError("formats: expected a path of its own for each format.")
        self.paths: tuple[str, ...] = tuple(self._routes)
        self._run = re.compile(rf"({'|'.join(map(re.escape, self.paths))})/runs/([0-9a-f]{{32}})\Z")
        self.default: WireFormat = formats[0]
        """The format of errors at paths that belong to no format."""

    def find(self, path: str) -> Route | None:
        """The route of a path without a slash at its end, or None."""
        if "/runs/" in path:
            if (match := self._run.search(path)) is not None:
                return Route(self._routes[match[1]].format, match[2])
            for prefix, route in self._routes.items():
                if path.startswith(f"{prefix}/runs/"):
                    return Route(route.format, is_missing=True)
        for suffix, route in self._routes.items():
            if path.endswith(suffix):
                return route
        return None

    def of(self, path: str) -> WireFormat:
        """The format in which an error at a path is rendered."""
        route = self.find(path.rstrip("/"))
        return self.default if route is None else route.format


def _check(format_: WireFormat) -> None:
    for name in ("parse", "frames", "problem"):
        method = getattr(format_, name, None)
        if not callable(method):
            raise ConfigurationError(f"formats: expected an object with {name}(), got {format_!r}.")
        check_plain(f"{format_!r}: {name}", method)
    content_type: object = getattr(format_, "content_type", None)
    headers: object = getattr(format_, "headers", None)
    values: tuple[object, ...] = (None,)
    if isinstance(headers, Mapping):
        values = (content_type, *headers, *headers.values())
    if not all(isinstance(value, str) and _FIELD.fullmatch(value) for value in values):
        raise ConfigurationError(
            "formats: expected content_type as text, and headers as a mapping of text, "
            f"got {format_!r}."
        )
    _check_path(getattr(format_, "path", None))


def _check_path(path: object) -> None:
    if not isinstance(path, str) or not _PATH.fullmatch(path) or _RESERVED.fullmatch(path):
        raise ConfigurationError(
            f"formats: expected a path such as '/v1/chat', or '' for the chat's own, got {path!r}. "
            "It must not end with /limits, or contain the segment runs."
        )
