"""ToolBounds: texts and tokens that bound what tools and schemas add to a request. No I/O.

No provider documents how it writes tools into the prompt. Models of OpenAI see them as TypeScript;
the open format of gpt-oss shows how, and users have reconstructed the same for other models. Chat
templates of open models print JSON, often indented. Compact JSON can have fewer tokens than either:
a tool without parameters has 13, and 20 in TypeScript. Counted are therefore

- the JSON of each tool, indented by four, and 64 tokens for each request with tools,
- once more, the descriptions of objects, which the format of gpt-oss has twice,
- four tokens for each line break in a text, before which a comment may be continued.

A schema for the answer counts as a tool does. A ``$ref`` is counted with its definition beside it,
as often as it stands there: see ``references``. The tokens for calls, results and a forced choice
are allowances without a measurement. Anthropic documents a system prompt for tools of 159 to 530
tokens with Claude 3.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from chatnest.errors import InvalidRequest
from chatnest.tokens.references import Expansion, refers

__all__ = [
    "FORCED_CHOICE_TOKENS",
    "Countable",
    "ToolCaps",
    "call",
    "definitions",
    "is_deeper",
    "result",
    "tool_tokens_of",
]

REQUEST_TOKENS: Final = 64
"""Tokens of each request with tools or a schema, beside their texts."""

CALL_TOKENS: Final = 16
"""Tokens of each call of a tool and of each result in a conversation, beside their texts."""

FORCED_CHOICE_TOKENS: Final = 16
"""Tokens of a ``tool_choice`` that demands a call."""

_CLAUDE_TOKENS: Final = 600
"""Tokens of the system prompt that Anthropic adds to each request with tools. It documents up to
530 with Claude 3, and 346 with Claude 4.5.
"""

_LINE_TOKENS: Final = 4
"""Tokens for which a line break in a description may stand: itself, an indentation, ``//``."""

_BRACKETS: Final = bytes.maketrans(b"{}", b"[]")
_OTHERS: Final = bytes(set(range(256)) - set(b"[]{}"))


def tool_tokens_of(model: str) -> int:
    """Tokens that the provider of a model adds to each request with tools, by the model's name."""
    return _CLAUDE_TOKENS if "claude" in model.lower() else 0


class Countable(msgspec.Struct, frozen=True):
    """Texts whose tokens are counted, each by itself, and tokens to be added to their sum."""

    texts: tuple[str, ...] = ()
    tokens: int = 0

    def __add__(self, other: "Countable") -> "Countable":
        return Countable(self.texts + other.texts, self.tokens + other.tokens)

    def __repr__(self) -> str:
        return f"Countable(<{len(self.texts)} texts>, {self.tokens})"


class ToolCaps(msgspec.Struct, frozen=True, kw_only=True):
    """The largest definitions of tools, and arguments of a call, that a request may have. Both
    checks raise InvalidRequest, which names ``field``, in time linear in ``size``.
    """

    tools: int = 128
    """Maximum tools. OpenAI accepts no more."""
    size: int = 131_072
    """Maximum bytes of all definitions together, and of the arguments of one call, in UTF-8."""
    depth: int = 32
    """Maximum arrays and objects around a value."""

    def check(self, tools: Sequence[str], field: str = "tools") -> None:
        """Check the definitions of all tools."""
        if len(tools) > self.tools:
            raise InvalidRequest(f"{field}: expected at most {self.tools}, got {len(tools)}.")
        left = self.size
        for text in tools:
            left -= _size(text, left)
            if left < 0:
                raise InvalidRequest(f"{field}: expected at most {self.size} bytes of JSON.")
        for number, text in enumerate(tools):
            self._check_depth(text, f"{field}[{number}]")

    def check_arguments(self, text: str, field: str) -> None:
        """Check the arguments of a call, which may be any text."""
        if _size(text, self.size) > self.size:
            raise InvalidRequest(f"{field}: expected at most {self.size} bytes.")
        self._check_depth(text, field)

    def _check_depth(self, text: str, field: str) -> None:
        if is_deeper(text, self.depth):
            raise InvalidRequest(f"{field}: expected at most {self.depth} levels of nesting.")


_CAPS: Final = ToolCaps()


def definitions(tools: Sequence[str], caps: ToolCaps = _CAPS, field: str = "tools") -> Countable:
    """The bound of what the definitions of tools, or schemas for the answer, add to a request.

    A definition is the JSON of one tool, in the form of any dialect. Raises InvalidRequest, which
    names `field`, if a text is not JSON or exceeds a cap.
    """
    caps.check(tools, field)
    texts: list[str] = []
    breaks = 0
    expansion = Expansion(caps.size)
    for number, tool in enumerate(tools):
        try:
            text = msgspec.json.format(tool, indent=4)
            value = msgspec.json.decode(tool)
        except (msgspec.DecodeError, UnicodeEncodeError):
            raise InvalidRequest(f"{field}[{number}]: expected JSON.") from None
        whole = expansion.of(value, f"{field}[{number}]") if refers(tool) else value
        if whole is not value:
            expanded = msgspec.json.format(msgspec.json.encode(whole), indent=4).decode()
            if len(expanded) < len(text):  # it has no escapes
                texts.append(text)
            text, value = expanded, whole
        texts.append(text)
        again = [d for node in _nodes(value) if (d := _description_of_object(node)) is not None]
        breaks += sum(node.count("\n") for node in (*_nodes(value), *again) if type(node) is str)
        texts += again
    return Countable(tuple(texts), REQUEST_TOKENS + _LINE_TOKENS * breaks) if tools else Countable()


def call(identifier: str, name: str, arguments: str) -> Countable:
    """The bound of a tool call in a conversation. The arguments may be any text."""
    return Countable((identifier, name, arguments), CALL_TOKENS)


def result(identifier: str, text: str) -> Countable:
    """The bound of the result of a call in a conversation."""
    return Countable((identifier, text), CALL_TOKENS)


def is_deeper(text: str, most: int) -> bool:
    """Whether a JSON text has more than ``most`` arrays and objects around a value. It is not
    parsed. If the text is not JSON, its brackets without a partner count as well.

    No loop in Python is longer than ``most``, so no text keeps the event loop.
    """
    data = text.encode("utf-8", "surrogatepass").replace(b"\\\\", b"").replace(b'\\"', b"")
    brackets = b"".join(data.split(b'"')[::2]).translate(_BRACKETS, _OTHERS)
    for level in range(most):
        inner = brackets.replace(b"[]", b"")  # the innermost ones
        if len(inner) == len(brackets):
            return level + brackets.count(b"[") > most
        brackets = inner
    return b"[" in brackets


def _size(text: str, enough: int) -> int:
    """The bytes of a text in UTF-8, or its characters if they are more than enough."""
    return len(text) if len(text) > enough else len(text.encode("utf-8", "surrogatepass"))


def _nodes(value: Any) -> Iterator[Any]:
    """A value of JSON and all values in it, without the keys of objects."""
    waiting = [value]
    while waiting:
        node = waiting.pop()
        yield node
        if type(node) is dict:
            waiting += node.values()
        elif type(node) is list:
            waiting += node


def _description_of_object(node: Any) -> str | None:
    """The description of a schema for objects, or None."""
    if type(node) is not dict or type(node.get("description")) is not str:
        return None
    is_object = node.get("type") == "object" or "properties" in node or "$ref" in node
    return node["description"] if is_object else None
