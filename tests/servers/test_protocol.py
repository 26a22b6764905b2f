"""What the protocol of ``chatnest serve`` does on its own, it does as uvicorn's. And it can send
without waiting.
"""

import asyncio
import json
import signal
import socket
import threading
import time

import pytest
from starlette.types import Message, Receive, Scope, Send

from chatnest.asgi.http import send_now
from chatnest.server.protocol import BoundedProtocol
from chatnest.testing import Answer
from tests.servers.support import PATIENCE, Client, ask, uvicorn_thread

PIECE = b"x" * 65_536
PIECES = 48  # far beyond what the two kernels take

as_uvicorn = pytest.mark.parametrize(
    "http", ["httptools", BoundedProtocol], ids=["uvicorn", "ours"]
)


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the path, a little later."""
    await receive()
    await asyncio.sleep(0)
    path = scope["path"].encode()
    length = [(b"content-length", b"%d" % len(path))]
    await send({"type": "http.response.start", "status": 200, "headers": length})
    await send({"type": "http.response.body", "body": path})


@as_uvicorn
def test_requests_that_come_at_once_are_answered_in_their_order(http):
    paths = [b"/%d" % number for number in range(20)]
    requests = [b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n" % path for path in paths]
    with uvicorn_thread(echo, http=http, lifespan="off") as port, Client(port) as client:
        for _ in range(2):  # a connection that has had such may have more
            client.socket.sendall(b"".join(requests))
            assert [client.reply().read_all() for _ in paths] == paths


@as_uvicorn
def test_what_is_sent_waits_for_a_client_that_does_not_read(http):
    sent, over = 0, threading.Event()

    async def talk(_: Scope, receive: Receive, send: Send) -> None:
        nonlocal sent
        await receive()
        length = [(b"content-length", b"%d" % (PIECES * len(PIECE)))]
        await send({"type": "http.response.start", "status": 200, "headers": length})
        for number in range(PIECES):
            more = number < PIECES - 1
            await send({"type": "http.response.body", "body": PIECE, "more_body": more})
            sent += 1
        over.set()

    with (
        uvicorn_thread(talk, http=http, lifespan="off", send_buffer=16_384) as port,
        Client(port, receive_buffer=16_384) as client,
    ):
        client.request()
        reply = client.reply()
        give_up, before = time.monotonic() + PATIENCE, -1
        while (seen := sent) != before or not seen:
            assert time.monotonic() < give_up
            before = seen
            time.sleep(0.1)
        assert sent < PIECES
        assert reply.read_all() == PIECES * PIECE
        assert over.wait(PATIENCE)
        assert sent == PIECES


@as_uvicorn
def test_everybody_who_waits_is_told_that_the_client_has_left(http):
    told = threading.Semaphore(0)
    waiting = threading.Event()

    async def wait(_: Scope, receive: Receive, send: Send) -> None:
        await receive()

        async def watch() -> None:
            assert (await receive())["type"] == "http.disconnect"
            told.release()

        tasks = [asyncio.create_task(watch()) for _ in range(3)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        waiting.set()
        await asyncio.wait(tasks)
        assert (await receive())["type"] == "http.disconnect"
        told.release()

    with uvicorn_thread(wait, http=http, lifespan="off") as port:
        with Client(port) as client:
            client.request()
            assert waiting.wait(PATIENCE)
        for _ in range(3):
            assert told.acquire(timeout=PATIENCE)


def test_pieces_are_sent_at_once_until_a_client_does_not_read():
    taken: list[bool] = []
    left = threading.Event()

    async def talk(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        now = send_now(scope, send)
        assert now is not None
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while now.piece(bytes, PIECE):
            taken.append(True)
        assert not now.piece(_must_not_be_called, PIECE)
        await send({"type": "http.response.body", "body": b"then", "more_body": True})
        assert now.piece(bytes, b" the end")
        while (await receive())["type"] != "http.disconnect":
            pass
        assert not now.piece(_must_not_be_called, PIECE)
        left.set()

    with uvicorn_thread(talk, http=BoundedProtocol, lifespan="off", send_buffer=16_384) as port:
        with Client(port, receive_buffer=16_384) as client:
            client.request()
            body = client.reply().until(b"the end")
        assert left.wait(PATIENCE)
    assert taken
    assert body == PIECE * len(taken) + b"then the end"


def _must_not_be_called(_: object) -> bytes:
    raise AssertionError


@as_uvicorn
def test_nothing_is_sent_past_those_who_change_what_is_sent(http):
    found: list[bool] = []

    async def look(scope: Scope, receive: Receive, send: Send) -> None:
        async def wrapped(message: Message) -> None:
            await send(message)

        found.extend(send_now(scope, each) is not None for each in (send, wrapped))
        await echo(scope, receive, wrapped)

    with uvicorn_thread(look, http=http, lifespan="off") as port, Client(port) as client:
        client.request()
        client.reply().read_all()
    assert found == [http is BoundedProtocol, False]


def exchange(port: int, request: bytes) -> tuple[list[bytes], bytes]:
    """The lines of a head and all that follows, until the server closes."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
        client.sendall(request)
        data = b""
        while piece := client.recv(65_536):
            data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    return head.lower().split(b"\r\n"), body


