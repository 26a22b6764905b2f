"""What the Responses API is sent: items, tools, forms, and the fields that a model takes."""

import json
from typing import Any

import msgspec
import pytest
from openai.types.responses import ResponseInputItemParam
from pydantic import TypeAdapter

from chatnest.conversation import (
    Image,
    Message,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
)
from chatnest.errors import ConfigurationError
from chatnest.providers.openai_responses.input_items import input_items
from chatnest.providers.openai_responses.parameters import Parameters, ResponsesParameters
from chatnest.providers.openai_responses.tools import text_fields, tool_fields
from chatnest.requests import ModelRequest, OutputFormat, Sampling, Tool, ToolChoice

MODEL = "gpt-5-mini"
CALL = ToolCall(id="call_1", name="look_up", arguments='{"a": 1 }')
RESULT = ToolResult(call_id="call_1", text="42")
PICTURE = Image(media_type="image/png", data="aGk=")


def thought(**fields: Any) -> Reasoning:
    known: dict[str, Any] = {"text": "Hm", "signature": "c2VjcmV0", "id": "rs_1"}
    return Reasoning(**{**known, "provider": "openai-responses", "model": MODEL, **fields})


THOUGHT = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [{"type": "summary_text", "text": "Hm"}],
    "encrypted_content": "c2VjcmV0",
}
SENT_CALL = {
    "type": "function_call",
    "call_id": "call_1",
    "name": "look_up",
    "arguments": '{"a": 1 }',
}


def said(role: str, content: Any) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": content}


ITEMS: dict[str, tuple[Message, list[dict[str, Any]]]] = {
    "the system's": (Message.of("system", "Be kind."), [said("system", "Be kind.")]),
    "the user's": (Message.of("user", "Hello"), [said("user", "Hello")]),
    "several texts": (Message("user", (Text("a"), Text("\n\nb"))), [said("user", "a\n\nb")]),
    "an image": (
        Message("user", (Text("See"), PICTURE)),
        [
            said(
                "user",
                [
                    {"type": "input_text", "text": "See"},
                    {
                        "type": "input_image",
                        "image_url": "data:image/png;base64,aGk=",
                        "detail": "high",
                    },
                ],
            )
        ],
    ),
    "an answer": (Message.of("assistant", "Hi"), [said("assistant", "Hi")]),
    "a refusal": (
        Message("assistant", (Text("Hm."), Refusal("I cannot."))),
        [
            said(
                "assistant",
                [
                    {"type": "output_text", "text": "Hm.", "annotations": []},
                    {"type": "refusal", "refusal": "I cannot."},
                ],
            )
        ],
    ),
    "thinking, text and a call, in their order": (
        Message("assistant", (thought(), Text("Let me see."), thought(id="rs_2", text=""), CALL)),
        [
            THOUGHT,
            said("assistant", "Let me see."),
            THOUGHT | {"id": "rs_2", "summary": []},
            SENT_CALL,
        ],
    ),
    "thinking without an id": (
        Message("assistant", (thought(id=""), CALL)),
        [{name: value for name, value in THOUGHT.items() if name != "id"}, SENT_CALL],
    ),
    "thinking of another model": (Message("assistant", (thought(model="o3"), CALL)), [SENT_CALL]),
    "thinking of another dialect": (
        Message("assistant", (thought(provider="anthropic-messages"), CALL)),
        [SENT_CALL],
    ),
    "thinking without a signature": (
        Message("assistant", (thought(signature=""), CALL)),
        [SENT_CALL],
    ),
    "thinking that led to nothing": (Message("assistant", (CALL, thought())), [SENT_CALL]),
    "thinking alone": (Message("assistant", (thought(), thought())), []),
    "results": (
        Message("tool", (RESULT, ToolResult(call_id="call_2", text="no", is_error=True))),
        [
            {"type": "function_call_output", "call_id": "call_1", "output": "42"},
            {"type": "function_call_output", "call_id": "call_2", "output": "no"},
        ],
    ),
}


@pytest.mark.parametrize(("message", "items"), ITEMS.values(), ids=ITEMS)
def test_a_message_becomes_items(message, items):
    assert input_items([message], model=MODEL, image_detail="high") == items


@pytest.mark.parametrize(("message", "items"), ITEMS.values(), ids=ITEMS)
def test_the_sdk_knows_the_items(message, items):
    """But for ids, and for the status of an answer in parts, which OpenAI does not require."""
    adapter: TypeAdapter[Any] = TypeAdapter(ResponseInputItemParam)
    for item in items:
        known = {"id": "rs_1"} if item["type"] == "reasoning" else {}
        if item.get("role") == "assistant" and isinstance(item["content"], list):
            known = {"id": "msg_1", "status": "completed"}
        adapter.validate_python(known | item)


def test_arguments_go_back_as_they_came():
    broken = ToolCall(id="call_1", name="look_up", arguments='{"a": ')
    (item,) = input_items([Message("assistant", (broken,))], model=MODEL, image_detail="low")

    assert item["arguments"] == '{"a": '


# ---------------------------------------------------------------- tools and forms


def request(**fields: Any) -> ModelRequest:
    return ModelRequest(messages=(), max_output_tokens=50, temperature=0.5, **fields)


def encoded(value: object) -> Any:
    return json.loads(msgspec.json.encode(value))


