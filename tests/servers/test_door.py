"""The door of ``chatnest serve``: refusals are whole, and what is no chat is served in a crowd."""

import socket
import sys
from collections.abc import Iterator

import pytest

from benchmarks.upstream import upstream_process
from tests.servers.support import KEY, Client, Process, ask
from tests.support.ports import free_port
from tests.support.waiting import wait_for

ORIGIN = "https://www.example.com"


@pytest.fixture(scope="module")
def port(tmp_path_factory) -> Iterator[int]:
    """A server that has as many streams as it may have: one."""
    port = free_port()
    with upstream_process() as model:
        settings = {
            "CHATNEST_SERVER__PORT": str(port),
            "CHATNEST_SERVER__ALLOW_ORIGINS": ORIGIN,
            "CHATNEST_BOUNDS__STREAMS": "1",
            "OPENAI_BASE_URL": f"http://127.0.0.1:{model.port}/v1",
            "OPENAI_API_KEY": KEY,
        }
        command = ["-m", "chatnest", "serve", "--ledger", "memory:"]
        with Process(command, cwd=tmp_path_factory.mktemp("door"), **settings) as process:
            process.find("Press Ctrl")
            wait_for(lambda: is_open(port))
            with Client(port) as first:
                assert first.chat("[1 hold]").status == 200
                yield port


def is_open(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="of Linux")
@pytest.mark.parametrize("size", [10, 100_000])
def test_a_refusal_is_whole_and_its_connection_serves_on(port, size):
    for _ in range(3):  # by the protocol, then by the door
        with Client(port) as client:
            reply = client.chat("a" * size)
            problem = reply.read_all()
            assert reply.status == 503
            assert b'"code":"overloaded"' in problem
            assert reply.headers["retry-after"] == "2"
            if reply.headers.get("connection") != "close":
                assert client.get("/healthz").status == 200


def test_all_else_is_served_in_a_crowd(port):
    for _ in range(3):
        with Client(port) as client:
            assert client.chat().status == 503
        with Client(port) as client:
            assert client.get("/healthz").status == 200
        with Client(port) as client:
            assert client.get("/api/chat/limits").status == 200


def test_a_page_of_another_origin_may_read_its_refusal(port):
    for _ in range(3):
        with Client(port) as client:
            client.request("POST", body=ask(), headers=[f"Origin: {ORIGIN}"])
            reply = client.reply()
            reply.read_all()
            assert reply.status == 503
            assert reply.headers["access-control-allow-origin"] == ORIGIN
            assert "Retry-After" in reply.headers["access-control-expose-headers"]


def test_a_request_that_comes_in_parts_is_refused_as_well(port):
    for _ in range(3):
        with Client(port) as client:
            client.socket.sendall(b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\n")
            assert client_of(port) == 503
            client.socket.sendall(b"Content-Length: 2\r\n\r\n{}")
            assert client.reply().status == 503


def client_of(port: int) -> int:
    with Client(port) as client:
        return client.chat().status
