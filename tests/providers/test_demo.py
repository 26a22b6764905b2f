"""The demo: canned answers, canned calls of tools, and the names and images that it takes."""

import json

import msgspec
import pytest

from chatnest import DemoProvider
from chatnest.config.build import build_chat
from chatnest.config.sections import load_config
from chatnest.conversation import Message, ToolResult
from chatnest.conversation import ToolCall as Called
from chatnest.events import Delta, Finish, ToolCall, ToolCallDelta, Usage
from chatnest.providers.demo_calls import canned_call
from chatnest.requests import Tool, ToolChoice
from chatnest.testing.answer_contract import answer_of, question
from chatnest.turn import ModelCall

WEATHER = Tool(
    name="get_weather",
    description="The weather of a city.",
    parameters='{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}',
)
ASKED = "What is the weather in Oslo?"


def asking(text: str, *tools: Tool, **fields) -> ModelCall:
    call = question(text)
    call.request = msgspec.structs.replace(call.request, tools=tools, **fields)
    return call


@pytest.mark.anyio
async def test_a_question_about_a_tool_gets_a_call_and_its_result_an_answer():
    demo = DemoProvider(pace=0)
    call, arguments, finish, usage = await answer_of(demo, asking(ASKED, WEATHER))

    assert call == ToolCall(0, "call_1", "get_weather")
    assert isinstance(arguments, ToolCallDelta)
    assert json.loads(arguments.text) == {"city": "Oslo"}
    assert finish == Finish("tool_calls")
    assert isinstance(usage, Usage)
    assert usage.output_tokens > 0

    called = Called(id=call.id, name=call.name, arguments=arguments.text)
    result = ToolResult(call_id=call.id, text="Rain.\nA lot.")
    messages = (
        Message.of("user", ASKED),
        Message("assistant", (called,)),
        Message("tool", (result,)),
    )
    events = await answer_of(demo, asking(ASKED, WEATHER, messages=messages))
    text = "".join(event.text for event in events if isinstance(event, Delta))
    assert text.endswith("> Rain. A lot.")


@pytest.mark.anyio
async def test_a_call_that_does_not_fit_is_an_answer_instead():
    events = await answer_of(DemoProvider(pace=0), asking(ASKED, WEATHER, max_output_tokens=4))
    assert isinstance(events[0], Delta)


OTHER = Tool(name="save", description="Writes a file.")
CALLS = [
    (asking("Hello!", WEATHER), None),
    (asking(ASKED, OTHER, WEATHER), "get_weather"),
    (asking("Hello!", OTHER, WEATHER, tool_choice=ToolChoice(mode="required")), "save"),
    (
        asking("Hi", OTHER, WEATHER, tool_choice=ToolChoice(mode="required", name="get_weather")),
        "get_weather",
    ),
    (asking(ASKED, WEATHER, tool_choice=ToolChoice(mode="none")), None),
    (asking(ASKED), None),
]


@pytest.mark.parametrize(("call", "name"), CALLS)
def test_the_tool_is_the_one_that_the_question_is_about(call: ModelCall, name: str | None):
    made = canned_call(call.request)
    assert (made.name if made else None) == name


SCHEMAS: list[tuple[object, object]] = [
    ({"type": "string"}, "Oslo"),
    ({}, "Oslo"),
    (True, "Oslo"),
    ({"type": ["null", "string"]}, None),
    ({"type": "integer"}, 1),
    ({"type": "number", "minimum": 2.5}, 2.5),
    ({"type": "boolean"}, True),
    ({"type": "array", "items": {}}, []),
    ({"const": 7}, 7),
    ({"default": "x", "type": "string"}, "x"),
    ({"enum": ["b", "a"]}, "b"),
    ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, 1),
    ({"oneOf": []}, "Oslo"),
    ({"type": {}}, "Oslo"),
    ({"properties": {"a": {"type": "integer"}}, "required": ["a", "b"]}, {"a": 1, "b": "Oslo"}),
    ({"type": "object", "properties": 1, "required": 1}, {}),
]


@pytest.mark.parametrize(("schema", "value"), SCHEMAS)
def test_arguments_follow_the_schema(schema, value):
    parameters = {"type": "object", "properties": {"it": schema}, "required": ["it"]}
    tool = Tool(name="weather", parameters=json.dumps(parameters))
    made = canned_call(asking(ASKED, tool).request)

    assert made is not None
    assert json.loads(made.arguments) == {"it": value}


def test_a_schema_that_is_not_an_objects_gets_no_arguments():
    made = canned_call(
        asking("weather ...", Tool(name="weather", parameters='{"enum":[1]}')).request
    )
    assert made is not None
    assert made.arguments == "{}"


@pytest.mark.parametrize(
    ("model", "names"),
    [(None, ("demo", "default", "gpt-4o-mini")), ("my model", ("demo", "default"))],
)
def test_serve_demo_answers_to_the_name_of_the_configured_model(tmp_path, model, names):
    file = tmp_path / "chatnest.toml"
    file.write_text(
        '[ledger]\nurl = "memory:"\n' + (f'[provider]\nmodel = "{model}"\n' * bool(model))
    )
    (only,) = build_chat(load_config(file, {}, {}, demo=True)).models.candidates

    assert only.names == names
    assert only.takes_images
