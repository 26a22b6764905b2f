"""The request reader of the fake upstream."""

import pytest

from chatnest.testing.upstream.http1 import Request, RequestReader

PLAIN = b"POST /a?b=1 HTTP/1.1\r\nHost: x\r\nCONTENT-length:  3\r\n\r\nabc"
CHUNKED = (
    b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\na\r\r\n1;ext=1\r\nc\r\n0\r\n\r\n"
)
BARE = b"GET /b HTTP/1.0\r\n\r\n"
STREAM = PLAIN + CHUNKED + BARE


def read(parts: list[bytes]) -> list[Request]:
    reader, requests = RequestReader(), []
    for part in parts:
        reader.feed(part)
        while request := reader.next():
            requests.append(request)
    return requests


def test_any_division_gives_the_same():
    whole = read([STREAM])
    assert [(r.head.method, r.head.path, r.body) for r in whole] == [
        ("POST", "/a", b"abc"),
        ("POST", "/a", b"a\rc"),
        ("GET", "/b", b""),
    ]
    assert whole[0].head.headers == {"host": "x", "content-length": "3"}
    assert read([STREAM[n : n + 1] for n in range(len(STREAM))]) == whole
    for at in range(len(STREAM)):
        assert read([STREAM[:at], STREAM[at:]]) == whole


@pytest.mark.parametrize(
    ("version", "connection", "expected"),
    [
        ("1.1", "", True),
        ("1.1", "Connection: Close\r\n", False),
        ("1.0", "", False),
        ("1.0", "Connection: keep-alive\r\n", True),
    ],
)
def test_keep_alive(version, connection, expected):
    (request,) = read([f"GET / HTTP/{version}\r\n{connection}\r\n".encode()])
    assert request.keep_alive is expected


@pytest.mark.parametrize("data", [b"hello\r\n\r\n", b"GET / HTTP/1.1\r\nbad\r\n\r\n"])
def test_what_is_not_http_is_refused(data):
    with pytest.raises(ValueError, match="unpack"):
        read([data])
