"""Requests in the form of the API: what goes out for each model, and what is left out."""

from typing import Any

import msgspec
import pytest

from chatnest.conversation import (
    Image,
    Message,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
)
from chatnest.providers.anthropic_messages.models import Traits
from chatnest.providers.anthropic_messages.parameters import request_body
from chatnest.requests import ModelRequest, OutputFormat, Sampling, Tool, ToolChoice
from tests.providers.anthropic_messages.events import DIALECT

OLD, NEW, OTHER = "claude-sonnet-4-5", "claude-opus-5", "deepseek-chat"
USER = Message.of("user", "Hello")
WEATHER = Tool(name="weather", description="The weather.", parameters='{"type":"object"}')
SUMMARY = {"type": "adaptive", "display": "summarized"}


def body(*messages: Message, model: str = OLD, options: Any = (), **fields: Any) -> Any:
    fields = {"max_output_tokens": 4_000, "temperature": 0.5} | fields
    request = ModelRequest(messages=messages or (USER,), **fields)
    made = request_body(request, model, Traits.of(model), dict(options))
    return msgspec.json.decode(msgspec.json.encode(made))


def sent(*messages: Message, model: str = OLD) -> Any:
    return body(*messages, model=model)["messages"]


def assistant(*parts: Any) -> Message:
    return Message("assistant", parts)


def results(*parts: ToolResult) -> Message:
    return Message("tool", parts)


def thought(text: str = "hm", **fields: Any) -> Reasoning:
    return Reasoning(
        **{"text": text, "signature": "c2ln", "provider": DIALECT, "model": OLD} | fields
    )


CALL = ToolCall(id="toolu_1", name="weather", arguments='{"city":"Paris", "n":1.50}')
RESULT = ToolResult(call_id="toolu_1", text="Sunny")
CALL_BLOCK = {
    "type": "tool_use",
    "id": "toolu_1",
    "name": "weather",
    "input": {"city": "Paris", "n": 1.5},
}
RESULT_BLOCK = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "Sunny"}
THOUGHT_BLOCK = {"type": "thinking", "thinking": "hm", "signature": "c2ln"}


def texts(*texts: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text} for text in texts]


# ---------------------------------------------------------------- the conversation


def test_a_short_conversation():
    system = (Message.of("system", "Be kind."), Message.of("system", "Be brief."))
    assert body(*system, USER, Message.of("assistant", "Hi."), Message.of("user", "Bread?")) == {
        "model": OLD,
        "max_tokens": 4_000,
        "system": "Be kind.\n\nBe brief.",
        "messages": [
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": "Hi."},
            {"role": "user", "content": "Bread?"},
        ],
        "stream": True,
        "temperature": 0.5,
    }


def test_images_are_base64_sources():
    image = Image(media_type="image/png", data="aGk=", width=1, height=1)
    assert sent(Message("user", (Text("What is it?"), image))) == [
        {
            "role": "user",
            "content": [
                *texts("What is it?"),
                {
                    "type": "image",
                    "source": {"type": "base64", "media_type": "image/png", "data": "aGk="},
                },
            ],
        }
    ]


def test_roles_alternate_and_results_of_tools_come_first():
    more = ToolResult(call_id="toolu_2", text="Oh no", is_error=True)
    found = sent(
        USER,
        assistant(Text("Let me see."), CALL),
        assistant(ToolCall(id="toolu_2", name="weather", arguments="{}")),
        Message.of("user", "Quick!"),
        results(RESULT),
        results(more),
        Message.of("user", "Please."),
    )
    assert [message["role"] for message in found] == ["user", "assistant", "user"]
    assert found[1]["content"] == [
        *texts("Let me see."),
        CALL_BLOCK,
        {"type": "tool_use", "id": "toolu_2", "name": "weather", "input": {}},
    ]
    assert found[2]["content"] == [
        RESULT_BLOCK,
        {"type": "tool_result", "tool_use_id": "toolu_2", "content": "Oh no", "is_error": True},
        *texts("Quick!", "Please."),
    ]


@pytest.mark.parametrize("arguments", ["", "{", "[1]", "7", "null", '"\ud83d"', "{}{}"])
def test_arguments_that_are_no_object_become_an_empty_one(arguments):
    call = ToolCall(id="toolu_1", name="weather", arguments=arguments)
    assert sent(USER, assistant(call), results(RESULT))[1]["content"][0]["input"] == {}


def test_arguments_go_back_as_they_came():
    request = ModelRequest(
        messages=(USER, assistant(CALL), results(RESULT)), max_output_tokens=9, temperature=0
    )
    made = msgspec.json.encode(request_body(request, OLD, Traits.of(OLD), {}))
    assert b'"input":{"city":"Paris", "n":1.50}' in made


