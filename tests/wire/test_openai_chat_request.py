"""A request for a chat completion: what is taken, what is ignored, and what is refused."""

import base64
import json
from typing import Any

import msgspec
import pytest
from openai.types.chat import completion_create_params as params

from chatnest.asgi.data_urls import SMALL_BODY
from chatnest.conversation import Image, Message, Reasoning, Refusal, Text, ToolCall, ToolResult
from chatnest.errors import InvalidRequest
from chatnest.requests import ChatRequest, OutputFormat, Sampling, Submission, Tool, ToolChoice
from chatnest.wire.native import parse_request as parse_native
from chatnest.wire.openai_chat.body import Body
from chatnest.wire.openai_chat.request import parse_request
from chatnest.wire.openai_problem import error_object
from tests.test_image_size import png

CANARY = "CaNaRy"
HI: dict[str, Any] = {"role": "user", "content": "Hi"}
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {"name": "weather", "description": "w", "parameters": SCHEMA, "strict": True},
}
CALL: dict[str, Any] = {
    "id": "c1",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"city":"Os'},
}
RESULT: dict[str, Any] = {"role": "tool", "tool_call_id": "c1", "content": "Rain"}
PLAIN = Submission(may_be_empty=True, stream=False)


def body(*messages: dict[str, Any], **fields: Any) -> bytes:
    return json.dumps({"messages": messages or [HI], **fields}).encode()


def parsed(*messages: dict[str, Any], **fields: Any) -> ChatRequest:
    return parse_request(body(*messages, **fields))


def messages_of(*messages: dict[str, Any]) -> tuple[Message, ...]:
    return parsed(*messages).messages


def refusal(*messages: dict[str, Any], **fields: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        parsed(*messages, **fields)
    assert CANARY not in caught.value.detail
    return caught.value


def param(error: InvalidRequest) -> str | None:
    return error_object(error, charged=False, names={})["param"]


def test_the_least_is_a_question_and_gets_one_document():
    expected = ChatRequest(messages=(Message.of("user", "Hi"),), submission=PLAIN)

    assert parsed() == expected


TAKEN: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "a model": ({"model": "org/model:x"}, {"model": "org/model:x"}),
    "a stream": ({"stream": True}, {"submission": Submission(may_be_empty=True)}),
    "no stream": ({"stream": False}, {}),
    "the cost": (
        {"stream": True, "stream_options": {"include_usage": True, "include_obfuscation": True}},
        {"submission": Submission(may_be_empty=True), "usage_event": True},
    ),
    "not the cost": ({"stream_options": {"include_usage": False}}, {}),
    "the old limit": ({"max_tokens": 9}, {"max_output_tokens": 9}),
    "the new limit": ({"max_completion_tokens": 8}, {"max_output_tokens": 8}),
    "the lower of both": (
        {"max_tokens": 9, "max_completion_tokens": 8},
        {"max_output_tokens": 8},
    ),
    "the sampling": (
        {
            "temperature": 2,
            "top_p": 0.5,
            "presence_penalty": -2,
            "frequency_penalty": 1.5,
            "seed": -1,
            "stop": ["a", "b"],
        },
        {
            "sampling": Sampling(
                temperature=2,
                top_p=0.5,
                presence_penalty=-2,
                frequency_penalty=1.5,
                seed=-1,
                stop=("a", "b"),
            )
        },
    ),
    "a word to stop at": ({"stop": "a"}, {"sampling": Sampling(stop=("a",))}),
    "an effort": ({"reasoning_effort": "minimal"}, {"effort": "minimal"}),
    "the highest effort": ({"reasoning_effort": "max"}, {"effort": "xhigh"}),
    "plain text": ({"response_format": {"type": "text"}}, {}),
    "any JSON": ({"response_format": {"type": "json_object"}}, {"output": OutputFormat()}),
    "a schema": (
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "w", "schema": SCHEMA, "strict": True, "description": "d"},
            }
        },
        {"output": OutputFormat(name="w", schema=json.dumps(SCHEMA), description="d", strict=True)},
    ),
    "no tools": ({"tools": [], "tool_choice": "auto"}, {}),
    "no tools in parallel": ({"tools": [], "parallel_tool_calls": True}, {}),
    "tools": (
        {"tools": [WEATHER], "tool_choice": "required", "parallel_tool_calls": False},
        {
            "tools": (
                Tool(name="weather", description="w", parameters=json.dumps(SCHEMA), strict=True),
            ),
            "tool_choice": ToolChoice(mode="required", parallel=False),
        },
    ),
    "one tool": (
        {
            "tools": [{"type": "function", "function": {"name": "f"}}],
            "tool_choice": {"type": "function", "function": {"name": "f"}},
        },
        {
            "tools": (Tool(name="f"),),
            "tool_choice": ToolChoice(mode="required", name="f"),
        },
    ),
}


