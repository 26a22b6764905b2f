"""The body of a request: what is asked, in the form of Chat Completions."""

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pydantic
import pytest
from openai.types.chat import completion_create_params

from chatnest import ModelParameters, OpenAIProvider
from chatnest import events as events_module
from chatnest.conversation import (
    Image,
    Message,
    Part,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
)
from chatnest.errors import UpstreamRejected
from chatnest.events import ProviderEvent, ReasoningSignature
from chatnest.providers.openai_chat.decode import ChunkDecoder
from chatnest.providers.openai_chat.messages import sent_messages
from chatnest.providers.openai_chat.parameters import Parameters
from chatnest.providers.openai_chat.thinking import ThinkingHabit
from chatnest.providers.sse import EventSplitter
from chatnest.requests import ModelRequest, OutputFormat, Sampling, Tool, ToolChoice
from chatnest.testing import Answer, FakeUpstream
from chatnest.turn import ModelCall
from tests.providers.test_chat_shapes import SHAPES
from tests.world.shapes import refused

SCHEMA = '{"type":"object","properties":{"city":{"type":"string"}}}'
LOOK = Tool(name="look", description="Looks.", parameters=SCHEMA)
CALL = ToolCall(id="call_1", name="look", arguments='{"city": "Paris"}')
USER = Message.of("user", "Hi")
BASE: dict[str, Any] = {
    "max_tokens": 50,
    "temperature": 0.5,
    "stream_options": {"include_usage": True},
}


def request(**more: Any) -> ModelRequest:
    defaults: dict[str, Any] = {"messages": (USER,), "max_output_tokens": 50, "temperature": 0.5}
    return ModelRequest(**(defaults | more))


def plain(value: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(value))


def fields(model: str = "gpt-4o", told: ModelParameters | None = None, **more: Any) -> Any:
    parameters = Parameters.of(model, told or ModelParameters(), include_usage=True)
    return plain(parameters.fields(request(**more)))


LOOK_SENT = {
    "type": "function",
    "function": {"name": "look", "description": "Looks.", "parameters": json.loads(SCHEMA)},
}
EMPTY = {"type": "object", "properties": {}}

FIELDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "nothing more": ({}, {}),
    "a tool": ({"tools": (LOOK,)}, {"tools": [LOOK_SENT]}),
    "a strict tool without parameters": (
        {"tools": (Tool(name="now", strict=True),)},
        {
            "tools": [
                {
                    "type": "function",
                    "function": {"name": "now", "parameters": EMPTY, "strict": True},
                }
            ]
        },
    ),
    "no tool may be called": (
        {"tools": (LOOK,), "tool_choice": ToolChoice(mode="none")},
        {"tools": [LOOK_SENT], "tool_choice": "none"},
    ),
    "a tool must be called": (
        {"tools": (LOOK,), "tool_choice": ToolChoice(mode="required", parallel=False)},
        {"tools": [LOOK_SENT], "tool_choice": "required", "parallel_tool_calls": False},
    ),
    "this tool must be called": (
        {"tools": (LOOK,), "tool_choice": ToolChoice(mode="required", name="look")},
        {
            "tools": [LOOK_SENT],
            "tool_choice": {"type": "function", "function": {"name": "look"}},
        },
    ),
    "a choice of nothing": ({"tool_choice": ToolChoice(mode="none", parallel=True)}, {}),
    "any object": ({"output": OutputFormat()}, {"response_format": {"type": "json_object"}}),
    "a schema": (
        {"output": OutputFormat(name="place", schema=SCHEMA, description="A place.", strict=True)},
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {
                    "name": "place",
                    "description": "A place.",
                    "schema": json.loads(SCHEMA),
                    "strict": True,
                },
            }
        },
    ),
    "an effort": ({"effort": "high"}, {"reasoning_effort": "high"}),
    "sampling": (
        {
            "sampling": Sampling(
                temperature=0.0,
                top_p=0.9,
                presence_penalty=0.1,
                frequency_penalty=-0.1,
                seed=7,
                stop=("END", "\n\n"),
            )
        },
        {
            "temperature": 0.0,
            "top_p": 0.9,
            "presence_penalty": 0.1,
            "frequency_penalty": -0.1,
            "seed": 7,
            "stop": ["END", "\n\n"],
        },
    ),
}


