"""CannedCall: the call of a tool that the demo makes, without a model. No I/O."""

import re
from typing import Any, Final

import msgspec

from chatnest.requests import ModelRequest, Tool

__all__ = ["CannedCall", "canned_call"]

_WORD: Final = re.compile(r"[a-z]{4,}")
_SUBJECT: Final = re.compile(r"\w[\w'-]*")


class CannedCall(msgspec.Struct, frozen=True):
    """A call of a tool. ``arguments`` is the text of a JSON object."""

    name: str
    arguments: str


def canned_call(request: ModelRequest) -> CannedCall | None:
    """A call of the tool that the last question is about, or None. The question is about a tool if
    it has a word of the tool's name or description. A result of a tool gets no further call.
    """
    last, choice = request.messages[-1], request.tool_choice
    if last.role != "user" or choice.mode == "none":
        return None
    words = set(_WORD.findall(last.text.lower()))
    for tool in request.tools:
        is_chosen = choice.mode == "required" and choice.name in {None, tool.name}
        if is_chosen or not words.isdisjoint(_words_of(tool)):
            return CannedCall(tool.name, _arguments(tool, last.text))
    return None


def _words_of(tool: Tool) -> list[str]:
    return _WORD.findall(f"{tool.name} {tool.description}".lower())


def _arguments(tool: Tool, question: str) -> str:
    """Arguments that the tool's schema is likely to accept. A text in them is the last word of the
    question: "Paris", if that is where the weather is asked for.
    """
    subject = ([*_SUBJECT.findall(question)] or ["demo"])[-1]
    found = _example(msgspec.json.decode(tool.parameters), subject)
    return msgspec.json.encode(found if isinstance(found, dict) else {}).decode()


def _example(schema: Any, subject: str) -> Any:
    """A value for the most common forms of a JSON schema."""
    if not isinstance(schema, dict):
        return subject
    for word in ("const", "default"):
        if word in schema:
            return schema[word]
    for word in ("enum", "anyOf", "oneOf"):
        if isinstance(choices := schema.get(word), list) and choices:
            return choices[0] if word == "enum" else _example(choices[0], subject)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    first = kind[0] if isinstance(kind, list) and kind else kind
    if first == "object":
        return _object(schema, subject)
    number = schema.get("minimum", 1)
    others = {"array": [], "integer": number, "number": number, "boolean": True, "null": None}
    return others.get(first, subject) if isinstance(first, str) else subject


def _object(schema: dict[str, Any], subject: str) -> dict[str, Any]:
    """An object with the fields that the schema requires."""
    properties, required = schema.get("properties"), schema.get("required")
    known = properties if isinstance(properties, dict) else {}
    names = required if isinstance(required, list) else []
    return {str(name): _example(known.get(str(name)), subject) for name in names}