def test_ids_of_other_providers_fit_the_pattern_of_ids():
    call = ToolCall(id="functions.weather:0", name="weather", arguments="{}")
    result = ToolResult(call_id="functions.weather:0", text="")
    _, asked, got = sent(USER, assistant(call), results(result))
    assert asked["content"][0]["id"] == "functions_weather_0"
    assert got["content"] == [{"type": "tool_result", "tool_use_id": "functions_weather_0"}]


def test_blank_texts_are_left_out_and_a_refusal_is_text():
    blank = assistant(Text(" \n"))
    assert sent(USER, blank, Message.of("user", "Hm?")) == [
        {"role": "user", "content": texts("Hello", "Hm?")}
    ]
    assert sent(USER, assistant(Refusal("No.")), USER)[1]["content"] == "No."
    assert "system" not in body(Message.of("system", " "), USER)


def test_an_answer_to_go_on_with_has_no_blanks_at_its_end():
    assert sent(USER, Message.of("assistant", "Once \n"))[-1]["content"] == "Once"


# ---------------------------------------------------------------- thinking that goes back


def test_thinking_of_an_open_turn_goes_back_unchanged_and_in_place():
    redacted = thought("", signature="ZGF0YQ==", redacted=True)
    empty = thought("", signature="b25seQ==")
    asked = assistant(thought(), redacted, empty, Text("Let me see."), CALL)
    assert sent(USER, asked, results(RESULT))[1]["content"] == [
        THOUGHT_BLOCK,
        {"type": "redacted_thinking", "data": "ZGF0YQ=="},
        {"type": "thinking", "thinking": "", "signature": "b25seQ=="},
        *texts("Let me see."),
        CALL_BLOCK,
    ]


def test_a_user_message_after_a_result_belongs_to_the_open_turn():
    found = sent(USER, assistant(thought(), CALL), results(RESULT), Message.of("user", "And?"))
    assert found[1]["content"][0] == THOUGHT_BLOCK


def test_thinking_of_earlier_turns_stays_away():
    earlier = (USER, assistant(thought(), CALL), results(RESULT), assistant(thought(), Text("It.")))
    found = sent(*earlier, Message.of("user", "Thanks"))
    assert found[1]["content"] == [CALL_BLOCK]
    assert found[3]["content"] == "It."


@pytest.mark.parametrize(
    "foreign",
    [
        {"provider": "openai-responses"},
        {"model": NEW},
        {"provider": "", "model": ""},
        {"signature": ""},
    ],
)
def test_thinking_of_others_stays_away(foreign):
    found = sent(USER, assistant(thought(**foreign), CALL), results(RESULT))
    assert found[1]["content"] == [CALL_BLOCK]


def test_models_of_other_servers_get_all_of_their_thinking_back():
    ours = thought(signature="", model=OTHER)
    earlier = (USER, assistant(ours, CALL), results(RESULT), assistant(Text("It is sunny.")))
    found = sent(*earlier, Message.of("user", "Thanks"), model=OTHER)
    assert found[1]["content"] == [{**THOUGHT_BLOCK, "signature": ""}, CALL_BLOCK]


# ---------------------------------------------------------------- thinking that is asked for


def thinking(model: str, *messages: Message, **fields: Any) -> Any:
    found = body(*messages, model=model, **fields)
    effort = found.get("output_config", {}).get("effort")
    return found.get("thinking"), effort, found.get("temperature"), found.get("tool_choice")


def budget(tokens: int) -> dict[str, object]:
    return {"type": "enabled", "budget_tokens": tokens}


