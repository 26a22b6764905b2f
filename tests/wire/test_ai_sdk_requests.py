"""Bodies of useChat are conversations, and what cannot be one is a sentence."""

import json
from base64 import b64encode
from typing import Any

import pytest

from chatnest.asgi.data_urls import SMALL_BODY
from chatnest.conversation import Image, Message, Reasoning, Text, ToolCall, ToolResult
from chatnest.errors import InvalidRequest
from chatnest.events import (
    ClientEvent,
    Delta,
    Done,
    ReasoningSignature,
    Source,
    Start,
    Usage,
)
from chatnest.events import Reasoning as ReasoningPiece
from chatnest.events import ToolCall as Called
from chatnest.events import ToolCallDelta as CalledWith
from chatnest.requests import ChatRequest, Tool
from chatnest.wire import AISDKFormat, StreamInfo
from tests.test_image_size import png
from tests.wire.ui_messages import UIMessage

CANARY = "CaNaRy"
SMALL = f"data:image/png;base64,{b64encode(png(3, 2)).decode()}"
LARGE = f"data:image/png;base64,{b64encode(png(3, 2) + bytes(SMALL_BODY)).decode()}"


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def file(url: str = SMALL, kind: str = "image/png") -> dict[str, Any]:
    return {"type": "file", "mediaType": kind, "url": url}


def user(*parts: Any, id: str = "u1") -> dict[str, Any]:  # noqa: A002  # the field's name
    return {"id": id, "role": "user", "parts": list(parts) or [text("Hi")]}


def assistant(*parts: Any, **fields: Any) -> dict[str, Any]:
    return {"id": "a1", "role": "assistant", "parts": list(parts), **fields}


def call(state: str = "output-available", id: str = "c1", **fields: Any) -> dict[str, Any]:  # noqa: A002
    return {"type": "tool-f", "toolCallId": id, "state": state, "input": {"a": 1}, **fields}


def asked(*messages: Any, **fields: Any) -> dict[str, Any]:
    return {"id": "chat", "messages": list(messages) or [user()], **fields}


def read(body: dict[str, Any]) -> ChatRequest:
    return AISDKFormat().parse(json.dumps(body).encode(), {})


def parsed(*messages: Any, **fields: Any) -> ChatRequest:
    return read(asked(*messages, **fields))


def refusal(body: dict[str, Any]) -> str:
    with pytest.raises(InvalidRequest) as caught:
        read(body)
    assert CANARY not in str(caught.value)
    return caught.value.detail


STEP = {"type": "step-start"}
CALL = ToolCall(id="c1", name="f", arguments='{"a": 1}')
HI = Message.of("user", "Hi")
PROOF = {"signature": "s", "provider": "p", "model": "m", "redacted": True, "id": "i"}