@pytest.mark.parametrize(("fields", "expected"), TAKEN.values(), ids=TAKEN)
def test_a_field_is_taken(fields, expected):
    least = ChatRequest(messages=(Message.of("user", "Hi"),), submission=PLAIN)

    assert parsed(**fields) == msgspec.structs.replace(least, **expected)


IGNORED: dict[str, Any] = {
    "n": 1,
    "logprobs": False,
    "modalities": ["text"],
    "service_tier": "auto",
    "metadata": {"a": "b"},
    "prompt_cache_key": "k",
    "prompt_cache_options": {"mode": "implicit", "ttl": "30m"},
    "prompt_cache_retention": "24h",
    "safety_identifier": "me",
    "store": True,
    "user": "me",
    "verbosity": "low",
}


@pytest.mark.parametrize(("field", "value"), IGNORED.items(), ids=IGNORED)
def test_a_field_is_ignored(field, value):
    assert parsed(**{field: value}) == parsed()


REFUSED: dict[str, Any] = {
    "n": 2,
    "logprobs": True,
    "top_logprobs": 20,
    "logit_bias": {"1": 100},
    "modalities": ["text", "audio"],
    "service_tier": "priority",
    "audio": {"voice": CANARY, "format": "wav"},
    "function_call": "auto",
    "functions": [{"name": CANARY}],
    "moderation": {"model": CANARY},
    "prediction": {"type": "content", "content": CANARY},
    "web_search_options": {},
    "model": "",
    "stream": "yes",
    "max_tokens": 0,
    "max_completion_tokens": -1,
    "temperature": 2.1,
    "top_p": 1.1,
    "presence_penalty": 3,
    "frequency_penalty": -3,
    "seed": 2**63,
    "stop": ["a"] * 5,
    "reasoning_effort": CANARY,
    "verbosity": CANARY,
    "metadata": CANARY,
    "tools": [WEATHER] * 129,
    "tool_choice": "required",
    "response_format": CANARY,
    "parallel_tool_calls": 1,
}


@pytest.mark.parametrize(("field", "value"), REFUSED.items(), ids=REFUSED)
def test_a_field_is_refused_and_named(field, value):
    error = refusal(**{field: value})

    assert (param(error) or "").partition("[")[0] == field
    assert error.detail.startswith(f"{param(error)}: ")


def test_a_refused_field_may_be_null():
    assert parsed(**dict.fromkeys(Body.__struct_fields__[1:])) == parsed()


OTHER = ["base_url", "best_of", "chat_template_kwargs", "models", "plugins", "provider", "thinking"]


@pytest.mark.parametrize("field", [*OTHER, CANARY, "Messages", "max_output_tokens"])
def test_an_unknown_field_is_refused_without_its_name(field):
    error = refusal(**{field: CANARY})

    assert error.detail.startswith("there is a field that is not one of messages, model, stream, ")
    assert "logit_bias" not in error.detail
    assert param(error) is None


def test_every_field_of_openais_client_has_a_policy():
    fields = {
        *params.CompletionCreateParamsStreaming.__annotations__,
        *params.CompletionCreateParamsBase.__annotations__,
    }

    assert fields <= set(Body.__struct_fields__)


def test_the_body_is_a_json_schema():
    (shown,), schemas = msgspec.json.schema_components([Body])

    assert shown == {"$ref": "#/$defs/Body"}
    assert schemas["Body"]["required"] == ["messages"]
    assert {"SentUser", "SentAssistant", "SentToolResult"} <= set(schemas)


# ---------------------------------------------------------------- messages


def test_texts_of_the_system_are_one_prompt():
    request = parsed(
        {"role": "developer", "content": "Be brief."},
        HI,
        {"role": "system", "content": " "},
        {
            "role": "system",
            "name": "ann",
            "content": [{"type": "text", "text": "No."}, {"type": "text", "text": "Yes."}],
        },
    )

    assert request.system_prompt == "Be brief.\n\nNo.\n\nYes."
    assert request.messages == (Message.of("user", "Hi"),)


