"""Tools of a request: from their JSON to checked values. No I/O."""

from collections.abc import Sequence
from typing import Final

from chatnest.requests import Tool
from chatnest.wire import tools as shared
from chatnest.wire.ag_ui.body import SentTool
from chatnest.wire.ag_ui.places import PLACES
from chatnest.wire.shapes import SentFunction

__all__ = ["tools_of"]

_MARK: Final = "\\u0000data:"
"""The beginning of a mark in JSON, which stands for what was cut out of a large body."""


def tools_of(sent: Sequence[SentTool]) -> tuple[Tool, ...]:
    """The tools, within the caps."""
    functions = [SentFunction(each.name, each.description, each.parameters) for each in sent]
    tools = shared.tools_of(functions, "tools[{}]", PLACES)
    for number, tool in enumerate(tools):
        if _MARK in tool.parameters:
            raise PLACES.wrong(f"tools[{number}].parameters")
    return tools