CONVERSATIONS: dict[str, tuple[list[Any], list[Message]]] = {
    "texts": (
        [user(text("Hi"), text(" "), text("there"))],
        [Message("user", (Text("Hi"), Text("there")))],
    ),
    "an answer": (
        [user(), assistant(STEP, text("Yes")), user(text("Why?"), id="u2")],
        [HI, Message.of("assistant", "Yes"), Message.of("user", "Why?")],
    ),
    "an answer that was stopped": ([user(), assistant(STEP), user()], [HI, HI]),
    "parts that are ignored": (
        [
            user(text("Hi"), {"type": "data-x", "id": 1, "data": None}),
            assistant(
                STEP,
                {"type": "source-url", "sourceId": "1", "url": "https://e.org"},
                {"type": "source-document", "sourceId": "2", "mediaType": "a/b", "title": "t"},
                {"type": "reasoning-file", "mediaType": "image/png", "url": "data:,"},
                {"type": "custom", "kind": "k", "providerMetadata": {"openai": {"a": 1}}},
                file("https://e.org"),
                text("Yes"),
                metadata={"a": 1},
            ),
        ],
        [HI, Message.of("assistant", "Yes")],
    ),
    "thinking": (
        [
            user(),
            assistant(
                STEP,
                {"type": "reasoning", "text": "Hm", "providerMetadata": {"chatnest": PROOF}},
                {"type": "reasoning", "text": "So", "providerMetadata": {"other": {}}, "id": "1"},
                {"type": "reasoning", "text": ""},
                text("Yes"),
            ),
        ],
        [
            HI,
            Message(
                "assistant",
                (
                    Reasoning(
                        text="Hm",
                        signature="s",
                        provider="p",
                        model="m",
                        redacted=True,
                        id="i",
                    ),
                    Reasoning(text="So"),
                    Text("Yes"),
                ),
            ),
        ],
    ),
    "thinking alone": ([user(), assistant(STEP, {"type": "reasoning", "text": "Hm"})], [HI]),
    "a result": (
        [user(), assistant(STEP, text("So"), call(output={"b": [2]}))],
        [
            HI,
            Message("assistant", (Text("So"), CALL)),
            Message("tool", (ToolResult(call_id="c1", text='{"b": [2]}'),)),
        ],
    ),
    "a result that is text": (
        [user(), assistant(STEP, call(output="a\nb"))],
        [
            HI,
            Message("assistant", (CALL,)),
            Message("tool", (ToolResult(call_id="c1", text="a\nb"),)),
        ],
    ),
    "no result": (
        [user(), assistant(STEP, call())],
        [
            HI,
            Message("assistant", (CALL,)),
            Message("tool", (ToolResult(call_id="c1", text="null"),)),
        ],
    ),
    "a failure of a tool": (
        [user(), assistant(STEP, call("output-error", errorText="No"))],
        [
            HI,
            Message("assistant", (CALL,)),
            Message("tool", (ToolResult(call_id="c1", text="No", is_error=True),)),
        ],
    ),
    "arguments that could not be read, in 7": (
        [user(), assistant(STEP, call("output-error", input='{"a', errorText="No"))],
        [
            HI,
            Message("assistant", (ToolCall(id="c1", name="f", arguments='{"a'),)),
            Message("tool", (ToolResult(call_id="c1", text="No", is_error=True),)),
        ],
    ),
    "arguments that could not be read, in 5 and 6": (
        [user(), assistant(STEP, call("output-error", input=None, rawInput='{"a'))],
        [
            HI,
            Message("assistant", (ToolCall(id="c1", name="f", arguments='{"a'),)),
            Message("tool", (ToolResult(call_id="c1", text="The call failed.", is_error=True),)),
        ],
    ),
    "a dynamic tool without arguments": (
        [user(), assistant(STEP, call(type="dynamic-tool", toolName="g", input=None, output=1))],
        [
            HI,
            Message("assistant", (ToolCall(id="c1", name="g", arguments="{}"),)),
            Message("tool", (ToolResult(call_id="c1", text="1"),)),
        ],
    ),
    "calls without a result": (
        [
            user(),
            assistant(
                STEP,
                text("So"),
                call("input-streaming", "c1"),
                call("input-available", "c2"),
                call("approval-requested", "c3"),
                call("output-denied", "c4"),
            ),
            user(),
        ],
        [HI, Message.of("assistant", "So"), HI],
    ),
    "two answers in one message": (
        [user(), assistant(STEP, text("So"), call(output=1), STEP, text("Yes"))],
        [
            HI,
            Message("assistant", (Text("So"), CALL)),
            Message("tool", (ToolResult(call_id="c1", text="1"),)),
            Message.of("assistant", "Yes"),
        ],
    ),
    "two answers with one id for their calls": (
        [user(), assistant(STEP, call(output=1), STEP, call(output=2))],
        [
            HI,
            Message("assistant", (CALL,)),
            Message("tool", (ToolResult(call_id="c1", text="1"),)),
            Message("assistant", (CALL,)),
            Message("tool", (ToolResult(call_id="c1", text="2"),)),
        ],
    ),
    "null": (
        [{"id": None, "role": "user", "parts": [text("Hi") | {"url": None, "state": None}]}],
        [HI],
    ),
}


@pytest.mark.parametrize(("sent", "messages"), CONVERSATIONS.values(), ids=CONVERSATIONS)
def test_messages_are_a_conversation(sent, messages):
    assert parsed(*sent).messages == tuple(messages)


@pytest.mark.parametrize("url", [SMALL, LARGE], ids=["small", "large"])
def test_a_file_is_an_image(url):
    found = parsed(user(file(url), text("What is it?"))).messages[0].parts

    assert isinstance(found[0], Image)
    assert (found[0].width, found[0].height, found[0].url) == (3, 2, url)


def test_the_system_prompt_is_the_clients():
    system = {"role": "system", "parts": [text("Three"), text(".")]}
    request = parsed(system, user(), systemPrompt="One.", system="Two.")

    assert request.system_prompt == "One.\n\nTwo.\n\nThree."
    assert parsed(user(), system="").system_prompt is None


