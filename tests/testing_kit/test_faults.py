"""Each fault of the fake upstream, byte for byte, as a plain socket sees it."""

import json
import math

import pytest

from chatnest.testing import CANARY, Answer, FakeUpstream, faults
from tests.testing_kit.raw import (
    connect,
    deltas,
    exchange,
    read_to_end,
    read_until,
    request,
    text,
    unchunk,
)


def play(upstream: FakeUpstream, answer: Answer) -> tuple[bytes, type[OSError] | None]:
    """All bytes of an answer that ends by itself, and how the connection ended."""
    upstream.script(answer)
    with connect(upstream) as client:
        client.sendall(request(head="Connection: close\r\n"))
        return read_to_end(client)


@pytest.mark.parametrize("name", sorted(faults.BEFORE_STREAM.keys() - {"silence"}))
def test_before_the_stream_no_event_comes(upstream, name):
    data, _ = play(upstream, faults.BEFORE_STREAM[name])
    assert b"data:" not in data
    if name.startswith("close"):
        assert data == b""
        upstream.wait(lambda u: len(u.requests) == (name == "close"))


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422, 429, 500, 503, 529])
def test_errors_are_openais_with_a_canary(upstream, status):
    upstream.script(Answer.error(status, code="why", retry_after=2))
    head, body = exchange(upstream)
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"\r\nretry-after: 2\r\n" in head + b"\r\n"
    error = json.loads(body)["error"]
    assert sorted(error) == ["code", "message", "param", "type"]
    assert error["code"] == "why"
    assert CANARY in error["message"]


def test_headers_and_content_type_can_be_given(upstream):
    upstream.script(Answer.error(429, headers={"Retry-After-Ms": "7"}, content_type="text/plain"))
    head, _ = exchange(upstream)
    assert b"retry-after-ms: 7" in head
    assert b"content-type: text/plain" in head


@pytest.mark.parametrize("status", [302, 307])
def test_redirect_names_a_place(upstream, status):
    upstream.script(Answer.redirect(status))
    head, body = exchange(upstream)
    assert b"location: /v1/elsewhere" in head
    assert body == b""


@pytest.mark.parametrize("name", faults.INTERRUPTED)
def test_interrupted_after_three_pieces(upstream, name):
    answer = faults.INTERRUPTED[name]
    if name == "stall":
        with connect(upstream) as client:
            upstream.script(answer)
            client.sendall(request())
            data, error = read_until(client, b'"!"'), None
            upstream.wait(lambda u: u.last.pieces_sent == 3)
            assert upstream.last.state == "open"
    else:
        data, error = play(upstream, answer)
        upstream.wait(lambda u: u.served == 1)
        assert upstream.last.pieces_sent == 3
    assert error is (ConnectionResetError if name == "reset" else None)
    assert data.count(b'"content":"') == 4
    assert b'"finish_reason":"' not in data
    assert (b"[DONE]" in data) == (name == "done_without_finish_reason")
    whole = name in {"unfinished", "done_without_finish_reason"} or name.startswith("error_event")
    assert data.endswith(b"\r\n0\r\n\r\n") == whole


def test_short_body_declares_more_than_it_sends(upstream):
    data, _ = play(upstream, Answer.short_body(after=2))
    head, _, body = data.partition(b"\r\n\r\n")
    assert b"content-length: 1000000" in head
    assert text(body) == "Hello world"
    data, _ = play(upstream, Answer(body=b"{}", content_length=10))
    assert data.endswith(b"\r\n\r\n{}")


def test_bad_framing_is_no_chunk(upstream):
    data, _ = play(upstream, Answer.bad_framing(after=1))
    with pytest.raises(ValueError, match="xyz"):
        unchunk(data.partition(b"\r\n\r\n")[2])


@pytest.mark.parametrize("name", faults.BROKEN_EVENTS)
def test_broken_event_then_the_rest(upstream, name):
    answer = faults.BROKEN_EVENTS[name]
    upstream.script(answer)
    _, body = exchange(upstream)
    assert body.count(answer.inject) == 1
    before, after = body.split(answer.inject)
    assert text(before) == "Hello world"
    assert text(after) == "!"
    assert after.endswith(b"data: [DONE]\n\n")


