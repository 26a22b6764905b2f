"""FakeUpstream's Responses API as the openai package reads it."""

from typing import Any

import openai
import pytest
from openai.types.responses import Response, ResponseReasoningItem

from chatnest.testing import (
    CANARY,
    Answer,
    FakeUpstream,
    Refusal,
    Source,
    Text,
    Thinking,
    ToolCall,
)
from tests.testing_kit.answers import EVERYTHING

ASKED: Any = {"model": "m", "input": "Hi", "store": False}
FOR_A_TEXT = [
    "response.created",
    "response.in_progress",
    "response.output_item.added",
    "response.content_part.added",
    *["response.output_text.delta"] * 3,
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done",
    "response.completed",
]


def sdk(upstream: FakeUpstream) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=upstream.base_url, api_key="x", max_retries=0, _strict_response_validation=True
    )


def events(upstream: FakeUpstream, answer: Answer) -> list[Any]:
    upstream.script(answer)
    with sdk(upstream) as client, client.responses.create(**ASKED, stream=True) as stream:
        return list(stream)


def response(upstream: FakeUpstream, answer: Answer) -> Any:
    """The response of the last event."""
    return events(upstream, answer)[-1].response


def joined(read: list[Any], kind: str) -> list[str]:
    return [event.delta for event in read if event.type == f"response.{kind}.delta"]


def test_events_are_numbered_from_zero_and_complete(upstream):
    read = events(upstream, Answer())

    assert [event.type for event in read] == FOR_A_TEXT
    assert [event.sequence_number for event in read] == list(range(len(read)))
    assert upstream.last.path == "/v1/responses"
    assert upstream.last.json == ASKED | {"stream": True}
    assert upstream.last.pieces_sent == 3


def test_deltas_of_text_thinking_and_calls_are_the_pieces(upstream):
    read = events(upstream, EVERYTHING)

    assert joined(read, "output_text") == ["I will", " look. "]
    assert joined(read, "reasoning_summary_text") == ["Is it", " raining?"]
    assert joined(read, "function_call_arguments") == ['{"city":', ' "Köln"', "}", "{}"]
    added = [e.annotation for e in read if e.type == "response.output_text.annotation.added"]
    assert [(a.url, a.start_index, a.end_index) for a in added] == [
        ("https://example.org/a", 0, 13),
        ("https://example.org/b", 2, 6),
    ]


def assert_everything(read: Response) -> None:
    thinking, redacted, message, weather, now = read.output
    assert isinstance(thinking, ResponseReasoningItem)
    assert [part.text for part in thinking.summary] == ["Is it raining?"]
    assert thinking.encrypted_content == "c2lnbmF0dXJl"
    assert isinstance(redacted, ResponseReasoningItem)
    assert (redacted.summary, redacted.encrypted_content) == ([], "cmVkYWN0ZWQ=")
    assert message.type == "message"
    assert read.output_text == "I will look. "
    assert message.content[0].type == "output_text"
    urls = [a.url for a in message.content[0].annotations if a.type == "url_citation"]
    assert urls == ["https://example.org/a", "https://example.org/b"]
    assert weather.type == "function_call"
    assert (weather.call_id, weather.name) == ("call_1", "weather")
    assert weather.arguments == '{"city": "Köln"}'
    assert now.type == "function_call"
    assert (now.call_id, now.name, now.arguments) == ("call_2", "now", "{}")
    assert len({item.id for item in read.output}) == 5
    assert read.usage is not None
    assert read.usage.model_dump(exclude_none=True) == {
        "input_tokens": 120,
        "input_tokens_details": {"cached_tokens": 64, "cache_write_tokens": 16},
        "output_tokens": 40,
        "output_tokens_details": {"reasoning_tokens": 25},
        "total_tokens": 160,
    }
    assert (read.status, read.incomplete_details) == ("completed", None)


def test_the_last_event_has_everything(upstream):
    assert_everything(response(upstream, EVERYTHING))


def test_the_helper_of_the_sdk_puts_the_same_together(upstream):
    upstream.script(EVERYTHING)
    with sdk(upstream) as client, client.responses.stream(**ASKED) as stream:
        read = stream.get_final_response()

    assert_everything(read)


def test_a_whole_response_has_the_same(upstream):
    upstream.script(EVERYTHING)
    with sdk(upstream) as client:
        assert_everything(client.responses.create(**ASKED))


def test_usage_is_only_in_the_last_event(upstream):
    read = events(upstream, EVERYTHING)

    assert [e.response.usage is None for e in read if hasattr(e, "response")] == [True, True, False]
    assert response(upstream, Answer(usage=None)).usage is None
    assert response(upstream, Answer()).usage.total_tokens == 9 + 3


