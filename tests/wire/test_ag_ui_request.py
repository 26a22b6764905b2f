"""The body of AG-UI: what is taken of what clients send, and what is refused."""

import json
from base64 import b64encode, urlsafe_b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatnest.asgi.data_urls import SMALL_BODY
from chatnest.conversation import Image, Message, Reasoning, Text, ToolCall, ToolResult
from chatnest.errors import InvalidRequest
from chatnest.requests import ChatRequest, Tool
from chatnest.wire import AGUIFormat
from chatnest.wire.ag_ui.facts import RunFacts
from tests.test_image_size import png
from tests.wire.agent import PIXEL, Agent, calling, result, user

CANARY = "CaNaRy"
HI = user()
ANSWER = {"id": "a2", "role": "assistant", "content": "Good"}


def parsed(*messages: Any, **fields: Any) -> ChatRequest:
    body = Agent(*(messages or (HI,))).body(**fields)
    return AGUIFormat().parse(json.dumps(body).encode(), {})


def refusal(*messages: Any, **fields: Any) -> str:
    with pytest.raises(InvalidRequest) as caught:
        parsed(*messages, **fields)
    assert CANARY not in str(caught.value)
    return caught.value.detail


def image(value: Any = PIXEL, kind: Any = "image/png", source: str = "data") -> dict[str, Any]:
    return {"type": "image", "source": {"type": source, "value": value, "mimeType": kind}}


def binary(**fields: Any) -> dict[str, Any]:
    return {"type": "binary", "mimeType": "image/png", **fields}


def thinking(content: str = "Hm", value: str | None = None) -> dict[str, Any]:
    sealed = {} if value is None else {"encryptedValue": value}
    return {"id": "t1", "role": "reasoning", "content": content, **sealed}


def sealed(**fields: Any) -> str:
    proof = {"signature": "s", "provider": "p", "model": "m", **fields}
    return f"cn1.{urlsafe_b64encode(json.dumps(proof).encode()).decode()}"


# ------------------------------------------------ the whole


def test_a_request_of_a_client_is_read():
    """As 0.0.59 and 1.0.0 send it, with what an application adds."""
    tool = {"name": "f", "description": "F", "parameters": {"a": [1, 2]}, "metadata": {}}
    request = parsed(
        HI,
        tools=[tool],
        state={"cart": [1]},
        parentRunId="run-0",
        resume=[],
        forwardedProps={"model": "m", "profile": "budget", "maxOutputTokens": 9, "x": {"y": 1}},
        extension={"of": "a later version"},
    )

    assert request.messages == (Message.of("user", "Hi"),)
    assert (request.conversation, request.linger, request.system_prompt) == ("thread-1", 0.0, None)
    assert (request.model, request.profile, request.max_output_tokens) == ("m", "constrained", 9)
    assert request.tools == (Tool(name="f", description="F", parameters='{"a": [1, 2]}'),)
    assert request.submission.key == "thread-1\0run-1"
    assert request.submission.facts == RunFacts(
        thread_id="thread-1", run_id="run-1", prefix="run-1-1", is_0=False
    )


@pytest.mark.parametrize(
    ("version", "is_0"),
    [
        ({}, True),
        ({"protocolVersion": None}, True),
        ({"protocolVersion": ""}, True),
        ({"protocolVersion": "1.0"}, False),
        ({"protocolVersion": "1.7"}, False),
    ],
)
def test_the_version_of_the_client_is_known_by_its_field(version, is_0):
    body = {**Agent(HI, is_0=True).body(), **version}
    request = AGUIFormat().parse(json.dumps(body).encode(), {})

    assert isinstance(request.submission.facts, RunFacts)
    assert request.submission.facts.is_0 is is_0


@pytest.mark.parametrize("value", [None, "left out"])
def test_an_optional_field_may_be_null_or_left_out(value):
    body = Agent(HI).body()
    for name in ("tools", "context", "forwardedProps", "state", "protocolVersion"):
        if value is None:
            body[name] = None
        else:
            del body[name]
    assert AGUIFormat().parse(json.dumps(body).encode(), {}).tools == ()


# ------------------------------------------------ messages