def test_a_body_that_has_more_is_taken():
    """What useChat, assistant-ui and users send beside the fields that count."""
    request = parsed(
        user(),
        trigger="submit-message",
        messageId=None,
        metadata={"a": 1},
        callSettings={"temperature": 2},
        config={"modelName": "x"},
        anything=[None],
    )

    assert request == parsed(user(), trigger="submit-message")
    assert parsed(user(), tools={}).tools == ()
    assert (request.conversation, request.tools, request.model) == ("chat", (), None)


def test_the_fields_that_count():
    request = parsed(user(), model="gpt", profile="Constrained", maxOutputTokens=7)

    assert (request.model, request.max_output_tokens) == ("gpt", 7)
    assert request.profile == parsed(user(), profile=" constrained ").profile == "constrained"


# ---------------------------------------------------------------- tools

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOLS: dict[str, Any] = {
    "assistant-ui": {
        "weather": {"description": "Sky", "parameters": SCHEMA, "providerOptions": {}}
    },
    "the AI SDK": {"weather": {"description": "Sky", "inputSchema": {"jsonSchema": SCHEMA}}},
    "a schema": {"weather": {"description": "Sky", "inputSchema": SCHEMA, "parameters": None}},
    "Chat Completions": [
        {
            "type": "function",
            "function": {"name": "weather", "description": "Sky", "parameters": SCHEMA},
        }
    ],
}


@pytest.mark.parametrize("tools", TOOLS.values(), ids=TOOLS)
def test_tools_come_in_each_form_that_clients_have(tools):
    wanted = Tool(name="weather", description="Sky", parameters=json.dumps(SCHEMA))

    assert parsed(user(), tools=tools).tools == (wanted,)


def test_a_tool_may_have_no_parameters():
    assert parsed(user(), tools={"now": {}}).tools == (Tool(name="now"),)


WRONG_TOOLS: dict[str, tuple[Any, str]] = {
    "no name": ([{"function": {}}], "tools[0].function.name: must be a name of 1 to 64"),
    "a name": ({CANARY + " f": {}}, "tools[...].name: must be a name of 1 to 64"),
    "a text": ({"f": CANARY}, "tools[...]: must be an object with description"),
    "a list as schema": ({"f": {"parameters": [CANARY]}}, "tools[...].parameters: must be a JSON"),
    "Zod": ({"f": {"inputSchema": {"def": {}}}}, "This one is Zod's; z.toJSONSchema()"),
    "depth": ({"f": {"parameters": json.loads('{"a":' * 40 + "1" + "}" * 40)}}, "32 levels"),
    "size": ({"f": {"description": "x" * 140_000}}, "tools: must be at most 131,072 bytes"),
    "number": ({f"f{n}": {} for n in range(129)}, "tools: must be at most 128."),
    "another type": ([{"type": CANARY, "function": {}}], "tools[0].type: must be 'function'"),
    "not tools": (CANARY, "tools: must be an object with a tool for each name, or a list"),
}


@pytest.mark.parametrize(("tools", "sentence"), WRONG_TOOLS.values(), ids=WRONG_TOOLS)
def test_a_wrong_tool_is_refused_with_its_place(tools, sentence):
    assert sentence in refusal(asked(tools=tools))


# ---------------------------------------------------------------- refusals

