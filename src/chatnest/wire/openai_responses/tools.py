"""Tools of a request, and the format of its answer: from their JSON to checked values. No I/O."""

from collections.abc import Sequence
from typing import Final, assert_never

import msgspec

from chatnest.errors import InvalidRequest
from chatnest.requests import AUTO, OutputFormat, Tool, ToolChoice
from chatnest.tokens.tool_bounds import ToolCaps
from chatnest.wire.caps import is_tool_name
from chatnest.wire.openai_responses.body import (
    Body,
    SentChoice,
    SentJson,
    SentPlain,
    SentSchema,
    SentTool,
)
from chatnest.wire.openai_responses.places import PLACES

__all__ = ["choice_of", "format_of", "tools_of"]

_CAPS: Final = ToolCaps()
_NULL: Final = b"null"


def tools_of(sent: Sequence[SentTool]) -> tuple[Tool, ...]:
    """The tools, within the caps."""
    if len(sent) > _CAPS.tools:
        raise InvalidRequest(f"tools: must be at most {_CAPS.tools}.")
    tools = tuple(_tool(each, f"tools[{number}]") for number, each in enumerate(sent))
    size = sum(len((tool.name + tool.description + tool.parameters).encode()) for tool in tools)
    if size > _CAPS.size:
        raise InvalidRequest(f"tools: must be at most {_CAPS.size:,} bytes of JSON.")
    return tools


def _tool(sent: SentTool, place: str) -> Tool:
    if not is_tool_name(sent.name):
        raise PLACES.wrong(f"{place}.name")
    return Tool(
        name=sent.name,
        description=sent.description or "",
        parameters=_schema(sent.parameters, f"{place}.parameters") or "{}",
        strict=sent.strict,
    )


def _schema(raw: msgspec.Raw, place: str) -> str | None:
    """The text of a JSON schema, or None if there is none."""
    data = bytes(raw).strip()
    if not data or data == _NULL:
        return None
    if not data.startswith(b"{"):
        raise PLACES.wrong(place)
    _CAPS.check([text := data.decode()], place)
    return text


def choice_of(body: Body, tools: Sequence[Tool]) -> ToolChoice:
    """Which tools the model may call."""
    sent, parallel = body.tool_choice, body.parallel_tool_calls
    match sent:
        case None:
            return AUTO if parallel is None else ToolChoice(parallel=parallel)
        case SentChoice(name=name):
            if name not in {tool.name for tool in tools}:
                raise PLACES.wrong("tool_choice.name")
            return ToolChoice(mode="required", name=name, parallel=parallel)
        case "auto" | "none" | "required":
            if sent == "required" and not tools:
                raise InvalidRequest("tool_choice: 'required' needs tools.")
            return ToolChoice(mode=sent, parallel=parallel)
        case _:
            assert_never(sent)


def format_of(sent: SentPlain | SentJson | SentSchema | None) -> OutputFormat | None:
    """The format of the answer, or None for text."""
    match sent:
        case None | SentPlain():
            return None
        case SentJson():
            return OutputFormat()
        case SentSchema():
            place = "text.format"
            if not is_tool_name(sent.name):
                raise PLACES.wrong(f"{place}.name")
            if (schema := _schema(sent.schema, f"{place}.schema")) is None:
                raise PLACES.wrong(f"{place}.schema")
            return OutputFormat(
                name=sent.name,
                schema=schema,
                description=sent.description or "",
                strict=sent.strict,
            )
        case _:
            assert_never(sent)