@pytest.mark.parametrize("content", ["", " \n", []])
def test_a_blank_prompt_of_the_system_is_none(content):
    assert parsed({"role": "system", "content": content}, HI).system_prompt is None


def test_a_conversation_with_everything():
    image = base64.b64encode(png(2, 3)).decode()
    url = f"data:image/png;base64,{image}"
    found = messages_of(
        {
            "role": "user",
            "name": "ann",
            "content": [
                {"type": "text", "text": "Look", "prompt_cache_breakpoint": {"mode": "explicit"}},
                {"type": "image_url", "image_url": {"url": url, "detail": "original"}},
            ],
        },
        {
            "role": "assistant",
            "content": None,
            "refusal": None,
            "reasoning_content": "Hm",
            "tool_calls": [CALL | {"index": 0}],
            "annotations": [],
            "audio": None,
            "function_call": None,
        },
        RESULT | {"name": "weather"},
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "Well. "},
                {"type": "text", "text": " "},
                {"type": "refusal", "refusal": "No."},
            ],
            "refusal": "Never.",
            "parsed": {"a": 1},
        },
        {"role": "user", "content": "Why?"},
    )

    assert found == (
        Message(
            "user",
            (Text("Look"), Image(media_type="image/png", data=image, width=2, height=3)),
        ),
        Message(
            "assistant",
            (
                Reasoning(text="Hm"),
                ToolCall(id="c1", name="weather", arguments='{"city":"Os'),
            ),
        ),
        Message("tool", (ToolResult(call_id="c1", text="Rain"),)),
        Message("assistant", (Text("Well. "), Refusal("No."), Refusal("Never."))),
        Message.of("user", "Why?"),
    )


EMPTY: dict[str, dict[str, Any]] = {
    "null": {"content": None},
    "nothing": {},
    "blank": {"content": " "},
    "no parts": {"content": []},
    "only thinking": {"content": "", "reasoning_content": "Hm"},
    "a blank refusal": {"content": None, "refusal": ""},
    "no calls": {"content": None, "tool_calls": []},
    "a call without a result": {"content": None, "tool_calls": [CALL]},
}


@pytest.mark.parametrize("answer", EMPTY.values(), ids=EMPTY)
def test_an_empty_answer_is_left_out(answer):
    more = {"role": "user", "content": "More"}
    found = messages_of(HI, {"role": "assistant", **answer}, more)

    assert found == (Message.of("user", "Hi"), Message.of("user", "More"))


def test_a_blank_question_before_the_last_one_is_left_out():
    assert messages_of({"role": "user", "content": " "}, HI) == (Message.of("user", "Hi"),)


def test_a_result_may_have_parts_and_may_be_empty():
    calls = [CALL, CALL | {"id": "c2"}]
    parts = [{"type": "text", "text": "Ra"}, {"type": "text", "text": "in"}]
    found = messages_of(
        HI,
        {"role": "assistant", "tool_calls": calls},
        RESULT | {"content": parts},
        RESULT | {"tool_call_id": "c2", "content": ""},
    )

    assert found[2:] == (
        Message("tool", (ToolResult(call_id="c1", text="Rain"),)),
        Message("tool", (ToolResult(call_id="c2", text=""),)),
    )