LONG = CANARY * 100
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no messages": ({"messages": []}, "messages: must be a list of 1 to 1,000 messages."),
    "too many": ({"messages": [user()] * 1_001}, "messages: must be a list of 1 to 1,000"),
    "no question": ({"messages": [assistant(STEP, text("a"))]}, "messages: at least one must be"),
    "a blank question": ({"messages": [user(text(" "))]}, "messages[0].parts: must be a list of"),
    "no parts": (
        {"messages": [{"role": "user", "content": CANARY}]},
        "messages[0].parts: must be a list of 1 to 1,024 parts, as useChat sends it,",
    ),
    "many parts": ({"messages": [user(*[STEP] * 1_025)]}, "messages[0].parts: must be a list"),
    "a role": ({"messages": [user() | {"role": CANARY}]}, "messages[0].role: must be 'system'"),
    "a text": ({"messages": [user({"type": "text", "text": 1})]}, "messages[0].parts[0].text:"),
    "no type": ({"messages": [user({})]}, "messages[0].parts[0].type: must be a string."),
    "a document": (
        {"messages": [user(file("data:application/pdf;base64,JV", "application/pdf"))]},
        "This chat takes images (PNG, JPEG, GIF, WebP) and no other files.",
    ),
    "an address": (
        {"messages": [user(file(f"https://{CANARY}"))]},
        "messages[0].parts[0].url: must be a data: URL with the image itself.",
    ),
    "an image that is none": (
        {"messages": [user(file("data:image/png;base64,AAAA"))]},
        "messages[0].parts[0].url: must be a whole image",
    ),
    "no url": ({"messages": [user({"type": "file", "mediaType": "image/png"})]}, "parts[0].url:"),
    "no id of a call": (
        {"messages": [user(), assistant(call(toolCallId=None))]},
        "messages[1].parts[0].toolCallId: must be a string of 1 to 256 printable characters.",
    ),
    "a long id of a call": (
        {"messages": [user(), assistant(call(id=LONG))]},
        "messages[1].parts[0].toolCallId: must be",
    ),
    "no name of a tool": (
        {"messages": [user(), assistant(call(type="tool-"))]},
        "messages[1].parts[0].toolName: must be",
    ),
    "no name of a dynamic tool": (
        {"messages": [user(), assistant(call(type="dynamic-tool"))]},
        "messages[1].parts[0].toolName: must be",
    ),
    "an id twice": (
        {"messages": [user(), assistant(call(output=1), call(output=1))]},
        "messages[1].parts[1].toolCallId: must differ from those before it.",
    ),
    "deep arguments": (
        {"messages": [user(), assistant(call(input=json.loads("[" * 40 + "]" * 40)))]},
        "messages[1].parts[0].input: expected at most 32 levels",
    ),
    "an image in a large result": (
        {"messages": [user(), assistant(call(output={"url": LARGE}))]},
        "messages[1].parts[0].output: must not have a data: URL of this size.",
    ),
    "a long id of a chat": ({"id": LONG}, "id: must be a string of 1 to 256 printable characters"),
    "an empty id of a chat": ({"id": ""}, "id: must be a string of 1 to 256"),
    "a number as id": ({"id": 7}, "id: must be a string of 1 to 256"),
    "a long id of a message": ({"messageId": LONG}, "messageId: must be a string of 1 to 256"),
    "a long id that the answer has": (
        {"messages": [user(), assistant(text("a"), id=LONG)]},
        "messages[1].id: must be a string of 1 to 256 printable characters.",
    ),
    "a model": ({"model": ""}, "model: must be the name of a model"),
    "a number as model": ({"model": 1}, "model: must be the name of a model"),
    "tokens": ({"maxOutputTokens": 0}, "maxOutputTokens: must be a whole number of at least 1."),
    "a proof": (
        {
            "messages": [
                user(),
                assistant(
                    {
                        "type": "reasoning",
                        "text": "Hm",
                        "providerMetadata": {"chatnest": {"signature": 1}},
                    }
                ),
            ]
        },
        "messages[1].parts[0].providerMetadata.chatnest.signature: must be a string.",
    ),
}


@pytest.mark.parametrize(("fields", "sentence"), WRONG.values(), ids=WRONG)
def test_a_wrong_body_is_refused_with_its_place(fields, sentence):
    assert sentence in refusal(asked() | fields)


def test_an_image_in_a_small_result_is_text():
    (_, _, result) = parsed(user(), assistant(call(output={"url": SMALL}))).messages

    assert json.dumps({"url": SMALL}) == result.parts[0].text  # type: ignore[union-attr]


def test_large_urls_in_places_that_are_ignored_are_ignored():
    request = parsed(
        user(text("Hi"), {"type": "data-picture", "data": {"url": LARGE}}),
        assistant(STEP, file(LARGE), text("Yes"), metadata={"url": LARGE}),
        avatar={"url": LARGE},
    )

    assert [message.text for message in request.messages] == ["Hi", "Yes"]


# ---------------------------------------------------------------- one submission


def key(*messages: Any, **fields: Any) -> str | None:
    return parsed(*messages, **fields).submission.key


def test_equal_bodies_have_equal_keys_and_fields_that_are_ignored_change_nothing():
    spaced = json.dumps(asked(), indent=3).encode()

    assert key() is not None
    assert AISDKFormat().parse(spaced, {}).submission.key == key()
    assert key(user() | {"metadata": {"at": 1}}, timestamp=17) == key()


