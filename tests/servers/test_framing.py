"""The bytes of a request's body are never read as a request, however they come, and whatever its
head asks for.
"""

import asyncio
import socket

import pytest

from chatnest.server import Protocol
from chatnest.server.front import Front
from chatnest.server.protocol import BoundedProtocol
from chatnest.streams.intake import Intake
from chatnest.wire import NativeFormat
from tests.servers.support import DEMO, Client, Process, ask, uvicorn_thread
from tests.servers.wires import Recorder, Seen, cuts, played, wire

pytestmark = [pytest.mark.anyio, pytest.mark.loops("asyncio")]  # uvicorn's


INNER = b"GET /inner HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(INNER), INNER)
H2C = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk")
LENGTH, CHUNKED = f"Content-Length: {len(INNER)}", "Transfer-Encoding: chunked"


def head(line: str, *fields: str) -> bytes:
    return "\r\n".join([line, "Host: x", *fields, "", ""]).encode("latin-1")


def post(*fields: str, body: bytes = INNER, version: str = "1.1") -> bytes:
    return head(f"POST /outer HTTP/{version}", *fields) + body


OUTER: Seen = ("POST", "/outer", INNER)
NEXT = b"GET /next HTTP/1.1\r\nHost: x\r\n\r\n"
THEN: Seen = ("GET", "/next", b"")

SERVED = {
    "h2c": (post(*H2C, LENGTH), [OUTER]),
    "h2c in chunks": (post(*H2C, CHUNKED, body=CHUNKS), [OUTER]),
    "length before the upgrade": (post(LENGTH, *H2C), [OUTER]),
    "no body": (head("GET /outer HTTP/1.1", *H2C), [("GET", "/outer", b"")]),
    "a websocket": (post("Connection: upgrade", "Upgrade: websocket", LENGTH), [OUTER]),
    "in capitals": (post("CONNECTION: UPGRADE", "UPGRADE: H2C", LENGTH), [OUTER]),
    "two upgrades": (post("Upgrade: a", "Connection: upgrade", "Upgrade: b", LENGTH), [OUTER]),
    "two connections": (
        post("Connection: upgrade", "Upgrade: h2c", "Connection: keep-alive", LENGTH),
        [OUTER],
    ),
    "an empty upgrade": (post("Connection: upgrade", "Upgrade:", LENGTH), [OUTER]),
    "an upgrade alone": (post("Upgrade: h2c", LENGTH), [OUTER]),
    "a length of none": (
        post(*H2C, "Content-Length: 0", body=b""),
        [("POST", "/outer", b"")],
    ),
    "a trailer": (post(CHUNKED, body=CHUNKS[:-2] + b"X-User: eve\r\n\r\n"), [OUTER]),
    "an upgrade for a trailer": (
        post(CHUNKED, body=CHUNKS[:-2] + b"Connection: upgrade\r\nUpgrade: h2c\r\n\r\n"),
        [OUTER],
    ),
    "an answer before the body": (
        post(LENGTH).replace(b"/outer", b"/early"),
        [("POST", "/early", b"")],
    ),
    "an answer before the upgrade's": (
        post(*H2C, LENGTH).replace(b"/outer", b"/early"),
        [("POST", "/early", b"")],
    ),
    "an answer before the chunks": (
        post(CHUNKED, body=CHUNKS).replace(b"/outer", b"/early"),
        [("POST", "/early", b"")],
    ),
}


@pytest.mark.parametrize("name", SERVED)
async def test_a_body_is_its_requests_and_the_next_request_is_the_next(name):
    sent, seen = SERVED[name]
    for parts in cuts(sent + NEXT):
        recorder, connection = await played(Recorder, parts)
        assert recorder.seen == [*seen, THEN], parts
        assert connection.statuses == [200] * (len(seen) + 1), parts
        assert not connection.closed
        fields = {name for each in recorder.fields for name in each}
        assert fields.isdisjoint({b"x-user"})
        connection.close()


async def test_many_of_them_at_once_are_each_their_own():
    sent = post(*H2C, LENGTH) + post(*H2C, CHUNKED, body=CHUNKS) + NEXT + post(LENGTH)
    recorder, connection = await played(Recorder, [sent * 8])
    for _ in range(20):
        await connection.feed()
    assert recorder.seen == [OUTER, OUTER, THEN, OUTER] * 8
    connection.close()


