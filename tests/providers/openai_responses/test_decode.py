"""Bytes of a streamed response become events, however they are cut, and within bounds."""

import json
from collections.abc import Iterable
from typing import Any

import pytest
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from chatnest.errors import UpstreamBadResponse, UpstreamError, UpstreamInterrupted
from chatnest.events import Delta, Finish, ProviderEvent, ToolCall
from chatnest.providers.openai_responses.decode import ResponseDecoder
from chatnest.providers.sse import EventSplitter
from tests.providers.openai_responses.shapes import (
    CALLS,
    FULL,
    HELLO,
    MODEL,
    SHAPES,
    STOP,
    Shape,
    added,
    call,
    event,
    last,
    message,
    over,
    text,
    unnamed,
)


def decoder(*, max_events: int = 1_000, tools: bool = True, **bounds: int) -> ResponseDecoder:
    splitter = EventSplitter(**bounds)
    return ResponseDecoder(splitter, max_events=max_events, model=MODEL, tools=tools)


def answer(pieces: Iterable[bytes], **options: Any) -> tuple[list[ProviderEvent], str]:
    """The events of an answer and its outcome, as AnswerStream finds them."""
    d, events = decoder(**options), list[ProviderEvent]()
    try:
        for piece in pieces:
            events += d.feed(piece)
            if d.failure is not None:
                raise d.failure
            if d.closed:
                d.end()
                return events, "done"
        events += d.finish()
        if d.failure is not None:
            raise d.failure
        d.end()
    except UpstreamError as error:
        assert "secret" not in f"{error} {error.facts}"  # noqa: PT017
        return events, type(error).__name__
    return events, "done"


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_shape_comes_out_as_the_table_has_it(shape: Shape):
    outcome = "done" if shape.error is None else shape.error.__name__

    assert answer([shape.stream]) == (shape.events, outcome)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_shape_means_the_same_wherever_its_bytes_are_cut(shape: Shape):
    stream, whole = shape.stream, answer([shape.stream])

    assert answer(stream[n : n + 1] for n in range(len(stream))) == whole
    for at in range(0, len(stream), 7):
        assert answer([stream[:at], stream[at:]]) == whole


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_an_answer_that_ends_at_any_byte_has_one_outcome(shape: Shape):
    whole, _ = answer([shape.stream])
    for size in range(0, len(shape.stream), 3):
        events, outcome = answer([shape.stream[:size]])
        finishes = [each for each in events if isinstance(each, Finish)]

        assert len(finishes) == (outcome == "done"), (size, outcome)
        if outcome == "done":
            assert events == whole


def test_the_sdk_knows_the_events_of_the_table():
    """They are OpenAI's, as far as they are meant to be."""
    adapter: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
    for line in FULL.splitlines():
        if line.startswith(b"data: ") and b'"response": {' not in line:  # a whole one is short here
            adapter.validate_python(
                json.loads(line[6:]) | {"item_id": "msg_1", "logprobs": []}, strict=False
            )


class Taker:
    def __init__(self, *, takes: bool = True) -> None:
        self.takes = takes
        self.texts: list[str] = []

    def take(self, offered: object, /) -> bool:
        assert isinstance(offered, str)
        if self.takes:
            self.texts.append(offered)
        return self.takes


@pytest.mark.parametrize("piece", [text("a"), unnamed("response.output_text.delta", delta="a")])
def test_a_piece_of_text_that_arrives_alone_is_taken(piece):
    d = decoder()
    d.taker = taker = Taker()
    d.feed(unnamed("response.created"))

    assert d.take(piece)
    assert taker.texts == ["a"]
    assert d.feed(over(**message("a"))) == []  # the text counts once
    assert d.feed(last(message("a"))) == STOP
    assert not d.take(piece)


@pytest.mark.parametrize(
    "data",
    [
        *(text(""), text("a") + text("b"), text("a")[:-1], text("a").replace(b"\n", b"\r\n")),
        *(
            unnamed("response.output_text.done", text="a"),
            b"event: error\ndata: {}\n\n",
            b"data: x\n\n",
        ),
        text("a").replace(b"event: response.output_text.delta", b"event: error"),
        *(b": ping\n\n", b"id: 1\ndata: {}\n\n", last()),
    ],
)
def test_anything_else_is_not(data):
    d = decoder()
    d.taker = taker = Taker()
    d.feed(unnamed("response.created"))

    assert not d.take(data)
    assert taker.texts == []


