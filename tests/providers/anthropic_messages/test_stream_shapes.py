"""Streams of Messages become events, however they are cut, and within bounds."""

from typing import Any

import pytest

from chatnest.answer import Answer
from chatnest.endings import check_end
from chatnest.errors import (
    ContextLengthExceeded,
    EmptyAnswer,
    UpstreamAccount,
    UpstreamBadResponse,
    UpstreamError,
    UpstreamInterrupted,
    UpstreamOverloaded,
    UpstreamRejected,
    UpstreamServerError,
)
from chatnest.events import Delta, ProviderEvent, Reasoning, ToolCallDelta
from tests.providers.anthropic_messages.events import (
    LAST,
    PING,
    SAID,
    TEXT,
    WHOLE,
    block,
    decoded,
    decoder,
    end,
    event,
    start,
    text,
)
from tests.providers.anthropic_messages.shapes import SHAPES, Shape


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_shape_comes_out_as_the_table_has_it(shape: Shape):
    assert decoded(shape.body) == shape.events


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_shape_that_is_cut_at_any_byte_comes_out_the_same(shape: Shape):
    body = shape.body
    assert decoded(*[body[n : n + 1] for n in range(len(body))]) == shape.events
    for at in range(1, len(body), 7):
        assert decoded(body[:at], body[at:]) == shape.events


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_an_answer_that_ends_at_any_byte_has_one_outcome(shape: Shape):
    """It is complete, or one error says why not, and no event of it is made up."""
    whole = "".join(event.text for event in shape.events if isinstance(event, Delta))
    for at in range(len(shape.body)):
        made, answer = decoder(), Answer()
        ended: UpstreamError | None = None
        try:
            answer.add(made.feed(shape.body[:at]))
            answer.add(made.finish())
            made.end()
            check_end(answer)
        except UpstreamError as exc:
            ended = exc
        assert whole.startswith(answer.text.removesuffix("\ufffd").removesuffix("No."))
        assert (ended is None) == (made.finished and not isinstance(ended, EmptyAnswer))


def test_every_word_of_json_is_a_text_at_most():
    assert decoded(TEXT, text("[DONE]"), text("\n\ndata: x\n\n"), end(input_tokens=9))[:2] == [
        Delta("[DONE]"),
        Delta("\n\ndata: x\n\n"),
    ]


# ---------------------------------------------------------------- what ends an answer otherwise


def problem(kind: str, message: str = "secret") -> dict[str, object]:
    return {"type": kind, "message": message}


ENDS = {
    "nothing": (b"", UpstreamBadResponse),
    "a ping alone": (PING, UpstreamInterrupted),
    "a start alone": (start(), UpstreamInterrupted),
    "no last event": (SAID, UpstreamInterrupted),
    "a last event alone": (start() + LAST, EmptyAnswer),
    "HTML": (b"<html>", UpstreamBadResponse),
    "a number": (b"data: 7\n\n", UpstreamBadResponse),
    "a list": (b"data: []\n\n", UpstreamBadResponse),
    "half of an object": (b'data: {"type":\n\n', UpstreamBadResponse),
    "deep nesting": (b'data: {"a":' + b"[" * 100_000 + b"\n\n", UpstreamBadResponse),
    "a text that is a number": (
        event("content_block_delta", index=0, delta={"type": "text_delta", "text": 7}),
        UpstreamBadResponse,
    ),
    "a document of something else": (b'{"choices": []}', UpstreamBadResponse),
    "a list as the document": (b"[1]", UpstreamBadResponse),
    "chunks of another dialect": (b'data: {"choices":[]}\n\n', UpstreamBadResponse),
    "words": (b"data: rate limit reached\n\n", UpstreamOverloaded),
    "an error document": (
        b'{"type":"error","error":{"type":"overloaded_error","message":"x"}}',
        UpstreamOverloaded,
    ),
    "overloaded, named": (event("error", error=problem("overloaded_error")), UpstreamOverloaded),
    "overloaded, not named": (
        b'data: {"type":"error","error":{"type":"overloaded_error","message":"x"}}\n\n',
        UpstreamOverloaded,
    ),
    "an error without its type": (
        b'data: {"error":{"type":"rate_limit_error","message":"x"}}\n\n',
        UpstreamOverloaded,
    ),
    "an error without its object": (b'data: {"type":"error"}\n\n', UpstreamServerError),
    "api_error": (event("error", error=problem("api_error")), UpstreamServerError),
    "timeout_error": (event("error", error=problem("timeout_error")), UpstreamServerError),
    "rate_limit_error": (event("error", error=problem("rate_limit_error")), UpstreamOverloaded),
    "authentication_error": (
        event("error", error=problem("authentication_error")),
        UpstreamAccount,
    ),
    "permission_error": (event("error", error=problem("permission_error")), UpstreamAccount),
    "billing_error": (event("error", error=problem("billing_error")), UpstreamAccount),
    "invalid_request_error": (
        event("error", error=problem("invalid_request_error")),
        UpstreamRejected,
    ),
    "too long": (
        event("error", error=problem("invalid_request_error", "prompt is too long: 9 > 8")),
        ContextLengthExceeded,
    ),
}


@pytest.mark.parametrize(("body", "expected"), ENDS.values(), ids=ENDS)
def test_what_ends_an_answer_is_its_error(body: bytes, expected: type[UpstreamError]):
    with pytest.raises(UpstreamError) as caught:
        decoded(body)
    assert type(caught.value) is expected
    assert "secret" not in f"{caught.value} {caught.value.facts}"


