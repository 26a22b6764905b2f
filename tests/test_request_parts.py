"""Images, tools, thinking and sampling in a native body: what is taken, and what is refused."""

import json
from base64 import b64encode
from typing import Any

import pytest

from chatnest.asgi import data_urls
from chatnest.asgi.data_urls import SMALL_BODY, DataUrls
from chatnest.conversation import Image, Message, Reasoning, Text, ToolCall, ToolResult
from chatnest.errors import InvalidRequest
from chatnest.requests import ChatRequest, OutputFormat, Sampling, Tool, ToolChoice
from chatnest.wire.native import parse_request
from tests.test_image_size import gif, jpeg, png

HI = {"role": "user", "content": "Hi"}
CANARY = "CaNaRy"


def parsed(*messages: Any, **fields: Any) -> ChatRequest:
    return parse_request(json.dumps({"messages": list(messages) or [HI], **fields}).encode())


def refusal(*messages: Any, **fields: Any) -> str:
    with pytest.raises(InvalidRequest) as caught:
        parsed(*messages, **fields)
    assert CANARY not in str(caught.value)
    return caught.value.detail


def url(data: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{b64encode(data).decode()}"


def image(address: str, **fields: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": address, **fields}}


def user(*parts: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(parts)}


def call(identifier: str = "c1", name: str = "f", arguments: str = "{}") -> dict[str, Any]:
    return {
        "id": identifier,
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }


def calling(*calls: Any, content: Any = None, **fields: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, "tool_calls": list(calls), **fields}


def result(identifier: str = "c1", content: Any = "42", **fields: Any) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": identifier, "content": content, **fields}


def tool(name: str = "f", **fields: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **fields}}


# ------------------------------------------------ images


@pytest.mark.parametrize(
    ("data", "kind", "media_type"),
    [
        (png(3, 2), "png", "image/png"),
        (jpeg(3, 2), "jpeg", "image/jpeg"),
        (jpeg(3, 2), "jpg", "image/jpeg"),
        (gif(3, 2), "gif", "image/gif"),
        (png(3, 2), "PNG", "image/png"),
    ],
)
def test_an_image_has_the_size_of_its_header(data, kind, media_type):
    sent = user({"type": "text", "text": "See"}, image(url(data, kind), detail="high"))
    (message,) = parsed(sent).messages

    encoded = b64encode(data).decode()
    assert message.parts == (
        Text("See"),
        Image(media_type=media_type, data=encoded, width=3, height=2),
    )


AT = "messages[0].content[0].image_url.url: "
NOT_WHOLE = f"{AT}must be a whole image of the type that the URL names."
NOT_BASE64 = f"{AT}must be a data: URL of an image, in base64."
NOT_DATA = f"{AT}must begin with data:image/png;base64, or the same with jpeg, gif or webp."
GOOD = url(png(1, 1))


@pytest.mark.parametrize(
    ("address", "detail"),
    [
        (url(jpeg(1, 1), "png"), NOT_WHOLE),
        (url(b"CaNaRy" * 9), NOT_WHOLE),
        (url(png(1, 1)[:20]), NOT_WHOLE),
        (url(png(0, 1)), NOT_WHOLE),
        (url(b""), NOT_WHOLE),
        (GOOD[:-1], NOT_BASE64),
        (f"{GOOD}CaNaRy=", NOT_BASE64),
        (f"{GOOD[:40]} {GOOD[40:]}", NOT_BASE64),
        (f"{GOOD[:40]}\n{GOOD[40:]}", NOT_BASE64),
        (f"{GOOD[:40]}é{GOOD[40:]}", NOT_BASE64),
        (GOOD.replace(";base64", ""), NOT_DATA),
        (GOOD.replace("png", "svg+xml"), NOT_DATA),
        ("file:///CaNaRy", NOT_DATA),
        ("", NOT_DATA),
        (url(png(40_001, 1_000)), f"{AT}must be an image of at most 40,000,000 pixels."),
        (url(b"\0" * 5_242_881), f"{AT}must be an image of at most 5,242,880 bytes."),
    ],
)
def test_an_image_that_is_not_one_is_refused(address, detail):
    assert refusal(user(image(address))) == detail


@pytest.mark.parametrize("scheme", ["http", "https", "HTTPS"])
def test_nothing_is_fetched(scheme):
    detail = refusal(user(image(f"{scheme}://169.254.169.254/CaNaRy")))

    assert detail.startswith(f"{AT}must be a data: URL with the image itself. The server fetches")


def test_only_the_users_messages_have_images():
    assert "Only the user's" in refusal(HI, {"role": "assistant", "content": [image(GOOD)]})
    assert "Only the user's" in refusal(HI, calling(call()), result(content=[image(GOOD)]))


# ------------------------------------------------ large bodies


LARGE = url(png(9, 9, between=b"") + b"x" * SMALL_BODY)


@pytest.mark.parametrize("escape", [False, True])
def test_a_large_body_is_parsed_without_its_images(escape):
    sent = json.dumps(
        {"messages": [user({"type": "text", "text": 'a "data:'}, image(LARGE)), user(image(GOOD))]}
    )
    body = (sent.replace("/", "\\/") if escape else sent).encode()
    assert len(DataUrls(body).rest) < 400

    first, second = parse_request(body).messages
    assert isinstance(first.parts[1], Image)
    assert first.parts[1].url == LARGE
    assert first.parts[0] == Text('a "data:')
    assert isinstance(second.parts[0], Image)
    assert second.parts[0].url == GOOD


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [tool(parameters={"url": LARGE})]},
        {"tools": [tool(parameters={"image_url": LARGE})]},
    ],
)
def test_a_large_url_that_is_no_image_is_refused(fields):
    assert refusal(HI, **fields) == (
        "messages: must have each data: URL as the image_url of a part of its own."
    )