@pytest.mark.parametrize(("asked", "expected"), FIELDS.values(), ids=FIELDS)
def test_what_is_asked_has_its_field(asked, expected):
    assert fields(**asked) == BASE | expected


def test_a_reasoning_model_gets_nothing_that_it_rejects():
    sampling = Sampling(
        temperature=0.1, top_p=0.9, presence_penalty=1.0, frequency_penalty=1.0, seed=7, stop=("x",)
    )
    assert fields("gpt-5-mini", sampling=sampling, effort="low") == {
        "max_completion_tokens": 50,
        "reasoning_effort": "low",
        "seed": 7,
        "stream_options": {"include_usage": True},
    }
    told = ModelParameters(send_temperature=True)
    assert fields("o3", told, sampling=sampling)["temperature"] == 0.1


def test_the_effort_of_a_request_overrides_the_setting():
    told = ModelParameters(reasoning_effort="low")
    assert fields("m", told)["reasoning_effort"] == "low"
    assert fields("m", told, effort="none")["reasoning_effort"] == "none"


def test_a_field_that_is_refused_is_left_out_and_the_others_are_not():
    asked = request(
        tools=(LOOK,),
        tool_choice=ToolChoice(parallel=True),
        sampling=Sampling(top_p=0.9, seed=7),
        output=OutputFormat(),
    )
    parameters = Parameters.of("m", ModelParameters(), include_usage=True)
    whole = plain(parameters.fields(asked))
    for field in ("temperature", "top_p", "seed", "parallel_tool_calls", "stream_options"):
        kept = {name: value for name, value in whole.items() if name != field}
        assert plain(parameters.without(field).fields(asked)) == kept
    as_schema = {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": {"type": "object"}},
    }
    changed = plain(parameters.without("response_format").fields(asked))
    assert changed == whole | {"response_format": as_schema}


# ---------------------------------------------------------------- messages


def sent(
    *messages: Message, model: str = "m", field: str = "reasoning_content", **more: Any
) -> Any:
    habit = ThinkingHabit(model)
    habit.field = field
    return plain(sent_messages(messages, habit, model=model, **more))


def assistant(*parts: Part) -> Message:
    return Message("assistant", parts)