def test_events_before_an_error_come_first():
    made = decoder()
    events = made.feed(SAID + event("error", error=problem("overloaded_error")))
    assert events == [Delta("Hello"), Delta(" world")]
    assert type(made.failure) is UpstreamOverloaded
    with pytest.raises(UpstreamOverloaded):
        made.feed(WHOLE)


def test_more_events_than_the_bound_are_refused():
    made = decoder(max_events=3)
    made.feed(start() + PING + PING)
    with pytest.raises(UpstreamBadResponse):
        made.feed(PING)


def test_pieces_that_arrive_together_come_out_as_they_do_alone():
    """All are text, or one among them is something else, or has its data in several lines."""
    others = (b"", PING, text(""), text("\ud83d"), b"data: \n\n", b"data: words\n\n", end())
    several = PIECE.replace(b'"delta"', b'\ndata: "delta"')
    for other in (*others, several):
        pieces = [PIECE, text(" wörld"), other, PIECE]
        together, alone = decoder(), decoder()
        for made in (together, alone):
            made.feed(start() + TEXT)
        events = [event for piece in pieces for event in alone.feed(piece)]
        assert together.feed(b"".join(pieces)) == events
        assert together._reader.events_left == alone._reader.events_left
        assert together._reader.length == alone._reader.length
    made = decoder(max_events=4)
    made.feed(start() + TEXT + PIECE)
    with pytest.raises(UpstreamBadResponse):
        made.feed(PIECE * 2)


# ---------------------------------------------------------------- the short cut


class Taker:
    """Takes every text, unless it is ``busy``."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.busy = False

    def take(self, text: str | Reasoning, /) -> bool:
        assert isinstance(text, str)
        if not self.busy:
            self.texts.append(text)
        return not self.busy


def taken(data: bytes, *before: bytes, **bounds: Any) -> bool:
    made = decoder(**bounds)
    made.taker = Taker()
    for piece in before:
        made.feed(piece)
    return made.take(data)


PIECE = text("Hello")
OPEN = (start(), TEXT)


def test_a_piece_of_text_alone_takes_the_short_cut():
    assert taken(PIECE, *OPEN)
    assert taken(PIECE.partition(b"\n")[2], *OPEN), "without a name"
    padded = PIECE.replace(b"}}", b"}       }")  # as Anthropic pads its events
    assert taken(padded, *OPEN)


DECLINED = {
    "nothing": b"",
    "two pieces": PIECE * 2,
    "half a piece": PIECE[:-1],
    "an empty piece": text(""),
    "thinking": event("content_block_delta", delta={"type": "thinking_delta", "thinking": "x"}),
    "a call": event("content_block_delta", delta={"type": "input_json_delta", "partial_json": "x"}),
    "a ping": PING,
    "another name": PIECE.replace(b"event: content_block_delta", b"event: error"),
    "the end": end(),
    "half of a pair": text("\ud83d"),
}


@pytest.mark.parametrize("data", DECLINED.values(), ids=DECLINED)
def test_anything_else_does_not(data: bytes):
    assert not taken(data, *OPEN)


def test_a_piece_does_not_where_it_needs_other_events():
    assert not taken(PIECE, start()), "its block has not begun"
    assert not taken(PIECE, start(), block(0, "thinking", thinking="")), "thinking must end first"
    assert not taken(PIECE, *OPEN, text("\ud83d")), "half of a pair is held back"
    assert not taken(PIECE, *OPEN, PIECE[:20]), "within another event"
    assert not taken(PIECE, *OPEN, max_events=2)
    assert not taken(PIECE, WHOLE)
    assert not taken(PIECE, *OPEN, LAST), "behind the last event"
    size = sum(map(len, OPEN)) + len(PIECE)
    assert taken(PIECE, *OPEN, max_total=size)
    assert not taken(PIECE, *OPEN, max_total=size - 1)


def test_pieces_that_were_taken_count_like_all_others():
    cite = {"url": "https://a.example", "title": None, "type": "web_search_result_location"}
    cited = event("content_block_delta", delta={"type": "citations_delta", "citation": cite})
    pieces = [*OPEN, PIECE, text(" wörld"), cited, *WHOLE[len(SAID) :].split(b"|")]
    direct, slow = decoder(), decoder()
    direct.taker = Taker()
    events: list[ProviderEvent] = []
    for piece in pieces:
        if not direct.take(piece):
            events += direct.feed(piece)
    expected = [event for piece in pieces for event in slow.feed(piece)]
    assert direct.taker.texts == ["Hello", " wörld"]
    assert events == [event for event in expected if not isinstance(event, Delta)]
    assert direct._splitter.left == slow._splitter.left
    assert direct._reader.events_left == slow._reader.events_left


def test_a_taker_that_declines_changes_nothing():
    made = decoder()
    made.taker = taker = Taker()
    taker.busy = True
    made.feed(start() + TEXT)
    assert not made.take(PIECE)
    assert made.feed(PIECE) == [Delta("Hello")]


def test_arguments_come_as_the_model_wrote_them():
    odd = '{"a": 1.50, "b":1e2 , "a": "\\u00e9"}'
    call = block(0, "tool_use", id="toolu_1", name="f", input={})
    piece = event("content_block_delta", delta={"type": "input_json_delta", "partial_json": odd})
    events = decoded(start() + call + piece + end("tool_use"))
    assert [event.text for event in events if isinstance(event, ToolCallDelta)] == [odd]
