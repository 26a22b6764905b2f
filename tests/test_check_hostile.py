"""``chatnest check`` of servers that are broken or hostile: it ends, and says what is wrong."""

import gzip
import json
import re
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import repeat
from typing import Any

import anyio
import pytest

from chatnest.cli import main
from chatnest.diagnostics import probe
from chatnest.diagnostics.checks import Check
from chatnest.diagnostics.checks.endpoint import ENDPOINT_CHECKS
from chatnest.diagnostics.report import report
from chatnest.errors import ConfigurationError

pytestmark = pytest.mark.process  # servers, mostly in threads

HANG = 60.0
"""Seconds, for what takes two."""

JSON = "application/json"
PROBLEM = "application/problem+json"
EVENTS = "text/event-stream"

Says = Callable[[threading.Event], Iterator[bytes]]
"""What a server says, piece by piece. The event is set when nobody listens any more."""


# ---------------------------------------------------------------- what it says


def head(kind: str, status: str = "200 OK", **fields: str) -> bytes:
    given = {"Content-Type": kind, "Connection": "close", **fields}
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in given.items()]
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode("latin-1")


def whole(document: Any, kind: str = JSON, status: str = "200 OK", **fields: str) -> Says:
    content = document if isinstance(document, bytes) else json.dumps(document).encode()
    return lambda _: iter([head(kind, status, Content_Length=str(len(content)), **fields), content])


def flood(start: bytes, piece: bytes) -> Says:
    """As fast as it goes, and for ever."""

    def say(_: threading.Event) -> Iterator[bytes]:
        yield start
        yield from repeat(piece)

    return say


def trickle(start: bytes, piece: bytes) -> Says:
    """A little now and then, and for ever."""

    def say(over: threading.Event) -> Iterator[bytes]:
        yield start
        while not over.wait(0.01):
            yield piece

    return say


HELD = {"limits": [{"name": "streams", "held": 0}]}
WELL = {
    "GET /limits": whole(HELD),
    "GET /runs/": whole({"code": "not_found"}, PROBLEM, "404 Not Found"),
    "POST {}": whole({"code": "invalid_request"}, PROBLEM, "400 Bad Request"),
    "POST": whole(b"event: done\ndata: \n\n", EVENTS, ChatNest_Run_Id="0" * 32),
    "DELETE": whole({"outcome": "done", "charged": 7}),
}


class Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        server = self.server
        assert isinstance(server, Server)
        line = self.rfile.readline().decode()
        size = 0
        while (field := self.rfile.readline().lower()) not in {b"\r\n", b""}:
            if field.startswith(b"content-length:"):
                size = int(field.partition(b":")[2])
        body = self.rfile.read(size)
        asked = f"{line.partition(' ')[0]} {body.decode() if body == b'{}' else line}"
        says = next(s for what, s in server.says.items() if all(w in asked for w in what.split()))
        try:
            for piece in says(server.over):
                self.wfile.write(piece)
        except OSError:
            pass  # nobody listens any more


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    says: dict[str, Says]

    def __init__(self) -> None:
        self.over = threading.Event()
        super().__init__(("127.0.0.1", 0), Handler)


@contextmanager
def serving(says: dict[str, Says]) -> Iterator[str]:
    """What is not said here is said as chatnest says it. Gives the address."""
    with Server() as server:
        server.says = {**says, **WELL} | says
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/api/chat"
        finally:
            server.over.set()
            server.shutdown()
            thread.join(HANG)


@pytest.fixture(autouse=True)
def _patient(monkeypatch):
    """What ends by itself ends by that, on a busy machine too."""
    monkeypatch.delenv("CHATNEST_CHECK_HEADER", raising=False)
    for name in ("_REPLY_SECONDS", "_FIRST_FRAME_SECONDS", "_READ_SECONDS"):
        monkeypatch.setattr(probe, name, HANG)
    monkeypatch.setattr(probe, "_DISCONNECT_SECONDS", 0.2)


@pytest.fixture
def hurry(monkeypatch) -> Callable[[], None]:
    """For what only the time ends."""

    def hurry() -> None:
        monkeypatch.setattr(probe, "_REPLY_SECONDS", 1.5)
        monkeypatch.setattr(probe, "_FIRST_FRAME_SECONDS", 1.0)
        monkeypatch.setattr(probe, "_READ_SECONDS", 1.0)

    return hurry


def visited(says: dict[str, Says]) -> dict[str, Check]:
    async def bounded() -> Any:
        with anyio.fail_after(HANG):
            return await probe.probe(url, {}, dry=False)

    with serving(says) as url:
        seen = anyio.run(bounded)
    checks = [make(seen) for make in ENDPOINT_CHECKS]
    return {check.name: check for check in checks if check is not None}


# ---------------------------------------------------------------- small replies


