"""Definitions: the tools and the output format of a request, as JSON that is counted. No I/O."""

import msgspec

from chatnest.requests import ChatRequest, OutputFormat, Tool
from chatnest.tokens.tool_bounds import FORCED_CHOICE_TOKENS, Countable, definitions

__all__ = ["definitions_of", "size_of_definitions"]

_encoder = msgspec.json.Encoder()


def definitions_of(request: ChatRequest) -> Countable:
    """Everything that they add to a request. Raises InvalidRequest for a schema that is not JSON,
    or exceeds a cap.
    """
    found = definitions([_tool(tool) for tool in request.tools])
    if request.tool_choice.mode == "required":
        found += Countable(tokens=FORCED_CHOICE_TOKENS)
    if request.output is not None:
        found += definitions([_output(request.output)], field="output")
    return found


def size_of_definitions(request: ChatRequest) -> int:
    """The characters of the tools and the output format."""
    size = sum(len(tool.description) + len(tool.parameters) for tool in request.tools)
    output = request.output
    return size + (len(output.description) + len(output.schema or "") if output is not None else 0)


def _tool(tool: Tool) -> str:
    head = _encoder.encode({"name": tool.name, "description": tool.description}).decode()
    return f'{head[:-1]}, "parameters": {tool.parameters}}}'


def _output(output: OutputFormat) -> str:
    head = _encoder.encode({"name": output.name, "description": output.description}).decode()
    return f'{head[:-1]}, "schema": {output.schema or "{}"}}}'
