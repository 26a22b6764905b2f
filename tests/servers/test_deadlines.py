"""A connection that waits for its client has a deadline, and goes first when files run out."""

import asyncio
import threading
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from chatnest.server.protocol import BoundedProtocol
from tests.servers.support import PATIENCE, Client, Process, uvicorn_thread
from tests.servers.wires import Recorder, wire
from tests.support.waiting import wait_for

SOON = 0.4
HALF = b"POST /early HTTP/1.1\r\nHost: x\r\nContent-Len"
EARLY = b"POST /early HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\n"
LAST = EARLY.replace(b"Host", b"Connection: close\r\nHost")
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(params=["asyncio", "uvloop"])
def options(request) -> dict[str, Any]:
    """Of a server in a hurry."""
    http = partial(BoundedProtocol, head_seconds=SOON, rest_seconds=SOON)
    return {"http": http, "loop": request.param, "lifespan": "off", "timeout_keep_alive": 1}


def trickle(client: Client, piece: bytes) -> bytes:
    """Send one piece after another until the server has had enough, and give what it said."""
    said = b""
    client.socket.settimeout(0.05)
    for _ in range(int(PATIENCE / 0.05)):
        try:
            client.socket.sendall(piece)
            if not (data := client.socket.recv(65_536)):
                return said
            said += data
        except TimeoutError:
            pass
        except (BrokenPipeError, ConnectionResetError):
            return said
    raise AssertionError("it is still open")


CASES = {
    "nothing": (b"", b"", []),
    "empty lines before a request": (b"", b"\r\n", []),
    "half a head": (HALF, b"", [b"408"]),
    "half a head, byte by byte": (HALF, b"x", [b"408"]),
    "a body that was answered": (EARLY, b"", [b"200"]),
    "a body that was answered, byte by byte": (EARLY, b" ", [b"200"]),
    "a body that was answered last, byte by byte": (LAST, b" ", [b"200"]),
    "nothing after an answer": (GET, b"", [b"200"]),
    "empty lines after an answer": (GET, b"\r\n", [b"200"]),
    "half a head after an answer": (GET + HALF, b"x", [b"200", b"408"]),
}


@pytest.mark.parametrize("name", CASES)
def test_what_never_comes_is_not_waited_for(name, options):
    first, then, statuses = CASES[name]
    with uvicorn_thread(Recorder(), **options) as port, Client(port) as client:
        client.socket.sendall(first)
        said = trickle(client, then)
    assert [part[:3] for part in said.split(b"HTTP/1.1 ")[1:]] == statuses


def test_an_answer_and_a_body_that_is_read_have_the_time_of_their_application(options):
    over = threading.Event()
    read = []

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        more = True
        while more:
            message = await receive()
            more = message.get("more_body", False)
            read.append(message["type"])
        over.set()
        await Recorder()({**scope, "path": "/early"}, receive, send)

    with uvicorn_thread(slow, **options) as port, Client(port) as client, Client(port) as other:
        client.socket.sendall(EARLY)
        assert trickle(other, b"") == b""  # a deadline and more has passed
        client.socket.sendall(b" " * 9_999)
        assert over.wait(PATIENCE)
        assert client.reply().read_all() == b"ok"
    assert "http.disconnect" not in read


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, ({0}, {0}))
from chatnest.cli import main
sys.argv = ["chatnest", "serve", "--demo", "--port", "0", "--ledger", "memory:"]
main()
"""
FILES = 128


def test_the_oldest_without_a_request_goes_when_files_run_out(tmp_path):
    """Three times as many as there are files, and no deadline in sight."""
    environ = {"CHATNEST_SERVER__HEAD_SECONDS": "600", "CHATNEST_BOUNDS__BODY_SECONDS": "600"}
    with (
        Process(["-c", LIMITED.format(FILES)], cwd=tmp_path, **environ) as process,
        ExitStack() as stack,
    ):
        port = process.ready()
        halves = [HALF, EARLY.replace(b"/early", b"/api/chat"), b"", EARLY]
        clients = []
        for number in range(3 * FILES):
            client = stack.enter_context(Client(port))
            client.socket.sendall(halves[number % len(halves)])
            clients.append(client)
            if number % 16 == 0:
                with Client(port) as other:
                    assert other.get("/healthz").status == 200
        with Client(port) as other:
            assert other.get("/healthz").status == 200
        said = process.find(r"open files: descriptors=(\d+) limit=(\d+) closed=(\d+)")
        assert FILES // 2 < int(said[1]) <= int(said[2]) == FILES
        wait_for(lambda: sum(map(is_open, clients)) < FILES)
        assert is_open(clients[-1])


def is_open(client: Client) -> bool:
    client.socket.setblocking(False)
    try:
        while client.socket.recv(65_536):
            pass
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


@pytest.mark.anyio
@pytest.mark.loops("asyncio")
@pytest.mark.parametrize(("seconds", "queue"), [(0, "rests"), (6, "late")])
async def test_a_body_that_was_waited_for_has_had_its_time(seconds, queue, monkeypatch):
    """As one that gets a 408 after ``body_seconds``: its connection does not wait as long again."""
    recorder = Recorder()
    recorder.release = asyncio.Event()
    connection = wire(recorder, rest_seconds=10)
    table = connection.protocol._table
    now = table._now()
    monkeypatch.setattr(table, "_now", lambda: now)
    await connection.feed(EARLY)
    assert connection.protocol.queue is table.bodies
    now += seconds
    await connection.feed(b" ")
    recorder.release.set()
    await connection.feed()
    assert connection.protocol.queue is getattr(table, queue)
    await connection.feed(b" " * 9_998)
    assert connection.protocol.queue is table.idle