@pytest.mark.parametrize("more", [b"", b"Connection: keep-alive\r\n", b"Connection: close\r\n"])
def test_a_client_of_http_1_0_gets_a_body_without_chunks(real, more):
    """RFC 9112, section 6.1."""
    port = real().ready()
    body = json.dumps(ask()).encode()
    head = (
        b"POST /api/chat HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\n%b"
        b"Content-Length: %d\r\n\r\n"
    )
    for _ in range(2):
        lines, answer = exchange(port, head % (more, len(body)) + body)
        assert lines[0] == b"http/1.1 200 ok"
        assert [line for line in lines if line.startswith(b"connection:")] == [b"connection: close"]
        assert not [line for line in lines if line.startswith(b"transfer-encoding:")]
        assert answer.startswith(b"event: start\ndata: \n\nevent: token\n")
        assert answer.endswith(b"event: done\ndata: \n\n")
    for path in (b"/healthz", b"/", b"/nothing", b"/api/chat/limits"):
        lines, answer = exchange(
            port, b"GET %b HTTP/1.0\r\nHost: localhost\r\n%b\r\n" % (path, more)
        )
        (length,) = [
            int(line.split(b": ")[1]) for line in lines if line.startswith(b"content-length")
        ]
        assert len(answer) == length


def test_a_client_that_closes_is_told_so_once(real):
    body = json.dumps(ask()).encode()
    head = (
        b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Connection: close\r\nContent-Length: %d\r\n\r\n"
    )
    lines, _ = exchange(real().ready(), head % len(body) + body)
    assert [line for line in lines if line.startswith(b"connection:")] == [b"connection: close"]


MUCH = 128 * len(PIECE)
LENGTH = b"Content-Length: %d\r\n\r\n" % MUCH
STILL_SENDING = {
    "closes": (b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + LENGTH, 413),
    "HTTP/1.0": (b"POST / HTTP/1.0\r\nHost: x\r\n" + LENGTH, 413),
    "expects": (b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n" + LENGTH, 413),
    "large head": (b"GET / HTTP/1.1\r\nHost: x\r\nCookie: " + b"x" * 99_000, 431),
    "no HTTP": (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n", 400),
}


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("kind", STILL_SENDING)
def test_a_client_that_still_sends_keeps_its_last_answer(kind, loop):
    """A reset would take it away: nginx makes a 502 of it (RFC 9112, section 9.6)."""

    async def refuse(_: Scope, __: Receive, send: Send) -> None:
        length = [(b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 413, "headers": length})
        await send({"type": "http.response.body", "body": b"no"})

    begins, status = STILL_SENDING[kind]
    options = {"http": BoundedProtocol, "loop": loop, "lifespan": "off"}
    with uvicorn_thread(refuse, **options) as port, Client(port) as client:
        client.socket.sendall(begins[:70_000])
        client.socket.sendall(begins[70_000:])
        answer = client.take_all()  # to its end, which comes before the request's
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        for _ in range(MUCH // len(PIECE)):
            client.socket.sendall(PIECE)


def test_idle_connections_are_kept_and_say_for_how_long(serve):
    for environ, seconds in (({}, "75"), ({"CHATNEST_SERVER__IDLE_SECONDS": "1"}, "1")):
        with Client(serve("--demo", "--ledger", "memory:", **environ).ready()) as client:
            assert client.get("/healthz").headers["keep-alive"] == f"timeout={seconds}"
            if seconds == "1":
                assert client.take_all() == b""  # it was closed by the server


BEHIND = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


def chat_with_another_behind() -> bytes:
    body = json.dumps(ask()).encode()
    head = (
        b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n"
    )
    return head % len(body) + body + BEHIND


def test_a_client_that_leaves_is_noticed_although_a_request_waits_behind_its_chat(real, upstream):
    upstream.default = Answer.silence()
    process = real(CHATNEST_BOUNDS__EARLY_START_SECONDS="60", CHATNEST_CHAT__PING_INTERVAL="60")
    with socket.create_connection(("127.0.0.1", process.ready()), PATIENCE) as client:
        client.sendall(chat_with_another_behind())
        upstream.wait(lambda u: u.requests, timeout=PATIENCE)
    upstream.wait(lambda u: u.aborted == 1, timeout=PATIENCE)


def test_clients_that_have_left_before_their_chat_begins_leave_nothing_behind(real):
    process = real(CHATNEST_SERVER__DRAIN_SECONDS="60")
    port = process.ready()
    for _ in range(200):
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
            client.sendall(chat_with_another_behind())
    with Client(port) as client:
        assert client.get("/healthz").status == 200
    process.signal(signal.SIGTERM)
    process.wait()  # which would take a minute, and leave tracebacks, for tasks that never end
    assert not [line for line in process.lines if "Cancel" in line]
