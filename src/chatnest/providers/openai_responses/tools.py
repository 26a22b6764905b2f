"""The tools and the answer's format as fields of a request to the Responses API. No I/O."""

from typing import Any

import msgspec

from chatnest.requests import ModelRequest, OutputFormat, Tool

__all__ = ["text_fields", "tool_fields"]


def tool_fields(request: ModelRequest) -> dict[str, Any]:
    """The tools of a request, and which of them the model may call."""
    if not request.tools:
        return {}
    choice = request.tool_choice
    fields: dict[str, Any] = {"tools": [_tool(tool) for tool in request.tools]}
    if choice.name is not None:
        fields["tool_choice"] = {"type": "function", "name": choice.name}
    else:
        fields["tool_choice"] = choice.mode
    if choice.parallel is not None:
        fields["parallel_tool_calls"] = choice.parallel
    return fields


def _tool(tool: Tool) -> dict[str, Any]:
    """A tool without ``strict`` is not strict, as in Chat Completions. OpenAI would otherwise make
    all of its arguments required.
    """
    fields: dict[str, Any] = {"type": "function", "name": tool.name}
    if tool.description:
        fields["description"] = tool.description
    fields["parameters"] = msgspec.Raw(tool.parameters.encode())
    fields["strict"] = bool(tool.strict)
    return fields


def text_fields(output: OutputFormat | None) -> dict[str, Any]:
    """The format of the answer, if it is JSON."""
    if output is None:
        return {}
    if output.schema is None:
        return {"text": {"format": {"type": "json_object"}}}
    form: dict[str, Any] = {"type": "json_schema", "name": output.name}
    if output.description:
        form["description"] = output.description
    form["schema"] = msgspec.Raw(output.schema.encode())
    if output.strict is not None:
        form["strict"] = output.strict
    return {"text": {"format": form}}