DIFFERENT: dict[str, dict[str, Any]] = {
    "the chat": {"id": "chat2"},
    "the trigger": {"trigger": "regenerate-message"},
    "the message's id": {"messageId": "u1"},
    "a message's id": {"messages": [user(id="u2")]},
    "a text": {"messages": [user(text("Ho"))]},
    "an image": {"messages": [user(file(), text("Hi"))]},
    "an earlier message": {"messages": [user(text("Ho"), id="u0"), user()]},
    "the model": {"model": "m"},
    "the tools": {"tools": {"f": {}}},
    "the system prompt": {"system": "Rhyme."},
}


def test_each_field_that_the_answer_depends_on_changes_the_key():
    keys = {key(), *(read(asked() | fields).submission.key for fields in DIFFERENT.values())}

    assert len(keys) == len(DIFFERENT) + 1
    assert None not in keys


def test_a_large_image_is_a_part_of_the_key():
    other = f"data:image/png;base64,{b64encode(png(3, 2) + bytes(SMALL_BODY + 3)).decode()}"

    assert key(user(file(LARGE))) == key(user(file(LARGE)))
    assert key(user(file(LARGE))) != key(user(file(other)))


@pytest.mark.parametrize("fields", [{"id": None}, {"messages": [user(id="")]}])
def test_without_ids_each_request_is_one_of_its_own(fields):
    assert read(asked() | fields).submission.key is None


def test_another_answer_is_wanted_by_its_trigger_alone():
    again = parsed(user(), trigger="regenerate-message").submission
    first = parsed(user(), trigger="submit-message").submission

    assert (first.replays, again.replays) == (True, False)
    assert (again.note, again.facts) == ("", ""), "named after its run, so that each has its own"
    assert first.note == f"msg_{(first.key or '')[:24]}"


CONTINUED: dict[str, tuple[list[Any], dict[str, Any], str | None]] = {
    "a question": ([user()], {}, None),
    "an output of a tool": ([user(), assistant(call(output=1))], {"messageId": "a1"}, "a1"),
    "the same without an id": ([user(), assistant(call(output=1))], {}, "a1"),
    "an output in an earlier message": (
        [user(), assistant(call(output=1)), user(id="u2")],
        {"messageId": "a1"},
        "a1",
    ),
    "an edited question": ([user()], {"messageId": "u1"}, None),
    "an unknown id": ([user(), assistant(text("a"))], {"messageId": "x"}, "a1"),
    "another answer": (
        [user(), assistant(text("a"))],
        {"trigger": "regenerate-message", "messageId": "a1"},
        None,
    ),
    "a message without an id": ([user(), assistant(text("a"), id=None)], {}, None),
}


@pytest.mark.parametrize(("sent", "fields", "message_id"), CONTINUED.values(), ids=CONTINUED)
def test_an_answer_continues_the_message_that_the_client_continues(sent, fields, message_id):
    request = parsed(*sent, **fields)
    info = StreamInfo(request_id="r1", model="m", request=request)
    shown = UIMessage(AISDKFormat().frames(info).encode([Start()])).id
    note = request.submission.note or ""
    later = StreamInfo(request_id="r1", model="m", note=note)

    assert shown == (message_id or note or "msg_r1")
    assert message_id in {None, note}
    assert shown == UIMessage(AISDKFormat().frames(later).encode([Start()])).id


def test_a_chat_without_an_id_cannot_be_resumed():
    assert parsed(user(), id=None).submission.note is None


# ---------------------------------------------------------------- there and back

ANSWER: list[ClientEvent] = [
    Start(),
    ReasoningPiece("Hm"),
    ReasoningPiece("!"),
    ReasoningSignature("s", "p", "m", id="i"),
    Delta("I "),
    Source("https://e.org", "E", 0, 1),
    Delta("look."),
    Called(0, "c1", "f"),
    CalledWith(0, '{"a":'),
    CalledWith(0, '"é"}'),
    Done("tool_calls", Usage(1, 2)),
]


def test_an_answer_comes_back_as_the_model_gave_it():
    stream = AISDKFormat().frames(StreamInfo(request_id="r1", model="m")).encode(ANSWER)
    message = UIMessage(stream)
    assert not message.is_complete()
    message.answered({"sky": "clear"})
    assert message.is_complete()

    assert parsed(user(), message.sent()).messages[1:] == (
        Message(
            "assistant",
            (
                Reasoning(text="Hm!", signature="s", provider="p", model="m", id="i"),
                Text("I look."),
                ToolCall(id="c1", name="f", arguments='{"a": "\\u00e9"}'),
            ),
        ),
        Message("tool", (ToolResult(call_id="c1", text='{"sky": "clear"}'),)),
    )