NOT_ASKED: dict[str, Any] = {}
HIGH, NONE = {"effort": "high"}, {"effort": "none"}
FORCED = {"tools": (WEATHER,), "tool_choice": ToolChoice(mode="required")}
OFF = {"type": "disabled"}
ANY = {"type": "any"}
ASKED = {
    # Until 4.5: a budget. Without thinking, a temperature and forced tools.
    "3.5": ("claude-3-5-haiku-latest", HIGH, (None, None, 0.5, None)),
    "4.5": (OLD, NOT_ASKED, (None, None, 0.5, None)),
    "4.5, high": (OLD, HIGH, (budget(3_200), None, None, None)),
    "4.5, low": (OLD, {"effort": "low"}, (budget(1_024), None, None, None)),
    "4.5, xhigh": (OLD, {"effort": "xhigh"}, (budget(3_500), None, None, None)),
    "4.5, none": (OLD, NONE | {"max_reasoning_tokens": 2_000}, (None, None, 0.5, None)),
    "4.5, tokens": (OLD, {"max_reasoning_tokens": 2_000}, (budget(2_000), None, None, None)),
    "4.5, all": (OLD, {"max_reasoning_tokens": 9_000}, (budget(3_500), None, None, None)),
    "4.5, both": (OLD, HIGH | {"max_reasoning_tokens": 2_000}, (budget(2_000), None, None, None)),
    "4.5, too few": (OLD, HIGH | {"max_reasoning_tokens": 1_023}, (None, None, 0.5, None)),
    "4.5, no room": (OLD, HIGH | {"max_output_tokens": 1_100}, (None, None, 0.5, None)),
    "4.5, forced": (OLD, HIGH | FORCED, (None, None, 0.5, ANY)),
    "Opus 4.5": ("claude-opus-4-5-20251101", HIGH, (budget(3_200), "high", None, None)),
    # 4.6: adaptive, with effort up to high.
    "4.6": ("claude-sonnet-4-6", NOT_ASKED, (None, None, 0.5, None)),
    "4.6, xhigh": ("claude-sonnet-4-6", {"effort": "xhigh"}, (SUMMARY, "high", None, None)),
    "4.6, forced": ("claude-sonnet-4-6", HIGH | FORCED, (None, "high", 0.5, ANY)),
    # 4.7 and 4.8: no temperature.
    "4.8": ("claude-opus-4-8", NOT_ASKED, (None, None, None, None)),
    "4.8, xhigh": ("claude-opus-4-8", {"effort": "xhigh"}, (SUMMARY, "xhigh", None, None)),
    "4.8, tokens": ("claude-opus-4-8", {"max_reasoning_tokens": 9}, (SUMMARY, None, None, None)),
    # 5: thinks by itself.
    "5": (NEW, NOT_ASKED, (SUMMARY, None, None, None)),
    "5, minimal": (NEW, {"effort": "minimal"}, (SUMMARY, "low", None, None)),
    "5, none": (NEW, NONE, (OFF, None, None, None)),
    "5, no room": (NEW, {"max_output_tokens": 400}, (OFF, None, None, None)),
    "5, asked": (NEW, HIGH | {"max_output_tokens": 400}, (SUMMARY, "high", None, None)),
    "5, forced": (NEW, {"effort": "xhigh"} | FORCED, (OFF, "high", None, ANY)),
    # 5.5, Fable and Mythos: cannot be turned off, or not quite, and tools cannot be forced.
    "Sonnet 5.5, none": ("claude-sonnet-5-5", NONE, ({"type": "between_tools"}, None, None, None)),
    "Haiku 5.5, none": ("claude-haiku-5-5", NONE, (OFF, None, None, None)),
    "Opus 5.5, none": ("claude-opus-5-5", NONE, (None, "low", None, None)),
    "Opus 5.5, forced": ("claude-opus-5-5", HIGH | FORCED, (SUMMARY, "high", None, None)),
    "Fable, no room": ("claude-fable-5-1", {"max_output_tokens": 9}, (None, "low", None, None)),
    "Mythos": ("claude-mythos-preview", NOT_ASKED, (SUMMARY, None, None, None)),
    # Other names: a server that imitates the API.
    "other": (OTHER, NOT_ASKED, (None, None, 0.5, None)),
    "other, high": (OTHER, HIGH, (budget(3_200), None, None, None)),
}


@pytest.mark.parametrize(("model", "fields", "expected"), ASKED.values(), ids=ASKED)
def test_thinking_is_asked_for_as_the_model_takes_it(model, fields, expected):
    assert thinking(model, **fields) == expected


def test_thinking_does_not_begin_between_a_call_and_its_result():
    for calls, expected in (((CALL,), None), ((thought(), CALL), budget(3_200))):
        asked = (USER, assistant(*calls), results(RESULT))
        assert thinking(OLD, *asked, effort="high")[0] == expected
    again = assistant(ToolCall(id="toolu_2", name="weather", arguments="{}"))
    more = (USER, assistant(thought(), CALL), results(RESULT), again, results(RESULT))
    assert thinking(OLD, *more, effort="high")[0] == budget(3_200), "it thought at the beginning"
    assert thinking(OLD, *asked[:2], results(RESULT), assistant(Text("x")), USER, effort="high")[0]
    without = (USER, assistant(CALL), results(RESULT))
    assert thinking(NEW, *without, effort="high")[0] == SUMMARY


@pytest.mark.parametrize(
    ("name", "same_as"),
    [
        ("anthropic/claude-opus-4.5", "claude-opus-4-5"),
        ("us.anthropic.claude-opus-4-8-v1:0", "claude-opus-4-8"),
        ("anthropic.claude-opus-5", "claude-opus-5"),
        ("claude-sonnet-4-5@20250929", "claude-sonnet-4-5"),
        ("claude-sonnet-4-20250514", "claude-sonnet-4-0"),
        ("claude-3-7-sonnet-20250219", "claude-3-7-sonnet-latest"),
        ("CLAUDE-FABLE-5-2", "claude-fable-5-1"),
        ("claude-mythos-preview", "claude-mythos-5"),
        ("claude-sonnet-latest", "claude-haiku-4-5"),
        ("kimi-k2", "glm-5"),
        ("my-claude", "qwen3"),
    ],
)
def test_a_model_is_known_by_its_name(name, same_as):
    assert Traits.of(name) == Traits.of(same_as)