RESULT = Message("tool", (ToolResult(call_id="c1", text="42"),))
CALL = ToolCall(id="c1", name="f", arguments="{}")
ASKED = Message.of("user", "Hi")
TAKEN: dict[str, tuple[list[Any], list[Message]]] = {
    "parts": ([user([{"type": "text", "text": "Hi"}, {"type": "text", "text": " "}])], [ASKED]),
    "a blank message": ([user("  ", "u0"), HI], [ASKED]),
    "an empty answer": ([HI, {**ANSWER, "content": ""}, HI], [ASKED, ASKED]),
    "an answer without content": ([HI, {"id": "a", "role": "assistant"}, HI], [ASKED, ASKED]),
    "two answers in a row": (
        [HI, ANSWER, {**ANSWER, "id": "a3", "content": "night"}, HI],
        [ASKED, Message.of("assistant", "Good\n\nnight"), ASKED],
    ),
    "what the client shows": (
        [HI, {"id": "x", "role": "activity", "activityType": "T", "content": {"a": 1}}],
        [ASKED],
    ),
    "a call": (
        [HI, calling("c1", content=None), result()],
        [ASKED, Message("assistant", (CALL,)), RESULT],
    ),
    "a call and a text": (
        [HI, calling("c1", content="Let me"), result()],
        [ASKED, Message("assistant", (Text("Let me"), CALL)), RESULT],
    ),
    "a call without a result": ([HI, calling("c1"), HI], [ASKED, ASKED]),
    "calls in two messages": (
        [HI, calling("c1"), calling("c2"), result("c2", ""), result()],
        [
            ASKED,
            Message("assistant", (CALL, ToolCall(id="c2", name="f", arguments="{}"))),
            Message("tool", (ToolResult(call_id="c2", text=""),)),
            RESULT,
        ],
    ),
    "a result in parts": (
        [
            HI,
            calling("c1"),
            result("c1", [{"type": "text", "text": "4"}, {"type": "text", "text": "2"}]),
        ],
        [ASKED, Message("assistant", (CALL,)), RESULT],
    ),
    "an error instead of a result": (
        [HI, calling("c1"), result("c1", "", error="No city")],
        [
            ASKED,
            Message("assistant", (CALL,)),
            Message("tool", (ToolResult(call_id="c1", text="No city", is_error=True),)),
        ],
    ),
    "an error beside a result": (
        [HI, calling("c1"), result(error="No city")],
        [
            ASKED,
            Message("assistant", (CALL,)),
            Message("tool", (ToolResult(call_id="c1", text="42", is_error=True),)),
        ],
    ),
    "thinking": (
        [HI, thinking("Hm", sealed(redacted=True, id="r")), ANSWER],
        [
            ASKED,
            Message(
                "assistant",
                (
                    Reasoning(
                        text="Hm", signature="s", provider="p", model="m", redacted=True, id="r"
                    ),
                    Text("Good"),
                ),
            ),
        ],
    ),
    "thinking that was stopped": ([HI, thinking(), HI], [ASKED, ASKED]),
    "no thinking": ([HI, thinking(""), ANSWER], [ASKED, Message.of("assistant", "Good")]),
    "a proof in an answer": (
        [HI, {**ANSWER, "encryptedValue": sealed()}],
        [
            ASKED,
            Message(
                "assistant",
                (Reasoning(text="", signature="s", provider="p", model="m"), Text("Good")),
            ),
        ],
    ),
}


@pytest.mark.parametrize(("sent", "messages"), TAKEN.values(), ids=TAKEN)
def test_messages_are_read_as_they_are_meant(sent, messages):
    assert parsed(*sent).messages == tuple(messages)


FOREIGN = [
    "",
    "abc",
    "cn1.",
    "cn1.!!!",
    "cn1.é",
    "cn2." + sealed()[4:],
    sealed(signature=""),
    sealed(signature=1),
    "cn1." + urlsafe_b64encode(b"[]").decode(),
    "cn1." + urlsafe_b64encode(b"\xff").decode(),
    "cn1." + urlsafe_b64encode(b"[" * 99_999).decode(),
]


@pytest.mark.parametrize("value", FOREIGN)
def test_a_value_of_another_server_is_dropped(value):
    request = parsed(HI, thinking("Hm", value), {**ANSWER, "encryptedValue": value})

    assert request.messages[1].parts == (Reasoning(text="Hm"), Text("Good"))


def test_instructions_and_context_are_the_clients_system_prompt():
    request = parsed(
        {"id": "s", "role": "system", "content": "Be kind."},
        HI,
        {"id": "d", "role": "developer", "content": "Be brief."},
        {"id": "e", "role": "developer", "content": " "},
        context=[
            {"description": "The page", "value": "Orders"},
            {"description": "", "value": "42"},
            {"description": "Nothing", "value": " "},
        ],
    )

    assert request.messages == (ASKED,)
    assert request.system_prompt == (
        "Be kind.\n\nBe brief.\n\nContext from the application:\n\nThe page:\nOrders\n\n42"
    )


# ------------------------------------------------ images


def pixels(request: ChatRequest) -> list[str]:
    parts = [part for message in request.messages for part in message.parts]
    return [part.url for part in parts if isinstance(part, Image)]


