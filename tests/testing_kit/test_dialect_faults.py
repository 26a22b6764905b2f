"""Every fault of the fake upstream in each dialect, byte for byte."""

import json
import math
from typing import Any

import pytest

from chatnest.testing import (
    CANARY,
    Answer,
    FakeUpstream,
    Text,
    Thinking,
    ToolCall,
    faults,
    parse_events,
)
from tests.testing_kit.answers import EVERYTHING
from tests.testing_kit.raw import connect, read_to_end, read_until, unchunk

ENDS = {
    "/v1/chat/completions": b"[DONE]",
    "/v1/responses": b"event: response.completed",
    "/v1/messages": b"event: message_stop",
}
OTHERS = ["/v1/responses", "/v1/messages"]


def request(path: str, asked: Any = None) -> bytes:
    body = json.dumps({"model": "m", "stream": True} if asked is None else asked).encode()
    head = f"POST {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def play(upstream: FakeUpstream, path: str, answer: Answer, asked: Any = None) -> bytes:
    """All bytes after the head of an answer that ends by itself."""
    upstream.script(answer)
    with connect(upstream) as client:
        client.sendall(request(path, asked))
        data, _ = read_to_end(client)
    return data.partition(b"\r\n\r\n")[2]


def body(upstream: FakeUpstream, path: str, answer: Answer) -> bytes:
    return b"".join(unchunk(play(upstream, path, answer)))


def text(data: bytes) -> str:
    """The text of the deltas in either dialect that names its events."""
    found = [json.loads(event.data) for event in parse_events(data)]
    said = [
        event["delta"] if isinstance(event["delta"], str) else event["delta"].get("text", "")
        for event in found
        if isinstance(event, dict)
        and event.get("type") in {"response.output_text.delta", "content_block_delta"}
    ]
    return "".join(said)


@pytest.mark.parametrize("path", OTHERS)
def test_the_text_arrives(upstream, path):
    assert text(body(upstream, path, Answer())) == "Hello world!"


@pytest.mark.parametrize("path", OTHERS)
@pytest.mark.parametrize("name", sorted(faults.BEFORE_STREAM.keys() - {"silence"}))
def test_before_the_stream_no_event_comes(upstream, path, name):
    assert b"data:" not in play(upstream, path, faults.BEFORE_STREAM[name])


@pytest.mark.parametrize("path", OTHERS)
@pytest.mark.parametrize("name", sorted(faults.INTERRUPTED.keys() - {"stall"}))
def test_interrupted_after_three_pieces(upstream, path, name):
    data = play(upstream, path, faults.INTERRUPTED[name])
    upstream.wait(lambda u: u.served == 1)

    assert upstream.last.pieces_sent == 3
    assert b"response.completed" not in data
    assert b"message_delta" not in data
    assert (b"event: error" in data) == name.startswith("error_event")


@pytest.mark.parametrize("path", OTHERS)
def test_a_stall_goes_on_when_it_is_released(upstream, path):
    upstream.script(Answer.stall(1))
    with connect(upstream) as client:
        client.sendall(request(path))
        data = read_until(client, b"Hello")
        upstream.wait(lambda u: u.last.pieces_sent == 1)
        upstream.release()
        data += read_until(client, ENDS[path])
    assert b"world" in data


@pytest.mark.parametrize("path", OTHERS)
@pytest.mark.parametrize("name", faults.BROKEN_EVENTS)
def test_an_unusable_event_is_one_of_the_dialect_and_the_rest_follows(upstream, path, name):
    data = body(upstream, path, faults.BROKEN_EVENTS[name])

    assert ENDS[path] in data
    assert b"choices" not in data
    usable, unusable = [], []
    for event in data.split(b"\n\n")[:-1]:
        lines = event.split(b"\n")
        try:
            found = json.loads(lines[-1].removeprefix(b"data: "))
            assert isinstance(found, dict)
            assert not isinstance(found.get("delta"), list)
            assert not isinstance(found.get("delta", {}), dict) or not isinstance(
                found.get("delta", {}).get("text"), list
            )
        except (ValueError, AssertionError):
            unusable.append(lines)
        else:
            usable.append(event)
    assert len(unusable) == 1
    assert unusable[0][0].startswith(b"event: ")
    assert text(b"\n\n".join(usable) + b"\n\n") == "Hello world!"