def test_a_mark_stands_for_one_image():
    detail = refusal(user(image(LARGE)), user(image("\0data:0")))

    assert detail == NOT_DATA.replace("[0].content", "[1].content")


@pytest.mark.parametrize(
    "body",
    [
        b'"url":"data:' * 50_000,
        b'{"messages":[{"url":"data:' + b"a" * SMALL_BODY,
        b'{"messages":[{"url":"data:a\\"}]}' + b" " * SMALL_BODY,
        b'"data:' * 50_000,
    ],
)
def test_a_large_body_that_is_not_json_is_refused(body):
    with pytest.raises(InvalidRequest):
        parse_request(body)


@pytest.mark.parametrize("shift", range(-8, 3))
def test_a_url_is_found_across_two_windows_of_the_search(shift):
    before = b" " * (data_urls._WINDOW + shift)
    assert len(DataUrls(before + b'"url":"data:"')) == 1


BASE64 = "iVBORw0KGgo/AAA+" * 64


@pytest.mark.parametrize(
    ("text", "marks"),
    [
        (f'{{"value":"{BASE64}"}}', 1),
        (f'{{"data" : "{BASE64}=="}}', 1),
        (f'{{"value":"{BASE64}"}}'.replace("/", "\\/"), 1),
        (f'{{"value":"{BASE64[1:]}"}}', 0),
        (f'{{"value":"{BASE64} "}}', 0),
        (f'{{"value":"{BASE64}\\n"}}', 0),
        (f'{{"value":"{BASE64}\\""}}', 0),
        (f'{{"value":"{BASE64}\\\\/"}}', 0),
        (f'{{"value":"{BASE64 * 2_000}é"}}', 0),
        (f'{{"value":"data:image/png;base64,{BASE64}"}}', 0),
        (f'{{"url":"{BASE64}"}}', 0),
        (f'{{"name":"{BASE64}"}}', 0),
    ],
)
def test_base64_is_cut_out_only_as_a_whole(text, marks):
    found = DataUrls(text.encode())

    assert len(found) == marks
    if marks:
        (mark,) = json.loads(found.rest).values()
        (whole,) = json.loads(text).values()
        assert found.take(mark) == whole
        assert len(found) == 0


def test_the_search_for_urls_ends():
    assert len(DataUrls(b'{"url":"data:"}' * 5_000).rest) > 5_000


# ------------------------------------------------ tools


