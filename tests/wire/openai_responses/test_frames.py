"""Events become the events of OpenAI's API, which its own types accept."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai._streaming import SSEDecoder
from openai.types.responses import Response

from chatnest.errors import LimitExceeded, RunCancelled, UpstreamInterrupted, UpstreamTimeout
from chatnest.events import (
    ClientEvent,
    Delta,
    Done,
    Failed,
    Numbered,
    Ping,
    Reasoning,
    ReasoningSignature,
    Refusal,
    Source,
    Start,
    ToolCall,
    ToolCallDelta,
)
from chatnest.wire import OpenAIResponsesFormat, StreamInfo
from tests.wire.openai_responses.support import (
    EVERYTHING,
    RUN,
    SIGNATURE,
    STOP,
    USAGE,
    check,
    encoded,
    frames,
    kinds,
    read,
)

STARTED = ["created", "in_progress"]
MESSAGE = ["output_item.added", "content_part.added", "output_text.delta"]
MESSAGE_END = ["output_text.done", "content_part.done", "output_item.done"]
THINKING = ["output_item.added", "reasoning_summary_part.added", "reasoning_summary_text.delta"]
THINKING_END = [
    "reasoning_summary_text.done",
    "reasoning_summary_part.done",
    "output_item.done",
]
CALL = ["output_item.added", "function_call_arguments.delta"]
CALL_END = ["function_call_arguments.done", "output_item.done"]
REFUSAL = ["content_part.added", "refusal.delta"]
REFUSAL_END = ["refusal.done", "content_part.done"]

STREAMS: dict[str, tuple[list[ClientEvent], list[str]]] = {
    "nothing": ([Start(), STOP], ["completed"]),
    "text": (
        [Start(), Delta("a"), Delta("b"), STOP],
        [*MESSAGE, "output_text.delta", *MESSAGE_END, "completed"],
    ),
    "pings": (
        [Start(), Ping(), Delta("a"), Ping(), STOP],
        [*MESSAGE, *MESSAGE_END, "completed"],
    ),
    "thinking": (
        [Start(), Reasoning("a"), Delta("b"), STOP],
        [*THINKING, *THINKING_END, *MESSAGE, *MESSAGE_END, "completed"],
    ),
    "two blocks": (
        [Start(), Reasoning("a"), SIGNATURE, Reasoning("b"), SIGNATURE, STOP],
        [*THINKING, *THINKING_END, *THINKING, *THINKING_END, "completed"],
    ),
    "hidden thinking": (
        [Start(), SIGNATURE, Delta("b"), STOP],
        ["output_item.added", "output_item.done", *MESSAGE, *MESSAGE_END, "completed"],
    ),
    "thinking after text": (
        [Start(), Delta("b"), Reasoning("a"), STOP],
        [*MESSAGE, *MESSAGE_END, *THINKING, *THINKING_END, "completed"],
    ),
    "a refusal": (
        [Start(), Refusal("a"), Refusal("b"), STOP],
        [
            *("output_item.added", *REFUSAL, "refusal.delta", *REFUSAL_END),
            *("output_item.done", "completed"),
        ],
    ),
    "text, then a refusal": (
        [Start(), Delta("a"), Refusal("b"), STOP],
        [*MESSAGE, *MESSAGE_END[:2], *REFUSAL, *REFUSAL_END, "output_item.done", "completed"],
    ),
    "a call": (
        [Start(), ToolCall(0, "c", "f"), ToolCallDelta(0, "{}"), STOP],
        [*CALL, *CALL_END, "completed"],
    ),
    "calls that alternate": (
        [
            *(Start(), ToolCall(0, "c", "f"), ToolCall(1, "d", "f"), ToolCallDelta(0, "{")),
            *(ToolCallDelta(1, "{}"), ToolCallDelta(0, "}"), STOP),
        ],
        [
            *("output_item.added", "output_item.added", *["function_call_arguments.delta"] * 3),
            *(*CALL_END, *CALL_END, "completed"),
        ],
    ),
    "a signature of a call": (
        [Start(), ToolCall(0, "c", "f"), SIGNATURE, ToolCallDelta(0, "{}"), STOP],
        [
            *("output_item.added", "output_item.added", "output_item.done", CALL[1]),
            *(*CALL_END, "completed"),
        ],
    ),
    "a piece of no call": ([Start(), ToolCallDelta(0, "{}"), STOP], ["completed"]),
    "a call twice": (
        [Start(), ToolCall(0, "c", "f"), ToolCall(0, "c", "f"), STOP],
        ["output_item.added", *CALL_END, "completed"],
    ),
    "text after a call": (
        [Start(), ToolCall(0, "c", "f"), Delta("a"), STOP],
        ["output_item.added", *MESSAGE, *MESSAGE_END, *CALL_END, "completed"],
    ),
    "a source": (
        [Start(), Delta("a"), Source("https://e.org"), STOP],
        [*MESSAGE, "output_text.annotation.added", *MESSAGE_END, "completed"],
    ),
    "a source before the text": (
        [Start(), Source("https://e.org"), Delta("a"), STOP],
        [
            *(*MESSAGE[:2], "output_text.annotation.added", "output_text.delta"),
            *(*MESSAGE_END, "completed"),
        ],
    ),
    "a cut answer": (
        [Start(), Delta("a"), Done("length", USAGE)],
        [*MESSAGE, *MESSAGE_END, "incomplete"],
    ),
    "a cut call": (
        [Start(), ToolCall(0, "c", "f"), Done("length", USAGE, incomplete=True)],
        ["output_item.added", "incomplete"],
    ),
    "a cut call after a whole one": (
        [
            *(Start(), ToolCall(0, "c", "f"), ToolCall(1, "d", "f"), ToolCallDelta(1, "{")),
            Done("max_tokens", USAGE, incomplete=True),
        ],
        [
            *("output_item.added", "output_item.added", CALL[1], *CALL_END, "incomplete"),
        ],
    ),
    "an error": (
        [Start(), Delta("a"), ToolCall(0, "c", "f"), Failed(UpstreamInterrupted(), charged=True)],
        [*MESSAGE, *MESSAGE_END, "output_item.added", "error"],
    ),
}


@pytest.mark.parametrize(("events", "expected"), STREAMS.values(), ids=STREAMS)
def test_a_stream_has_these_events_in_this_order(events, expected):
    assert kinds(encoded(*events)) == [*STARTED, *expected]


@pytest.mark.parametrize(("events", "expected"), STREAMS.values(), ids=STREAMS)
def test_openai_s_own_types_accept_every_event(events, expected):
    stream = encoded(*events)

    for event in read(stream):
        check(event)
    assert [e["sequence_number"] for e in read(stream)] == list(range(len(expected) + 2))


@pytest.mark.parametrize(("events", "expected"), STREAMS.values(), ids=STREAMS)
def test_what_is_opened_is_closed_once_and_the_last_response_has_it(events, expected):
    if expected[-1] == "error":
        return
    found = read(encoded(*events))
    done = {e["output_index"]: e["item"] for e in found if e["type"].endswith("item.done")}
    opened = [e["item"]["id"] for e in found if e["type"].endswith("item.added")]
    response = found[-1]["response"]

    assert [done[index] for index in sorted(done)] == response["output"]
    cut = isinstance(events[-1], Done) and events[-1].incomplete
    assert len(opened) == len(set(opened)) == len(done) + cut


def test_everything_that_an_answer_has_is_in_the_last_response():
    response = Response.model_validate(read(encoded(*EVERYTHING))[-1]["response"])

    assert response.id == f"resp_{RUN}"
    assert (response.status, response.model, response.created_at) == (
        "completed",
        "chat",
        1730603384,
    )
    thinking, message, *calls = response.output
    assert thinking.type == "reasoning"
    assert thinking.id == f"rs_{RUN}_0"
    assert [part.text for part in thinking.summary] == ["Is it raining?"]
    assert (thinking.encrypted_content or "").startswith("cn1.")
    assert message.type == "message"
    assert message.id == f"msg_{RUN}_1"
    text, refusal = message.content
    assert text.type == "output_text"
    assert (text.text, text.annotations[0].model_dump()) == (
        "I look.",
        {
            "type": "url_citation",
            "url": "https://example.org/",
            "title": "Example",
            "start_index": 0,
            "end_index": 7,
        },
    )
    assert refusal.type == "refusal"
    assert refusal.refusal == "No."
    found: list[Any] = list(calls)
    assert [(c.id, c.call_id, c.name, c.arguments) for c in found] == [
        (f"fc_{RUN}_2", "call_1", "weather", '{"city":"Oslo"}'),
        (f"fc_{RUN}_3", "call_2", "weather", "{}"),
    ]
    usage = response.usage
    assert usage is not None
    assert usage.model_dump(exclude_none=True) == {
        "input_tokens": 120,
        "input_tokens_details": {"cached_tokens": 64, "cache_write_tokens": 8},
        "output_tokens": 40,
        "output_tokens_details": {"reasoning_tokens": 25},
        "total_tokens": 160,
    }


def test_a_client_that_waits_gets_the_last_response_alone():
    whole = frames(stream=False)
    *before, last = [whole.encode([event]) for event in EVERYTHING]

    assert set(before) == {b""}
    assert json.loads(last) == read(encoded(*EVERYTHING))[-1]["response"]
    at_once = frames(stream=False).encode(EVERYTHING)
    assert json.loads(at_once) == json.loads(last)
    assert frames(stream=False).encode([Start(), Failed(UpstreamInterrupted())]) == b""


@pytest.mark.parametrize(
    ("reason", "status", "detail"),
    [
        ("stop", "completed", None),
        ("tool_calls", "completed", None),
        ("end_turn", "completed", None),
        ("", "completed", None),
        ("length", "incomplete", "max_output_tokens"),
        ("MAX_TOKENS", "incomplete", "max_output_tokens"),
        ("content_filter", "incomplete", "content_filter"),
        ("SAFETY", "incomplete", "content_filter"),
        ("refusal", "incomplete", "content_filter"),
    ],
)
def test_a_reason_to_stop_is_a_status(reason, status, detail):
    found = read(encoded(Start(), Delta("a"), Done(reason, USAGE)))
    response = found[-1]["response"]

    assert found[-1]["type"] == f"response.{status}"
    assert response["status"] == response["output"][0]["status"] == status
    assert response["incomplete_details"] == (None if detail is None else {"reason": detail})


def test_a_refusal_in_words_is_complete():
    found = read(encoded(Start(), Refusal("No."), Done("refusal", USAGE)))

    assert found[-1]["type"] == "response.completed"


def test_a_call_that_broke_off_is_not_in_the_output_where_clients_would_make_it():
    whole = frames(stream=False)
    cut = Done("length", USAGE, incomplete=True)
    response = json.loads(whole.encode([Start(), Delta("a"), ToolCall(0, "c", "f"), cut]))

    assert [item["type"] for item in response["output"]] == ["message"]
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}


ERRORS = {
    "charged": (
        Failed(UpstreamTimeout(), charged=True),
        ("upstream_timeout", "invalid_response_error"),
    ),
    "not charged": (Failed(UpstreamTimeout()), ("upstream_timeout", "server_error")),
    "cancelled": (Failed(RunCancelled(), charged=True), ("cancelled", "invalid_response_error")),
    "a long limit": (
        Failed(LimitExceeded("day", unit="requests", window=86_400, wait=7_200.0)),
        ("insufficient_quota", "insufficient_quota"),
    ),
}


@pytest.mark.parametrize(("failed", "expected"), ERRORS.values(), ids=ERRORS)
def test_an_error_has_both_shapes_at_once(failed, expected):
    error = read(encoded(Start(), failed))[-1]

    assert (error["code"], error["error"]["type"]) == expected
    assert error["error"] == {
        "message": failed.error.detail,
        "type": expected[1],
        "param": None,
        "code": expected[0],
    }
    assert error["message"] == failed.error.detail
    assert "param" in error
    check(error)


TOOL = {
    "type": "function",
    "name": "weather",
    "description": "Of a city",
    "parameters": {"type": "object", "description": "a\nb"},
    "strict": True,
}
SCHEMA = {"type": "json_schema", "name": "day", "schema": {"type": "object"}, "strict": True}
ECHOES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"tools": [], "tool_choice": "auto", "parallel_tool_calls": True, "store": False}),
    ({"tools": [TOOL]}, {"tools": [TOOL]}),
    (
        {"tools": [TOOL], "tool_choice": {"type": "function", "name": "weather"}},
        {"tool_choice": {"type": "function", "name": "weather"}},
    ),
    (
        {"tools": [TOOL], "tool_choice": "none", "parallel_tool_calls": False},
        {"tool_choice": "none", "parallel_tool_calls": False},
    ),
    (
        {"temperature": 0.5, "top_p": 1, "max_output_tokens": 9, "reasoning": {"effort": "low"}},
        {
            "temperature": 0.5,
            "top_p": 1.0,
            "max_output_tokens": 9,
            "reasoning": {"effort": "low", "summary": None},
        },
    ),
    ({"text": {"format": {"type": "json_object"}}}, {"text": {"format": {"type": "json_object"}}}),
    ({"text": {"format": SCHEMA}}, {"text": {"format": {**SCHEMA, "description": ""}}}),
]


@pytest.mark.parametrize(("request_", "response"), ECHOES)
def test_a_response_repeats_the_settings_of_its_request(request_, response):
    for event in read(encoded(Start(), Delta("a"), STOP, **request_)):
        if "response" in event:
            assert {name: event["response"][name] for name in response} == response
            check(event)


def test_line_breaks_in_the_json_of_a_request_are_none_in_its_events():
    made = OpenAIResponsesFormat()
    body = {"input": "Hi", "stream": True, "tools": [TOOL], "text": {"format": SCHEMA}}
    text = json.dumps(body, indent=2).replace("\n", "\r\n").encode()
    encoder = made.frames(StreamInfo(request_id=RUN, model="m", request=made.parse(text, {})))
    stream = encoder.encode([Start()])

    assert b"\r" not in stream
    assert kinds(stream) == STARTED
    assert read(stream)[0]["response"]["tools"] == [TOOL]


def test_the_request_id_is_a_header_field():
    for stream in (True, False):
        headers = getattr(frames(stream=stream), "headers", None)
        assert headers == {"x-request-id": RUN}


def test_a_ping_is_a_comment():
    assert encoded(Ping()) == b": ping\n\n"


def test_ids_with_a_percent_sign_are_kept():
    encoder = OpenAIResponsesFormat().frames(StreamInfo(request_id="100%d", model="m"))
    events = read(encoder.encode([Start(), Delta("a"), Delta("b")]))

    assert {e["item_id"] for e in events if "item_id" in e} == {"msg_100%d_0"}
    assert events[0]["response"]["created_at"] == 0


any_text = st.text(min_size=1)
any_index = st.integers(0, 2)
any_piece: st.SearchStrategy[ClientEvent] = (
    st.builds(Delta, any_text)
    | st.builds(Refusal, any_text)
    | st.builds(Reasoning, any_text)
    | st.builds(ReasoningSignature, any_text, any_text, any_text, st.booleans(), st.text())
    | st.builds(Source, any_text, st.text(), st.integers(0, 9), st.integers(0, 9))
    | st.builds(ToolCall, any_index, any_text, any_text)
    | st.builds(ToolCallDelta, any_index, any_text)
    | st.just(Ping())
)


@given(st.lists(any_piece), st.booleans())
def test_any_answer_is_read_by_openai_s_types_and_is_the_same_however_it_is_written(
    pieces, numbered
):
    events: list[Any] = [Start(), *pieces, STOP]
    if numbered:
        events = [
            each if isinstance(each, Start | Ping) else Numbered(number, each)
            for number, each in enumerate(events)
        ]
    stream = encoded(*events)
    found = read(stream)

    assert frames().encode(events) == stream
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    for event in found:
        check(event)
    done = {e["output_index"]: e["item"] for e in found if e["type"].endswith("item.done")}
    assert [done[index] for index in sorted(done)] == found[-1]["response"]["output"]
    assert json.loads(frames(stream=False).encode(events)) == found[-1]["response"]


@given(st.lists(st.text(st.characters(), min_size=1), min_size=1, max_size=300))
def test_any_text_is_whole_in_its_pieces_and_at_its_end(texts):
    pieces = [Delta(text) for text in texts]
    found = read(encoded(Start(), *pieces, STOP))
    shown = "".join(texts).encode("utf-8", "replace").decode()

    deltas = [e["delta"] for e in found if e["type"] == "response.output_text.delta"]
    assert "".join(deltas) == shown
    assert len(deltas) == len(texts)
    (done,) = [e["text"] for e in found if e["type"] == "response.output_text.done"]
    assert done == shown == found[-1]["response"]["output"][0]["content"][0]["text"]


@pytest.mark.parametrize("at_once", [1, 7, 1_000])
def test_a_long_text_is_whole_at_its_end(at_once):
    texts = [f"{number} " for number in range(1_000)]
    for encoder in (frames(), frames(stream=False)):
        stream = encoder.encode([Start()])
        for start in range(0, len(texts), at_once):
            stream += encoder.encode([Delta(text) for text in texts[start : start + at_once]])
        stream += encoder.encode([STOP])
        response = read(stream)[-1]["response"] if b"event: " in stream else json.loads(stream)

        assert response["output"][0]["content"][0]["text"] == "".join(texts)


def test_a_stream_cut_at_any_byte_is_a_part_of_it_and_never_whole():
    stream = encoded(*EVERYTHING)
    whole = read(stream)

    for length in range(len(stream)):
        decoder = SSEDecoder()
        found = [
            event.json() for event in decoder.iter_bytes(iter([stream[:length]])) if event.data
        ]
        assert found == whole[: len(found)], length
        assert len(found) < len(whole), length


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64])
def test_a_stream_in_pieces_of_any_size_is_the_same(size):
    stream = encoded(*EVERYTHING)
    pieces = [stream[start : start + size] for start in range(0, len(stream), size)]

    found = [event.json() for event in SSEDecoder().iter_bytes(iter(pieces)) if event.data]
    assert found == read(stream)
