"""Tools of a request of ``useChat``: from their JSON to checked values. No I/O."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from chatnest.errors import InvalidRequest
from chatnest.requests import Tool
from chatnest.tokens.tool_bounds import ToolCaps
from chatnest.wire.ai_sdk.body import SentFunction, SentSchema, SentTool
from chatnest.wire.ai_sdk.places import PLACES
from chatnest.wire.caps import is_tool_name

__all__ = ["tools_of"]

_CAPS: Final = ToolCaps()
_ABSENT: Final = (b"", b"null")
_schema: Final = msgspec.json.Decoder(SentSchema)


def tools_of(sent: Mapping[str, SentFunction] | Sequence[SentTool]) -> tuple[Tool, ...]:
    """The tools, within the caps: an object by name, as assistant-ui sends it and the AI SDK writes
    it, or a list as in Chat Completions.
    """
    if len(sent) > _CAPS.tools:
        raise InvalidRequest(f"tools: must be at most {_CAPS.tools}.")
    tools = tuple([_tool(name, function, place) for name, function, place in _named(sent)])
    size = sum(len((tool.name + tool.description + tool.parameters).encode()) for tool in tools)
    if size > _CAPS.size:
        raise InvalidRequest(f"tools: must be at most {_CAPS.size:,} bytes of JSON.")
    return tools


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
    data = bytes(raw).strip()
    if data in _ABSENT:
        return None
    if not data.startswith(b"{"):
        raise PLACES.wrong(place)
    found = _schema.decode(data)
    if bytes(found.zod):
        raise InvalidRequest(
            f"{place}: must be a JSON schema. This one is Zod's; z.toJSONSchema() converts it."
        )
    if bytes(found.json_schema):
        return _parameters(found.json_schema, place)
    _CAPS.check([text := data.decode()], place)
    return text