CHUNKED = {"Transfer_Encoding": "chunked"}
CHUNK = b"400\r\n" + b" " * 1024 + b"\r\n"
ZEROS = gzip.compress(bytes(8 * 1024 * 1024))
ONCE_MORE = gzip.compress(gzip.compress(bytes(1024)))
MORE_TO_COME = {"Content_Length": "100000"}

BODIES: dict[str, tuple[Says, str]] = {
    "a body without end": (
        flood(head(JSON, **CHUNKED), CHUNK),
        "200 application/json, longer than 256 KiB",
    ),
    "a bomb": (
        whole(ZEROS, Content_Encoding="gzip"),
        "200 application/json, longer than 256 KiB",
    ),
    "a bomb in a bomb": (
        whole(ONCE_MORE, Content_Encoding="gzip, gzip"),
        "200 application/json, compressed more than once, by gzip, gzip",
    ),
    "a trickle": (
        trickle(head(JSON, **CHUNKED), b"1\r\n \r\n"),
        "200 application/json, not complete in time",
    ),
    "half a body": (
        lambda _: iter([head(JSON, **MORE_TO_COME), b"{"]),
        "200 application/json, cut off",
    ),
    "trailers without end": (
        flood(head(JSON, **CHUNKED) + b"0\r\n", b"X: y\r\n" * 1_000),
        "200 application/json, cut off",
    ),
}


@pytest.mark.parametrize("what", BODIES)
def test_limits_that_do_not_end(what, hurry):
    says, words = BODIES[what]
    if what == "a trickle":
        hurry()
    found = visited({"GET /limits": says})
    assert {name: check.level for name, check in found.items()} == {"limits": "fail"}
    assert found["limits"].found == words
    assert "not from chatnest" not in found["limits"].found


@pytest.mark.parametrize("what", ["a body without end", "a trickle", "half a body"])
def test_later_replies_that_do_not_end(what, hurry):
    says, words = BODIES[what]
    if what == "a trickle":
        hurry()
    found = visited(dict.fromkeys(("GET /runs/", "POST {}", "DELETE"), says))
    assert (found["limits"].level, found["runs"].level) == ("ok", "warn")
    assert found["runs"].found == f"{words} for /api/chat/runs/ID"
    assert (found["errors"].level, found["cost"].level) == ("fail", "skip")
    assert found["errors"].found == f"a refused request gets {words}"


