"""Events are parts of the UI message stream, byte for byte, and clients read them as meant."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatnest.errors import (
    ClientGone,
    InternalError,
    LimitExceeded,
    RunLost,
    UpstreamInterrupted,
    UpstreamOverloaded,
)
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
from chatnest.wire import AISDKFormat, StreamInfo
from tests.wire.ui_messages import UIMessage, chunks

STOP = Done("stop", Usage(12, 34))
INFO = StreamInfo(request_id="r1", model="m")
START = b'data: {"type":"start","messageId":"msg_r1"}\n\ndata: {"type":"start-step"}\n\n'
FINISH_STEP = b'data: {"type":"finish-step"}\n\n'
END = b"data: [DONE]\n\n"


class TestContract(FormatContract):
    body = json.dumps(
        {"messages": [{"role": "user", "parts": [{"type": "text", "text": "Any bread?"}]}]}
    ).encode()

    def make(self) -> AISDKFormat:
        return AISDKFormat()

    def text(self, stream: bytes) -> str:
        return UIMessage(stream).text

    def ending(self, stream: bytes) -> object:
        return UIMessage(stream).ending


def encoded(*events: ClientEvent) -> bytes:
    encoder = AISDKFormat().frames(INFO)
    return b"".join([encoder.encode([event]) for event in events])


def frames(*lines: str) -> bytes:
    return b"".join([f"data: {line}\n\n".encode() for line in lines])


FINISH = (
    '{"type":"finish-step"}',
    (
        '{"type":"finish","finishReason":"stop","messageMetadata":{"usage":{"inputTokens":12,'
        '"outputTokens":34,"totalTokens":46,"source":"provider"},"finishReason":"stop"}}'
    ),
    "[DONE]",
)
TEXT = ('{"type":"text-start","id":"1"}', '{"type":"text-delta","id":"1","delta":"a"}')
CALL = '{"type":"tool-input-start","toolCallId":"c1","toolName":"weather"}'

TABLE: dict[str, tuple[list[ClientEvent], bytes]] = {
    "a start": ([Start()], START),
    "a ping": ([Ping()], b": ping\n\n"),
    "a text": (
        [Delta("a"), Delta('"\n\u2028'), STOP],
        frames(
            *TEXT,
            r'{"type":"text-delta","id":"1","delta":"\"\n' + "\u2028" + '"}',
            '{"type":"text-end","id":"1"}',
            *FINISH,
        ),
    ),
    "an empty answer": ([STOP], frames(*FINISH)),
    "a refusal": ([Refusal("a"), Delta("b")], frames(*TEXT, TEXT[1].replace('"a"', '"b"'))),
    "thinking and its proof": (
        [Reasoning("a"), ReasoningSignature("s", "p", "m"), Delta("b")],
        frames(
            '{"type":"reasoning-start","id":"1"}',
            '{"type":"reasoning-delta","id":"1","delta":"a"}',
            '{"type":"reasoning-end","id":"1","providerMetadata":{"chatnest":'
            '{"signature":"s","provider":"p","model":"m"}}}',
            '{"type":"text-start","id":"2"}',
            '{"type":"text-delta","id":"2","delta":"b"}',
        ),
    ),
    "thinking without a proof": (
        [Reasoning("a"), Delta("b")],
        frames(
            '{"type":"reasoning-start","id":"1"}',
            '{"type":"reasoning-delta","id":"1","delta":"a"}',
            '{"type":"reasoning-end","id":"1"}',
            '{"type":"text-start","id":"2"}',
            '{"type":"text-delta","id":"2","delta":"b"}',
        ),
    ),
    "thinking that is not shown": (
        [Delta("a"), ReasoningSignature("s", "p", "m", redacted=True, id="i")],
        frames(
            *TEXT,
            '{"type":"text-end","id":"1"}',
            '{"type":"reasoning-start","id":"2"}',
            '{"type":"reasoning-end","id":"2","providerMetadata":{"chatnest":'
            '{"signature":"s","provider":"p","model":"m","redacted":true,"id":"i"}}}',
        ),
    ),
    "a call": (
        [Delta("a"), ToolCall(0, "c1", "weather"), ToolCallDelta(0, '{ "city":\n1}'), STOP],
        frames(
            *TEXT,
            '{"type":"text-end","id":"1"}',
            CALL,
            r'{"type":"tool-input-delta","toolCallId":"c1","inputTextDelta":"{ \"city\":\n1}"}',
            '{"type":"tool-input-available","toolCallId":"c1","toolName":"weather",'
            '"input":{"city":1}}',
            *FINISH,
        ),
    ),
    "a call without arguments": (
        [ToolCall(0, "c1", "weather"), STOP],
        frames(
            CALL,
            '{"type":"tool-input-available","toolCallId":"c1","toolName":"weather","input":{}}',
            *FINISH,
        ),
    ),
    "a piece of an unknown call": ([ToolCallDelta(3, "{}")], b""),
    "a source": (
        [Delta("a"), Source("https://e.org", "E", 0, 1), Delta("a"), Source("https://f.org")],
        frames(
            *TEXT,
            '{"type":"source-url","sourceId":"source-1","url":"https://e.org","title":"E",'
            '"providerMetadata":{"chatnest":{"start":0,"end":1}}}',
            TEXT[1],
            '{"type":"source-url","sourceId":"source-2","url":"https://f.org"}',
        ),
    ),
    "a failure": (
        [Delta("a"), Failed(UpstreamOverloaded(retry_after=1.2), charged=True)],
        frames(
            *TEXT,
            '{"type":"text-end","id":"1"}',
            '{"type":"data-chatnest-error","data":{"code":"upstream_overloaded","retryable":true,'
            '"retryAfter":2,"charged":true},"transient":true}',
            '{"type":"error","errorText":"The model is overloaded. Try again in 2 seconds."}',
            "[DONE]",
        ),
    ),
}


@pytest.mark.parametrize(("events", "stream"), TABLE.values(), ids=TABLE)
def test_events_are_exactly_these_bytes(events, stream):
    assert encoded(*events) == stream


@pytest.mark.parametrize(("events", "stream"), TABLE.values(), ids=TABLE)
def test_the_events_of_a_run_are_the_same_bytes(events, stream):
    numbered = [
        event if isinstance(event, Start | Ping) else Numbered(number, event)
        for number, event in enumerate(events, 1)
    ]
    assert encoded(*numbered) == stream


@pytest.mark.parametrize(("events", "stream"), TABLE.values(), ids=TABLE)
def test_events_that_come_together_have_a_frame_each(events, stream):
    assert AISDKFormat().frames(INFO).encode(events) == stream
    first, *rest = events
    encoder = AISDKFormat().frames(INFO)
    assert encoder.encode([first]) + encoder.encode(rest) == stream


# ---------------------------------------------------------------- what clients make of it


REASONS = {
    "stop": "stop",
    "length": "length",
    "content_filter": "content-filter",
    "refusal": "content-filter",
    "tool_calls": "tool-calls",
    "null": "other",
}


@pytest.mark.parametrize(("reason", "shown"), REASONS.items())
def test_a_finish_reason_is_one_that_all_versions_accept(reason, shown):
    message = UIMessage(encoded(Start(), Delta("a"), Done(reason, Usage(1, 2))))

    assert (message.finish, message.metadata["finishReason"]) == (shown, reason)


def test_the_usage_has_the_names_of_the_ai_sdk():
    usage = Usage(9, 5, "estimated", cached_tokens=4, reasoning_tokens=3)

    assert UIMessage(encoded(Done("stop", usage))).metadata["usage"] == {
        "inputTokens": 9,
        "outputTokens": 5,
        "totalTokens": 14,
        "reasoningTokens": 3,
        "cachedInputTokens": 4,
        "source": "estimated",
    }


UNREADABLE = {
    "not JSON": "{city}",
    "a list": "[1]",
    "a text": '"Paris"',
    "two objects": "{}{}",
    "too deep": '{"a":' * 5_000,
    "a number that JSON has not": '{"a":NaN}',
    "the prototype": '{"a":[{"__proto__":{}}]}',
    "the constructor": '{"constructor":{"prototype":{}}}',
    "half a character": '{"a":"\\ud83d"}',
}


@pytest.mark.parametrize("arguments", UNREADABLE.values(), ids=UNREADABLE)
def test_arguments_that_no_client_can_read_end_the_answer_with_a_sentence(arguments):
    calls: list[ClientEvent] = [ToolCall(0, "c1", "f"), ToolCallDelta(0, arguments)]
    message = UIMessage(encoded(Start(), *calls, Done("tool_calls", Usage(1, 2))))

    assert message.ending is not None
    assert message.error is not None
    assert "not a JSON object" in message.error
    assert message.metadata["usage"]["totalTokens"] == 3
    assert message.parts[-1]["rawInput"] == arguments
    assert message.is_complete(), "so without the error, the client would send it at once"


def test_arguments_that_only_look_dangerous_are_taken():
    arguments = '{"__proto":1,"constructor":"Ferrari","text":"\\"__proto__\\":"}'
    calls: list[ClientEvent] = [ToolCall(0, "c1", "f"), ToolCallDelta(0, arguments)]
    message = UIMessage(encoded(Start(), *calls, STOP))

    assert message.parts[-1]["input"] == json.loads(arguments)


def test_a_call_that_broke_off_is_not_made_and_the_one_before_it_is():
    calls: list[ClientEvent] = [
        ToolCall(0, "c1", "f"),
        ToolCall(1, "c2", "f"),
        ToolCallDelta(1, '{"a'),
        ToolCallDelta(0, "{}"),
    ]
    done = Done("length", Usage(1, 2), incomplete=True)
    message = UIMessage(encoded(Start(), *calls, done))

    assert [part.get("state") for part in message.parts[1:]] == ["input-available", "output-error"]
    assert message.error == "The answer ended within a call of a tool, so the call was not made."


def test_pieces_of_two_calls_may_alternate():
    pieces: list[ClientEvent] = [
        ToolCall(0, "c1", "f"),
        ToolCallDelta(0, '{"a"'),
        ToolCall(1, "c2", "g"),
        ToolCallDelta(1, '{"b":'),
        ToolCallDelta(0, ":1}"),
        ToolCallDelta(1, "2}"),
    ]
    message = UIMessage(encoded(Start(), *pieces, STOP))

    assert [part["input"] for part in message.parts[1:]] == [{"a": 1}, {"b": 2}]


HOSTILE = (
    *('"', "\\", "\n\n", "\r\n\r\n", "data: [DONE]\n\n", '"}\n\n'),
    *("\u2028", "\ufeff", "\ud83d"),
)


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_of_a_model_can_forge_a_part(text):
    shown = text.encode("utf-8", "replace").decode()
    events: list[ClientEvent] = [
        Start(),
        Reasoning(text),
        ReasoningSignature(text, text, text, id=text),
        Refusal(text),
        Source(text, text, 1, 2),
        Delta(text),
        ToolCall(0, text, text),
        ToolCallDelta(0, json.dumps({text: text}, ensure_ascii=False)),
        Done(text, Usage(1, 2)),
    ]
    stream = encoded(*events)
    message = UIMessage(stream)

    assert b"\r" not in stream
    assert stream.count(b"\n\n") == stream.count(b"\n") / 2 == len(list(chunks(stream)))
    kinds = ["step-start", "reasoning", "text", "source-url", f"tool-{shown}"]
    assert [part["type"] for part in message.parts] == kinds
    assert message.parts[-1]["input"] == {shown: shown}
    assert message.text == shown + shown
    assert message.ending == ("other", None)


@given(st.lists(st.text(min_size=1), min_size=1), st.integers(0, 40))
def test_any_text_survives_however_it_comes(texts, cut):
    deltas = [Delta(text) for text in texts]
    encoder = AISDKFormat().frames(INFO)
    stream = encoder.encode([Start(), *deltas[:cut]]) + encoder.encode(deltas[cut:])

    assert stream == encoded(Start(), *deltas)
    assert UIMessage(stream).text == "".join(texts).encode("utf-8", "replace").decode()


def test_a_stream_that_is_cut_at_any_byte_shows_a_part_of_the_answer_and_no_end():
    call: list[ClientEvent] = [ToolCall(0, "c1", "f"), ToolCallDelta(0, '{"a":"é😀"}')]
    stream = encoded(Start(), Reasoning("Hm"), Delta("Good"), Delta(" bread 😀"), *call, STOP)
    whole = UIMessage(stream)

    for place in range(len(stream)):
        message = UIMessage(stream[:place])
        assert message.ending is None, place
        assert whole.text.startswith(message.text), place
    assert whole.ending == ("stop", None)


# ---------------------------------------------------------------- the message and the errors


def test_a_message_has_the_id_of_its_note_or_of_its_run():
    noted = StreamInfo(request_id="r1", model="m", note="m7")

    assert UIMessage(AISDKFormat().frames(noted).encode([Start()])).id == "m7"
    assert UIMessage(AISDKFormat().frames(INFO).encode([Start()])).id == "msg_r1"


SENTENCES: list[tuple[Any, str]] = [
    (UpstreamInterrupted(), "The answer was cut off."),
    (InternalError(), "Something went wrong on the server."),
    (ClientGone(), "This answer was stopped before its end. Ask again."),
    (RunLost(), "The server that was writing this answer has ended. Ask again."),
    (
        LimitExceeded("r", unit="requests", window=60, wait=0.2, amount=9),
        "The limit of requests in 60 seconds is 9. Try again in 1 second.",
    ),
    (
        LimitExceeded("r", unit="requests", window=3600, wait=125, amount=9),
        "The limit of requests in 3600 seconds is 9. Try again in 3 minutes.",
    ),
    (
        LimitExceeded("t", unit="tokens", window=86_400, wait=19_000, amount=1_000),
        (
            "Today's 1,000 tokens are used up, or too few are left for this request. "
            "Try again in 6 hours."
        ),
    ),
]


@pytest.mark.parametrize(("error", "sentence"), SENTENCES)
def test_an_error_is_the_same_sentence_before_and_within_a_stream(error, sentence):
    problem = AISDKFormat().problem(error, request_id="r1", charged=False)
    message = UIMessage(encoded(Start(), Failed(error)))

    assert (problem.status, problem.media_type) == (error.status, "text/plain; charset=utf-8")
    assert problem.body.decode() == sentence == message.error
    assert message.facts is not None
    assert message.facts["code"] == error.code


def test_a_piece_of_every_kind_is_a_part():
    """A new kind of piece fails here: it needs a part, or a sentence about why it has none."""
    kinds = {type(event) for events, _ in TABLE.values() for event in events}

    assert set(Piece.__args__) <= kinds