@pytest.mark.parametrize("path", ENDS)
@pytest.mark.parametrize("size", [0, 1, 200, 1000])
def test_cut_at_a_byte(upstream, path, size):
    answer = Answer.cut_at(size, pieces=("a" * 2000,))
    data = play(upstream, path, answer)

    assert not data.endswith(b"0\r\n\r\n")
    assert len(b"".join(unchunk(data))) == size


@pytest.mark.parametrize("path", ENDS)
def test_a_cut_after_the_end_is_not_noticed_in_the_events(upstream, path):
    data = play(upstream, path, Answer.cut_at(1_000_000))

    assert ENDS[path] in data
    assert not data.endswith(b"\r\n0\r\n\r\n")


@pytest.mark.parametrize("path", OTHERS)
def test_injected_bytes_are_injected_in_each_dialect(upstream, path):
    assert b": mine\n\n" in body(upstream, path, Answer(after=1, inject=b": mine\n\n"))


@pytest.mark.parametrize("path", OTHERS)
def test_a_huge_line_has_its_size_and_is_a_text(upstream, path):
    data = body(upstream, path, Answer.huge_line(1_000_000, after=1))
    longest = max(data.split(b"\n"), key=len)

    assert len(longest) == 1_000_000
    assert len(text(data)) > 999_000


@pytest.mark.parametrize("path", OTHERS)
@pytest.mark.parametrize("name", sorted(faults.HARMLESS.keys() - {"refusal"}))
def test_harmless_oddities_keep_the_text(upstream, path, name):
    answer = faults.HARMLESS[name]

    assert text(body(upstream, path, answer)) == "".join(answer.pieces)
    assert upstream.last.pieces_sent == len(answer.pieces)


@pytest.mark.parametrize("path", OTHERS)
def test_lines_may_end_with_crlf_and_come_in_pieces(upstream, path):
    data = body(upstream, path, Answer(crlf=True, split=7, comments=True))

    assert data.count(b"\n") == data.count(b"\r\n")
    assert data.count(b": waiting\r\n") == 3
    assert text(data) == "Hello world!"


@pytest.mark.parametrize("path", ENDS)
@pytest.mark.parametrize(
    "part",
    [
        Text(["a"], repeat=math.inf),
        Thinking(["a"], repeat=math.inf),
        ToolCall("c", "f", ["a"], repeat=math.inf),
    ],
)
def test_a_part_may_never_end(upstream, path, part):
    upstream.script(Answer(parts=[part]))
    with connect(upstream) as client:
        client.sendall(request(path))
        read = 0
        while read < 1_000_000:
            read += len(client.recv(1_000_000))
    upstream.wait(lambda u: u.aborted == 1)


@pytest.mark.parametrize("path", ENDS)
def test_pieces_are_counted_over_all_parts(upstream, path):
    play(upstream, path, Answer.unfinished(5, parts=EVERYTHING.parts))

    assert upstream.last.pieces_sent == 5


@pytest.mark.parametrize("path", ENDS)
@pytest.mark.parametrize("usage", ["auto", None])
def test_usage_can_be_left_out(upstream, path, usage):
    asked = {"stream": True, "stream_options": {"include_usage": True}}
    data = play(upstream, path, Answer(usage=usage), asked)

    has = b'"output_tokens"' in data or b'"completion_tokens"' in data
    assert has == (usage == "auto")


def test_a_body_that_is_not_json_gets_the_error_of_its_dialect(upstream):
    for path in ENDS:
        error = json.loads(play(upstream, path, Answer(), []))
        assert (error.get("type") == "error") == (path == "/v1/messages")
        assert CANARY in error["error"]["message"]


def test_the_other_apis_are_beside_the_path(upstream):
    with FakeUpstream(path="/api/messages") as elsewhere:
        for path, end in ENDS.items():
            assert end in play(elsewhere, path.replace("/v1", "/api"), Answer())
            assert b"not_found" not in play(elsewhere, path, Answer())
        assert elsewhere.url == f"{elsewhere.origin}/api/messages"
    with FakeUpstream(path="/ask") as alone:
        assert b"[DONE]" in play(alone, "/ask", Answer())
        for path in ENDS:
            assert b'"code": 404' in play(alone, path, Answer())


def test_an_endless_answer_has_no_whole(upstream, caplog):
    upstream.script(Answer.endless())
    with connect(upstream) as client:
        client.sendall(request("/v1/messages", {}))
        assert read_to_end(client)[0] == b""
    assert "repeat: expected a number of times" in caplog.text
