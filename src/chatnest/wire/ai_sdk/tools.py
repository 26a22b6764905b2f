"""Tools of a request of ``useChat``: from their JSON to checked values. No I/O."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from chatnest.errors import InvalidRequest
from chatnest.requests import Tool
from chatnest.wire.ai_sdk.body import SentFunction, SentSchema, SentTool
from chatnest.wire.ai_sdk.places import PLACES
from chatnest.wire.caps import is_tool_name
from chatnest.wire.tools import schema_of, within_caps

__all__ = ["tools_of"]

_schema: Final = msgspec.json.Decoder(SentSchema)


def tools_of(sent: Mapping[str, SentFunction] | Sequence[SentTool]) -> tuple[Tool, ...]:
    """The tools, within the caps: an object by name, as assistant-ui sends it and the AI SDK writes
    it, or a list as in Chat Completions.
    """
    return within_caps((_tool(*each) for each in _named(sent)), len(sent))


def _named(
    sent: Mapping[str, SentFunction] | Sequence[SentTool],
) -> Iterable[tuple[str, SentFunction, str]]:
    """Each tool with its name and its place."""
    if isinstance(sent, Mapping):
        return [(name, function, "tools[...]") for name, function in sent.items()]
    functions = [(each.function, f"tools[{n}].function") for n, each in enumerate(sent)]
    return [(function.name or "", function, place) for function, place in functions]


def _tool(name: str, sent: SentFunction, place: str) -> Tool:
    if not is_tool_name(name):
        raise PLACES.wrong(f"{place}.name")
    parameters = _parameters(sent.parameters, f"{place}.parameters")
    if parameters is None:
        parameters = _parameters(sent.input_schema, f"{place}.inputSchema")
    return Tool(name=name, description=sent.description or "", parameters=parameters or "{}")


def _parameters(raw: msgspec.Raw, place: str) -> str | None:
    """The text of a JSON schema, or None if there is none."""
    if bytes(raw).lstrip().startswith(b"{"):
        found = _schema.decode(raw)
        if bytes(found.zod):
            raise InvalidRequest(
                f"{place}: must be a JSON schema. This one is Zod's; z.toJSONSchema() converts it."
            )
        if bytes(found.json_schema):
            return _parameters(found.json_schema, place)
    return schema_of(raw, place, PLACES)
