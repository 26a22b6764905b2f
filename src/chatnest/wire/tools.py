"""Tools of a request, and the format of its answer: from their JSON to checked values. No I/O."""

from collections.abc import Sequence
from typing import Final, Literal, assert_never

import msgspec

from chatnest.errors import InvalidRequest
from chatnest.requests import OutputFormat, Tool, ToolChoice
from chatnest.tokens.tool_bounds import ToolCaps
from chatnest.wire.caps import is_tool_name
from chatnest.wire.places import Places
from chatnest.wire.shapes import (
    SentChoice,
    SentDefinition,
    SentFunction,
    SentJson,
    SentPlain,
    SentSchema,
)

__all__ = ["choice_of", "format_of", "schema_format", "tools_of"]

_CAPS: Final = ToolCaps()
_NULL: Final = b"null"


def tools_of(sent: Sequence[SentFunction], place: str, places: Places) -> tuple[Tool, ...]:
    """The tools, within the caps. ``place`` has ``{}`` for the number of a tool, as in
    ``tools[{}].function``.
    """
    if len(sent) > _CAPS.tools:
        raise InvalidRequest(f"tools: must be at most {_CAPS.tools}.")
    tools = tuple(_tool(each, place.format(number), places) for number, each in enumerate(sent))
    size = sum(len((tool.name + tool.description + tool.parameters).encode()) for tool in tools)
    if size > _CAPS.size:
        raise InvalidRequest(f"tools: must be at most {_CAPS.size:,} bytes of JSON.")
    return tools


def _tool(function: SentFunction, place: str, places: Places) -> Tool:
    if not is_tool_name(function.name):
        raise places.wrong(f"{place}.name")
    return Tool(
        name=function.name,
        description=function.description or "",
        parameters=_schema(function.parameters, f"{place}.parameters", places) or "{}",
        strict=function.strict,
    )


def _schema(raw: msgspec.Raw, place: str, places: Places) -> str | None:
    """The text of a JSON schema, or None if there is none."""
    data = bytes(raw).strip()
    if not data or data == _NULL:
        return None
    if not data.startswith(b"{"):
        raise places.wrong(place)
    _CAPS.check([text := data.decode()], place)
    return text


def choice_of(
    sent: Literal["auto", "none", "required"] | SentChoice | None,
    tools: Sequence[Tool],
    place: str,
    places: Places,
    *,
    parallel: bool | None,
) -> ToolChoice:
    """Which tools the model may call."""
    choice = ToolChoice(parallel=parallel)
    match sent:
        case None:
            return choice
        case SentChoice():
            name = sent.function.name
            if name not in {tool.name for tool in tools}:
                raise places.wrong(f"{place}.function.name")
            return ToolChoice(mode="required", name=name, parallel=parallel)
        case "auto" | "none" | "required":
            if sent == "required" and not tools:
                raise InvalidRequest(f"{place}: 'required' needs tools.")
            return ToolChoice(mode=sent, parallel=parallel)
        case _:
            assert_never(sent)


def format_of(
    sent: SentPlain | SentJson | SentSchema, place: str, places: Places
) -> OutputFormat | None:
    """The format of the answer, or None for text."""
    match sent:
        case SentPlain():
            return None
        case SentJson():
            return OutputFormat()
        case SentSchema(json_schema=found):
            return schema_format(found, f"{place}.json_schema", places)
        case _:
            assert_never(sent)


def schema_format(sent: SentDefinition, place: str, places: Places) -> OutputFormat:
    """A JSON schema as the format of the answer."""
    if not is_tool_name(sent.name):
        raise places.wrong(f"{place}.name")
    if (schema := _schema(sent.schema, f"{place}.schema", places)) is None:
        raise places.wrong(f"{place}.schema")
    return OutputFormat(
        name=sent.name, schema=schema, description=sent.description or "", strict=sent.strict
    )