HEADS: dict[str, tuple[Says, str]] = {
    "a head without end": (
        flood(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 1_000),
        "expected a server at ",
    ),
    "a field without end": (
        flood(b"HTTP/1.1 200 OK\r\nX: ", b"y" * 4_096),
        "expected a server at ",
    ),
    "a head that trickles": (
        trickle(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
        "got none within",
    ),
    "interim responses without end": (
        flood(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        "got none within",
    ),
    "nothing": (trickle(b"", b""), "got none within 1.5 s"),
    "no HTTP": (flood(b"", b"\x1b[2J"), "expected a server at "),
}


@pytest.mark.parametrize("what", HEADS)
def test_heads_that_do_not_end(what, hurry):
    says, words = HEADS[what]
    if "got none" in words:
        hurry()
    with pytest.raises(ConfigurationError, match=words) as caught:
        visited({"GET /limits": says})
    assert len(str(caught.value)) < 200
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("what", ["a head without end", "a head that trickles", "nothing"])
def test_later_heads_that_do_not_end(what, hurry):
    """What was found before is told all the same."""
    says, words = HEADS[what]
    if "got none" in words:
        hurry()
    found = visited(dict.fromkeys(("GET /runs/", "POST", "DELETE"), says))
    assert found["limits"].level == "ok"
    assert re.match(r"no answer( in \d+\.\d s)? for /api/chat/runs/ID\Z", found["runs"].found)
    assert found["frames"].level == "fail"
    assert found["cost"].level == "skip"


# ---------------------------------------------------------------- the answer


def stream(**fields: str) -> bytes:
    return head(EVENTS, ChatNest_Run_Id="0" * 32, **fields)


START = b"event: start\ndata: \n\n"


TOO_MUCH = "the stream is longer than 256 KiB"
ANSWERS: dict[str, tuple[Says, str]] = {
    "an event without end": (
        flood(stream(), b"data: x\n" * 512),
        f"no frame can be read: {TOO_MUCH}",
    ),
    "a line without end": (flood(stream(), b"x" * 4_096), f"no frame can be read: {TOO_MUCH}"),
    "a line without end, later": (flood(stream() + START, b"x" * 4_096), f" s, {TOO_MUCH}"),
    "events without end": (flood(stream(), b"event: token\ndata: 1\n\n"), f" s, {TOO_MUCH}"),
    "events of nothing": (flood(stream(), b"\n\n" * 4_096), f" s, {TOO_MUCH}"),
    "an event that trickles": (trickle(stream(), b"x"), "no frame arrived; an incomplete one has "),
    "a bomb in a bomb": (
        whole(ONCE_MORE, EVENTS, Content_Encoding="gzip, gzip"),
        "no frame can be read: the stream is compressed more than once, by gzip, gzip",
    ),
    "a page without end": (
        flood(head("text/html"), b"x" * 4_096),
        "200 text/html, longer than 256 KiB, instead of a stream",
    ),
    "a page that trickles": (
        trickle(head("text/html"), b"x"),
        "200 text/html, not complete in time, instead of a stream",
    ),
    "a head without end": (HEADS["a head without end"][0], "the connection closed without a frame"),
    "a head that trickles": (HEADS["a head that trickles"][0], "no frame arrived"),
}


@pytest.mark.parametrize("what", ANSWERS)
def test_answers_that_do_not_end(what, hurry):
    says, words = ANSWERS[what]
    if "trickles" in what:
        hurry()
    found = visited({"POST": says})
    assert found["frames"].level == "fail"
    assert words in found["frames"].found


@pytest.mark.parametrize("piece", [b"event: token\ndata: 1\n\n", b"x"], ids=["frames", "no frame"])
def test_an_answer_that_trickles_is_left(piece, hurry):
    hurry()
    found = visited({"POST": trickle(stream() + START, piece)})
    assert found["pings"].level == ("fail" if piece != b"x" else "skip")
    assert found["leaving"].level == "skip"  # whose receipt says that it was done
    assert found["cost"].found == "7 tokens for this check"


def test_a_byte_at_a_time_is_read_until_it_is_too_much_or_too_late(hurry):
    hurry()
    found = visited({"GET /limits": flood(head(JSON, **CHUNKED), b"1\r\n \r\n" * 4_000)})
    assert found["limits"].found.startswith("200 application/json, ")
    assert found["limits"].found.endswith(("longer than 256 KiB", "not complete in time"))


def test_a_server_that_is_not_heard_of_again(hurry):
    """It holds the reader up neither while it reads nor when it has left."""
    hurry()
    seen = 0

    def limits(over: threading.Event) -> Iterator[bytes]:
        nonlocal seen
        seen += 1
        yield from (WELL["GET /limits"](over) if seen < 3 else HEADS["nothing"][0](over))

    found = visited({"GET /limits": limits, "POST": trickle(stream() + START, b"")})
    assert found["limits"].level == "ok"
    assert found["leaving"].level == "skip"


# ---------------------------------------------------------------- what is printed


ESCAPES = "\x1b]0;owned\x07\x1b[2J\r\n\u202e\x9b31m"
RUDE = ESCAPES * 2_000
FIELD = "\x9b31m\xad" * 4_000
"""As much of it as a field of a head can have."""
NAMES = ("Server", "Location", "Retry_After", "Content_Language")
ERROR = f"event: error\ndata: {json.dumps({'code': RUDE})}\n\n".encode()


@pytest.mark.parametrize(
    "says",
    [
        {"GET /limits": whole(HELD, JSON, **dict.fromkeys(NAMES, FIELD))},
        {"GET /limits": whole({"code": RUDE}, PROBLEM, "503 No")},
        {"GET /limits": whole({}, f"text/{FIELD}")},
        {"GET /limits": whole({}, JSON, "301 No", Location=FIELD)},
        {"GET /limits": whole({}, JSON, Content_Encoding=f"gzip,{FIELD}", Server=FIELD)},
        {"GET /runs/": whole({}, f"text/{FIELD}")},
        {"POST {}": whole({"code": RUDE}, PROBLEM, "400 No")},
        {"POST {}": whole({}, f"text/{FIELD}")},
        {"POST": whole({"code": RUDE}, PROBLEM, "429 No", Retry_After="9" * 4_000)},
        {"POST": whole(ERROR, EVENTS)},
        {"POST": whole(START, EVENTS, Content_Encoding=FIELD)},
        {"DELETE": whole({"outcome": RUDE, "charged": int("9" * 4_000)})},
    ],
    ids=range(12),
)
def test_nothing_that_a_server_says_moves_the_cursor_or_fills_the_screen(says, capsys):
    checks = list(visited(says).values())
    report(checks, as_json=False)
    report(checks, as_json=True)
    output, errors = capsys.readouterr()
    assert errors == ""
    for line in output.splitlines():
        assert line.isprintable()
        assert len(line) < 500


def test_nor_does_the_reason_for_which_it_cannot_be_reached(capsys):
    with (
        serving({"GET /limits": lambda _: iter([RUDE.encode(), b"\r\n\r\n"])}) as url,
        pytest.raises(SystemExit) as caught,
    ):
        main(["check", url])
    assert caught.value.code == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.removesuffix("\n").isprintable()
    assert len(errors) < 200
