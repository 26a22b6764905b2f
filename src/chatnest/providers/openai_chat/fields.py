"""The fields of a request for tools and for the form of the answer. No I/O."""

from typing import Any, Final

import msgspec

from chatnest.requests import ModelRequest, OutputFormat, Tool, ToolChoice

__all__ = ["output_field", "tool_fields"]

_NO_PARAMETERS: Final = msgspec.Raw(b'{"type":"object","properties":{}}')
"""The schema of a tool without parameters. OpenAI, DeepSeek and Groq reject an empty object."""

_ANY_OBJECT: Final = {"type": "object"}


def tool_fields(request: ModelRequest) -> dict[str, Any]:
    """The fields for tools: none without tools, since servers reject a choice of nothing."""
    if not request.tools:
        return {}
    fields: dict[str, Any] = {"tools": list(map(_tool, request.tools))}
    if (choice := _choice(request.tool_choice)) is not None:
        fields["tool_choice"] = choice
    if request.tool_choice.parallel is not None:
        fields["parallel_tool_calls"] = request.tool_choice.parallel
    return fields


def _tool(tool: Tool) -> dict[str, Any]:
    schema = tool.parameters.strip()
    function: dict[str, Any] = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    function["parameters"] = _NO_PARAMETERS if _is_empty(schema) else msgspec.Raw(schema.encode())
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _is_empty(schema: str) -> bool:
    return schema[:1] == "{" and not schema[1:-1].strip()


def _choice(choice: ToolChoice) -> str | dict[str, Any] | None:
    """The choice, or None for the default. Some models reject the field in any form."""
    if choice.name is not None:
        return {"type": "function", "function": {"name": choice.name}}
    return None if choice.mode == "auto" else choice.mode


def output_field(output: OutputFormat, *, object_as_schema: bool) -> dict[str, Any]:
    """The ``response_format``. OpenAI's forms are those of llama.cpp, Ollama and vLLM as well.

    LM Studio has no ``json_object``; with ``object_as_schema``, the schema of any object takes its
    place.
    """
    if output.schema is None and not object_as_schema:
        return {"type": "json_object"}
    described: dict[str, Any] = {"name": output.name}
    if output.description:
        described["description"] = output.description
    schema = output.schema
    described["schema"] = _ANY_OBJECT if schema is None else msgspec.Raw(schema.encode())
    if output.strict is not None and schema is not None:
        described["strict"] = output.strict
    return {"type": "json_schema", "json_schema": described}