@pytest.mark.parametrize(
    "part",
    [
        image(),
        image(kind="IMAGE/PNG"),
        image(f"data:image/png;base64,{PIXEL}", source="url"),
        binary(data=PIXEL),
        binary(data=PIXEL, url="https://e.org", filename="a.png"),
        binary(url=f"data:image/png;base64,{PIXEL}"),
    ],
)
def test_an_image_has_two_forms(part):
    assert pixels(parsed(user([part]))) == [f"data:image/png;base64,{PIXEL}"]


LARGE = b64encode(png(9, 9, between=b"") + b"x" * SMALL_BODY).decode()


@pytest.mark.parametrize("escape", [False, True])
@pytest.mark.parametrize("part", [image(LARGE), binary(data=LARGE)], ids=["image", "binary"])
def test_a_large_image_is_read_whole(part, escape):
    body = json.dumps(Agent(user([part]), user([image()])).body(state={"data": LARGE}))
    body = body.replace("/", "\\/") if escape else body
    request = AGUIFormat().parse(body.encode(), {})

    assert pixels(request) == [f"data:image/png;base64,{data}" for data in (LARGE, PIXEL)]


def test_large_base64_that_is_no_image_is_text_in_a_context_and_refused_in_a_tool():
    request = parsed(context=[{"description": "Key", "value": LARGE}])
    assert request.system_prompt == f"Context from the application:\n\nKey:\n{LARGE}"

    tool = {"name": "f", "description": "", "parameters": {"value": LARGE}}
    assert (
        refusal(HI, tools=[tool])
        == "tools[0].parameters: must be a JSON schema, which is an object."
    )


AT = "messages[0].content[0]"
ITSELF = "must have the image itself, in base64. The server fetches nothing from an address"
KIND = "must be image/png, image/jpeg, image/gif or image/webp."


@pytest.mark.parametrize(
    ("part", "detail"),
    [
        (image("http://169.254.169.254/CaNaRy", source="url"), f"{AT}.source: {ITSELF}"),
        (image("file_CaNaRy", source="file"), f"{AT}.source: {ITSELF}"),
        (image("CaNaRy", source="CaNaRy"), f"{AT}.source.type: must be 'data'."),
        (image("CaNaRy é"), f"{AT}.source.value: must be a data: URL of an image, in base64."),
        (image("CaNaRy+/"), f"{AT}.source.value: must be a whole image of the type"),
        (image(kind="application/CaNaRy"), f"{AT}.source.mimeType: {KIND}"),
        (image(kind="image/svg+xml"), f"{AT}.source.value: must begin with data:image/png;base64,"),
        (image(kind=None), f"{AT}.source.mimeType: {KIND}"),
        (binary(id="file_CaNaRy"), f"{AT}: {ITSELF}"),
        (binary(url="https://CaNaRy"), f"{AT}: {ITSELF}"),
        (binary(data=PIXEL, mimeType="audio/CaNaRy"), f"{AT}.mimeType: {KIND}"),
        *(
            ({"type": kind, "source": {}}, f"{AT}: must be a text or an image. This server takes")
            for kind in ("audio", "video", "document")
        ),
    ],
)
def test_an_image_that_is_not_one_is_refused(part, detail):
    assert refusal(user([part])).startswith(detail)


# ------------------------------------------------ what is refused

