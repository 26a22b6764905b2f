"""Tools of a request: from their JSON to checked values. No I/O."""

from collections.abc import Sequence
from typing import Final

from chatnest.errors import InvalidRequest
from chatnest.requests import Tool
from chatnest.tokens.tool_bounds import ToolCaps
from chatnest.wire.ag_ui.body import SentTool
from chatnest.wire.ag_ui.places import PLACES
from chatnest.wire.caps import is_tool_name

__all__ = ["tools_of"]

_CAPS: Final = ToolCaps()
_NULL: Final = b"null"
_MARK: Final = "\\u0000data:"
"""The beginning of a mark in JSON, which stands for what was cut out of a large body."""


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
    parameters = bytes(sent.parameters).strip()
    if not parameters or parameters == _NULL:
        return Tool(name=sent.name, description=sent.description or "")
    text = parameters.decode()
    if not text.startswith("{") or _MARK in text:
        raise PLACES.wrong(f"{place}.parameters")
    _CAPS.check([text], f"{place}.parameters")
    return Tool(name=sent.name, description=sent.description or "", parameters=text)
