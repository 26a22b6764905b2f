"""A request to the Responses API becomes a ChatRequest, or a 400 whose param is the field."""

import json
from base64 import b64encode
from typing import Any

import pytest

from chatnest.asgi.data_urls import SMALL_BODY
from chatnest.conversation import (
    Image,
    Message,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
)
from chatnest.errors import InvalidRequest
from chatnest.events import ReasoningSignature
from chatnest.requests import ChatRequest, OutputFormat, Sampling, Tool, ToolChoice
from chatnest.tokens.tool_bounds import ToolCaps
from chatnest.wire import OpenAIResponsesFormat
from chatnest.wire.caps import MAX_MESSAGES, MAX_PARTS
from chatnest.wire.proofs import proof_of, seal
from tests.test_image_size import chunk, png

FORMAT = OpenAIResponsesFormat()
CANARY = "do-not-repeat-me"


def parsed(given: Any = "Hi", /, **fields: Any) -> ChatRequest:
    return FORMAT.parse(json.dumps({"input": given, **fields}).encode(), {})


def refused(body: Any) -> dict[str, Any]:
    """The error of a body, as its client gets it."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(InvalidRequest) as caught:
        FORMAT.parse(data, {})
    document = FORMAT.problem(caught.value, request_id="0" * 32, charged=False)
    assert document.status == 400
    error: dict[str, Any] = json.loads(document.body)["error"]
    return error


def user(text: str) -> Message:
    return Message.of("user", text)


def said(*parts: Any) -> Message:
    return Message("assistant", parts)


def item(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": kind, **fields}


def message(role: str, *content: Any) -> dict[str, Any]:
    return {"role": role, "content": list(content)}


def call(call_id: str = "c1", **fields: Any) -> dict[str, Any]:
    return item("function_call", call_id=call_id, name="f", arguments="{}", **fields)


def output(call_id: str = "c1", result: Any = "rain", **fields: Any) -> dict[str, Any]:
    return item("function_call_output", call_id=call_id, output=result, **fields)


def thought(text: str, signature: ReasoningSignature | None = None) -> dict[str, Any]:
    summary = [{"type": "summary_text", "text": text}] if text else []
    sealed = seal({} if signature is None else proof_of(signature))
    return item("reasoning", id="rs_1", summary=summary, encrypted_content=sealed)


HI = {"role": "user", "content": "Hi"}
SIGNED = ReasoningSignature("sealed", "anthropic-messages", "claude", redacted=True, id="b1")
PROOF = {
    "signature": "sealed",
    "provider": "anthropic-messages",
    "model": "claude",
    "redacted": True,
    "id": "b1",
}
CALL = ToolCall(id="c1", name="f", arguments="{}")
RESULT = Message("tool", (ToolResult(call_id="c1", text="rain"),))
SEALED = Reasoning(text="Hm", **PROOF)  # type: ignore[arg-type]


def url_of(image: bytes) -> str:
    return f"data:image/png;base64,{b64encode(image).decode()}"


IMAGE = url_of(png(3, 2))

INPUTS: dict[str, tuple[Any, list[Message]]] = {
    "a text": ("Hi", [user("Hi")]),
    "a message": ([HI], [user("Hi")]),
    "a message with its type": (
        [{"type": "message", **HI, "id": "m", "status": "x"}],
        [user("Hi")],
    ),
    "parts": (
        [message("user", item("input_text", text="a"), item("input_text", text="b"))],
        [Message("user", (Text("a"), Text("b")))],
    ),
    "blank messages": (
        [{"role": "user", "content": " "}, {"role": "assistant", "content": ""}, HI],
        [user("Hi")],
    ),
    "blank parts": (
        [message("user", item("input_text", text=" "), item("input_text", text="b"))],
        [user("b")],
    ),
    "an answer as text": (
        [HI, {"role": "assistant", "content": "Yes"}, HI],
        [user("Hi"), said(Text("Yes")), user("Hi")],
    ),
    "an answer as parts": (
        [
            HI,
            message(
                "assistant",
                item(
                    "output_text", text="Yes", annotations=[{"url": "u"}], logprobs=[], parsed=None
                ),
            )
            | {"id": "msg_1", "status": "completed", "phase": "final_answer", "type": "message"},
            HI,
        ],
        [user("Hi"), said(Text("Yes")), user("Hi")],
    ),
    "a refusal": (
        [HI, message("assistant", item("refusal", refusal="No")), HI],
        [user("Hi"), said(Refusal("No")), user("Hi")],
    ),
    "two answers": (
        [HI, {"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"}, HI],
        [user("Hi"), said(Text("a")), said(Text("b")), user("Hi")],
    ),
    "two answers with thinking": (
        [
            *(HI, {"role": "assistant", "content": "a"}, thought("Hm", SIGNED)),
            *({"role": "assistant", "content": "b"}, HI),
        ],
        [user("Hi"), said(Text("a")), said(SEALED, Text("b")), user("Hi")],
    ),
    "a call": (
        [HI, call(id="fc_1", status="completed", parsed_arguments={}), output()],
        [user("Hi"), said(CALL), RESULT],
    ),
    "a turn with thinking, text and a call": (
        [HI, thought("Hm", SIGNED), {"role": "assistant", "content": "a"}, call(), output()],
        [user("Hi"), said(SEALED, Text("a"), CALL), RESULT],
    ),
    "text after a call": (
        [HI, call(), {"role": "assistant", "content": "a"}, output()],
        [user("Hi"), said(CALL, Text("a")), RESULT],
    ),
    "text around a call": (
        [
            *(HI, {"role": "assistant", "content": "a"}, call()),
            *({"role": "assistant", "content": "b"}, output()),
        ],
        [user("Hi"), said(Text("a"), CALL, Text("b")), RESULT],
    ),
    "two calls": (
        [HI, call(), call("c2"), output("c2"), output()],
        [
            user("Hi"),
            said(CALL, ToolCall(id="c2", name="f", arguments="{}")),
            Message("tool", (ToolResult(call_id="c2", text="rain"),)),
            RESULT,
        ],
    ),
    "calls one by one": (
        [HI, call(), output(), call("c2"), output("c2")],
        [
            *(user("Hi"), said(CALL), RESULT),
            said(ToolCall(id="c2", name="f", arguments="{}")),
            Message("tool", (ToolResult(call_id="c2", text="rain"),)),
        ],
    ),
    "a result in parts": (
        [HI, call(), output(result=[item("input_text", text="ra"), item("input_text", text="in")])],
        [user("Hi"), said(CALL), RESULT],
    ),
    "an empty result": (
        [HI, call(), output(result="")],
        [user("Hi"), said(CALL), Message("tool", (ToolResult(call_id="c1", text=""),))],
    ),
    "a call without a result": ([HI, call(), HI], [user("Hi"), user("Hi")]),
    "thinking without what it led to": ([HI, thought("Hm", SIGNED), HI], [user("Hi"), user("Hi")]),
    "hidden thinking": (
        [HI, thought("", SIGNED), {"role": "assistant", "content": "a"}, HI],
        [user("Hi"), said(Reasoning(text="", **PROOF), Text("a")), user("Hi")],  # type: ignore[arg-type]
    ),
    "thinking without a signature": (
        [HI, thought("Hm"), call(), output()],
        [user("Hi"), said(Reasoning(text="Hm"), CALL), RESULT],
    ),
    "thinking without content": (
        [HI, item("reasoning", summary=[item("summary_text", text="Hm")]), call(), output()],
        [user("Hi"), said(Reasoning(text="Hm"), CALL), RESULT],
    ),
    "raw thinking": (
        [
            *(HI, item("reasoning", summary=[], content=[item("reasoning_text", text="Hm")])),
            *(call(), output()),
        ],
        [user("Hi"), said(Reasoning(text="Hm"), CALL), RESULT],
    ),
    "thinking of another server": (
        [HI, item("reasoning", id="r", summary=[], encrypted_content="gAAAA"), call(), output()],
        [user("Hi"), said(CALL), RESULT],
    ),
    "an image": (
        [message("user", item("input_image", image_url=IMAGE, detail="auto"))],
        [
            Message(
                "user",
                (Image(media_type="image/png", data=IMAGE.partition(",")[2], width=3, height=2),),
            )
        ],
    ),
    "nulls": (
        [
            {
                **dict.fromkeys(("type", "id", "phase", "summary", "call_id", "output")),
                **HI,
            }
        ],
        [user("Hi")],
    ),
}


@pytest.mark.parametrize(("given", "messages"), INPUTS.values(), ids=INPUTS)
def test_an_input_is_a_conversation(given, messages):
    assert list(parsed(given).messages) == messages


PROMPTS: list[tuple[Any, dict[str, Any], str | None]] = [
    ("Hi", {}, None),
    ("Hi", {"instructions": "Be brief"}, "Be brief"),
    ("Hi", {"instructions": " "}, None),
    ([{"role": "developer", "content": "Be brief"}, HI], {}, "Be brief"),
    ([{"role": "system", "content": "Be brief"}, HI], {"instructions": "And"}, "And\n\nBe brief"),
    (
        [
            message("system", item("input_text", text="a"), item("input_text", text="b")),
            HI,
            {"role": "developer", "content": "c"},
        ],
        {},
        "ab\n\nc",
    ),
]


@pytest.mark.parametrize(("given", "fields", "prompt"), PROMPTS)
def test_instructions_and_messages_of_the_developer_are_one_system_prompt(given, fields, prompt):
    request = parsed(given, **fields)

    assert request.system_prompt == prompt
    assert {message.role for message in request.messages} == {"user"}


TOOL = {"type": "function", "name": "f", "parameters": {"type": "object"}}
FIELDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "model": ({"model": "chat"}, {"model": "chat"}),
    "output": ({"max_output_tokens": 9}, {"max_output_tokens": 9}),
    "sampling": (
        {"temperature": 1, "top_p": 0.5},
        {"sampling": Sampling(temperature=1.0, top_p=0.5)},
    ),
    "a tool": (
        {"tools": [{**TOOL, "description": "d", "strict": True}], "parallel_tool_calls": False},
        {
            "tools": (
                Tool(name="f", description="d", parameters='{"type": "object"}', strict=True),
            ),
            "tool_choice": ToolChoice(parallel=False),
        },
    ),
    "a tool without parameters": (
        {"tools": [{"type": "function", "name": "f", "parameters": None}]},
        {"tools": (Tool(name="f"),)},
    ),
    "no tools": ({"tools": [], "tool_choice": "auto"}, {"tools": ()}),
    "a choice": (
        {"tools": [TOOL], "tool_choice": "required"},
        {"tool_choice": ToolChoice(mode="required")},
    ),
    "one tool": (
        {"tools": [TOOL], "tool_choice": {"type": "function", "name": "f"}},
        {"tool_choice": ToolChoice(mode="required", name="f")},
    ),
    "effort": ({"reasoning": {"effort": "low", "summary": "auto"}}, {"effort": "low"}),
    "no effort": ({"reasoning": {"effort": None, "context": "auto"}}, {"effort": None}),
    "text": ({"text": {"format": {"type": "text"}, "verbosity": "low"}}, {"output": None}),
    "verbosity alone": ({"text": {"verbosity": "low"}}, {"output": None}),
    "json": ({"text": {"format": {"type": "json_object"}}}, {"output": OutputFormat()}),
    "a schema": (
        {"text": {"format": {"type": "json_schema", "name": "n", "schema": {}, "strict": False}}},
        {"output": OutputFormat(name="n", schema="{}", strict=False)},
    ),
    "ignored": (
        {
            "store": True,
            "metadata": {"a": "b"},
            "user": "ann",
            "safety_identifier": "x",
            "prompt_cache_key": "k",
            "prompt_cache_retention": "24h",
            "prompt_cache_options": {"mode": "implicit"},
            "stream_options": {"include_obfuscation": False},
            "max_tool_calls": 3,
        },
        {},
    ),
    "harmless": (
        {
            "include": ["reasoning.encrypted_content"],
            "truncation": "disabled",
            "background": False,
            "service_tier": "auto",
            "top_logprobs": 0,
        },
        {},
    ),
    "nulls": (
        dict.fromkeys(
            (
                *("model", "instructions", "max_output_tokens", "temperature", "top_p", "tools"),
                *("tool_choice", "parallel_tool_calls", "reasoning", "text", "include", "stream"),
                *("truncation", "background", "service_tier", "top_logprobs", "store", "user"),
                *("previous_response_id", "conversation", "prompt", "context_management"),
                *("moderation", "metadata"),
            )
        ),
        {},
    ),
}


@pytest.mark.parametrize(("fields", "expected"), FIELDS.values(), ids=FIELDS)
def test_a_field_is_taken(fields, expected):
    request = parsed(**fields)

    for name, value in expected.items():
        assert getattr(request, name) == value, name
    if not expected:
        assert request == parsed()


@pytest.mark.parametrize(("sent", "stream"), [({}, False), ({"stream": True}, True)])
def test_a_client_streams_if_it_asks_for_it_and_an_answer_may_be_empty(sent, stream):
    submission = parsed(**sent).submission

    assert (submission.stream, submission.may_be_empty) == (stream, True)


REFUSED: dict[str, tuple[Any, str | None]] = {
    "no input": ({}, "input"),
    "a blank input": ({"input": " "}, "input"),
    "an empty input": ({"input": []}, "input"),
    "too many items": ({"input": [HI] * (MAX_MESSAGES + 1)}, "input"),
    "a number": ({"input": 7}, "input"),
    "an item that is a text": ({"input": ["Hi"]}, "input[0]"),
    "an unknown field": ({"input": "Hi", CANARY: 1}, None),
    "an unknown field of an item": ({"input": [{**HI, CANARY: 1}]}, "input[0]"),
    "an unknown type": ({"input": [item("web_search_call", id="ws")]}, "input[0].type"),
    "an unknown part": (
        {"input": [message("user", item("input_file", file_id="x"))]},
        "input[0].content[0].type",
    ),
    "a role": ({"input": [{"role": CANARY, "content": "Hi"}]}, "input[0].role"),
    "no role": ({"input": [{"content": "Hi"}]}, "input[0].role"),
    "no content": ({"input": [{"role": "user"}]}, "input[0].content"),
    "a blank question": ({"input": [HI, {"role": "user", "content": " "}]}, "input[1].content"),
    "no question": ({"input": [{"role": "assistant", "content": "a"}]}, "input"),
    "instructions alone": ({"input": [{"role": "developer", "content": "a"}]}, "input"),
    "too many parts": (
        {"input": [message("user", *[item("input_text", text="a")] * (MAX_PARTS + 1))]},
        "input[0].content",
    ),
    "a field of another type": ({"input": [{**HI, "arguments": "{}"}]}, "input[0].arguments"),
    "a reference": ({"input": [HI, item("item_reference", id=CANARY)]}, "input[1]"),
    "a call without an id": (
        {"input": [HI, item("function_call", name="f", arguments="")]},
        "input[1].call_id",
    ),
    "a call without a name": (
        {"input": [HI, item("function_call", call_id="c", arguments="")]},
        "input[1].name",
    ),
    "a call without arguments": (
        {"input": [HI, item("function_call", call_id="c", name="f")]},
        "input[1].arguments",
    ),
    "large arguments": (
        {"input": [HI, call() | {"arguments": "a" * (ToolCaps().size + 1)}]},
        "input[1].arguments",
    ),
    "an id twice": ({"input": [HI, call(), call()]}, "input[2].call_id"),
    "a result of no call": ({"input": [HI, output(CANARY)]}, "input[1].call_id"),
    "a result without an id": (
        {"input": [HI, item("function_call_output", output="")]},
        "input[1].call_id",
    ),
    "a result twice": ({"input": [HI, call(), output(), output()]}, "input[3].call_id"),
    "a result without output": (
        {"input": [HI, call(), item("function_call_output", call_id="c1")]},
        "input[2].output",
    ),
    "an image as a result": (
        {"input": [HI, call(), output(result=[item("input_image", image_url=IMAGE)])]},
        "input[2].output[0]",
    ),
    "an image of the model": (
        {"input": [HI, message("assistant", item("input_image", image_url=IMAGE)), HI]},
        "input[1].content[0]",
    ),
    "a refusal of the user": (
        {"input": [message("user", item("refusal", refusal="a"))]},
        "input[0].content[0].type",
    ),
    "thinking in a message": (
        {"input": [message("user", item("reasoning_text", text="a"))]},
        "input[0].content[0].type",
    ),
    "an image by its id": (
        {"input": [message("user", item("input_image", file_id=CANARY))]},
        "input[0].content[0].file_id",
    ),
    "an image without a URL": (
        {"input": [message("user", item("input_image", detail="low"))]},
        "input[0].content[0].image_url",
    ),
    "an image on the web": (
        {"input": [message("user", item("input_image", image_url=f"https://{CANARY}/a.png"))]},
        "input[0].content[0].image_url",
    ),
    "a model": ({"input": "Hi", "model": ""}, "model"),
    "output": ({"input": "Hi", "max_output_tokens": 0}, "max_output_tokens"),
    "temperature": ({"input": "Hi", "temperature": 2.5}, "temperature"),
    "top_p": ({"input": "Hi", "top_p": -0.1}, "top_p"),
    "an effort": ({"input": "Hi", "reasoning": {"effort": CANARY}}, "reasoning.effort"),
    "a tool of the server": ({"input": "Hi", "tools": [item("web_search")]}, "tools[0].type"),
    "the name of a tool": ({"input": "Hi", "tools": [{**TOOL, "name": "ü"}]}, "tools[0].name"),
    "parameters": ({"input": "Hi", "tools": [{**TOOL, "parameters": [1]}]}, "tools[0].parameters"),
    "too many tools": ({"input": "Hi", "tools": [TOOL] * (ToolCaps().tools + 1)}, "tools"),
    "large tools": (
        {"input": "Hi", "tools": [{**TOOL, "description": "d" * (ToolCaps().size + 1)}]},
        "tools",
    ),
    "a choice without tools": ({"input": "Hi", "tool_choice": "required"}, "tool_choice"),
    "a choice of no tool": (
        {"input": "Hi", "tools": [TOOL], "tool_choice": {"type": "function", "name": CANARY}},
        "tool_choice.name",
    ),
    "another choice": (
        {"input": "Hi", "tools": [TOOL], "tool_choice": {"type": "web_search", "name": "f"}},
        "tool_choice.type",
    ),
    "a format": ({"input": "Hi", "text": {"format": {"type": CANARY}}}, "text.format.type"),
    "a schema without a name": (
        {"input": "Hi", "text": {"format": {"type": "json_schema", "name": "ü", "schema": {}}}},
        "text.format.name",
    ),
    "no schema": (
        {"input": "Hi", "text": {"format": {"type": "json_schema", "name": "n"}}},
        "text.format.schema",
    ),
    "logprobs": ({"input": "Hi", "include": ["message.output_text.logprobs"]}, "include"),
    "top_logprobs": ({"input": "Hi", "top_logprobs": 5}, "top_logprobs"),
    "truncation": ({"input": "Hi", "truncation": "auto"}, "truncation"),
    "background": ({"input": "Hi", "background": True}, "background"),
    "a tier": ({"input": "Hi", "service_tier": "priority"}, "service_tier"),
    "a response": ({"input": "Hi", "previous_response_id": CANARY}, "previous_response_id"),
    "a conversation": ({"input": "Hi", "conversation": {"id": CANARY}}, "conversation"),
    "a prompt": ({"input": "Hi", "prompt": {"id": CANARY}}, "prompt"),
    "management": (
        {"input": "Hi", "context_management": [{"type": "compaction"}]},
        "context_management",
    ),
    "moderation": ({"input": "Hi", "moderation": {"model": CANARY}}, "moderation"),
}


@pytest.mark.parametrize(("body", "param"), REFUSED.values(), ids=REFUSED)
def test_a_field_that_cannot_be_served_is_a_400_that_names_it(body, param):
    error = refused(body)

    assert error["param"] == (param or "")
    assert error["type"] == "invalid_request_error"
    assert error["code"] == "invalid_request"
    assert CANARY not in error["message"]
    assert param is None or error["message"].startswith(f"{param}: ")


def test_a_reference_names_the_setting_that_helps():
    assert "store: false" in refused({"input": [item("item_reference", id="msg_1")]})["message"]


def test_a_large_image_is_cut_out_of_its_body():
    url = url_of(png(1, 1, between=chunk(b"tEXt", b"x" * SMALL_BODY)))
    request = parsed([message("user", item("input_image", image_url=url))])
    (image,) = request.messages[0].parts

    assert isinstance(image, Image)
    assert image.url == url


def test_a_large_data_url_elsewhere_is_refused():
    url = url_of(png(1, 1, between=chunk(b"tEXt", b"x" * SMALL_BODY)))

    error = refused({"input": "Hi", "metadata": {"url": url}})
    assert (error["param"], "image_url" in error["message"]) == ("input", True)


def test_a_problem_has_no_null_since_a_client_shows_its_sentence_only_then():
    error = refused({})

    assert error == {
        "message": "input: must be a string that is not blank, or a list of 1 to 1,000 items.",
        "type": "invalid_request_error",
        "param": "input",
        "code": "invalid_request",
    }
    assert refused({"input": "Hi", "x": 1})["param"] == ""
