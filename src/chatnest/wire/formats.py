"""Formats: which format a request belongs to, by its path. No I/O."""

import re
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from chatnest._util.arguments import check_plain
from chatnest.errors import ConfigurationError
from chatnest.wire.base import RUNS, Action, HasMorePaths, MorePath, WireFormat

__all__ = ["Formats", "Route", "more_paths_of"]

_PATH: Final = re.compile(r"(/[A-Za-z0-9._~-]+)*")
_FIELD: Final = re.compile(r"[\t\x20-\x7e]+")
_RESERVED: Final = re.compile(r"(.*/)?(limits|usage|openapi\.json|runs(/.*)?)")
_PLACEHOLDER: Final = re.compile(r"\\\{(run|conversation|model)\\\}")
_VALUES: Final = {"run": "(?P<run>[0-9a-f]{32})", "conversation": "(?P<conversation>.+)"}
_ONE_SEGMENT: Final = {"run": _VALUES["run"], "conversation": "(?P<conversation>[^/]+)"}


class Route(msgspec.Struct, frozen=True):
    """The format of a request. ``actions`` is None for the path of its chats. For another path it
    has the action by method, and one of the last three fields may have a value.

    ``is_missing`` is whether the path is below one of the format and belongs to nothing.
    """

    format: WireFormat
    is_missing: bool = False
    actions: Mapping[str, Action] | None = None
    run_id: str | None = None
    conversation: str | None = None
    model: str | None = None


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
        more = [(more, each) for each in formats for more in more_paths_of(each)]
        more.sort(key=lambda pair: len(pair[0].path), reverse=True)
        self._heads = [(_head(each), format_) for each, format_ in more]
        """The folders of these paths. A path below one of them that has no route is missing, unless
        the folder is the chat itself.
        """
        self._special = re.compile("|".join(re.escape(head) for head, _ in self._heads))
        self._more = [(_pattern(each), each, format_) for each, format_ in more]
        self.all: tuple[WireFormat, ...] = tuple(formats)
        self.default: WireFormat = formats[0]
        """The format of errors at paths that belong to no format."""

    def find(self, path: str) -> Route | None:
        """The route of a path without a slash at its end, or None."""
        for suffix, route in self._routes.items():
            if suffix and path.endswith(suffix):
                return route
        if self._special.search(path) and (found := self._find_more(path)) is not None:
            return found
        return self._routes.get("")

    def at(self, path: str) -> Route | None:
        """The route of a path relative to the chat, or None."""
        path = path.removesuffix("/")
        if (route := self._routes.get(path)) is not None:
            return route
        for pattern, _, _ in self._more:
            if pattern.fullmatch(path):
                return self._find_more(path)
        found = self._find_more(path)
        return found if found is not None and found.is_missing else None

    def of(self, path: str) -> WireFormat:
        """The format in which an error at a path is rendered."""
        route = self.find(path.rstrip("/"))
        return self.default if route is None else route.format

    def _find_more(self, path: str) -> Route | None:
        for pattern, more, format_ in self._more:
            if (match := pattern.search(path)) is not None:
                values = match.groupdict()
                return Route(
                    format_,
                    actions=more.actions,
                    run_id=values.get("run"),
                    conversation=values.get("conversation"),
                    model=values.get("model"),
                )
        for head, format_ in self._heads:
            if not head:
                continue
            if path.startswith(f"{head}/") or (format_.path and f"{head}/" in path):
                return Route(format_, is_missing=True)
        return None


def more_paths_of(format_: WireFormat) -> Sequence[MorePath]:
    """The paths of a format beside the one of its chats."""
    if isinstance(format_, HasMorePaths):
        return format_.more_paths
    return (MorePath(f"{format_.path}/runs/{{run}}", RUNS),)


def _head(more: MorePath) -> str:
    """The folder of a path with a placeholder, or a path without one."""
    fixed, brace, _ = more.path.partition("{")
    return fixed.rpartition("/")[0] if brace else fixed


def _pattern(more: MorePath) -> re.Pattern[str]:
    """The end of all paths that a path stands for. A conversation at the chat's own path has no
    slash, because the place where its id begins would be unknown.
    """
    values = _VALUES if more.path.count("/", 0, more.path.find("{")) > 1 else _ONE_SEGMENT
    escaped = re.escape(more.path)
    return re.compile(
        _PLACEHOLDER.sub(lambda match: values.get(match[1], "(?P<model>.+)"), escaped) + r"\Z"
    )


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
            "It must not end with /limits or /openapi.json, or contain the segment runs."
        )