LONG = "x" * 257
ID = "must be a string of 1 to 256 printable characters"
REFUSED: dict[str, tuple[list[Any], dict[str, Any], str]] = {
    "no messages": ([{}], {"messages": []}, "messages: must be a list of 1 to 1,000 messages."),
    "too many": ([HI] * 1_001, {}, "messages: must be a list of 1 to 1,000 messages."),
    "no question": ([ANSWER], {}, "messages: at least one must be the user's."),
    "no words": ([user(" ")], {}, "messages[0].content: must be a string that is not blank"),
    "no parts": ([user([])], {}, "messages[0].content: must be a string that is not blank"),
    "a role": ([{"role": CANARY}], {}, "messages[0].role: must be 'user', 'assistant', "),
    "a part": ([user([{"type": CANARY}])], {}, f"{AT}.type: must be 'text' or 'image'."),
    "parts": (
        [user([{"type": "text", "text": "a"}] * 257)],
        {},
        "messages[0].content: must have at",
    ),
    "a threadless run": ([HI], {"threadId": ""}, f"threadId: {ID}"),
    "a long thread": ([HI], {"threadId": LONG}, f"threadId: {ID}"),
    "a run of blanks": ([HI], {"run": "  "}, f"runId: {ID}"),
    "a run with a line": ([HI], {"run": "a\nb"}, f"runId: {ID}"),
    "a number as a run": ([HI], {"run": 1}, f"runId: {ID}"),
    "an interrupt": (
        [HI],
        {"resume": [{"interruptId": CANARY, "status": "resolved"}]},
        "resume: must be an empty list: no run of this server is interrupted.",
    ),
    "properties": ([HI], {"forwardedProps": CANARY}, "forwardedProps: must be an object."),
    "a model": ([HI], {"forwardedProps": {"model": ""}}, "forwardedProps.model: must be the name"),
    "a cap": (
        [HI],
        {"forwardedProps": {"maxOutputTokens": 0}},
        "forwardedProps.maxOutputTokens: must be a whole number of at least 1.",
    ),
    "a tool": (
        [HI],
        {"tools": [{"name": f"{CANARY}!"}]},
        "tools[0].name: must be a name of 1 to 64",
    ),
    "a schema": (
        [HI],
        {"tools": [{"name": "f", "parameters": "x"}]},
        "tools[0].parameters: must be",
    ),
    "tools": ([HI], {"tools": [{"name": "f"}] * 129}, "tools: must be at most 128."),
    "large tools": (
        [HI],
        {"tools": [{"name": "f", "description": "x" * 131_073}]},
        "tools: must be at most 131,072 bytes of JSON.",
    ),
    "a context": ([HI], {"context": [CANARY]}, "context[0]: must be an object with description"),
    "a call's id": ([HI, calling("")], {}, "messages[1].toolCalls[0].id: must be a string of 1"),
    "calls": ([HI, calling(*map(str, range(257)))], {}, "messages[1].toolCalls: must be a list of"),
    "calls in pieces": (
        [HI, *(calling(str(n)) for n in range(257))],
        {},
        "messages: the calls of one answer must be at most 256, with different ids.",
    ),
    "equal calls": (
        [HI, calling("c"), calling("c")],
        {},
        "messages: the calls of one answer must be at most 256, with different ids.",
    ),
    "a result of nothing": (
        [HI, result(CANARY)],
        {},
        "messages[1].toolCallId: must be the id of a call in the message of the assistant before",
    ),
    "two results": (
        [HI, calling("c1"), result(), result()],
        {},
        "messages[3].toolCallId: must be the id of a call without a result.",
    ),
    "an image as a result": (
        [HI, calling("c1"), result("c1", [image()])],
        {},
        "messages[2].content[0]: must be a text. Only the user's messages have images.",
    ),
    "a result in too many parts": (
        [HI, calling("c1"), result("c1", [{"type": "text", "text": "a"}] * 257)],
        {},
        "messages[2].content: must have at most 256 parts.",
    ),
}


@pytest.mark.parametrize(("messages", "fields", "detail"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_served_is_refused(messages, fields, detail):
    assert refusal(*messages, **fields).startswith(detail)


def test_a_nameless_call_is_refused():
    call = {"id": "c", "function": {"name": "", "arguments": ""}}
    message = {"role": "assistant", "toolCalls": [call]}

    assert refusal(HI, message).startswith(
        "messages[1].toolCalls[0].function.name: must be a string"
    )


@pytest.mark.parametrize("field", ["threadId", "runId", "messages"])
def test_a_required_field_is_named(field):
    body = Agent(HI).body()
    del body[field]
    with pytest.raises(InvalidRequest, match=f"^{field}: must be"):
        AGUIFormat().parse(json.dumps(body).encode(), {})


def test_a_key_that_stands_twice_is_refused():
    body = json.dumps(Agent(HI).body()).replace('"runId"', '"runId": "other", "runId"')
    with pytest.raises(InvalidRequest, match="twice"):
        AGUIFormat().parse(body.encode(), {})


def test_halves_of_pairs_in_a_question_are_no_fault():
    assert parsed(user("a\ud83d")).messages == (Message.of("user", "a\ufffd"),)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "role",
                    "content",
                    "id",
                    "type",
                    "text",
                    "source",
                    "value",
                    "toolCalls",
                    "function",
                    "name",
                    "arguments",
                    "toolCallId",
                    "encryptedValue",
                    "mimeType",
                    "data",
                ]
            ),
            inner | st.sampled_from(["user", "assistant", "tool", "reasoning", "text", "image"]),
            max_size=5,
        )
    ),
    max_leaves=12,
)


@given(st.lists(anything, max_size=4), anything)
def test_any_body_is_read_or_refused(messages, properties):
    body = Agent(*messages).body(forwardedProps=properties)
    try:
        request = AGUIFormat().parse(json.dumps(body).encode(), {})
    except InvalidRequest:
        return
    assert request.messages
