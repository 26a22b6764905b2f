"""FakeUpstream's Messages API as the anthropic package reads it."""

import json
from typing import TYPE_CHECKING, Any

import pytest

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

if TYPE_CHECKING:
    import anthropic
else:
    anthropic = pytest.importorskip("anthropic")

ASKED: Any = {
    "model": "m",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "Hi"}],
}


def sdk(upstream: FakeUpstream) -> "anthropic.Anthropic":
    return anthropic.Anthropic(
        base_url=upstream.origin, api_key="x", max_retries=0, _strict_response_validation=True
    )


def events(upstream: FakeUpstream, answer: Answer) -> list[Any]:
    upstream.script(answer)
    with sdk(upstream) as client, client.messages.create(**ASKED, stream=True) as stream:
        return list(stream)


def message(upstream: FakeUpstream, answer: Answer) -> Any:
    """What the helper of the SDK puts together."""
    upstream.script(answer)
    with sdk(upstream) as client, client.messages.stream(**ASKED) as stream:
        return stream.get_final_message()


def deltas(read: list[Any], name: str) -> list[Any]:
    """The values of a field of the deltas."""
    found = [event.delta for event in read if event.type == "content_block_delta"]
    return [getattr(delta, name) for delta in found if hasattr(delta, name)]


def assert_everything(read: Any) -> None:
    thinking, redacted, text, weather, now = read.content
    assert (thinking.thinking, thinking.signature) == ("Is it raining?", "c2lnbmF0dXJl")
    assert redacted.data == "cmVkYWN0ZWQ="
    assert text.text == "I will look. "
    assert [(c.url, c.title, c.cited_text) for c in text.citations] == [
        ("https://example.org/a", "A page", "I will look. "),
        ("https://example.org/b", "", "will"),
    ]
    assert (weather.id, weather.name, weather.input) == ("call_1", "weather", {"city": "Köln"})
    assert (now.id, now.name, now.input) == ("call_2", "now", {})
    assert read.stop_reason == "tool_use"
    usage = read.usage
    assert (usage.input_tokens, usage.output_tokens) == (120 - 64 - 16, 40)
    assert (usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (64, 16)
    assert usage.output_tokens_details.thinking_tokens == 25


def test_the_helper_of_the_sdk_puts_everything_together(upstream):
    assert_everything(message(upstream, EVERYTHING))
    assert upstream.last.path == "/v1/messages"
    assert upstream.last.json == ASKED | {"stream": True}
    assert "anthropic-version" in upstream.last.headers
    assert upstream.last.pieces_sent == 2 + 2 + 3 + 1


def test_a_whole_message_has_the_same(upstream):
    upstream.script(EVERYTHING)
    with sdk(upstream) as client:
        assert_everything(client.messages.create(**ASKED))


def test_events_are_complete(upstream):
    read = events(upstream, Answer())

    assert [event.type for event in read] == [
        "message_start",
        "content_block_start",
        *["content_block_delta"] * 3,
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]


def test_deltas_of_text_thinking_and_calls_are_the_pieces(upstream):
    read = events(upstream, EVERYTHING)

    assert deltas(read, "text") == ["I will", " look. "]
    assert deltas(read, "thinking") == ["Is it", " raining?"]
    assert deltas(read, "signature") == ["c2lnbmF0dXJl"]
    assert deltas(read, "partial_json") == ["", '{"city":', ' "Köln"', "}", "", "{}"]
    assert [c.url for c in deltas(read, "citation")] == [
        "https://example.org/a",
        "https://example.org/b",
    ]
    assert [e.index for e in read if e.type == "content_block_stop"] == [0, 1, 2, 3, 4]


def test_usage_begins_with_the_input_and_ends_with_the_total(upstream):
    read = events(upstream, EVERYTHING)

    first, last = read[0].message.usage, read[-2].usage
    assert (first.input_tokens, first.cache_read_input_tokens, first.output_tokens) == (40, 64, 1)
    assert (last.input_tokens, last.cache_read_input_tokens, last.output_tokens) == (40, 64, 40)
    assert events(upstream, Answer(usage=(7, 2)))[-2].usage.output_tokens == 2


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer(), "end_turn"),
        (Answer(finish_reason="length"), "max_tokens"),
        (Answer(finish_reason="content_filter"), "refusal"),
        (Answer(parts=[Refusal("No.")]), "refusal"),
        (Answer(refusal=True), "refusal"),
        (Answer(parts=[ToolCall("c", "f")]), "tool_use"),
        (Answer(finish_reason="pause_turn"), "pause_turn"),
    ],
)
def test_the_finish_reason_is_in_the_words_of_the_api(upstream, answer, reason):
    read = message(upstream, answer)

    assert read.stop_reason == reason
    assert (read.stop_details is not None) == (reason == "refusal")


