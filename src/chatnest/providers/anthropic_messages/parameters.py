"""request_body: a ModelRequest in the form of Anthropic's API, for one model. No I/O.

The API refuses combinations of fields, such as thinking with a temperature or with a required call
of a tool. The less important field of such a combination is left out.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from chatnest.providers.anthropic_messages.messages import Sent, raw_object, sent_messages
from chatnest.providers.anthropic_messages.models import Traits
from chatnest.requests import ModelRequest, OutputFormat, Tool, ToolChoice

__all__ = ["hidden_tokens", "request_body"]

_LEAST_BUDGET: Final = 1_024
"""The least budget for thinking that the API accepts."""

_ROOM_TO_THINK: Final = 2_048
"""The least output with which a model thinks without being asked. It would spend a smaller one on
its thinking, and write nothing.
"""

_SHARES: Final = {"minimal": 0.1, "low": 0.2, "medium": 0.5, "high": 0.8, "xhigh": 0.875}
"""The share of the output that thinking may take, by the effort."""

_WARMEST: Final = 1.0
"""The highest temperature of Claude."""

_JSON: Final = "Answer with one JSON object, and with nothing before or after it."


class _Thinking(msgspec.Struct, frozen=True):
    """The field ``thinking``, if any, whether the model then thinks, and its effort."""

    field: dict[str, Any] | None
    on: bool
    effort: str = ""


def request_body(
    request: ModelRequest, model: str, traits: Traits, options: Mapping[str, Any]
) -> dict[str, Any]:
    """The body of the request. ``options`` are additional fields, which replace ours. Their tools
    are those that the server runs, beside the client's.
    """
    sent = sent_messages(request.messages, model, is_claude=traits.is_claude)
    thinking = _thinking(request, traits, sent)
    system = sent.system
    output: dict[str, Any] = {}
    if thinking.effort:
        output["effort"] = thinking.effort
    if request.output is not None:
        if request.output.schema is not None and traits.formats:
            schema = raw_object(request.output.schema)
            output["format"] = {"type": "json_schema", "schema": schema}
        else:
            system = "\n\n".join(filter(None, (system, _instruction(request.output))))
    body: dict[str, Any] = {"model": model, "max_tokens": request.max_output_tokens}
    if system:
        body["system"] = system
    body["messages"] = sent.messages
    body["stream"] = True
    if thinking.field is not None:
        body["thinking"] = thinking.field
    if output:
        body["output_config"] = output
    body |= _sampling(request, traits) if not thinking.on else {}
    if stop := [text for text in request.sampling.stop if text.strip()]:
        body["stop_sequences"] = stop
    tools = [_tool(tool, traits) for tool in request.tools]
    if tools and (choice := _tool_choice(request.tool_choice, traits)) is not None:
        body["tool_choice"] = choice
    tools += options.get("tools", ())
    return body | dict(options) | ({"tools": tools} if tools else {})


def hidden_tokens(body: Mapping[str, Any], most: int, traits: Traits) -> int | None:
    """The maximum tokens that the model may think for a request without showing them, of ``most``
    tokens of output. Claude shows summaries. Most of the servers that imitate its API show their
    thinking: None, since not all of them do.
    """
    if not traits.is_claude:
        return None
    match body.get("thinking"):
        case {"type": "enabled", "budget_tokens": int(budget)}:
            return min(budget, most)
        case {"type": "disabled"}:
            return 0
        case None if not traits.thinks:
            return 0
        case _:
            return most


def _thinking(request: ModelRequest, traits: Traits, sent: Sent) -> _Thinking:
    effort = request.effort
    asked = effort != "none" and (effort is not None or request.max_reasoning_tokens is not None)
    is_forced = _is_forced(request, traits)
    level = _level(effort, traits)
    if traits.thinking == "adaptive":
        has_room = asked or request.max_output_tokens >= _ROOM_TO_THINK
        if (asked or traits.thinks) and effort != "none" and has_room and not is_forced:
            return _Thinking({"type": "adaptive", "display": "summarized"}, on=True, effort=level)
        if not traits.thinks:
            return _Thinking(None, on=False, effort=level)
        if traits.off is None:
            return _Thinking(None, on=True, effort=level or _level("low", traits))
        return _Thinking(
            {"type": traits.off}, on=False, effort="high" if level == "xhigh" else level
        )
    budget = _budget(request) if asked and not is_forced and sent.may_think else 0
    if traits.thinking is None or budget < _LEAST_BUDGET:
        return _Thinking(None, on=False, effort=level)
    return _Thinking({"type": "enabled", "budget_tokens": budget}, on=True, effort=level)


def _budget(request: ModelRequest) -> int:
    """The tokens for thinking. An eighth of the output is left for the answer."""
    output = request.max_output_tokens
    most = output - output // 8
    if request.max_reasoning_tokens is not None:
        most = min(most, request.max_reasoning_tokens)
    if request.effort is None:
        return most
    return min(most, max(_LEAST_BUDGET, int(output * _SHARES.get(request.effort, 0))))


def _level(effort: str | None, traits: Traits) -> str:
    """The effort in the words of the API, as far as the model accepts it; empty to leave it out."""
    if effort is None or effort == "none" or not traits.efforts:
        return ""
    if effort == "minimal":
        return traits.efforts[0]
    return effort if effort in traits.efforts else traits.efforts[-1]


def _sampling(request: ModelRequest, traits: Traits) -> dict[str, float]:
    if not traits.sampling:
        return {}
    asked = request.sampling
    temperature = request.temperature if asked.temperature is None else asked.temperature
    fields = {"temperature": min(temperature, _WARMEST) if traits.is_claude else temperature}
    if asked.top_p is not None:
        if traits.both:
            fields["top_p"] = asked.top_p
        elif asked.temperature is None:  # one of them, and the client named this one
            fields = {"top_p": asked.top_p}
    return fields


def _is_forced(request: ModelRequest, traits: Traits) -> bool:
    is_required = bool(request.tools) and request.tool_choice.mode == "required"
    return is_required and traits.forced_tools


def _tool_choice(choice: ToolChoice, traits: Traits) -> dict[str, Any] | None:
    if choice.mode == "none":
        return {"type": "none"}
    field: dict[str, Any] = {"type": "auto"}
    if choice.mode == "required" and traits.forced_tools:
        field = {"type": "any"} if choice.name is None else {"type": "tool", "name": choice.name}
    if choice.parallel is False:
        field["disable_parallel_tool_use"] = True
    return None if field == {"type": "auto"} else field


def _tool(tool: Tool, traits: Traits) -> dict[str, Any]:
    field: dict[str, Any] = {"name": tool.name}
    if tool.description:
        field["description"] = tool.description
    field["input_schema"] = _object_schema(tool.parameters)
    if tool.strict and traits.formats:
        field["strict"] = True
    return field


def _object_schema(schema: str) -> Any:
    """A schema of arguments as it came. The API requires that its type is ``object``."""
    raw = raw_object(schema)
    fields: dict[str, Any] = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    return raw if "type" in fields else {"type": "object", **fields}


def _instruction(output: OutputFormat) -> str:
    """The form of the answer in words, for a model that accepts no schema."""
    if output.schema is None:
        return _JSON
    return f"{_JSON} It must be valid by this JSON schema: {output.schema}"
