"""Tools of a request, and the format of its answer: from their JSON to checked values. No I/O."""

from collections.abc import Iterable, Sequence
from typing import Final, Literal, Protocol, assert_never

import msgspec

from chatnest.errors import InvalidRequest
from chatnest.requests import AUTO, OutputFormat, Tool, ToolChoice
from chatnest.tokens.tool_bounds import ToolCaps
from chatnest.wire.caps import is_tool_name
from chatnest.wire.places import Places
from chatnest.wire.shapes import (
    SentChoice,
    SentJson,
    SentPlain,
    SentSchema,
)

__all__ = [
    "Definition",
    "Function",
    "choice_of",
    "format_of",
    "named_choice",
    "schema_format",
    "schema_of",
    "tools_of",
    "within_caps",
]

_CAPS: Final = ToolCaps()
_NULL: Final = b"null"


class Function(Protocol):
    """The function of a tool in a request."""

    @property
    def name(self) -> str: ...
    @property
    def description(self) -> str | None: ...
    @property
    def parameters(self) -> msgspec.Raw: ...
    @property
    def strict(self) -> bool | None: ...


class Definition(Protocol):
    """A JSON schema and its name in a request."""

    @property
    def name(self) -> str: ...
    @property
    def schema(self) -> msgspec.Raw: ...
    @property
    def description(self) -> str | None: ...
    @property
    def strict(self) -> bool | None: ...


def tools_of(sent: Sequence[Function], place: str, places: Places) -> tuple[Tool, ...]:
    """The tools, within the caps. ``place`` has ``{}`` for the number of a tool, as in
    ``tools[{}].function``.
    """
    tools = (_tool(each, place.format(number), places) for number, each in enumerate(sent))
    return within_caps(tools, len(sent))


def within_caps(made: Iterable[Tool], number: int) -> tuple[Tool, ...]:
    """The tools, within the caps. There are ``number`` of them, and none is made if that is too
    many.
    """
    if number > _CAPS.tools:
        raise InvalidRequest(f"tools: must be at most {_CAPS.tools}.")
    tools = tuple(made)
    size = sum(len((tool.name + tool.description + tool.parameters).encode()) for tool in tools)
    if size > _CAPS.size:
        raise InvalidRequest(f"tools: must be at most {_CAPS.size:,} bytes of JSON.")
    return tools


def _tool(function: Function, place: str, places: Places) -> Tool:
    if not is_tool_name(function.name):
        raise places.wrong(f"{place}.name")
    return Tool(
        name=function.name,
        description=function.description or "",
        parameters=schema_of(function.parameters, f"{place}.parameters", places) or "{}",
        strict=function.strict,
    )


def schema_of(raw: msgspec.Raw, place: str, places: Places) -> str | None:
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
    match sent:
        case None:
            return AUTO if parallel is None else ToolChoice(parallel=parallel)
        case SentChoice(function=found):
            here = f"{place}.function.name"
            return named_choice(found.name, tools, here, places, parallel=parallel)
        case "auto" | "none" | "required":
            if sent == "required" and not tools:
                raise InvalidRequest(f"{place}: 'required' needs tools.")
            return ToolChoice(mode=sent, parallel=parallel)
        case _:
            assert_never(sent)


def named_choice(
    name: str, tools: Sequence[Tool], place: str, places: Places, *, parallel: bool | None
) -> ToolChoice:
    """The choice of one tool by its name."""
    if name not in {tool.name for tool in tools}:
        raise places.wrong(place)
    return ToolChoice(mode="required", name=name, parallel=parallel)


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


def schema_format(sent: Definition, place: str, places: Places) -> OutputFormat:
    """A JSON schema as the format of the answer."""
    if not is_tool_name(sent.name):
        raise places.wrong(f"{place}.name")
    if (schema := schema_of(sent.schema, f"{place}.schema", places)) is None:
        raise places.wrong(f"{place}.schema")
    return OutputFormat(
        name=sent.name, schema=schema, description=sent.description or "", strict=sent.strict
    )