def test_a_refusal_is_text(upstream):
    assert message(upstream, Answer(parts=[Refusal("I cannot.")])).content[0].text == "I cannot."


def test_a_source_without_a_text_has_an_empty_one(upstream):
    thinking, text = message(upstream, Answer(parts=[Thinking("Hm"), Source("https://a")])).content

    assert (thinking.thinking, thinking.signature) == ("Hm", "")
    assert (text.text, text.citations[0].url) == ("", "https://a")


def test_a_whole_message_leaves_out_arguments_that_are_not_json(upstream):
    upstream.script(Answer(parts=[ToolCall("c", "f", '{"a":')]))
    with sdk(upstream) as client:
        read = client.messages.create(**ASKED)

    assert read.content[0].type == "tool_use"
    assert read.content[0].input == {}


def test_without_a_finish_reason_the_message_still_stops(upstream):
    assert [event.type for event in events(upstream, Answer(finish_reason=None))][-2:] == [
        "content_block_stop",
        "message_stop",
    ]


def test_pings_are_silent(upstream):
    assert message(upstream, Answer(pings=True, comments=True)).content[0].text == "Hello world!"


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Answer.error_event(2), "overloaded_error"),
        (Answer.failed(2), "overloaded_error"),
        (Answer.error_event(2, code="rate_limit_exceeded"), "rate_limit_error"),
        (Answer.error_event(2, code="api_error"), "api_error"),
        (Answer.error_event(2, code=500), "api_error"),
    ],
)
def test_an_error_event_is_an_exception(upstream, answer, kind):
    with pytest.raises(anthropic.APIStatusError) as caught:
        events(upstream, answer)

    assert caught.value.type == kind
    assert CANARY in str(caught.value.body)


@pytest.mark.parametrize(
    ("answer", "status", "kind"),
    [
        (Answer.error(400), 400, "invalid_request_error"),
        (Answer.error(401), 401, "authentication_error"),
        (Answer.error(402), 402, "billing_error"),
        (Answer.error(403), 403, "permission_error"),
        (Answer.error(404), 404, "not_found_error"),
        (Answer.error(413), 413, "request_too_large"),
        (Answer.error(422), 422, "invalid_request_error"),
        (Answer.rate_limited(), 429, "rate_limit_error"),
        (Answer.insufficient_quota(), 400, "invalid_request_error"),
        (Answer.context_length(), 400, "invalid_request_error"),
        (Answer.error(500), 500, "api_error"),
        (Answer.error(529), 529, "overloaded_error"),
    ],
)
def test_errors_are_those_of_the_api(upstream, answer, status, kind):
    with pytest.raises(anthropic.APIStatusError) as caught:
        events(upstream, answer)

    error = caught.value
    assert (error.status_code, error.type, error.request_id) == (status, kind, f"req_{CANARY}")
    assert sorted(error.response.json()) == ["error", "request_id", "type"]
    assert "openai-organization" not in error.response.headers
    assert error.response.headers["anthropic-organization-id"] == CANARY


def test_two_errors_are_known_by_their_message(upstream):
    for answer, words in (
        (Answer.context_length(), "prompt is too long"),
        (Answer.insufficient_quota(), "credit balance is too low"),
    ):
        with pytest.raises(anthropic.BadRequestError, match=words):
            events(upstream, answer)
    with pytest.raises(anthropic.RateLimitError) as caught:
        events(upstream, Answer.rate_limited(retry_after=7))
    assert caught.value.response.headers["retry-after"] == "7"


def test_text_after_a_call_is_a_block_of_its_own(upstream):
    read = message(upstream, Answer(parts=[ToolCall("c", "f"), Text("Wait."), Text("More.")]))

    assert json.loads(read.model_dump_json())["content"][1:] != []
    assert [block.type for block in read.content] == ["tool_use", "text", "text"]