CALL_SENT = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "look", "arguments": '{"city": "Paris"}'},
}
CALLED = {"role": "assistant", "content": None, "tool_calls": [CALL_SENT]}
MESSAGES: dict[str, tuple[Message, list[dict[str, Any]]]] = {
    "the system": (Message.of("system", "Be brief."), [{"role": "system", "content": "Be brief."}]),
    "text": (USER, [{"role": "user", "content": "Hi"}]),
    "an image between texts": (
        Message("user", (Text("a"), Image(media_type="image/png", data="aGk="), Text("b"))),
        [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "a"},
                    {
                        "type": "image_url",
                        "image_url": {"url": "data:image/png;base64,aGk=", "detail": "high"},
                    },
                    {"type": "text", "text": "b"},
                ],
            }
        ],
    ),
    "a call": (assistant(CALL), [CALLED]),
    "text and a call": (
        assistant(Text("Let me look."), CALL),
        [CALLED | {"content": "Let me look."}],
    ),
    "arguments as they came": (
        assistant(ToolCall(id="c", name="look", arguments='{ "a":1.0,"a":2 ')),
        [
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "c",
                        "type": "function",
                        "function": {"name": "look", "arguments": '{ "a":1.0,"a":2 '},
                    }
                ],
            }
        ],
    ),
    # vllm-project/vllm#33268: servers parse the arguments, and fail on a blank
    "no arguments": (
        assistant(ToolCall(id="c", name="now", arguments=" ")),
        [
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "c",
                        "type": "function",
                        "function": {"name": "now", "arguments": "{}"},
                    }
                ],
            }
        ],
    ),
    "results": (
        Message("tool", (ToolResult(call_id="a", text="1"), ToolResult(call_id="b", text=""))),
        [
            {"role": "tool", "tool_call_id": "a", "content": "1"},
            {"role": "tool", "tool_call_id": "b", "content": ""},
        ],
    ),
    "a refusal": (
        assistant(Refusal("I cannot.")),
        [{"role": "assistant", "content": None, "refusal": "I cannot."}],
    ),
    "thinking with a call": (
        assistant(Reasoning(text="One"), CALL),
        [CALLED | {"reasoning_content": "One"}],
    ),
    "empty thinking with a call": (
        assistant(Reasoning(text=""), CALL),
        [CALLED | {"reasoning_content": ""}],
    ),
    "thinking without a call": (
        assistant(Reasoning(text="One"), Text("Hi")),
        [{"role": "assistant", "content": "Hi"}],
    ),
    "thinking of this model": (
        assistant(Reasoning(text="One", provider="openai-chat", model="m"), CALL),
        [CALLED | {"reasoning_content": "One"}],
    ),
    "thinking of another model": (
        assistant(Reasoning(text="One", provider="openai-chat", model="n"), CALL),
        [CALLED],
    ),
    "thinking of another provider": (
        assistant(
            Reasoning(text="One", signature="s", provider="anthropic-messages", model="m"), CALL
        ),
        [CALLED],
    ),
    "a signature of nobody": (
        assistant(Reasoning(text="One", signature='{"extra_content":{"a":1}}'), CALL),
        [CALLED],
    ),
    "a signature that is not ours": (
        assistant(Reasoning(text="One", signature="Zm9v", provider="openai-chat", model="m"), CALL),
        [CALLED],
    ),
}


@pytest.mark.parametrize(("message", "expected"), MESSAGES.values(), ids=MESSAGES)
def test_a_message_has_the_form_of_the_dialect(message, expected):
    assert sent(message, image_detail="high") == expected


def test_thinking_goes_back_under_the_name_under_which_it_came():
    message = assistant(Reasoning(text="One"), CALL)
    assert sent(message, field="reasoning") == [CALLED | {"reasoning": "One"}]
    assert sent(message, field="") == [CALLED]


@pytest.mark.parametrize(
    ("model", "is_needed"),
    [
        ("deepseek-v4-pro", True),  # deepseek: earendil-works/pi#3636
        ("deepseek/deepseek-reasoner", True),
        ("kimi-k2.5", True),  # continuedev/continue#11600
        ("moonshotai/Kimi-K2-Thinking", True),
        ("qwen3", False),
        ("gpt-4o", False),
    ],
)
def test_some_makers_need_thinking_with_each_call_even_where_it_is_empty(model, is_needed):
    expected = CALLED | {"reasoning_content": ""} if is_needed else CALLED
    assert sent(assistant(CALL), model=model) == [expected]


def blocks(events: list[ProviderEvent]) -> list[Reasoning]:
    """The blocks of thinking with a signature, as a client keeps them."""
    found, text = [], ""
    for event in events:
        if isinstance(event, events_module.Reasoning):
            text += event.text
            continue
        if isinstance(event, ReasoningSignature):
            kept = Reasoning(
                text=text,
                signature=event.signature,
                provider=event.provider,
                model=event.model,
                redacted=event.redacted,
                id=event.id,
            )
            found.append(kept)
        text = ""
    return found


def answer(name: str) -> list[Reasoning]:
    d = ChunkDecoder(EventSplitter(), max_chunks=1_000, tools=True, model="m")
    return blocks(d.feed(SHAPES[name].stream))


