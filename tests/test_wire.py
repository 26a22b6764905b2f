"""Events are frames of chat-nest, byte for byte, and what is read back is what was meant."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatnest.errors import (
    AnswerTooLong,
    ContextLengthExceeded,
    InternalError,
    LedgerUnavailable,
    ServerShutdown,
    StreamTimeout,
    UpstreamAccount,
    UpstreamBadResponse,
    UpstreamInterrupted,
    UpstreamOverloaded,
    UpstreamTimeout,
)
from chatnest.events import (
    ClientEvent,
    Delta,
    Done,
    Failed,
    Numbered,
    Ping,
    Reasoning,
    ReasoningSignature,
    Source,
    Start,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from chatnest.requests import EventKind
from chatnest.testing import Event, chat_nest_client, parse_events
from chatnest.wire import NativeFormat, StreamInfo
from chatnest.wire.native import NativeFrames

START = b"event: start\ndata: \n\n"
PING = b"event: ping\ndata: \n\n"
DONE = b"event: done\ndata: \n\n"
STOP = Done("stop", Usage(12, 34))

# (text of a Delta, the JSON on its line, what a reader makes of it)
TEXTS = [
    ("a", b'"a"', "a"),
    (" leading", b'" leading"', " leading"),
    ("   ", b'"   "', "   "),
    (
        "\n\nevent: done\ndata: \n\n",
        rb'"\n\nevent: done\ndata: \n\n"',
        "\n\nevent: done\ndata: \n\n",
    ),
    ("a\nb", rb'"a\nb"', "a\nb"),
    ("a\r\nb\r", rb'"a\r\nb\r"', "a\r\nb\r"),
    ("\x00", rb'"\u0000"', "\x00"),
    ("\x1b[0m\t\b\f", rb'"\u001b[0m\t\b\f"', "\x1b[0m\t\b\f"),
    ("\ufeff", b'"\xef\xbb\xbf"', "\ufeff"),
    ("\u2028\u2029\x85", b'"\xe2\x80\xa8\xe2\x80\xa9\xc2\x85"', "\u2028\u2029\x85"),
    ('"quotes" \\ back', rb'"\"quotes\" \\ back"', '"quotes" \\ back'),
    ("</script>", b'"</script>"', "</script>"),
    (": comment", b'": comment"', ": comment"),
    ("é中😀", b'"\xc3\xa9\xe4\xb8\xad\xf0\x9f\x98\x80"', "é中😀"),
    ("\ud83d", b'"?"', "?"),
    ("a\udc00b", b'"a?b"', "a?b"),
    ("\ude00\ud83d", b'"??"', "??"),
]


def wire(*, usage_event: bool = False) -> NativeFrames:
    return NativeFrames(StreamInfo(request_id="req-1", model="m", usage_event=usage_event))


def token(data: bytes) -> bytes:
    return b"event: token\ndata: " + data + b"\n\n"


@pytest.mark.parametrize(
    ("event", "frame", "read"),
    [
        (Start(), START, [Event("start", "")]),
        (Ping(), PING, [Event("ping", "")]),
        (STOP, DONE, [Event("done", "")]),
        *((Delta(text), token(data), [Event("token", data.decode())]) for text, data, _ in TEXTS),
    ],
)
def test_an_event_is_exactly_these_bytes_and_they_are_that_event(event, frame, read):
    assert wire().encode([event]) == frame
    assert parse_events(frame) == read


@pytest.mark.parametrize(("text", "data", "shown"), TEXTS)
def test_a_text_reaches_both_readers_as_the_model_wrote_it(text, data, shown):
    frame = wire().encode([Delta(text)])

    assert b"\r" not in frame
    assert [json.loads(event.data) for event in parse_events(frame)] == [shown]
    view = chat_nest_client(START + frame)
    assert (view.started, view.text, view.done, view.error) == (True, shown, False, None)


@pytest.mark.parametrize("split", range(1, 8))
def test_a_frame_that_arrives_in_pieces_is_the_same(split):
    frame = wire().encode([Delta("é\n\n😀\u2028"), STOP])

    pieces = [frame[i : i + split] for i in range(0, len(frame), split)]
    assert parse_events(pieces) == parse_events(frame)


def test_the_end_of_a_stream_is_not_taken_from_the_models_text():
    view = chat_nest_client(wire().encode([Start(), Delta("\n\nevent: done\ndata: \n\n")]))

    assert not view.done
    assert view.error is None


def test_the_usage_goes_before_done_and_only_when_it_was_asked_for():
    asked = wire(usage_event=True)

    assert asked.encode([STOP]) == (
        b'event: usage\ndata: {"input_tokens":12,"output_tokens":34,"total_tokens":46,'
        b'"source":"provider","finish_reason":"stop"}\n\n' + DONE
    )
    assert asked.encode([Done("length", Usage(0, 0, "estimated"))]) == (
        b'event: usage\ndata: {"input_tokens":0,"output_tokens":0,"total_tokens":0,'
        b'"source":"estimated","finish_reason":"length"}\n\n' + DONE
    )
    assert wire().encode([STOP]) == DONE
    assert asked.encode([Start(), Delta("a"), Ping()]) == START + token(b'"a"') + PING


def test_the_usage_can_be_asked_for_while_the_stream_is_open():
    late = wire()
    late.usage_event = True

    assert [event.event for event in parse_events(late.encode([STOP]))] == ["usage", "done"]


def test_chat_nests_client_does_not_see_the_usage():
    view = chat_nest_client(wire(usage_event=True).encode([Start(), Delta("a"), STOP]))

    assert (view.text, view.done, view.error) == ("a", True, None)


ERRORS = [
    (
        Failed(UpstreamInterrupted()),
        (
            b'{"message":"The answer was cut off.","code":"upstream_interrupted",'
            b'"retryable":true,"charged":false,"request_id":"req-1"}'
        ),
    ),
    (
        Failed(UpstreamTimeout(), charged=True),
        (
            b'{"message":"The model did not answer in time.","code":"upstream_timeout",'
            b'"retryable":true,"charged":true,"request_id":"req-1"}'
        ),
    ),
    (
        Failed(UpstreamOverloaded(retry_after=1.2)),
        (
            b'{"message":"The model is overloaded.","code":"upstream_overloaded",'
            b'"retryable":true,"retry_after":2,"charged":false,"request_id":"req-1"}'
        ),
    ),
    (
        Failed(UpstreamOverloaded(retry_after=0)),
        (
            b'{"message":"The model is overloaded.","code":"upstream_overloaded",'
            b'"retryable":true,"retry_after":1,"charged":false,"request_id":"req-1"}'
        ),
    ),
    (
        Failed(UpstreamAccount()),
        (
            b'{"message":"The model is not available to this service.","code":"upstream_account",'
            b'"retryable":false,"charged":false,"request_id":"req-1"}'
        ),
    ),
    (
        Failed(ContextLengthExceeded()),
        (
            b'{"message":"The conversation is too long for the model.","code":"context_length",'
            b'"retryable":false,"charged":false,"request_id":"req-1"}'
        ),
    ),
    (
        Failed(UpstreamBadResponse(), charged=True),
        (
            b'{"message":"The model\'s answer could not be read.","code":"upstream_bad_response",'
            b'"retryable":true,"charged":true,"request_id":"req-1"}'
        ),
    ),
    (
        Failed(StreamTimeout(300.0), charged=True),
        (
            b'{"message":"The answer took longer than 300 seconds and was stopped.",'
            b'"code":"stream_timeout","retryable":true,"charged":true,"request_id":"req-1"}'
        ),
    ),
    (
        Failed(AnswerTooLong(), charged=True),
        (
            b'{"message":"The answer was longer than allowed.","code":"answer_too_long",'
            b'"retryable":false,"charged":true,"request_id":"req-1"}'
        ),
    ),
    (
        Failed(InternalError()),
        (
            b'{"message":"Something went wrong on the server.","code":"internal_error",'
            b'"retryable":false,"charged":false,"request_id":"req-1"}'
        ),
    ),
    (
        Failed(ServerShutdown()),
        (
            b'{"message":"The server is restarting. Please try again in a moment.",'
            b'"code":"server_shutdown","retryable":true,"retry_after":1,"charged":false,'
            b'"request_id":"req-1"}'
        ),
    ),
    (
        Failed(LedgerUnavailable()),
        (
            b'{"message":"Usage cannot be recorded at the moment, so no answer was started.",'
            b'"code":"ledger_unavailable","retryable":true,"retry_after":5,"charged":false,'
            b'"request_id":"req-1"}'
        ),
    ),
]


@pytest.mark.parametrize(("failed", "data"), ERRORS)
def test_an_error_frame_says_what_when_and_whether_it_cost_anything(failed, data):
    frame = wire().encode([failed])

    assert frame == b"event: error\ndata: " + data + b"\n\n"
    assert parse_events(frame) == [Event("error", data.decode())]
    assert chat_nest_client(frame).error == json.loads(data)


def test_no_frames_are_no_bytes():
    assert wire().encode([]) == b""


def test_the_content_type_is_that_of_an_event_stream():
    assert NativeFormat.content_type == "text/event-stream"


def test_a_whole_answer_in_one_write_is_its_frames_in_their_order():
    events: list[ClientEvent] = [Start(), Delta("Hel"), Delta("lo"), Ping(), STOP]

    assert wire().encode(events) == START + token(b'"Hel"') + token(b'"lo"') + PING + DONE


any_text = st.text(min_size=1)
any_event: st.SearchStrategy[ClientEvent] = (
    any_text.map(Delta)
    | st.builds(Start)
    | st.builds(Ping)
    | st.builds(Done, st.just("stop"), st.builds(Usage, st.integers(0), st.integers(0)))
    | st.sampled_from([failed for failed, _ in ERRORS])
)


def repaired(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


@given(st.lists(any_text, min_size=1))
def test_any_text_survives_with_one_frame_for_each_delta(texts):
    sent = wire().encode([Delta(text) for text in texts])

    shown = [repaired(text) for text in texts]
    events = parse_events(sent)
    assert [event.event for event in events] == ["token"] * len(texts)
    assert [json.loads(event.data) for event in events] == shown
    assert sent.count(b"\n\n") == len(texts)
    assert chat_nest_client(sent).text == "".join(shown)


@given(st.lists(st.text(st.characters(categories=["Cs"]), min_size=1), min_size=1))
def test_halves_of_pairs_never_break_a_stream(texts):
    events = parse_events(wire().encode([Delta(text) for text in texts]))

    assert [json.loads(event.data) for event in events] == ["?" * len(text) for text in texts]


@given(st.lists(any_event), st.booleans())
def test_joined_frames_equal_single_frames(events, usage_event):
    encoder = wire(usage_event=usage_event)

    assert encoder.encode(events) == b"".join(encoder.encode([event]) for event in events)


ASKED: frozenset[EventKind] = frozenset({"reasoning", "tools", "sources"})
UNSEEN: list[tuple[EventKind, ClientEvent, bytes]] = [
    ("reasoning", Reasoning("a\nb"), rb'event: reasoning|data: "a\nb"'),
    (
        "reasoning",
        ReasoningSignature("s", "p", "m"),
        b'event: reasoning_signature|data: {"signature":"s","provider":"p","model":"m"}',
    ),
    (
        "reasoning",
        ReasoningSignature("s", "p", "m", redacted=True, id="r1"),
        (
            b'event: reasoning_signature|data: {"signature":"s","provider":"p","model":"m",'
            b'"redacted":true,"id":"r1"}'
        ),
    ),
    (
        "tools",
        ToolCall(0, "c1", "weather"),
        b'event: tool_call|data: {"index":0,"id":"c1","name":"weather"}',
    ),
    (
        "tools",
        ToolCallDelta(0, '{"a\ud83d'),
        rb'event: tool_arguments|data: {"index":0,"arguments":"{\"a?"}',
    ),
    ("sources", Source("https://e.org"), b'event: source|data: {"url":"https://e.org"}'),
    (
        "sources",
        Source("https://e.org", "E", 0, 4),
        b'event: source|data: {"url":"https://e.org","title":"E","start":0,"end":4}',
    ),
]


@pytest.mark.parametrize(("kind", "event", "lines"), UNSEEN)
def test_an_additional_event_is_sent_only_to_those_who_asked(kind, event, lines):
    frame = lines.replace(b"|", b"\n") + b"\n\n"
    asking = NativeFrames(StreamInfo(request_id="r", model="m", events=frozenset({kind})))
    others = NativeFrames(StreamInfo(request_id="r", model="m", events=ASKED - {kind}))

    assert asking.encode([event]) == frame
    assert wire().encode([event]) == others.encode([event]) == b""
    assert asking.encode([Numbered(7, event)]) == frame.replace(b"\n", b"\nid: 7\n", 1)
    assert chat_nest_client(START + frame + DONE).text == ""


def test_an_answer_that_broke_off_within_a_call_says_so_in_its_usage():
    done = Done("length", Usage(1, 2), incomplete=True)

    (usage, _) = parse_events(wire(usage_event=True).encode([done]))
    assert json.loads(usage.data)["incomplete"] is True
    assert wire().encode([done]) == DONE