def test_a_tool_turn_is_read_in_its_order():
    thought = {"text": "Hm", "signature": "s", "provider": "p", "model": "m", "id": "r1"}
    request = parsed(
        HI,
        calling(call("c1"), call("c2", arguments="{oops"), content="Let me", reasoning=[thought]),
        result("c2", [{"type": "text", "text": "b"}], is_error=True),
        result("c1", ""),
    )

    assert request.messages == (
        Message.of("user", "Hi"),
        Message(
            "assistant",
            (
                Reasoning(text="Hm", signature="s", provider="p", model="m", id="r1"),
                Text("Let me"),
                ToolCall(id="c1", name="f", arguments="{}"),
                ToolCall(id="c2", name="f", arguments="{oops"),
            ),
        ),
        Message("tool", (ToolResult(call_id="c2", text="b", is_error=True),)),
        Message("tool", (ToolResult(call_id="c1", text=""),)),
    )


@pytest.mark.parametrize(
    ("sent", "roles", "calls"),
    [
        ([HI, calling(call("a"), call("b")), result("a"), HI], "user assistant tool user", 1),
        ([HI, calling(call("a"), content="Let me"), HI], "user assistant user", 0),
        ([HI, calling(call("a")), HI], "user user", 0),
        ([HI, calling(call("a"))], "user", 0),
        ([HI, calling(call("a"), reasoning=[{"text": "Hm"}])], "user", 0),
        (
            [HI, calling(call()), result(), calling(call()), result()],
            "user" + " assistant tool" * 2,
            2,
        ),
        ([HI, {"role": "assistant", "content": " ", "reasoning": [{"text": "a"}]}], "user", 0),
    ],
)
def test_a_call_without_a_result_is_left_out(sent, roles, calls):
    messages = parsed(*sent).messages

    assert " ".join(message.role for message in messages) == roles
    parts = [part for message in messages for part in message.parts]
    assert len([part for part in parts if isinstance(part, ToolCall)]) == calls


NO_CALL = "must be the id of a call in the message of the assistant before it."


@pytest.mark.parametrize(
    ("sent", "detail"),
    [
        ([HI, result()], f"messages[1].tool_call_id: {NO_CALL}"),
        ([HI, calling(call()), result("CaNaRy")], f"messages[2].tool_call_id: {NO_CALL}"),
        ([HI, calling(call()), HI, result()], f"messages[3].tool_call_id: {NO_CALL}"),
        (
            [HI, calling(call()), result(), result()],
            "messages[3].tool_call_id: must be the id of a call without a result.",
        ),
        ([HI, calling(call(), call())], "messages[1].tool_calls: must have different ids."),
        (
            [{**HI, "tool_calls": [call()]}],
            "messages[0].tool_calls: belongs to messages of the role 'assistant'.",
        ),
        (
            [HI, {**HI, "is_error": True}],
            "messages[1].is_error: belongs to messages of the role 'tool'.",
        ),
        (
            [HI, calling(call(""))],
            "messages[1].tool_calls[0].id: must be a string of 1 to 256 printable characters.",
        ),
        (
            [HI, calling(call(arguments="x" * 131_073))],
            "messages[1].tool_calls[0].function.arguments: expected at most 131072 bytes.",
        ),
        (
            [HI, calling(call(arguments="[" * 1_000))],
            "messages[1].tool_calls[0].function.arguments: expected at most 32 levels of nesting.",
        ),
        (
            [HI, calling(*[call(str(n)) for n in range(257)])],
            "messages[1].tool_calls: must be a list of at most 256 calls.",
        ),
        (
            [HI, {"role": "assistant", "content": None, "reasoning": [{"CaNaRy": 1}]}],
            (
                "messages[1].reasoning[0]: there is a field that is not one of text, signature, "
                "provider, model, redacted, id."
            ),
        ),
        (
            [user(*[{"type": "text", "text": "a"}] * 257)],
            "messages[0].content: must have at most 256 parts.",
        ),
        (
            [user({"type": "CaNaRy"})],
            "messages[0].content[0].type: must be 'text' or 'image_url'.",
        ),
    ],
)
def test_a_conversation_that_no_model_takes_is_refused(sent, detail):
    assert refusal(*sent) == detail


SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}