def test_a_piece_that_is_not_taken_changes_nothing():
    d = decoder()
    d.taker = Taker(takes=False)
    d.feed(unnamed("response.created"))

    assert not d.take(text("Hello"))
    assert d.feed(text("Hello")) == [Delta("Hello")]


def test_a_piece_that_needs_a_blank_line_before_it_is_not_taken():
    d = decoder()
    d.taker = Taker()
    d.feed(text("a") + over(**message("a")) + added(1, **message(number=2)))

    assert not d.take(text("b"))
    assert d.feed(text("b")) == [Delta("\n\nb")]
    assert d.take(text("c"))


def test_pieces_that_are_taken_count_within_the_bounds():
    d = decoder(max_events=2)
    d.taker = Taker()
    d.feed(unnamed("response.created"))

    assert d.take(text("a"))
    assert not d.take(text("b"))
    with pytest.raises(UpstreamBadResponse):
        d.feed(text("b"))


@pytest.mark.parametrize(
    "payload",
    [
        *(b"null", b"[]", b"7", b"{", b'"\xff"', b"{}{}", b"[" * 100_000, b'{"x":' * 100_000),
        b'{"type":"response.output_text.delta","delta":5}',
        b'{"type":"response.refusal.delta","delta":[]}',
        b'{"type":"response.output_item.done","item":5}',
        b'{"type":"response.output_item.done","item":{"type":"message","content":5}}',
        b'{"type":"response.completed","response":[]}',
        b'{"type":"response.completed","response":{"output":{}}}',
    ],
)
def test_what_is_not_an_event_is_a_bad_response(payload):
    assert answer([text("a"), b"data: %b\n\n" % payload]) == ([Delta("a")], "UpstreamBadResponse")


@pytest.mark.parametrize(
    "payload",
    [
        *(b"{}", b'{"type":null}', b'{"type":[]}', b'{"type":"other.delta","delta":5}', b""),
        b'{"type":"response.output_item.done","item":{"type":["message"]}}',
        b'{"type":"response.output_item.done"}',
        b'{"type":"response.output_text.annotation.added","annotation":{"url":5}}',
        b'{"type":"response.function_call_arguments.delta","delta":"x","item_id":"fc_9"}',
    ],
)
def test_what_is_unknown_is_ignored(payload):
    assert answer([text("Hello"), b"data: %b\n\n" % payload, text(" world") + last()]) == (
        [*HELLO, *STOP],
        "done",
    )


@pytest.mark.parametrize("figure", [{}, {"input_tokens": -1}, [1], "x", {"output_tokens": True}])
def test_a_usage_that_makes_no_sense_is_no_usage_and_no_failure(figure):
    assert answer([text("a"), last(usage=figure)]) == ([Delta("a"), Finish("stop")], "done")


@pytest.mark.parametrize("status", [None, [], {}, 5, "completed", "in_progress", "strange"])
def test_the_name_of_the_last_event_says_how_it_ended(status):
    stream = event("response.completed", response={"status": status, "usage": None})

    assert answer([text("a"), stream]) == ([Delta("a"), Finish("stop")], "done")


def test_the_name_counts_without_a_status():
    incomplete = event("response.incomplete", response={})
    failed = event("response.failed", response={})

    assert answer([text("a"), incomplete]) == ([Delta("a"), Finish("length")], "done")
    assert answer([text("a"), failed]) == ([Delta("a")], "UpstreamServerError")


def test_a_call_that_was_not_asked_for_is_a_bad_response():
    events, outcome = answer([CALLS["a call"].stream], tools=False)

    assert outcome == "UpstreamBadResponse"
    assert isinstance(events[0], ToolCall)


def test_too_many_events_are_a_bad_response():
    assert answer([text("a") * 9], max_events=8)[1] == "UpstreamBadResponse"
    assert answer([unnamed("keepalive") * 9], max_events=8)[1] == "UpstreamBadResponse"
    assert answer([text("a") * 7 + last()], max_events=8)[1] == "done"


def test_too_many_bytes_are_a_bad_response():
    assert answer([text("a" * 99)], max_event=98)[1] == "UpstreamBadResponse"
    assert answer([text("a")] * 9, max_total=1_000)[1] == "UpstreamBadResponse"


def test_a_stream_that_breaks_off_within_a_call_is_interrupted():
    stream = added(**call(1, '{"a": 1}'))

    events, outcome = answer([stream])
    assert outcome == UpstreamInterrupted.__name__
    assert len(events) == 2  # the arguments were kept, and cost something