# ---------------------------------------------------------------- sampling, tools, output


@pytest.mark.parametrize(
    ("model", "sampling", "expected"),
    [
        (OLD, Sampling(temperature=1.5), {"temperature": 1.0}),
        (OLD, Sampling(top_p=0.5), {"top_p": 0.5}),
        (OLD, Sampling(top_p=0.5, temperature=0.2), {"temperature": 0.2}),
        ("claude-3-haiku-20240307", Sampling(top_p=0.5), {"temperature": 0.5, "top_p": 0.5}),
        (OTHER, Sampling(top_p=0.5, temperature=1.5), {"temperature": 1.5, "top_p": 0.5}),
        (NEW, Sampling(top_p=0.5, temperature=0.2), {}),
        (OLD, Sampling(seed=1, presence_penalty=1.0, frequency_penalty=1.0), {"temperature": 0.5}),
    ],
)
def test_sampling_is_sent_as_far_as_the_model_takes_it(model, sampling, expected):
    found = body(model=model, sampling=sampling, max_output_tokens=400)
    rest = {"model", "max_tokens", "messages", "stream", "thinking"}
    assert {name: value for name, value in found.items() if name not in rest} == expected


def test_stop_sequences_are_not_blank():
    assert body(sampling=Sampling(stop=("END", "\n", " ")))["stop_sequences"] == ["END"]
    assert "stop_sequences" not in body(sampling=Sampling(stop=("\n",)))


def test_tools():
    strict = Tool(name="time", parameters='{"properties": {"x": {"const": 1.50}}}', strict=True)
    tools: list[dict[str, Any]] = [
        {"name": "weather", "description": "The weather.", "input_schema": {"type": "object"}},
        {
            "name": "time",
            "input_schema": {"type": "object", "properties": {"x": {"const": 1.5}}},
            "strict": True,
        },
    ]
    assert body(tools=(WEATHER, strict))["tools"] == tools
    del tools[1]["strict"]
    assert body(tools=(WEATHER, strict), model="claude-opus-4-1")["tools"] == tools


CHOICES = {
    "auto": (ToolChoice(), None),
    "auto, parallel": (ToolChoice(parallel=True), None),
    "auto, one": (ToolChoice(parallel=False), {"type": "auto", "disable_parallel_tool_use": True}),
    "none": (ToolChoice(mode="none", parallel=False), {"type": "none"}),
    "required": (ToolChoice(mode="required"), ANY),
    "one of a name": (
        ToolChoice(mode="required", name="weather", parallel=False),
        {"type": "tool", "name": "weather", "disable_parallel_tool_use": True},
    ),
}


@pytest.mark.parametrize(("choice", "expected"), CHOICES.values(), ids=CHOICES)
def test_tool_choice(choice, expected):
    assert body(tools=(WEATHER,), tool_choice=choice).get("tool_choice") == expected
    assert "tool_choice" not in body(tool_choice=choice), "without tools"


def test_a_schema_of_the_answer_is_a_format():
    output = OutputFormat(schema='{"type": "object", "additionalProperties": false}')
    assert body(output=output)["output_config"] == {
        "format": {
            "type": "json_schema",
            "schema": {"type": "object", "additionalProperties": False},
        }
    }
    both = body(output=output, effort="low", model=NEW)["output_config"]
    assert set(both) == {"effort", "format"}


def test_a_form_that_the_model_does_not_take_is_asked_for_in_words():
    system = (Message.of("system", "Be kind."), USER)
    found = body(*system, output=OutputFormat())
    words = "Answer with one JSON object, and with nothing before or after it."
    assert (found["system"], "output_config" in found) == (f"Be kind.\n\n{words}", False)
    old = body(output=OutputFormat(schema='{"a": 1}'), model="claude-opus-4-1")
    assert old["system"] == f'{words} It must be valid by this JSON schema: {{"a": 1}}'


def test_options_are_added_and_their_tools_stand_beside_the_clients():
    search = {"type": "web_search_20250305", "name": "web_search"}
    found = body(options={"service_tier": "auto", "tools": [search]}, tools=(WEATHER,))
    assert found["service_tier"] == "auto"
    assert [tool["name"] for tool in found["tools"]] == ["weather", "web_search"]
    assert body(options={"tools": [search]})["tools"] == [search]
