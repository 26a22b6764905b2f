"""Events are chunks of a chat completion, byte for byte, and OpenAI's client reads them back."""

import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai._streaming import SSEDecoder
from openai.types.chat import ChatCompletionChunk

from chatnest import ChatRequest, Message
from chatnest.errors import UpstreamInterrupted, UpstreamTimeout
from chatnest.events import (
    ClientEvent,
    Delta,
    Done,
    Failed,
    Numbered,
    Piece,
    Ping,
    Reasoning,
    ReasoningSignature,
    Refusal,
    Source,
    Start,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from chatnest.testing import FormatContract
from chatnest.wire import Frames, NativeFormat, OpenAIChatFormat, StreamInfo

ID = "01a22a697b3e7afd847b36d1b930a2a2"
HEAD = (
    b'data: {"id":"chatcmpl-01a22a697b3e7afd847b36d1b930a2a2","object":"chat.completion.chunk",'
    b'"created":1796007885,"model":"chat","choices":['
)
START = HEAD + b'{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}\n\n'
DONE = b"data: [DONE]\n\n"
PING = b": ping\n\n"
USAGE = Usage(12, 34, cached_tokens=5, cache_written_tokens=2, reasoning_tokens=7)
STOP = Done("stop", USAGE)
PARTS: tuple[Piece, ...] = (
    Reasoning("Hm"),
    ReasoningSignature("sealed", "p", "m"),
    Delta("I look. "),
    ToolCall(0, "c1", "weather"),
    ToolCallDelta(0, '{"city":'),
    ToolCall(1, "c2", "weather"),
    ToolCallDelta(1, "{}"),
    ToolCallDelta(0, '"Oslo"}'),
    Source("https://a.example/", "A", 2, 6),
)


def wire(*, usage_event: bool = False, model: str = "chat") -> Frames:
    return OpenAIChatFormat().frames(
        StreamInfo(request_id=ID, model=model, usage_event=usage_event)
    )


def frame(delta: bytes, reason: bytes = b"null") -> bytes:
    return HEAD + b'{"index":0,"delta":%b,"finish_reason":%b}]}\n\n' % (delta, reason)


def end(reason: str) -> bytes:
    return frame(b"{}", f'"{reason}"'.encode()) + DONE


def read(pieces: Sequence[bytes]) -> list[str]:
    """The data of the events, as OpenAI's client for Python reads them."""
    return [event.data for event in SSEDecoder().iter_bytes(iter(pieces))]


class Cut(Exception):
    """The connection is lost."""


def read_before_a_cut(piece: bytes) -> list[str]:
    """The same of a stream that is cut off after ``piece``."""

    def pieces() -> Iterator[bytes]:
        yield piece
        raise Cut

    found: list[str] = []
    with contextlib.suppress(Cut):
        for event in SSEDecoder().iter_bytes(pieces()):
            found.append(event.data)  # noqa: PERF401  # the last ones come before an exception
    return found


def chunks(stream: bytes) -> list[dict[str, Any]]:
    return [json.loads(data) for data in read([stream]) if data != "[DONE]"]


def deltas(stream: bytes) -> list[dict[str, Any]]:
    choices = [choice for chunk in chunks(stream) for choice in chunk.get("choices", ())]
    return [choice["delta"] for choice in choices]


def said(stream: bytes, field: str = "content") -> str:
    return "".join(delta.get(field, "") for delta in deltas(stream))


class TestOpenAIChat(FormatContract):
    body = b'{"model":"chat","stream":true,"messages":[{"role":"user","content":"Hi"}]}'

    def make(self) -> OpenAIChatFormat:
        return OpenAIChatFormat()

    def text(self, stream: bytes) -> str:
        return said(stream)

    def ending(self, stream: bytes) -> object:
        data = read([stream])
        last = json.loads(data[-1]) if data[-1] != "[DONE]" else {}
        return "[DONE]" if not last else last.get("error", {}).get("code")


EVENTS = [
    (Start(), START, {"role": "assistant", "content": ""}),
    (Delta("Good"), frame(b'{"content":"Good"}'), {"content": "Good"}),
    (Refusal("No."), frame(b'{"refusal":"No."}'), {"refusal": "No."}),
    (Reasoning("Hm"), frame(b'{"reasoning_content":"Hm"}'), {"reasoning_content": "Hm"}),
    (
        ToolCall(1, "c", "weather"),
        frame(
            b'{"tool_calls":[{"index":1,"id":"c","type":"function",'
            b'"function":{"name":"weather","arguments":""}}]}'
        ),
        {
            "tool_calls": [
                {
                    "index": 1,
                    "id": "c",
                    "type": "function",
                    "function": {"name": "weather", "arguments": ""},
                }
            ]
        },
    ),
    (
        ToolCallDelta(1, '{"a'),
        frame(rb'{"tool_calls":[{"index":1,"function":{"arguments":"{\"a"}}]}'),
        {"tool_calls": [{"index": 1, "function": {"arguments": '{"a'}}]},
    ),
    (
        Source("https://a.example/", "A", 2, 6),
        frame(
            b'{"annotations":[{"type":"url_citation","url_citation":{"start_index":2,'
            b'"end_index":6,"title":"A","url":"https://a.example/"}}]}'
        ),
        {
            "annotations": [
                {
                    "type": "url_citation",
                    "url_citation": {
                        "start_index": 2,
                        "end_index": 6,
                        "title": "A",
                        "url": "https://a.example/",
                    },
                }
            ]
        },
    ),
]


@pytest.mark.parametrize(("event", "data", "delta"), EVENTS)
def test_an_event_is_exactly_these_bytes_and_they_are_that_event(event, data, delta):
    assert wire().encode([event]) == data
    if not isinstance(event, Start):
        assert wire().encode([Numbered(3, event)]) == data
    (chunk,) = chunks(data)
    assert chunk["choices"] == [{"index": 0, "delta": delta, "finish_reason": None}]
    assert ChatCompletionChunk.model_validate(chunk).choices[0].finish_reason is None


def test_there_is_no_frame_for_a_signature_and_a_comment_for_a_ping():
    assert wire().encode([ReasoningSignature("sealed", "p", "m")]) == b""
    assert wire().encode([Ping()]) == PING
    assert read([START + PING + frame(b'{"content":"a"}') + PING]) == read(
        [START + frame(b'{"content":"a"}')]
    )


def test_an_event_has_no_id_since_openais_client_then_takes_a_comment_for_an_event():
    events: list[ClientEvent] = [Start(), Numbered(1, Delta("a")), Ping(), Numbered(2, STOP)]
    stream = wire().encode(events)

    assert b"\nid:" not in stream
    assert len(read([stream])) == 4
    with_id = stream.replace(b'data: {"id"', b'id: 1\ndata: {"id"')
    assert "" in read([with_id])


REASONS = {
    "stop": "stop",
    "length": "length",
    "content_filter": "content_filter",
    "tool_calls": "tool_calls",
    "tool_use": "tool_calls",
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
    "refusal": "content_filter",
    "moderated": "stop",
}


@pytest.mark.parametrize(("reason", "word"), REASONS.items())
def test_the_reason_is_one_of_four_words(reason, word):
    assert wire().encode([Done(reason, USAGE)]) == end(word)


def test_a_refusal_with_a_text_ends_with_stop():
    stream = wire().encode([Start(), Refusal("I can"), Refusal("not."), Done("refusal", USAGE)])

    assert said(stream, "refusal") == "I cannot."
    assert stream.endswith(end("stop"))


def test_a_call_that_broke_off_is_not_called_a_call():
    begun: list[ClientEvent] = [Start(), ToolCall(0, "c", "f"), ToolCallDelta(0, '{"a')]

    assert wire().encode([*begun, Done("x", USAGE, incomplete=True)]).endswith(end("length"))


def test_the_cost_is_a_chunk_without_choices_and_only_when_it_was_asked_for():
    asked = wire(usage_event=True).encode([STOP])

    assert (
        asked
        == frame(b"{}", b'"stop"')
        + HEAD
        + (
            b'],"usage":{"prompt_tokens":12,"completion_tokens":34,"total_tokens":46,'
            b'"prompt_tokens_details":{"cached_tokens":5,"cache_write_tokens":2},'
            b'"completion_tokens_details":{"reasoning_tokens":7}}}\n\n'
        )
        + DONE
    )
    assert wire().encode([STOP]) == end("stop")
    usage = ChatCompletionChunk.model_validate(chunks(asked)[-1]).usage
    assert usage is not None
    assert usage.prompt_tokens_details is not None
    assert (usage.total_tokens, usage.prompt_tokens_details.cached_tokens) == (46, 5)


def test_a_failure_is_an_error_and_the_last_frame():
    stream = wire(usage_event=True).encode([Start(), Delta("a"), Failed(UpstreamInterrupted())])

    assert stream == START + frame(b'{"content":"a"}') + (
        b'data: {"error":{"message":"The answer was cut off.","type":"server_error","param":null,'
        b'"code":"upstream_interrupted"}}\n\n'
    )


def test_a_charged_failure_has_a_type_that_the_ai_sdk_does_not_repeat():
    (frame_,) = chunks(wire().encode([Failed(UpstreamTimeout(), charged=True)]))

    assert frame_["error"]["type"] == "invalid_response_error"


def test_all_chunks_have_the_same_head():
    stream = wire(usage_event=True).encode([Start(), *PARTS, Refusal("No."), STOP])

    heads = {(c["id"], c["object"], c["created"], c["model"]) for c in chunks(stream)}
    assert heads == {(f"chatcmpl-{ID}", "chat.completion.chunk", 1796007885, "chat")}


def test_a_model_has_any_name():
    name = 'a%b"c\n\n%(x)s'

    for event in (Start(), Delta("a"), Numbered(1, Delta("a")), STOP):
        assert {c["model"] for c in chunks(wire(model=name).encode([event]))} == {name}


def test_the_response_has_the_id_of_the_request():
    headers: Any = wire()

    assert headers.headers == {"x-request-id": ID}


def test_an_answer_is_one_frame_for_each_event_however_they_are_batched():
    events: list[ClientEvent] = [Start(), *PARTS, Delta("a"), Delta("\ud83d"), Delta("b"), STOP]
    one_by_one = wire()
    expected = b"".join(one_by_one.encode([event]) for event in events)
    batched = wire()
    texts = [Delta("a"), Delta("\ud83d"), Delta("b")]
    assert batched.encode([Start(), *PARTS]) + batched.encode(texts) + batched.encode([STOP]) == (
        expected
    )
    assert wire().encode(events) == expected
    assert expected.count(b"\n\n") == len(events) - 1 + 1  # none for the signature, two for the end


MARKS = ["\n", "\r", "\u2028", '"', "\\", "data: [DONE]\n\n", '"}}]}\n\n', '{"error":{}}']
HOSTILE = st.lists(st.one_of(st.characters(), st.sampled_from(MARKS)), min_size=1).map("".join)


@given(st.lists(HOSTILE, min_size=1, max_size=5))
def test_text_cannot_forge_a_frame(texts):
    kinds = (
        Delta,
        Reasoning,
        Refusal,
        partial(ToolCallDelta, 0),
        partial(ToolCall, 0, "c"),
        Source,
    )
    for kind in kinds:
        events = [kind(text) for text in texts]
        data = read([wire().encode([Start(), *events])])
        assert len(data) == 1 + len(events)
        assert all(json.loads(each)["choices"][0]["finish_reason"] is None for each in data)


def test_a_stream_that_is_cut_anywhere_is_the_same_and_never_whole_before_its_end():
    answer: list[ClientEvent] = [
        Start(),
        *PARTS,
        Delta("é\n\ndata: [DONE]\n\n😀\u2028"),
        Ping(),
        STOP,
    ]
    stream = wire(usage_event=True).encode(answer)
    whole = read([stream])

    for cut in range(len(stream)):
        begun = read_before_a_cut(stream[:cut])
        assert begun == whole[: len(begun)]
        assert "[DONE]" not in begun, cut
        assert read([stream[:cut], stream[cut:]]) == whole
    assert read([stream[i : i + 1] for i in range(len(stream))]) == whole


@pytest.mark.parametrize("piece", [Delta("a"), Reasoning("a"), Numbered(1, Delta("a"))])
def test_a_piece_takes_no_more_calls_than_in_the_native_format(piece):
    info = StreamInfo(request_id=ID, model="chat", events=frozenset({"reasoning"}))

    assert calls(OpenAIChatFormat().frames(info), piece) <= calls(
        NativeFormat().frames(info), piece
    )


def calls(frames: Frames, event: ClientEvent) -> int:
    """The calls of Python functions that an event takes."""
    found = 0

    def count(_: FrameType, kind: str, __: Any) -> None:
        nonlocal found
        found += kind == "call"

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        frames.encode((event,))
    finally:
        sys.setprofile(before)
    return found


def test_a_reader_that_resumes_gets_a_stream():
    request = ChatRequest(messages=(Message.of("user", "Hi"),))

    for asked in (None, request):
        info = StreamInfo(request_id=ID, model="chat", request=asked)
        assert OpenAIChatFormat().frames(info).encode([Start()]) == START