TOOL = Tool(name="look_up", description="Looks up.", parameters='{"type": "object"}', strict=True)
SENT_TOOL = {
    "type": "function",
    "name": "look_up",
    "description": "Looks up.",
    "parameters": {"type": "object"},
    "strict": True,
}


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        (ToolChoice(), {"tool_choice": "auto"}),
        (ToolChoice(mode="none"), {"tool_choice": "none"}),
        (ToolChoice(mode="required"), {"tool_choice": "required"}),
        (
            ToolChoice(mode="required", name="look_up"),
            {"tool_choice": {"type": "function", "name": "look_up"}},
        ),
        (ToolChoice(parallel=False), {"tool_choice": "auto", "parallel_tool_calls": False}),
    ],
)
def test_tools_are_flat(choice, sent):
    fields = tool_fields(request(tools=(TOOL,), tool_choice=choice))

    assert encoded(fields) == {"tools": [SENT_TOOL]} | sent


def test_a_tool_has_no_field_that_was_not_set_and_is_not_strict_unless_it_was_asked_for():
    fields = tool_fields(request(tools=(Tool(name="stop"),)))

    assert encoded(fields["tools"]) == [
        {"type": "function", "name": "stop", "parameters": {}, "strict": False}
    ]
    assert tool_fields(request(tool_choice=ToolChoice(mode="required"))) == {}


@pytest.mark.parametrize(
    ("output", "form"),
    [
        (OutputFormat(), {"type": "json_object"}),
        (
            OutputFormat(name="a", schema='{"type":"object"}', description="d", strict=True),
            {
                "type": "json_schema",
                "name": "a",
                "description": "d",
                "schema": {"type": "object"},
                "strict": True,
            },
        ),
        (OutputFormat(schema="{}"), {"type": "json_schema", "name": "answer", "schema": {}}),
    ],
)
def test_a_form_is_in_text(output, form):
    assert encoded(text_fields(output)) == {"text": {"format": form}}


def test_without_a_form_there_is_no_field():
    assert text_fields(None) == {}


# ---------------------------------------------------------------- parameters


def fields(
    model: str, *, obfuscates: bool = False, told: Any = None, **asked: Any
) -> dict[str, Any]:
    known = ResponsesParameters(**(told or {}))
    return Parameters.of(model, known, obfuscates=obfuscates).fields(request(**asked))


THINKS = {"store": False, "include": ["reasoning.encrypted_content"]}
PLAIN = {"store": False, "temperature": 0.5}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (fields("gpt-4o"), PLAIN),
        (fields("o3"), THINKS),
        (fields("gpt-4o", obfuscates=True),
         PLAIN | {"stream_options": {"include_obfuscation": False}}),
        (fields("gpt-4o", sampling=Sampling(temperature=0.0, top_p=0.1)),
         PLAIN | {"temperature": 0.0, "top_p": 0.1}),
        (fields("o3", sampling=Sampling(temperature=0.0, top_p=0.1, seed=1)), THINKS),
        (fields("o3", effort="low"), THINKS | {"reasoning": {"effort": "low", "summary": "auto"}}),
        (fields("o3", effort="none"), THINKS | {"reasoning": {"effort": "none"}}),
        (fields("o3", told={"reasoning_effort": "high"}),
         THINKS | {"reasoning": {"effort": "high", "summary": "auto"}}),
        (fields("o3", told={"reasoning_effort": "high"}, effort="low"),
         THINKS | {"reasoning": {"effort": "low", "summary": "auto"}}),
        (fields("o3", told={"reasoning_summary": "concise"}),
         THINKS | {"reasoning": {"summary": "concise"}}),
        (fields("gpt-4o", told={"reasoning_summary": "concise"}), PLAIN),
        (fields("o3", told={"reasons": False}), PLAIN),
        (fields("grok-4", told={"reasons": True}), THINKS),
        (fields("grok-4", told={"reasons": True, "send_temperature": True}),
         THINKS | {"temperature": 0.5}),
    ],
)  # fmt: skip
def test_fields_are_those_of_the_model(found, expected):
    assert found == expected


@pytest.mark.parametrize(
    ("field", "left"),
    [
        ("store", {"include", "reasoning", "stream_options", "temperature", "top_p"}),
        ("stream_options", {"include", "reasoning", "store", "temperature", "top_p"}),
        ("include", {"reasoning", "store", "stream_options", "temperature", "top_p"}),
        ("temperature", {"include", "reasoning", "store", "stream_options"}),
        ("top_p", {"include", "reasoning", "store", "stream_options", "temperature"}),
        ("reasoning", {"include", "store", "stream_options", "temperature", "top_p"}),
    ],
)
def test_a_field_that_is_refused_is_left_out(field, left):
    told = ResponsesParameters(reasons=True, send_temperature=True)
    parameters = Parameters.of("m", told, obfuscates=True).without(field)

    assert parameters.fields(request(effort="low", sampling=Sampling(top_p=0.1))).keys() == left


def test_a_part_of_reasoning_that_is_refused_is_left_out():
    parameters = Parameters.of("o3", ResponsesParameters(), obfuscates=False)
    asked = request(effort="low")

    assert parameters.without("reasoning.summary").fields(asked)["reasoning"] == {"effort": "low"}
    assert "reasoning" not in parameters.without("reasoning.effort").fields(asked)


def test_a_summary_that_does_not_exist_is_refused():
    with pytest.raises(ConfigurationError, match="reasoning_summary: expected auto, concise"):
        ResponsesParameters(reasoning_summary="long")  # type: ignore[arg-type]