DETAIL = {"type": "reasoning.text", "format": "anthropic-claude-v1", "index": 0}
ENCRYPTED = {"type": "reasoning.encrypted", "data": "gAAA", "format": "openai-responses-v1"}
BACK = {
    "OpenRouter: Anthropic's signature": [{**DETAIL, "text": "One two three", "signature": "EqQB"}],
    "OpenRouter: OpenAI's summary and encrypted thinking": [
        {"type": "reasoning.summary", "summary": "One two", "index": 0},
        {**ENCRYPTED, "id": "rs_1", "index": 0},
    ],
    "OpenRouter: Gemini's encrypted thinking, after its call": [
        {"type": "reasoning.encrypted", "data": "Ev", "id": "tool_0", "index": 0}
    ],
}


@pytest.mark.parametrize(("name", "details"), BACK.items(), ids=BACK)
def test_details_go_back_unchanged(name, details):
    (message,) = sent(assistant(*answer(name), CALL))
    assert message == CALLED | {"reasoning_details": details}
    (message,) = sent(assistant(*answer(name), Text("Hi")))
    assert message["reasoning_details"] == details
    assert sent(assistant(*answer(name), CALL), model="n") == [CALLED]


def test_the_signature_of_a_call_goes_back_with_the_call():
    (block,) = answer("Gemini: a call with its signature")
    extra = {"google": {"thought_signature": "s1"}}
    call = ToolCall(id="a1", name="look", arguments="{}")
    (message,) = sent(assistant(call, block))
    assert message["tool_calls"][0]["extra_content"] == extra
    assert sent(assistant(CALL, block)) == [CALLED]  # the call is gone
    (block,) = answer("Gemini: the signature of an answer without calls")
    (message,) = sent(assistant(Text("Hello"), block))
    assert message == {"role": "assistant", "content": "Hello", "extra_content": extra}


FORGED = {
    "a field of a vendor's": (
        {"reasoning_details": [{**DETAIL, "signature": "s", "cache_control": {"type": "e"}}]},
        {"reasoning_details": [{**DETAIL, "signature": "s", "text": "One"}]},
    ),
    "a field that is not of details": (
        {"reasoning_details": [{**DETAIL, "data": "d", "file_id": "f"}]},
        {"reasoning_details": [{**DETAIL, "data": "d", "text": "One"}]},
    ),
    "an object for a text": (
        {"reasoning_details": [{"type": "reasoning.encrypted", "data": {"file_id": "f"}}]},
        {"reasoning_details": [{"type": "reasoning.encrypted"}]},
    ),
    "another thing of Google's": (
        {"extra_content": {"google": {"thought_signature": "s", "cached_content": "c"}}},
        {"extra_content": {"google": {"thought_signature": "s"}}},
    ),
    "another vendor's": ({"extra_content": {"other": {"thought_signature": "s"}}}, {}),
    "no signature": ({"extra_content": {"google": {"thought_signature": {"a": 1}}}}, {}),
    "nothing of Google's": ({"extra_content": {"google": "s"}}, {}),
}


@pytest.mark.parametrize(("sealed", "expected"), FORGED.values(), ids=FORGED)
def test_a_forged_signature_brings_no_fields_to_the_model(sealed, expected):
    """Clients keep signatures, so they can write them."""
    signature = msgspec.json.encode(sealed).decode()
    block = Reasoning(text="One", signature=signature, provider="openai-chat", model="m")
    (message,) = sent(assistant(block, Text("Hi")))
    assert message == {"role": "assistant", "content": "Hi"} | expected


# ---------------------------------------------------------------- OpenAI's own types


ORACLE: Any = pydantic.TypeAdapter(completion_create_params.CompletionCreateParamsStreaming)


@pytest.mark.parametrize("asked", [asked for asked, _ in FIELDS.values()], ids=FIELDS)
def test_openais_own_types_take_the_body(asked):
    messages = sent(*(message for message, _ in MESSAGES.values()))
    for message in messages:
        message.pop("reasoning_content", None)
    body = {"model": "gpt-4o", "messages": messages, "stream": True} | fields(**asked)
    ORACLE.validate_python(body)
    unknown = body.keys() - completion_create_params.CompletionCreateParamsStreaming.__annotations__
    base = completion_create_params.CompletionCreateParamsBase.__annotations__
    assert unknown - base.keys() == set()