def test_error_event_ends_the_stream(upstream):
    upstream.script(Answer.error_event(after=1, code=500))
    _, body = exchange(upstream)
    *_, last = deltas(body)
    assert last["error"]["code"] == 500
    assert CANARY in last["error"]["message"]


@pytest.mark.parametrize("name", faults.HARMLESS)
def test_harmless_oddities_keep_the_text(upstream, name):
    answer = faults.HARMLESS[name]
    upstream.script(answer)
    _, body = exchange(upstream)
    assert text(body, "refusal" if answer.refusal else "content") == "".join(answer.pieces)
    assert body.count(b"[DONE]") == 1
    assert upstream.last.pieces_sent == len(answer.pieces)


def test_oddities_are_there(upstream):
    asked = {"stream": True, "stream_options": {"include_usage": True}}

    def body(answer: Answer) -> bytes:
        upstream.script(answer)
        return exchange(upstream, asked)[1]

    crlf = body(Answer(crlf=True))
    assert crlf.count(b"\n") == crlf.count(b"\r\n") > 10
    assert body(Answer(comments=True)).count(b": waiting\n\n") == 3
    assert deltas(body(Answer(null_first_delta=True)))[0]["choices"][0]["delta"]["content"] is None
    assert deltas(body(Answer()))[0]["usage"] is None
    assert deltas(body(Answer(usage=(0, 0))))[-1]["usage"]["total_tokens"] == 0
    assert deltas(body(Answer(usage=None)))[-1]["choices"][0]["finish_reason"] == "stop"
    each = [
        d["usage"]["completion_tokens"] for d in deltas(body(Answer(usage_on_every_chunk=True)))
    ]
    assert each == [0, 1, 2, 3, 3, 3]
    assert deltas(body(Answer(finish_reason=None)))[-1]["choices"] == []


def test_several_events_and_parts_of_events_in_one_chunk(upstream):
    data, _ = play(upstream, Answer(split=3))
    sizes = {len(part) for part in unchunk(data.partition(b"\r\n\r\n")[2])}
    assert max(sizes) == 3
    data, _ = play(upstream, Answer.tokens(7, events_per_write=3))
    assert len(unchunk(data.partition(b"\r\n\r\n")[2])) == 1 + 7 + 2 + 1


def test_huge_line_has_the_size_it_should(upstream):
    upstream.script(Answer.huge_line(1_000_000, after=1))
    _, body = exchange(upstream)
    longest = max(body.split(b"\n"), key=len)
    assert len(longest) == 1_000_000
    assert json.loads(longest.removeprefix(b"data: "))["choices"][0]["delta"]["content"]
    upstream.script(Answer.huge_line(10))
    assert text(exchange(upstream)[1]) == "Hello world!"


@pytest.mark.parametrize("name", ["endless", "endless_line"])
def test_endless_answers_end_with_the_client(upstream, name):
    upstream.script(faults.FLOODS[name])
    with connect(upstream) as client:
        client.sendall(request())
        read = 0
        while read < 3_000_000:
            read += len(client.recv(1_000_000))
    upstream.wait(lambda u: u.aborted == 1)
    assert upstream.last.bytes_written >= 3_000_000


@pytest.mark.parametrize("name", ["more_than_max_tokens", "huge_line"])
def test_floods_that_end(upstream, name):
    upstream.script(faults.FLOODS[name])
    _, body = exchange(upstream, {"stream": True, "max_tokens": 5})
    assert body.endswith(b"[DONE]\n\n")
    assert math.isfinite(faults.FLOODS["million_tiny_chunks"].repeat)


def test_whole_answers_repeat_and_refuse(upstream):
    upstream.script(Answer.tokens(3, "a"), Answer(refusal=True, usage=None))
    message = json.loads(exchange(upstream, {})[1])["choices"][0]["message"]
    assert message == {"role": "assistant", "content": "aaa", "refusal": None}
    completion = json.loads(exchange(upstream, {})[1])
    assert completion["choices"][0]["message"]["refusal"] == "Hello world!"
    assert "usage" not in completion


@pytest.mark.parametrize("words", ["", " ", "Hello", "Hello world", "  a\n\nb  c \n", "你好 吗"])
def test_text_is_cut_into_words_and_loses_nothing(words):
    assert "".join(Answer.text(words).pieces) == words
    assert Answer.text("Hello world").pieces == ("Hello", " world")
