"""The event stream readers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatnest.testing import Event, EventReader, chat_nest_client, parse_events

# From the examples in the HTML standard, section 9.2.6, and the wire of chatnest.
STREAMS = [
    (b"data: YHOO\ndata: +2\ndata: 10\n\n", [Event("message", "YHOO\n+2\n10")]),
    (
        b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third\n\n",
        [
            Event("message", "first event", "1"),
            Event("message", "second event"),
            Event("message", " third"),
        ],
    ),
    (b"data\n\ndata\ndata\n\ndata:", [Event("message", ""), Event("message", "\n")]),
    (b"data:test\n\ndata: test\n\n", [Event("message", "test")] * 2),
    (b"event: start\ndata: \n\n", [Event("start", "")]),
    (b'event: token\ndata: " a"\n\n', [Event("token", '" a"')]),
    (b"event: nothing\n\ndata: x\n\n", [Event("message", "x")]),
    (b"data: x\r\n\r\ndata: y\r\rdata: z\n\n", [Event("message", c) for c in "xyz"]),
    (b"\xef\xbb\xbfdata: x\n\n", [Event("message", "x")]),
    (b"data: a\n\n\xef\xbb\xbfdata: x\n\n", [Event("message", "a")]),
    (b"id: 1\0\ndata: x\n\n", [Event("message", "x")]),
    (b"unknown: field\nDATA: no\ndata: yes\n\n", [Event("message", "yes")]),
    ("data: Grüße 👋🏽\n\n".encode(), [Event("message", "Grüße 👋🏽")]),
    (b"\n\n\n", []),
    (b"", []),
]


@pytest.mark.parametrize(("data", "events"), STREAMS)
def test_reads_the_standards_examples(data, events):
    assert parse_events(data) == events


@pytest.mark.parametrize(("data", "events"), STREAMS)
def test_any_division_gives_the_same(data, events):
    assert parse_events(data[n : n + 1] for n in range(len(data))) == events
    for at in range(len(data)):
        assert parse_events([data[:at], b"", data[at:]]) == events


@given(st.lists(st.sampled_from([b"data: x", b"\r", b"\n", b"\r\n", b":c", b"id: 7", b""])))
def test_line_ends_survive_division(parts):
    assert parse_events(parts) == parse_events(b"".join(parts))


def test_reader_tells_what_is_pending():
    reader = EventReader()
    for part in (b"ev", b"ent: token\n", b'data: "x', b'"\n'):
        assert reader.feed(part) == []
        assert reader.pending
    assert reader.feed(b"\n") == [Event("token", '"x"')]
    assert not reader.pending
    assert reader.feed("ü".encode()[:1]) == []
    assert reader.pending


def test_reader_keeps_retry_id_and_comments():
    reader = EventReader()
    reader.feed(b"retry: 1500\nretry: soon\nid: 9\n: hello\n\n")
    assert (reader.retry, reader.last_event_id, reader.comments) == (1500, "9", ["hello"])


def test_bytes_that_are_not_utf8_are_not_repaired():
    with pytest.raises(UnicodeDecodeError):
        parse_events(b"data: \xff\n\n")


STREAM = (
    b"event: start\ndata: \n\n"
    b'event: token\ndata: "Hello"\n\n'
    b"event: ping\ndata: \n\n"
    b'event: token\ndata: " \\n\xc3\xbc"\n\n'
    b"event: done\ndata: \n\n"
)


def test_old_client_reads_the_wire():
    view = chat_nest_client(STREAM)
    assert (view.text, view.started, view.done, view.pings) == ("Hello \nü", True, True, 1)
    assert view.error is None


def test_old_client_parses_errors():
    view = chat_nest_client(b'event: error\ndata: {"code": "x"}\n\n')
    assert view.error == {"code": "x"}
    assert not view.done


def test_old_client_loses_everything_with_crlf():
    view = chat_nest_client(STREAM.replace(b"\n", b"\r\n"))
    assert (view.text, view.started, view.done) == ("", False, False)


def test_old_client_wants_the_space_and_the_blank_line():
    assert chat_nest_client(b'event:token\ndata:"x"\n\n').text == ""
    assert chat_nest_client(b'event: token\ndata: "x"\n').text == ""


def test_old_client_ignores_what_it_does_not_know():
    view = chat_nest_client(b'id: 4\nevent: usage\ndata: {"a": 1}\n\n' + STREAM)
    assert view.text == "Hello \nü"


def test_old_client_dies_of_a_token_that_is_not_json():
    with pytest.raises(ValueError, match="Expecting value"):
        chat_nest_client(b"event: token\ndata: hello\n\n")