REFUSED = {
    "both": post(LENGTH, CHUNKED, body=CHUNKS),
    "both, with an upgrade": post(*H2C, LENGTH, CHUNKED, body=CHUNKS),
    "two lengths": post(LENGTH, "Content-Length: 5"),
    "the same length twice": post(LENGTH, LENGTH),
    "a list of lengths": post(f"{LENGTH}, {len(INNER)}"),
    "chunked, identity": post("Transfer-Encoding: chunked, identity", body=CHUNKS),
    "identity": post("Transfer-Encoding: identity"),
    "chunked twice": post(CHUNKED, CHUNKED, body=CHUNKS),
    "xchunked": post("Transfer-Encoding: xchunked", body=CHUNKS),
    "chunked in quotes": post('Transfer-Encoding: "chunked"', body=CHUNKS),
    "a vertical tab": post("Transfer-Encoding: \x0bchunked", body=CHUNKS),
    "a folded field": post("Transfer-Encoding:\r\n chunked", body=CHUNKS),
    "a folded upgrade": post("Connection: upgrade", "Upgrade:\r\n h2c", LENGTH),
    "a space before the colon": post("Transfer-Encoding : chunked", body=CHUNKS),
    "a space before the name": post("X: y", " Transfer-Encoding: chunked", body=CHUNKS),
    "a NUL in a name": post("Transfer-Encoding\0: chunked", body=CHUNKS),
    "CONNECT": head("CONNECT a.example:80 HTTP/1.1") + INNER,
    "CONNECT with a length": head("CONNECT a.example:80 HTTP/1.1", LENGTH) + INNER,
    "a preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + INNER,
    "a chunk's size below zero": post(CHUNKED, body=b"-1\r\n" + INNER),
    "a size with spaces": post(CHUNKED, body=CHUNKS.replace(b"\r\n", b" \r\n", 1)),
    "a chunk too long": post(CHUNKED, body=b"1\r\n" + INNER),
    "chunks that end in LF": post(CHUNKED, body=CHUNKS.replace(b"\r\n", b"\n", 1)),
    "a trailer that is a length": post(CHUNKED, body=CHUNKS[:-2] + b"Content-Length: 9\r\n\r\n"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_what_two_readers_may_frame_differently_ends_the_connection(name):
    for parts in cuts(REFUSED[name] + NEXT):
        recorder, connection = await played(Recorder, parts)
        assert "/inner" not in [path for _, path, _ in recorder.seen], parts
        assert "/next" not in [path for _, path, _ in recorder.seen], parts
        assert connection.closed, parts
        assert connection.statuses in ([400], [], [501]), parts


@pytest.mark.parametrize(
    "garbage", [b"\0\1\2 ", b"CONNECT a.example:80 HTTP/1.1\r\n\r\n", b"G@T /"]
)
async def test_an_answer_under_way_stays_whole_when_no_http_follows(garbage):
    recorder = Recorder()
    recorder.release = asyncio.Event()
    connection = wire(recorder)
    await connection.feed(NEXT, garbage, garbage, INNER)
    assert connection.statuses == [200]
    recorder.release.set()
    await connection.feed()
    assert connection.written.endswith(b"\r\n\r\nok")
    assert connection.statuses == [200]
    assert connection.closed
    assert recorder.seen == [THEN]


async def test_an_answer_before_the_body_is_not_followed_by_a_second_one():
    """A client would take it for the answer to its next request."""
    sent = post(CHUNKED, body=b"").replace(b"/outer", b"/early")
    _, connection = await played(Recorder, [sent, b"no chunk\r\n" + INNER])
    assert connection.statuses == [200]
    assert connection.closed


async def test_requests_wait_in_a_line_that_ends():
    recorder = Recorder()
    recorder.release = asyncio.Event()
    connection = wire(recorder)
    await connection.feed(NEXT * 1_000)
    recorder.release.set()
    for _ in range(100):
        await connection.feed()
    assert connection.closed
    assert len(recorder.seen) == 65
    assert connection.statuses == [200] * 65


@pytest.mark.parametrize("path", ["/outer", "/early"])
async def test_after_an_expectation_nothing_more_is_read(path):
    """Some clients that get an answer in place of 100 send no body, others do."""
    sent = post("Expect: 100-continue", LENGTH, body=b"").replace(b"/outer", path.encode())
    recorder, connection = await played(Recorder, [sent, INNER, NEXT])
    assert connection.statuses == ([100, 200] if path == "/outer" else [200])
    assert b"connection: close" in connection.written
    assert connection.closed
    assert recorder.seen == [("POST", path, INNER if path == "/outer" else b"")]


async def test_an_expectation_of_http_1_0_is_none():
    """RFC 9110, section 10.1.1."""
    sent = post("Expect: 100-continue", LENGTH, version="1.0")
    _, connection = await played(Recorder, [sent])
    assert connection.statuses == [200]


async def test_http_1_0_ends_with_its_answer():
    for fields in ((), ("Connection: keep-alive",), H2C):
        recorder, connection = await played(Recorder, [post(LENGTH, *fields, version="1.0"), NEXT])
        assert (recorder.seen, connection.closed) == ([OUTER], True)


LONG_HEADS = {
    "a path": (head(f"GET /{'%' * 8_192} HTTP/1.1"), 414),
    "a query": (head(f"GET /?{'a' * 8_191} HTTP/1.1"), 414),
    "the longest URL": (head(f"GET /{'a' * 8_191} HTTP/1.1"), 200),
    "fields": (head("GET / HTTP/1.1", *["A:"] * 128), 431),
    "as many fields as may be": (head("GET / HTTP/1.1", *["A:"] * 127), 200),
    "as many, and an upgrade": (head("GET / HTTP/1.1", "Upgrade: a", *["A:"] * 126), 200),
    "trailers": (post(CHUNKED, body=CHUNKS[:-2] + b"A:\r\n" * 1_000 + b"\r\n"), 200),
}


@pytest.mark.parametrize("name", LONG_HEADS)
async def test_a_head_of_more_than_is_read_ends_the_connection(name):
    data, status = LONG_HEADS[name]
    for parts in [data + NEXT], [data, NEXT], [data[:5_000], data[5_000:] + NEXT]:
        recorder, connection = await played(Recorder, parts)
        assert connection.statuses == ([200, 200] if status == 200 else [status])
        assert connection.closed == (status != 200)
        assert len(recorder.seen) == len(connection.statuses) * (status == 200)


async def test_a_long_head_behind_a_request_leaves_its_answer_whole():
    recorder = Recorder()
    recorder.release = asyncio.Event()
    connection = wire(recorder)
    await connection.feed(NEXT, LONG_HEADS["a path"][0])
    recorder.release.set()
    await connection.feed()
    assert connection.statuses == [200]
    assert connection.closed


@pytest.mark.parametrize(
    ("body", "queue"), [(INNER, "idle"), (b"", "rests"), (INNER[:5], "rests")], ids=str
)
@pytest.mark.parametrize("split", [False, True])
async def test_a_chat_that_is_refused_at_once_leaves_a_connection_with_a_deadline(
    body, queue, split
):
    front = Front(
        *(Recorder(), Intake(1, 0, lambda: 0), "/outer", None),
        by_origin=False,
        format=NativeFormat(),
    )
    connection = wire(front)
    first = post(LENGTH, body=b"")
    await connection.feed(*([first, body] if split and body else [first + body]))
    assert connection.statuses == [503]
    table = connection.protocol._table
    assert connection.protocol.queue is getattr(table, queue)
    await connection.feed(INNER[len(body) :], NEXT)
    assert connection.statuses == [503, 200]
    assert connection.protocol.queue is table.idle


# ---------------------------------------------------------------- on real sockets


def test_serve_answers_every_post_that_offers_http_2(tmp_path):
    """As Java's client sends it: head and body in one segment, or in two."""
    limits = {
        "CHATNEST_PROFILES__BALANCED__REQUESTS_PER_MINUTE": "60",
        "CHATNEST_HARD_CAPS__REQUESTS_PER_MINUTE": "60",
    }
    with Process(DEMO, cwd=tmp_path, **limits) as process, Client(process.ready()) as client:
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(5):
            client.request("POST", body=ask(), headers=H2C)
            reply = client.reply()
            assert reply.status == 200
            assert reply.read_all().endswith(b"event: done\ndata: \n\n")


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_websocket_reaches_an_application_of_ones_own(loop):
    async def app(scope, receive, send):
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.send", "text": "here"})
            await send({"type": "websocket.close"})
        else:
            await Recorder()(scope, receive, send)

    handshake = (
        *("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"),
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    )
    assert issubclass(Protocol, BoundedProtocol)
    options = {"http": "chatnest.server:Protocol", "lifespan": "off", "loop": loop}
    with uvicorn_thread(app, **options) as port, Client(port) as client:
        client.request("POST", "/outer", body=ask(), headers=H2C)
        assert client.reply().read_all() == b"ok"
        client.request("GET", "/ws", headers=handshake)
        assert client.reply().status == 101
        assert client.until(b"here")