# ---------------------------------------------------------------- the whole request


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    with FakeUpstream() as fake:
        yield fake


async def asked_for(provider: OpenAIProvider, **more: Any) -> None:
    call = ModelCall(request=request(**more), request_id="1")
    async with provider.open(call) as events:
        async for _ in events:
            pass


def no(message: str, **more: Any) -> Answer:
    return Answer(raw=refused("400 Bad Request", {"error": {"message": message, **more}}))


@pytest.mark.anyio
@pytest.mark.loops("asyncio")
async def test_the_model_of_the_request_is_asked_in_its_own_way(upstream):
    provider = OpenAIProvider(base_url=upstream.base_url, model="gpt-4o")
    try:
        await asked_for(provider)
        await asked_for(provider, model="o3")
    finally:
        await provider.aclose()
    first, second = (r.json for r in upstream.requests)
    assert (first["model"], first["max_tokens"], first["temperature"]) == ("gpt-4o", 50, 0.5)
    assert (second["model"], second["max_completion_tokens"]) == ("o3", 50)
    assert not {"temperature", "max_tokens"} & second.keys()


THOUGHT = assistant(Reasoning(text="One"), CALL)
REFUSED: dict[str, tuple[dict[str, Any], Answer, dict[str, Any]]] = {
    # huggingface/smolagents#1671, of a model that is not known by its name
    "stop": (
        {"sampling": Sampling(stop=("x",))},
        no(
            "Unsupported parameter: 'stop' is not supported with this model.",
            param="stop",
            code="unsupported_parameter",
        ),
        {"stop": None},
    ),
    "parallel_tool_calls": (
        {"tools": (LOOK,), "tool_choice": ToolChoice(parallel=False)},
        no("Unsupported parameter: 'parallel_tool_calls' is not supported with this model."),
        {"parallel_tool_calls": None},
    ),
    # lmstudio-ai/lmstudio-bug-tracker#189
    "json_object": (
        {"output": OutputFormat()},
        Answer(
            raw=refused(
                "400 Bad Request",
                {"error": "'response_format.type' must be 'json_schema' or 'text'"},
            )
        ),
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "answer", "schema": {"type": "object"}},
            }
        },
    ),
    # tashfeenahmed/freellmapi#1070: Groq
    "thinking in an unknown field": (
        {"messages": (USER, THOUGHT)},
        no(
            "'messages.1' : for 'role:assistant' the following must be satisfied"
            "[('messages.1' : property 'reasoning_content' is unsupported)]"
        ),
        {"messages": [{"role": "user", "content": "Hi"}, CALLED]},
    ),
    # Mistral, in pydantic's form
    "thinking that is extra": (
        {"messages": (USER, THOUGHT)},
        Answer(
            raw=refused(
                "422 Unprocessable Entity",
                {
                    "detail": [
                        {
                            "type": "extra_forbidden",
                            "loc": ["body", "messages", 1, "assistant", "reasoning_content"],
                            "msg": "Extra inputs are not permitted",
                        }
                    ]
                },
            )
        ),
        {"messages": [{"role": "user", "content": "Hi"}, CALLED]},
    ),
    # earendil-works/pi#3636: DeepSeek, under a name that does not tell
    "a call without its thinking": (
        {"messages": (USER, assistant(CALL))},
        no("The `reasoning_content` in the thinking mode must be passed back to the API."),
        {"messages": [{"role": "user", "content": "Hi"}, CALLED | {"reasoning_content": ""}]},
    ),
    # continuedev/continue#11600: Moonshot
    "a call whose thinking is missing": (
        {"messages": (USER, assistant(CALL))},
        no("thinking is enabled but reasoning_content is missing in assistant tool call message"),
        {"messages": [{"role": "user", "content": "Hi"}, CALLED | {"reasoning_content": ""}]},
    ),
}


