"""Bytes of a chat completion stream become events, however they are cut, and within bounds."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatnest.errors import (
    ChatNestError,
    ContextLengthExceeded,
    EmptyAnswer,
    UpstreamAccount,
    UpstreamBadResponse,
    UpstreamError,
    UpstreamInterrupted,
    UpstreamOverloaded,
    UpstreamServerError,
)
from chatnest.events import Delta, Finish, ProviderEvent, Reasoning, Refusal, Usage
from chatnest.providers.openai_chat.decode import ChunkDecoder
from chatnest.providers.sse import EventSplitter
from chatnest.testing import Event, parse_events

DONE = b"data: [DONE]\n\n"


def frame(payload: bytes) -> bytes:
    return b"data: " + payload + b"\n\n"


def delta(fields: bytes, finish: bytes = b"null") -> bytes:
    return frame(b'{"choices":[{"delta":%b,"finish_reason":%b}]}' % (fields, finish))


def text(content: str) -> bytes:
    return delta(json.dumps({"content": content}).encode())


def usage(figure: bytes) -> bytes:
    return frame(b'{"choices":[],"usage":%b}' % figure)


STOP = delta(b"{}", b'"stop"')
COST = usage(b'{"prompt_tokens":12,"completion_tokens":34,"total_tokens":46}')


def decoder(*, max_chunks: int = 1_000, **bounds: int) -> ChunkDecoder:
    return ChunkDecoder(EventSplitter(**bounds), max_chunks=max_chunks)


def decode(*pieces: bytes) -> list[ProviderEvent]:
    d = decoder()
    return [event for piece in pieces for event in d.feed(piece)]


def split(pieces: list[bytes], **bounds: int) -> list[bytes]:
    splitter = EventSplitter(**bounds)
    return [data for piece in pieces for data in splitter.feed(piece)]


# ---------------------------------------------------------------- the event stream

STREAMS = {
    "LF": (b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
    "CRLF": (b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"]),
    "CR, with something behind it": (b"data: a\r\rdata: b\r\r:\n", [b"a", b"b"]),
    "mixed line ends": (b"data: a\r\n\ndata: b\n\r\ndata: c\r\n\r\n", [b"a", b"b", b"c"]),
    "no space": (b"data:a\n\n", [b"a"]),
    "only one space is taken off": (b"data:  a \n\n", [b" a "]),
    "several lines": (b"data: a\ndata: b\ndata\ndata:\n\n", [b"a\nb\n"]),
    "several lines with CRLF": (b"data: a\r\ndata: b\r\n\r\n", [b"a\nb"]),
    "comments": (b": hello\n\ndata: a\n:data: x\n\n:\n", [b"a"]),
    "other fields": (b"event: x\nid: 7\nretry: 5\ndata: a\ndatax: b\n\n", [b"a"]),
    "names": (b"event: x\ndata: a\n\nevent: y\ndata: b\n\n", [b"a", b"b"]),
    "names of some": (b"event: x\ndata: a\n\ndata: b\n\nevent:\n\n", [b"a", b"b"]),
    "names behind their data": (b"data: a\nevent: error\n\ndata: b\n\n", [b'{"error":"a"}', b"b"]),
    "an error among names": (
        b"event: x\ndata: 1\n\nevent: error\ndata: 2\n\nevent: x\ndata: 3\n\n",
        [b"1", b'{"error":2}', b"3"],
    ),
    "two names": (b"event: error\nevent: x\ndata: a\n\n", [b"a"]),
    "several lines behind a name": (b"event: x\ndata: a\ndata: b\n\n", [b"a\nb"]),
    "blank lines": (b"\n\n\r\n\r\ndata: a\n\n\n\n", [b"a"]),
    "an event without data": (b"event: x\n\ndata: a\n\n", [b"a"]),
    "an event without its end": (b"data: a\n\ndata: b\n", [b"a"]),
    "a line without its end": (b"data: a\n\ndata: b", [b"a"]),
    "data that is empty": (b"data:\n\ndata: \n\n", [b"", b""]),
    "separators that end no line": (
        "data: a\u2028b\x0bc\x0cd\x85\n\n".encode(),
        ["a\u2028b\x0bc\x0cd\x85".encode()],
    ),
    "events with LF before those with CRLF": (
        b"data: a\n\ndata: b\r\n\r\ndata: c\r\n\r\n",
        [b"a", b"b", b"c"],
    ),
    "a BOM": (b"\xef\xbb\xbfdata: a\n\ndata: b\r\n\r\n", [b"a", b"b"]),
    "a BOM, and a line behind it": (b"\xef\xbb\xbf\ndata: a\n\n", [b"a"]),
    "only one BOM is taken off": (b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\ndata: b\n\n", [b"b"]),
    "a BOM that comes late": (b"\n\xef\xbb\xbfdata: a\n\ndata: b\n\n", [b"b"]),
    "nothing": (b"", []),
}


@pytest.mark.parametrize(("stream", "events"), STREAMS.values(), ids=STREAMS)
def test_events_are_the_same_for_a_stream_cut_at_any_byte(stream, events):
    assert split([stream]) == events
    assert split([stream[n : n + 1] for n in range(len(stream))]) == events
    for at in range(len(stream) + 1):
        assert split([stream[:at], b"", stream[at:]]) == events


parts = st.sampled_from(
    [
        *(b"data: x", b"data:", b"da", b"ta:y", b"\r", b"\n", b"\r\n", b":c", b"\n\n"),
        *(b"event: x", b"event: x\ndata: 1\n\n", b"event: error\ndata: 2\n\n"),
    ]
)


@given(st.lists(parts), st.lists(st.integers(0, 200)))
def test_any_cut_of_any_lines_gives_the_same_events(lines, cuts):
    stream = b"".join(lines)
    at = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})

    pieces = [stream[a:b] for a, b in itertools.pairwise(at)]
    assert split(pieces) == split([stream])


boms = st.sampled_from([b"", b"\xef\xbb\xbf", b"\xef\xbb\xbf\xef\xbb\xbf", b"\xef\xbb"])
lines_with_ends = st.tuples(
    st.sampled_from([b"data: x", b"data: y", b"data:z", b":c", b""]),
    st.sampled_from([b"\n", b"\r\n", b"\r", b"\n\n", b"\r\n\r\n"]),
).map(b"".join)


@given(boms, st.lists(lines_with_ends), st.lists(st.integers(0, 100)))
def test_any_line_ends_behind_a_bom_are_read_as_browsers_do(bom, lines, cuts):
    stream = bom + b"".join(lines) + b":\n"  # which settles what a CR at the end was
    at = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    expected = [event.data.encode() for event in read_by_a_browser(stream)]

    assert split([stream]) == expected
    assert split([stream[a:b] for a, b in itertools.pairwise(at)]) == expected


def read_by_a_browser(stream: bytes) -> list[Event]:
    """With U+FFFD for half of a BOM."""
    return parse_events(stream.decode("utf-8", "replace").encode())


BEYOND = {
    "a line without an end": ([b"data: 0123456789"], {"max_event": 10}),
    "a line that grows": ([b"data: 0", *[b"1"] * 20], {"max_event": 10}),
    "a comment that grows": ([b":", *[b"1"] * 20], {"max_event": 10}),
    "data of one line": ([b"data: 0123456789x\n"], {"max_event": 10}),
    "data of several lines": ([b"data: 01234\ndata: 56789\n"], {"max_event": 10}),
    "lines without data": ([b"data:\n" * 12], {"max_event": 10}),
    "all of it": ([b"data: 01\n\n", b"data: 23\n\n"], {"max_total": 19}),
    "comments alone": ([b": ping\n\n"] * 3, {"max_total": 20}),
}


@pytest.mark.parametrize(("pieces", "bounds"), BEYOND.values(), ids=BEYOND)
def test_what_is_beyond_its_bound_is_refused(pieces, bounds):
    with pytest.raises(UpstreamBadResponse):
        split(pieces, **bounds)


def test_what_is_just_within_its_bounds_is_read():
    assert split([b"data: 0123456789\n\n"], max_event=10, max_total=18) == [b"0123456789"]
    assert split([b"data: 01234\ndata: 5678\n\n"], max_event=10) == [b"01234\n5678"]
    assert split([b"data: 01234\n\n"] * 9, max_event=10) == [b"01234"] * 9


# ---------------------------------------------------------------- chunks

CHUNKS = {
    "text": (text("Hello"), [Delta("Hello")]),
    "text beyond ASCII": (text("é中😀"), [Delta("é中😀")]),
    "text with frames in it": (text("\n\ndata: [DONE]\n\n"), [Delta("\n\ndata: [DONE]\n\n")]),
    "a NUL": (text("\x00"), [Delta("\x00")]),
    "role alone": (delta(b'{"role":"assistant"}'), []),
    "role and empty text": (delta(b'{"role":"assistant","content":""}'), []),
    "content: null": (delta(b'{"role":"assistant","content":null}'), []),
    "delta: null": (delta(b"null"), []),
    "no delta": (frame(b'{"choices":[{"index":0}]}'), []),
    "no choice": (frame(b'{"choices":[]}'), []),
    "choices: null": (frame(b'{"choices":null}'), []),
    "an empty object": (frame(b"{}"), []),
    "error: null": (frame(b'{"error": null ,"choices":[]}'), []),
    "unknown fields": (
        frame(
            b'{"id":"x","object":"chat.completion.chunk","created":1,"model":"m","x":{"y":[1]},'
            b'"choices":[{"index":0,"delta":{"content":"a","tool_calls":[]},"logprobs":null}]}'
        ),
        [Delta("a")],
    ),
    "the first of several choices": (
        frame(b'{"choices":[{"delta":{"content":"a"}},{"delta":{"content":"b"}}]}'),
        [Delta("a")],
    ),
    "thinking": (delta(b'{"reasoning_content":"One"}'), [Reasoning("One")]),
    "a refusal": (delta(b'{"refusal":"I cannot."}'), [Refusal("I cannot.")]),
    "refusal: null": (delta(b'{"content":"a","refusal":null}'), [Delta("a")]),
    "finish": (STOP, [Finish("stop")]),
    "finish by length": (delta(b"{}", b'"length"'), [Finish("length")]),
    "finish by a filter": (delta(b"{}", b'"content_filter"'), [Finish("content_filter")]),
    "finish_reason that is empty": (delta(b"{}", b'""'), []),
    "text and finish at once": (
        delta(b'{"content":"a"}', b'"stop"'),
        [Delta("a"), Finish("stop")],
    ),
    "a refusal, finished": (
        delta(b'{"refusal":"No."}') + STOP,
        [Refusal("No."), Finish("refusal")],
    ),
    "usage": (COST, [Usage(12, 34, "provider")]),
    "usage of a tier, with its names": (
        frame(
            b'{"id":"chatcmpl-1","object":"chat.completion.chunk","model":"gpt-5-2025-08-07",'
            b'"service_tier":"priority","choices":[],"usage":{"prompt_tokens":12,'
            b'"completion_tokens":34,"total_tokens":46}}'
        ),
        [
            Usage(
                *(12, 34),
                service_tier="priority",
                model="gpt-5-2025-08-07",
                response_id="chatcmpl-1",
            ),
        ],
    ),
    "usage with the last text": (
        frame(
            b'{"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}],'
            b'"usage":{"prompt_tokens":1,"completion_tokens":2}}'
        ),
        [Delta("a"), Finish("stop"), Usage(1, 2)],
    ),
    "usage on every chunk": (
        b"".join(
            frame(
                b'{"choices":[{"delta":{"content":"a"}}],'
                b'"usage":{"prompt_tokens":5,"completion_tokens":%d}}' % n
            )
            for n in (1, 2)
        ),
        [Delta("a"), Usage(5, 1), Delta("a"), Usage(5, 2)],
    ),
    "usage of zero": (usage(b'{"prompt_tokens":0,"completion_tokens":0}'), [Usage(0, 0)]),
    "usage: null": (usage(b"null"), []),
    "a billion tokens": (
        usage(b'{"prompt_tokens":1000000000,"completion_tokens":0}'),
        [Usage(1_000_000_000, 0)],
    ),
    "several lines of data": (b'data: {"choices":\ndata: []}\n\n', []),
    "an empty line of data": (b": ping\n\n", []),
}
NONSENSE = {
    "an empty object": b"{}",
    "half of it": b'{"prompt_tokens":5}',
    "the other half": b'{"completion_tokens":5}',
    "null figures": b'{"prompt_tokens":null,"completion_tokens":null}',
    "below zero": b'{"prompt_tokens":-1,"completion_tokens":5}',
    "above a billion": b'{"prompt_tokens":5,"completion_tokens":1000000001}',
    "100 digits": b'{"prompt_tokens":5,"completion_tokens":%b}' % (b"9" * 100),
    "5,000 digits": b'{"prompt_tokens":5,"completion_tokens":%b}' % (b"9" * 5_000),
    "floats": b'{"prompt_tokens":1.5,"completion_tokens":2.5}',
    "beyond a float": b'{"prompt_tokens":1e400,"completion_tokens":5}',
    "strings": b'{"prompt_tokens":"5","completion_tokens":"5"}',
    "booleans": b'{"prompt_tokens":true,"completion_tokens":false}',
    "a list": b"[1, 2]",
    "a number": b"5",
    "false": b"false",
}
BAD = {
    "null": b"null",
    "a list": b"[]",
    "a number": b"1",
    "HTML": b"<html>",
    "cut": b'{"choices":[',
    "two values": b"{}{}",
    "an object for choices": b'{"choices":{}}',
    "a null choice": b'{"choices":[null]}',
    "a number for content": b'{"choices":[{"delta":{"content":5}}]}',
    "a number for the text of a part": b'{"choices":[{"delta":{"content":[{"text":5}]}}]}',
    "numbers for parts": b'{"choices":[{"delta":{"content":[5]}}]}',
    "a string for a delta": b'{"choices":[{"delta":"a"}]}',
    "a number for finish_reason": b'{"choices":[{"finish_reason":5}]}',
    "not UTF-8": b'{"choices":[{"delta":{"content":"\xff"}}]}',
    "100,000 lists": b"[" * 100_000,
    "100,000 objects": b'{"x":' * 100_000,
    "a deep usage": b'{"usage":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
}
IN_BAND = {
    "an empty object": (b"{}", UpstreamServerError),
    "a string": (b'"no"', UpstreamServerError),
    "a string that says why": (b'"overloaded"', UpstreamOverloaded),
    "a list": (b"[]", UpstreamServerError),
    "false": (b"false", UpstreamServerError),
    "a message alone": (b'{"message":"org-123 is over"}', UpstreamServerError),
    "an unknown code": (b'{"code":"x","type":"y"}', UpstreamServerError),
    "null code": (b'{"code":null,"type":null}', UpstreamServerError),
    "a float for a code": (b'{"code":1.5}', UpstreamServerError),
    "bytes that are not UTF-8": (b'{"message":"\xff"}', UpstreamServerError),
    "no quota": (b'{"code":"insufficient_quota"}', UpstreamAccount),
    "no quota, by type": (b'{"type":"insufficient_quota","code":null}', UpstreamAccount),
    "billing": (b'{"code":"billing_hard_limit_reached"}', UpstreamAccount),
    "too long": (b'{"code":"context_length_exceeded"}', ContextLengthExceeded),
    "too long for llama.cpp": (
        b'{"code":400,"type":"exceed_context_size_error"}',
        ContextLengthExceeded,
    ),
    "a string too long": (b'{"code":"string_above_max_length"}', ContextLengthExceeded),
    "a rate limit": (b'{"code":"rate_limit_exceeded","type":"tokens"}', UpstreamOverloaded),
    "a rate limit, by type": (b'{"type":"rate_limit_error"}', UpstreamOverloaded),
    "429 in digits": (b'{"code":429}', UpstreamOverloaded),
    "429 as a string": (b'{"code":"429"}', UpstreamOverloaded),
    "500 in digits": (b'{"code":500}', UpstreamServerError),
    "a huge code": (b'{"code":%b}' % (b"9" * 5_000), UpstreamServerError),
}


@pytest.mark.parametrize(("stream", "events"), CHUNKS.values(), ids=CHUNKS)
def test_a_chunk_means_the_same_wherever_its_bytes_are_cut(stream, events):
    assert decode(stream) == events
    assert decode(*[stream[n : n + 1] for n in range(len(stream))]) == events
    for at in range(len(stream) + 1):
        assert decode(stream[:at], stream[at:]) == events


@pytest.mark.parametrize("figure", NONSENSE.values(), ids=NONSENSE)
def test_a_usage_that_makes_no_sense_is_no_usage_and_no_failure(figure):
    assert decode(COST + usage(figure) + STOP) == [Usage(12, 34), Finish("stop")]


@pytest.mark.parametrize("payload", BAD.values(), ids=BAD)
def test_what_is_no_chunk_is_a_bad_response(payload):
    with pytest.raises(UpstreamBadResponse):
        decode(frame(payload))


@pytest.mark.parametrize(("error", "kind"), IN_BAND.values(), ids=IN_BAND)
def test_an_error_in_the_stream_is_named_by_its_code_and_without_its_text(error, kind):
    with pytest.raises(UpstreamError) as caught:
        decode(text("a"), frame(b'{"error":%b}' % error))

    assert type(caught.value) is kind
    assert caught.value.detail == f"{kind.title}."


@pytest.mark.parametrize("fault", [frame(b"null"), frame(b'{"error":{}}')])
def test_what_came_before_a_fault_is_given_first_and_nothing_after_it(fault):
    d = decoder()

    assert d.feed(text("a") + COST + fault + text("b") + STOP + DONE) == [
        Delta("a"),
        Usage(12, 34),
    ]
    for _ in range(2):
        assert isinstance(d.failure, UpstreamError)
        with pytest.raises(UpstreamError):
            d.feed(text("c"))
    assert not d.finished
    assert not d.closed


def test_there_is_nothing_to_check_in_an_answer_without_a_fault():
    d = decoder()
    d.feed(text("a") + STOP + DONE)

    assert d.failure is None


def test_an_error_counts_although_the_chunk_has_text():
    with pytest.raises(UpstreamServerError):
        decode(frame(b'{"error":{"code":500},"choices":[{"delta":{"content":"a"}}]}'))


# ---------------------------------------------------------------- the end


def test_a_stream_that_said_it_is_finished_ends_well_with_and_without_done():
    for stream in (STOP, STOP + COST, STOP + DONE, STOP + COST + DONE):
        d = decoder()
        d.feed(text("a") + stream)
        d.end()
        assert d.finished
        assert d.closed == stream.endswith(DONE)


@pytest.mark.parametrize(
    "stream",
    [text("a"), COST, text("a") + DONE, text("a") + COST + DONE, text("a") + STOP[:-9]],
)
def test_a_stream_that_never_said_it_is_finished_was_cut(stream):
    d = decoder()
    d.feed(stream)

    assert not d.finished
    with pytest.raises(UpstreamInterrupted):
        d.end()


@pytest.mark.parametrize(
    ("stream", "error"),
    [(b"", UpstreamBadResponse), (b": ping\n\n", UpstreamBadResponse), (DONE, EmptyAnswer)],
)
def test_a_stream_of_nothing_is_no_answer(stream, error):
    d = decoder()
    d.feed(stream)

    with pytest.raises(error):
        d.end()


def test_a_last_event_counts_without_the_blank_line_behind_it():
    d = decoder()

    assert d.feed(text("a") + STOP[:-2]) == [Delta("a")]
    assert d.finish() == [Finish("stop")]
    d.end()


@pytest.mark.parametrize("blank", [b"", b"  "])
def test_two_chunks_on_a_line_are_none_whatever_comes_with_them(blank):
    two = frame(b"{} {}")
    for stream in (two + frame(blank), frame(blank) + two):
        with pytest.raises(UpstreamBadResponse):
            decode(stream)


def test_nothing_counts_after_done():
    d = decoder()

    assert d.feed(STOP + DONE + text("a") + frame(b"null") + COST) == [Finish("stop")]
    assert d.feed(text("b")) == []
    d.end()


def test_text_and_usage_between_finish_and_done_count():
    assert decode(STOP + text("a") + COST) == [Finish("stop"), Delta("a"), Usage(12, 34)]


def test_so_many_chunks_are_read_and_no_more():
    d = decoder(max_chunks=3)

    assert d.feed(text("a") * 3 + b": ping\n\n") == [Delta("a")] * 3
    with pytest.raises(UpstreamBadResponse):
        d.feed(text("a"))


def test_chunks_without_text_count_as_well():
    d = decoder(max_chunks=3)

    with pytest.raises(UpstreamBadResponse):
        d.feed(frame(b"{}") * 4)


def test_a_server_that_changes_its_line_ends_loses_nothing():
    end = text(" y") + STOP + DONE

    assert decode(text("x") + end.replace(b"\n", b"\r\n")) == [
        Delta("x"),
        Delta(" y"),
        Finish("stop"),
    ]


def test_done_is_no_chunk():
    d = decoder(max_chunks=1)

    assert d.feed(STOP + DONE) == [Finish("stop")]


any_chunk = st.sampled_from([stream for stream, _ in CHUNKS.values()]) | st.text().map(text)
any_damage = st.sampled_from([frame(b"null"), frame(b'{"error":{}}'), DONE])


class Takes:
    """Takes a piece of text or of thinking where ``willing`` says so, in turn."""

    def __init__(self, willing: list[bool]) -> None:
        self._willing = itertools.cycle(willing or [True])
        self.taken: list[ProviderEvent] = []

    def take(self, piece: str | Reasoning, /) -> bool:
        if not next(self._willing):
            return False
        self.taken.append(Delta(piece) if isinstance(piece, str) else piece)
        return True


def outcome(
    pieces: list[bytes], taker: Takes | None = None
) -> tuple[list[ProviderEvent], bool, bool, str]:
    """All that shows: the events, whether it is finished and closed, and what went wrong. With a
    ``taker``, every piece is offered to it first.
    """
    d = decoder()
    events: list[ProviderEvent] = []
    try:
        for piece in pieces:
            if taker is not None and d.failure is None:
                d.taker = taker
                if d.take(piece):
                    events.append(taker.taken[-1])
                    continue
            events += d.feed(piece)
        if d.failure is not None:
            raise d.failure
        d.end()
    except ChatNestError as error:
        return events, d.finished, d.closed, error.code
    return events, d.finished, d.closed, ""


@given(
    st.lists(any_chunk, max_size=8),
    st.lists(any_damage | any_chunk, max_size=3),
    st.lists(st.integers(0, 2_000)),
    st.booleans(),
)
def test_any_cut_of_any_answer_gives_the_same_events_and_the_same_end(chunks, tail, cuts, crlf):
    stream = b"".join([*chunks, *tail])
    if crlf:
        stream = stream.replace(b"\n", b"\r\n")
    at = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})

    pieces = [stream[a:b] for a, b in itertools.pairwise(at)]
    assert outcome(pieces) == outcome([stream])


@given(st.lists(any_chunk | any_damage, max_size=8), st.lists(st.booleans()), st.booleans())
def test_it_makes_no_difference_which_pieces_were_taken(chunks, willing, crlf):
    pieces = [chunk.replace(b"\n", b"\r\n") if crlf else chunk for chunk in chunks]

    assert outcome(pieces, Takes([*willing])) == outcome(pieces)


def test_only_a_piece_that_comes_alone_is_taken():
    d = decoder(max_event=200)
    d.taker = Takes([True])
    assert not d.take(text("a"))  # a BOM could stand before it
    d.feed(text("a"))

    assert [name for name, (piece, _) in CHUNKS.items() if d.take(piece)] == [
        *("text", "text beyond ASCII", "text with frames in it", "a NUL", "unknown fields"),
        "refusal: null",
    ]
    others = {
        "half": text("a")[:-1],
        "two": text("a") * 2,
        "a comment": b": x\n" + text("a"),
        "CRLF": text("a").replace(b"\n", b"\r\n"),
        "a CR": text("a").replace(b"}", b"}\r"),
        "too long": text("a" * 200),
        "wrong beside it": delta(b'{"content":"a","refusal":5}'),
        "done": DONE,
        "a bill": frame(b'{"choices":[{"delta":{"content":"a"}}],"usage":{"prompt_tokens":5}}'),
        "an error": frame(b'{"choices":[{"delta":{"content":"a"}}],"error":{}}'),
        "the end": delta(b'{"content":"a"}', b'"stop"'),
    }
    assert [name for name, piece in others.items() if d.take(piece)] == []
    d.feed(text("a")[:-3])
    assert not d.take(text("b"))  # within an event
    d.feed(b"}\n\n")
    assert d.take(text("c"))


@pytest.mark.parametrize("bounds", [{"max_total": 3 * len(text("a"))}, {"max_chunks": 3}])
def test_what_was_taken_counts_as_what_was_fed(bounds):
    piece = text("a")
    d = decoder(**bounds)
    d.taker = Takes([True])
    d.feed(piece)

    assert d.take(piece)
    assert d.feed(piece) == [Delta("a")]
    assert not d.take(piece)
    with pytest.raises(UpstreamBadResponse):
        d.feed(piece)


def test_nothing_is_taken_after_done():
    d = decoder()
    d.taker = Takes([True])
    d.feed(STOP + DONE)

    assert not d.take(text("a"))


CODES = {"empty_answer", "upstream_bad_response", "upstream_interrupted", "upstream_error"}


@given(st.lists(st.binary() | st.binary().map(frame)))
def test_any_bytes_are_events_or_an_error_of_ours(pieces):
    assert outcome(pieces)[3] in {"", *CODES}
