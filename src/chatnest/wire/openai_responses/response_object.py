"""The ``response`` object of the Responses API, from its creation to its end. No I/O."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from chatnest._util.identifiers import seconds_of
from chatnest.events import Usage
from chatnest.requests import AUTO, ChatRequest, OutputFormat, Tool, ToolChoice
from chatnest.wire.base import StreamInfo

__all__ = ["INCOMPLETE", "id_of", "response_object", "usage_object"]

INCOMPLETE: Final = {"length": "max_output_tokens", "content_filter": "content_filter"}
"""The reason for an incomplete response, by endings.plain_reason."""


def id_of(run_id: str) -> str:
    """The id of the response of a run, which is also the id of the request."""
    return f"resp_{run_id}"


def response_object(
    info: StreamInfo,
    status: str,
    *,
    output: Sequence[object] = (),
    usage: Usage | None = None,
    incomplete: str | None = None,
    error: Mapping[str, object] | None = None,
) -> dict[str, Any]:
    """The response to a request at any time. ``incomplete`` is the reason why it is incomplete.

    It repeats the tools and the settings of the request. Other fields of OpenAI's object, which
    depend on what this server does not have, are absent or empty.
    """
    return {
        "id": id_of(info.answer_id),
        "object": "response",
        "created_at": seconds_of(info.answer_id),
        "status": status,
        "background": False,
        "error": error,
        "incomplete_details": None if incomplete is None else {"reason": incomplete},
        "instructions": None,
        **_settings(info.request),
        "metadata": {},
        "model": info.model,
        "output": output,
        "previous_response_id": None,
        "store": False,
        "truncation": "disabled",
        "usage": None if usage is None else usage_object(usage),
    }


def usage_object(usage: Usage) -> dict[str, Any]:
    """The usage of a response."""
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cached_tokens,
            "cache_write_tokens": usage.cache_written_tokens,
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.total_tokens,
    }


def _settings(request: ChatRequest | None) -> dict[str, Any]:
    """The settings of a request, which a response repeats."""
    if request is None:
        return {"parallel_tool_calls": True, "tool_choice": "auto", "tools": []}
    choice, sampling = request.tool_choice, request.sampling
    return {
        "max_output_tokens": request.max_output_tokens,
        "parallel_tool_calls": choice.parallel is not False,
        "reasoning": {"effort": request.effort, "summary": None},
        "temperature": sampling.temperature,
        "text": {"format": _format(request.output)},
        "tool_choice": _choice(choice),
        "tools": [_tool(tool) for tool in request.tools],
        "top_p": sampling.top_p,
    }


def _choice(choice: ToolChoice) -> object:
    if choice is AUTO:  # nearly always
        return "auto"
    return choice.mode if choice.name is None else {"type": "function", "name": choice.name}


def _tool(tool: Tool) -> dict[str, Any]:
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": _one_line(tool.parameters),
        "strict": tool.strict,
    }


def _format(output: OutputFormat | None) -> dict[str, Any]:
    if output is None:
        return {"type": "text"}
    if output.schema is None:
        return {"type": "json_object"}
    return {
        "type": "json_schema",
        "name": output.name,
        "description": output.description,
        "schema": _one_line(output.schema),
        "strict": output.strict,
    }


def _one_line(schema: str) -> msgspec.Raw:
    """A JSON schema without the line breaks with which the client may have written it."""
    return msgspec.Raw(msgspec.json.format(schema, indent=-1).encode())