@pytest.mark.anyio
@pytest.mark.loops("asyncio")
@pytest.mark.parametrize(("asked", "refusal", "changed"), REFUSED.values(), ids=REFUSED)
async def test_a_refused_field_is_changed_in_this_request_and_in_later_ones(
    upstream, asked, refusal, changed
):
    provider = OpenAIProvider(base_url=upstream.base_url, model="m")
    upstream.script(refusal)
    try:
        await asked_for(provider, **asked)
        await asked_for(provider, **asked)
    finally:
        await provider.aclose()
    first, *others = (r.json for r in upstream.requests)
    expected = {k: v for k, v in (first | changed).items() if v is not None}
    assert first != expected
    assert others == [expected, expected]


@pytest.mark.anyio
@pytest.mark.loops("asyncio")
async def test_a_refused_value_of_the_effort_is_left_out_once(upstream):
    provider = OpenAIProvider(base_url=upstream.base_url, model="m")
    message = (
        "Unsupported value: 'reasoning_effort' does not support 'minimal' with this model. "
        "Supported values are: 'low', 'medium', and 'high'."
    )
    upstream.script(no(message, param="reasoning_effort", code="unsupported_value"))
    try:
        await asked_for(provider, effort="minimal")
        await asked_for(provider, effort="low")
    finally:
        await provider.aclose()
    efforts = [r.json.get("reasoning_effort") for r in upstream.requests]
    assert efforts == ["minimal", None, "low"]


@pytest.mark.anyio
@pytest.mark.loops("asyncio")
@pytest.mark.parametrize(
    ("asked", "message", "param"),
    [
        # the client relies on it: DeepSeek has no schemas
        (
            {"output": OutputFormat(schema=SCHEMA)},
            "This response_format type is unavailable now",
            None,
        ),
        (
            {"output": OutputFormat(schema=SCHEMA)},
            "'response_format.type' must be 'json_schema' or 'text'",
            None,
        ),
        ({"output": OutputFormat()}, "response_format is not supported", "response_format"),
        ({"tools": (LOOK,)}, "Unsupported parameter: 'tools'", "tools"),
    ],
)
async def test_what_the_client_relies_on_is_never_left_out(upstream, asked, message, param):
    provider = OpenAIProvider(base_url=upstream.base_url, model="m")
    upstream.default = no(message, param=param)
    try:
        with pytest.raises(UpstreamRejected):
            await asked_for(provider, **asked)
    finally:
        await provider.aclose()
    assert len(upstream.requests) == 1


@pytest.mark.anyio
@pytest.mark.loops("asyncio")
async def test_three_fields_are_changed_and_no_more(upstream):
    provider = OpenAIProvider(base_url=upstream.base_url, model="m")
    names = ("temperature", "top_p", "seed", "stop", "stream_options")
    upstream.script(*(no(f"Unknown parameter: '{name}'.", param=name) for name in names))
    sampling = Sampling(top_p=0.5, seed=1, stop=("x",))
    try:
        with pytest.raises(UpstreamRejected):
            await asked_for(provider, sampling=sampling)
    finally:
        await provider.aclose()
    assert [set(names) - r.json.keys() for r in upstream.requests] == [
        set(names[:number]) for number in range(4)
    ]


@pytest.mark.anyio
@pytest.mark.loops("asyncio")
async def test_the_name_of_the_thinking_is_learned_from_the_answer(upstream):
    provider = OpenAIProvider(base_url=upstream.base_url, model="m")
    thinks = b'data: {"choices":[{"delta":{"reasoning":"One"}}]}\n\n'
    upstream.default = Answer(inject=thinks, after=0)
    try:
        for _ in range(2):
            await asked_for(provider, messages=(USER, THOUGHT))
    finally:
        await provider.aclose()
    first, second = (r.json["messages"][1] for r in upstream.requests)
    assert (first, second) == (
        CALLED | {"reasoning_content": "One"},
        CALLED | {"reasoning": "One"},
    )
