"""FakeUpstream's Chat Completions as the openai package reads them."""

import json
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionChunk

from chatnest.testing import Answer, FakeUpstream, Refusal, Text, Thinking, ToolCall
from tests.testing_kit.answers import EVERYTHING, USAGE

ASKED: Any = {
    "model": "m",
    "messages": [{"role": "user", "content": "Hi"}],
    "stream_options": {"include_usage": True},
}


def sdk(upstream: FakeUpstream) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=upstream.base_url, api_key="x", max_retries=0, _strict_response_validation=True
    )


def chunks(upstream: FakeUpstream, answer: Answer) -> list[ChatCompletionChunk]:
    upstream.script(answer)
    with sdk(upstream) as client, client.chat.completions.create(**ASKED, stream=True) as stream:
        return list(stream)


def fields(read: list[ChatCompletionChunk], name: str) -> list[Any]:
    """The values of a field that the deltas have."""
    deltas = [c.choices[0].delta.model_dump(exclude_unset=True) for c in read if c.choices]
    return [delta[name] for delta in deltas if delta.get(name)]


def test_text_thinking_calls_sources_and_usage(upstream):
    read = chunks(upstream, EVERYTHING)

    assert fields(read, "content") == ["I will", " look. "]
    assert fields(read, "reasoning_content") == ["Is it", " raining?"]
    assert [each["url_citation"] for found in fields(read, "annotations") for each in found] == [
        {"url": "https://example.org/a", "title": "A page", "start_index": 0, "end_index": 13},
        {"url": "https://example.org/b", "title": "", "start_index": 2, "end_index": 6},
    ]
    assert read[-2].choices[0].finish_reason == "tool_calls"
    usage = read[-1].usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (120, 40, 160)
    assert usage.prompt_tokens_details is not None
    assert usage.prompt_tokens_details.cached_tokens == 64
    assert usage.prompt_tokens_details.model_dump()["cache_write_tokens"] == 16
    assert usage.completion_tokens_details is not None
    assert usage.completion_tokens_details.reasoning_tokens == 25
    assert upstream.last.pieces_sent == 2 + 2 + 3 + 1


def test_the_arguments_of_a_call_are_in_pieces(upstream):
    calls = [call for [call] in fields(chunks(upstream, EVERYTHING), "tool_calls")]

    assert [(c["index"], c.get("id"), c["function"]["arguments"]) for c in calls] == [
        (0, "call_1", ""),
        (0, None, '{"city":'),
        (0, None, ' "Köln"'),
        (0, None, "}"),
        (1, "call_2", ""),
        (1, None, "{}"),
    ]
    assert [c["function"].get("name") for c in calls if "id" in c] == ["weather", "now"]


def test_the_helper_of_the_sdk_puts_the_same_together(upstream):
    upstream.script(EVERYTHING)
    with sdk(upstream) as client, client.chat.completions.stream(**ASKED) as stream:
        choice = stream.get_final_completion().choices[0]

    assert choice.finish_reason == "tool_calls"
    assert choice.message.content == "I will look. "
    calls = choice.message.tool_calls
    assert calls is not None
    assert [(c.id, c.function.name, c.function.arguments) for c in calls] == [
        ("call_1", "weather", '{"city": "Köln"}'),
        ("call_2", "now", "{}"),
    ]


def test_a_whole_completion_has_the_same(upstream):
    upstream.script(EVERYTHING)
    with sdk(upstream) as client:
        asked = {name: value for name, value in ASKED.items() if name != "stream_options"}
        completion = client.chat.completions.create(**asked)

    message = completion.choices[0].message
    assert message.content == "I will look. "
    assert message.model_dump()["reasoning_content"] == "Is it raining?"
    assert message.annotations is not None
    assert [a.url_citation.end_index for a in message.annotations] == [13, 6]
    assert message.tool_calls is not None
    assert [c.id for c in message.tool_calls] == ["call_1", "call_2"]
    assert completion.usage is not None
    assert completion.usage.total_tokens == USAGE.input + USAGE.output


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content", "thinking"])
def test_thinking_has_the_name_that_is_given(upstream, name):
    read = chunks(upstream, Answer(parts=[Thinking("Let me see")], thinking_field=name))

    assert fields(read, name) == ["Let", " me", " see"]


def test_thinking_with_its_signature_in_reasoning_details(upstream):
    answer = Answer(
        parts=EVERYTHING.parts, thinking_field="reasoning", reasoning_details=True, usage=None
    )
    read = chunks(upstream, answer)

    assert fields(read, "reasoning") == ["Is it", " raining?"]
    assert [each for [each] in fields(read, "reasoning_details")] == [
        {"type": "reasoning.text", "index": 0, "text": "Is it"},
        {"type": "reasoning.text", "index": 0, "text": " raining?"},
        {"type": "reasoning.text", "signature": "c2lnbmF0dXJl", "index": 0},
        {"type": "reasoning.encrypted", "data": "cmVkYWN0ZWQ=", "index": 1},
    ]


def test_a_percent_sign_is_only_a_sign(upstream):
    answer = Answer(parts=[Thinking("100 %b"), Text("50 %s")], reasoning_details=True)
    read = chunks(upstream, answer)

    assert "".join(fields(read, "reasoning_content")) == "100 %b"
    assert "".join(fields(read, "content")) == "50 %s"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer(), "stop"),
        (Answer(finish_reason="length"), "length"),
        (Answer(finish_reason="content_filter"), "content_filter"),
        (Answer(parts=[Refusal("No.")]), "stop"),
        (Answer(parts=[ToolCall("c", "f")]), "tool_calls"),
        (Answer(parts=[ToolCall("c", "f")], finish_reason="stop"), "stop"),
    ],
)
def test_the_finish_reason_is_in_the_words_of_the_api(upstream, answer, reason):
    assert chunks(upstream, answer)[-2].choices[0].finish_reason == reason


def test_a_refusal_has_a_field_of_its_own(upstream):
    read = chunks(upstream, Answer(parts=[Refusal(["I", " cannot."])]))

    assert fields(read, "refusal") == ["I", " cannot."]
    assert fields(read, "content") == []


def test_a_failed_answer_has_an_error_beside_its_choices(upstream):
    with pytest.raises(openai.APIError) as caught:
        chunks(upstream, Answer.failed(2))

    assert caught.value.code == "server_error"


def test_a_ping_is_an_empty_delta(upstream):
    read = chunks(upstream, Answer(pings=True))

    assert fields(read, "content") == ["Hello", " world", "!"]
    assert (
        json.dumps([c.model_dump(exclude_unset=True) for c in read]).count('"delta": {}') == 3 + 1
    )