def test_tools_and_formats_are_read():
    request = parsed(
        tools=[tool("weather", description="Tells", parameters=SCHEMA, strict=True), tool()],
        toolChoice=tool("weather"),
        parallelToolCalls=False,
        responseFormat={"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}},
        reasoningEffort="low",
        events=["usage", "tools"],
        maxOutputTokens=7,
        model="large",
        stop="END",
        seed=-1,
        temperature=1,
        topP=0.5,
        presencePenalty=-2,
    )
    text = json.dumps(SCHEMA)

    assert request.tools == (
        Tool(name="weather", description="Tells", parameters=text, strict=True),
        Tool(name="f"),
    )
    assert request.tool_choice == ToolChoice(mode="required", name="weather", parallel=False)
    assert request.output == OutputFormat(name="x", schema=text)
    assert request.effort == "low"
    assert sorted(request.events) == ["tools", "usage"]
    assert (request.max_output_tokens, request.model) == (7, "large")
    assert request.sampling == Sampling(
        temperature=1.0, top_p=0.5, presence_penalty=-2.0, seed=-1, stop=("END",)
    )


@pytest.mark.parametrize(
    ("fields", "detail"),
    [
        ({"tools": [tool()] * 10_000}, "tools: must be at most 128."),
        (
            {"tools": [tool(description="x" * 131_072)]},
            "tools: must be at most 131,072 bytes of JSON.",
        ),
        (
            {"tools": [tool("CaNaRy!")]},
            "tools[0].function.name: must be a name of 1 to 64 letters, digits, '_' and '-'.",
        ),
        (
            {"tools": [tool(parameters=[CANARY])]},
            "tools[0].function.parameters: must be a JSON schema, which is an object.",
        ),
        (
            {"tools": [{"type": "CaNaRy", "function": {"name": "f"}}]},
            "tools[0].type: must be 'function'.",
        ),
        (
            {"toolChoice": "CaNaRy"},
            "toolChoice: must be 'auto', 'none', 'required' or an object with type and function.",
        ),
        ({"toolChoice": "required"}, "toolChoice: 'required' needs tools."),
        (
            {"toolChoice": tool("CaNaRy")},
            "toolChoice.function.name: must be the name of one of the tools.",
        ),
        (
            {"responseFormat": {"type": "CaNaRy"}},
            "responseFormat.type: must be 'text', 'json_object' or 'json_schema'.",
        ),
        (
            {"responseFormat": {"type": "json_schema", "json_schema": {"name": "x"}}},
            "responseFormat.json_schema.schema: must be a JSON schema, which is an object.",
        ),
        ({"events": ["CaNaRy"]}, "events[0]: must be 'reasoning', 'tools', 'sources' or 'usage'."),
        (
            {"reasoningEffort": "CaNaRy"},
            "reasoningEffort: must be 'none', 'minimal', 'low', 'medium', 'high' or 'xhigh'.",
        ),
        (
            {"stop": ["a"] * 5},
            "stop: must be a string of 1 to 256 characters, or a list of at most 4 of them.",
        ),
        (
            {"stop": ""},
            "stop: must be a string of 1 to 256 characters, or a list of at most 4 of them.",
        ),
        ({"seed": 2**63}, "seed: must be a whole number of 64 bits."),
        ({"topP": 1.1}, "topP: must be a number from 0 to 1."),
        ({"model": "a\n"}, "model: must be the name of a model, of 1 to 128 printable characters."),
        ({"maxOutputTokens": 0}, "maxOutputTokens: must be a whole number of at least 1."),
    ],
)
def test_a_field_is_refused_with_what_belongs_there(fields, detail):
    assert refusal(**fields) == detail


@pytest.mark.parametrize("depth", [40, 400, 1_000, 100_000])
def test_a_deep_schema_is_refused(depth):
    schema = b'{"a":' * depth + b"1" + b"}" * depth
    body = (
        b'{"messages":[{"role":"user","content":"a"}],"tools":[{"type":"function","function":'
        b'{"name":"f","parameters":%b}}]}' % schema
    )
    with pytest.raises(InvalidRequest, match=r"levels of nesting|not valid JSON"):
        parse_request(body)


def test_nothing_is_something_else_than_absent():
    names = ("model", "tools", "toolChoice", "events", "stop", "seed", "responseFormat", "topP")

    assert parsed(**dict.fromkeys(names)) == parsed(tools=[], events=[], stop=[])