def test_encrypted_thinking_is_complete_only_when_its_item_is(upstream):
    read = events(upstream, Answer(parts=[Thinking("", signature="sealed")]))

    assert [e.item.encrypted_content for e in read if hasattr(e, "item")] == ["sea", "sealed"]
    assert [e.item.summary for e in read if hasattr(e, "item")] == [[], []]


def test_thoughts_are_parts_of_one_item_up_to_a_signature(upstream):
    answer = Answer(
        parts=[Thinking("One"), Thinking("Two", signature="s"), Thinking("Three"), Text("Done")]
    )
    read = response(upstream, answer)

    assert [[part.text for part in item.summary] for item in read.output[:2]] == [
        ["One", "Two"],
        ["Three"],
    ]
    assert [item.encrypted_content for item in read.output[:2]] == ["s", None]


def test_raw_thinking_is_content_and_not_a_summary(upstream):
    read = events(upstream, Answer(parts=[Thinking("Let me", raw=True), Text("Yes")]))

    assert joined(read, "reasoning_text") == ["Let", " me"]
    thinking = read[-1].response.output[0]
    assert (thinking.summary, [part.text for part in thinking.content]) == ([], ["Let me"])


def test_texts_and_refusals_in_a_row_are_parts_of_one_message(upstream):
    answer = Answer(parts=[Text("Well"), Text("no"), Source("https://a"), Refusal("I cannot.")])
    read = response(upstream, answer)

    [message] = read.output
    first, second, refusal = message.content
    assert (first.text, first.annotations) == ("Well", [])
    assert (second.text, second.annotations[0].url) == ("no", "https://a")
    assert refusal.refusal == "I cannot."


def test_a_source_without_a_text_has_an_empty_one(upstream):
    [message] = response(upstream, Answer(parts=[Source("https://a")])).output

    assert message.content[0].text == ""
    assert message.content[0].annotations[0].end_index == 0


@pytest.mark.parametrize(
    ("answer", "status", "details", "item"),
    [
        (Answer(), "completed", None, "completed"),
        (Answer(finish_reason="length"), "incomplete", "max_output_tokens", "incomplete"),
        (Answer(finish_reason="content_filter"), "incomplete", "content_filter", "incomplete"),
        (Answer(parts=[Refusal("No.")]), "completed", None, "completed"),
        (Answer(parts=[ToolCall("c", "f")]), "completed", None, "completed"),
    ],
)
def test_the_finish_reason_is_in_the_words_of_the_api(upstream, answer, status, details, item):
    last = events(upstream, answer)[-1]

    assert (last.type, last.response.status) == (f"response.{status}", status)
    assert getattr(last.response.incomplete_details, "reason", None) == details
    assert last.response.output[-1].status == item


def test_without_a_finish_reason_no_response_ends(upstream):
    read = events(upstream, Answer(finish_reason=None))

    assert [event.type for event in read] == FOR_A_TEXT[:-1]


def test_an_error_event_has_its_fields_at_the_top_and_is_no_exception(upstream):
    *_, last = events(upstream, Answer.error_event(2, code="rate_limit_exceeded"))

    assert (last.type, last.code) == ("error", "rate_limit_exceeded")
    assert CANARY in last.message


def test_an_error_event_with_nested_fields_is_an_exception(upstream):
    with pytest.raises(openai.APIError) as caught:
        events(upstream, Answer.error_event(2, nested=True))

    assert caught.value.code == "server_error"


def test_a_failed_response_has_the_items_so_far_and_perhaps_a_usage(upstream):
    parts = [Thinking("Hm"), Text("One two three")]
    *_, last = events(upstream, Answer.failed(2, parts=parts))

    assert last.type == "response.failed"
    assert (last.response.status, last.response.error.code) == ("failed", "server_error")
    assert [item.type for item in last.response.output] == ["reasoning"]
    assert last.response.usage is None
    *_, last = events(upstream, Answer.failed(2, usage=(5, 2)))
    assert last.response.usage.total_tokens == 7


def test_a_ping_is_an_event_that_means_nothing(upstream):
    upstream.script(Answer(pings=True))
    client = openai.OpenAI(base_url=upstream.base_url, api_key="x", max_retries=0)
    with client, client.responses.create(**ASKED, stream=True) as stream:
        read: list[Any] = list(stream)

    assert [event.type for event in read].count("keepalive") == 3
    assert [event.sequence_number for event in read] == list(range(len(read)))


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Answer.error(401), openai.AuthenticationError),
        (Answer.rate_limited(), openai.RateLimitError),
        (Answer.context_length(), openai.BadRequestError),
        (Answer.error(503, kind="server_error"), openai.InternalServerError),
    ],
)
def test_the_sdk_names_the_errors(upstream, answer, error):
    with pytest.raises(error):
        events(upstream, answer)
