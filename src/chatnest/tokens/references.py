"""with_references: a schema with each ``$ref`` beside its definition. No I/O.

OpenAI documents references in schemas, and not how its models read them. The open format of gpt-oss
shows a reference as a value of any type, and chat templates of open models print the schema as it
stands; llama.cpp replaces references in its grammar, which the model does not read. But Gemini's
API had no references, so gateways such as LiteLLM put the definition in the place of each one.
"""

from typing import Any, Final
from urllib.parse import unquote

from chatnest.errors import InvalidRequest

__all__ = ["Expansion", "refers"]

_DEFINITIONS: Final = ("$defs", "definitions")
_PLACES: Final = ("parameters", "schema", "input_schema")
"""The fields of a tool that have its schema."""

_PER_NODE: Final = 4
"""Bytes of each value in addition to its text: quotes, a colon, a comma."""

_MOST_LEVELS: Final = 128
"""Maximum arrays and objects around a value, with references replaced."""


def refers(tool: str) -> bool:
    """Whether the JSON of a tool may have a reference. Its name may be written with escapes."""
    return '"$ref"' in tool or "\\u" in tool


class Expansion:
    """Puts definitions beside the references to them, within ``room`` bytes of these for all tools.

    A definition within itself stays a reference. So does a reference to another document, and one
    that leads nowhere. Everything else of a schema stays as it is, so the result has what a model
    reads either way.
    """

    def __init__(self, room: int) -> None:
        self._most = room
        self._room = room
        self._roots: tuple[Any, ...] = ()
        self._found: dict[str, Any] = {}
        self._field = ""

    def of(self, tool: Any, field: str) -> Any:
        """The tool with its definitions, or the same object if it refers to none. Raises
        InvalidRequest, which names ``field``, beyond the room or the levels.
        """
        self._roots = tuple(_roots(tool))
        self._found.clear()
        self._field = field
        expanded = self._of(tool, frozenset(), 0)
        return expanded if dict in map(type, self._found.values()) else tool

    def _of(self, node: Any, path: frozenset[str], level: int) -> Any:
        if path:
            self._take(node)
        if type(node) is list:
            self._check(level)
            return [self._of(each, path, level + 1) for each in node]
        if type(node) is not dict:
            return node
        self._check(level)
        found: dict[str, Any] = {}
        for key, value in node.items():
            if path:
                self._take(key)
            found[key] = value if key in _DEFINITIONS else self._of(value, path, level + 1)
        pointer = node.get("$ref")
        if isinstance(pointer, str) and pointer not in path:
            target = self._target(pointer)
            if type(target) is dict:
                found[pointer] = self._of(target, path | {pointer}, level + 1)
        return found

    def _target(self, pointer: str) -> Any:
        if pointer not in self._found:
            targets = (_at(root, pointer) for root in self._roots)
            self._found[pointer] = next((t for t in targets if t is not None), None)
        return self._found[pointer]

    def _take(self, node: Any) -> None:
        size = len(node) if type(node) is str else 0
        self._room -= size + _PER_NODE
        if self._room < 0:
            raise InvalidRequest(
                f"{self._field}: expected references to at most {self._most} bytes of JSON, each "
                "definition as often as it is referred to."
            )

    def _check(self, level: int) -> None:
        if level > _MOST_LEVELS:
            raise InvalidRequest(
                f"{self._field}: expected at most {_MOST_LEVELS} levels of nesting, with "
                "definitions in place of references."
            )


def _roots(tool: Any) -> list[Any]:
    """The schemas in a tool that a pointer may begin at, and the tool itself."""
    roots = []
    for holder in (tool, tool.get("function") if type(tool) is dict else None):
        if type(holder) is dict:
            roots += [holder[place] for place in _PLACES if type(holder.get(place)) is dict]
    return [*roots, tool]


def _at(root: Any, pointer: str) -> Any:
    """The value at a JSON pointer in a fragment (RFC 6901, section 6), or None."""
    if pointer == "#":
        return root
    if not pointer.startswith("#/"):
        return None
    node = root
    for step in unquote(pointer[2:]).split("/"):
        name = step.replace("~1", "/").replace("~0", "~")
        if type(node) is dict:
            node = node.get(name)
        elif type(node) is list and name.isascii() and name.isdigit() and int(name) < len(node):
            node = node[int(name)]
        else:
            return None
    return node