USER = "messages[0].content"
PARTS = f"{USER}[0]"
WRONG: dict[str, tuple[list[dict[str, Any]], str]] = {
    "no messages": ([{}], "messages[0].role"),
    "another role": ([{"role": "function", "content": CANARY}], "messages[0].role"),
    "a blank question": ([HI, {"role": "user", "content": " "}], "messages[1].content"),
    "no question": ([{"role": "system", "content": CANARY}], "messages"),
    "a file": (
        [{"role": "user", "content": [{"type": "file", "file": {"file_id": CANARY}}]}],
        f"{PARTS}.type",
    ),
    "audio": (
        [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": CANARY}}]}],
        f"{PARTS}.type",
    ),
    "an image at an address": (
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://a"}}]}],
        f"{PARTS}.image_url.url",
    ),
    "an image of the system": (
        [{"role": "system", "content": [{"type": "image_url", "image_url": {"url": CANARY}}]}, HI],
        f"{PARTS}.type",
    ),
    "an image of the assistant": (
        [HI, {"role": "assistant", "content": [{"type": "image_url"}]}],
        "messages[1].content[0].type",
    ),
    "audio of the assistant": (
        [HI, {"role": "assistant", "audio": {"id": CANARY}}],
        "messages[1].audio",
    ),
    "the old call": (
        [HI, {"role": "assistant", "function_call": {"name": "f", "arguments": CANARY}}],
        "messages[1].function_call",
    ),
    "a call of another kind": (
        [HI, {"role": "assistant", "tool_calls": [CALL | {"type": "custom"}]}],
        "messages[1].tool_calls[0].type",
    ),
    "a call without an id": (
        [HI, {"role": "assistant", "tool_calls": [CALL | {"id": ""}]}],
        "messages[1].tool_calls[0].id",
    ),
    "a result of no call": ([HI, RESULT], "messages[1].tool_call_id"),
    "two results of a call": (
        [HI, {"role": "assistant", "tool_calls": [CALL]}, RESULT, RESULT],
        "messages[3].tool_call_id",
    ),
    "a result without its call": (
        [HI, {"role": "tool", "content": CANARY}],
        "messages[1].tool_call_id",
    ),
    "too many parts": (
        [{"role": "system", "content": [{"type": "text", "text": "a"}] * 257}, HI],
        USER,
    ),
    "too many parts of the user": (
        [{"role": "user", "content": [{"type": "text", "text": "a"}] * 257}],
        USER,
    ),
    "too many parts of the assistant": (
        [HI, {"role": "assistant", "content": [{"type": "text", "text": "a"}] * 257}],
        "messages[1].content",
    ),
    "too many messages": ([HI] * 1_001, "messages"),
}


@pytest.mark.parametrize(("messages", "place"), WRONG.values(), ids=WRONG)
def test_messages_are_refused_with_their_place(messages, place):
    assert param(refusal(*messages)) == place


@pytest.mark.parametrize(
    ("role", "field"), [("user", "tool_calls"), ("system", "refusal"), ("tool", CANARY)]
)
def test_a_field_of_another_role_is_refused(role, field):
    error = refusal(HI, {"role": role, "content": "a", "tool_call_id": "c", field: CANARY})

    assert error.detail.startswith("messages[1]: there is a field that is not one of ")


TOOLS: dict[str, tuple[dict[str, Any], str]] = {
    "of another kind": ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools[0].type"),
    "without a name": ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
    "with a wrong name": (
        {"tools": [{"type": "function", "function": {"name": "a b"}}]},
        "tools[0].function.name",
    ),
    "with a wrong schema": (
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": CANARY}}]},
        "tools[0].function.parameters",
    ),
    "a choice of none of them": (
        {"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "f"}}},
        "tool_choice.function.name",
    ),
    "some of them": (
        {"tools": [WEATHER], "tool_choice": {"type": "allowed_tools", "allowed_tools": {}}},
        "tool_choice.type",
    ),
    "a schema without a name": (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "", "schema": {}}}},
        "response_format.json_schema.name",
    ),
    "no schema": (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a"}}},
        "response_format.json_schema.schema",
    ),
    "a grammar": (
        {"response_format": {"type": "grammar", "grammar": CANARY}},
        "response_format.type",
    ),
}


@pytest.mark.parametrize(("fields", "place"), TOOLS.values(), ids=TOOLS)
def test_tools_and_schemas_are_refused_with_their_place(fields, place):
    found = param(refusal(**fields))

    assert found is not None
    assert found.startswith(place.rpartition(".")[0]), found


def test_a_key_that_stands_twice_is_refused():
    with pytest.raises(InvalidRequest, match="A key stands twice"):
        parse_request(b'{"model":"a","model":"b","messages":[]}')


def test_a_large_body_consists_of_images():
    image = base64.b64encode(png(2, 3) + bytes(SMALL_BODY)).decode()
    url = f"data:image/png;base64,{image}"
    part = {"type": "image_url", "image_url": {"url": url}}
    (message,) = messages_of({"role": "user", "content": [part]})

    assert message.parts == (Image(media_type="image/png", data=image, width=2, height=3),)
    error = refusal(HI, user=url, metadata={"url": url})
    assert error.detail.startswith("messages: must have each data: URL")


def test_both_formats_read_the_same_conversation():
    sent = [HI, {"role": "assistant", "content": "Well", "tool_calls": [CALL]}, RESULT, HI]
    fields = {"tools": [WEATHER], "seed": 1, "stop": "a"}
    ours = parsed(*sent, **fields)

    assert parse_native(body(*sent, **fields)) == msgspec.structs.replace(
        ours, submission=Submission()
    )
