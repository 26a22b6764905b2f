"""What an open stream keeps while the model is silent, in bytes instead of pages: the same on every
machine, so that a regression fails here. (``nox -s bench`` measures the pages.)
"""

import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from benchmarks.load import question
from benchmarks.upstream import MARK, upstream_process
from benchmarks.weighed import Weighed, weighed_process

FEW, MANY = 100, 300
"""Streams: between the two, what the server keeps anyway does not show."""

TEXT = 16_384
"""Bytes of the question, which a turn knows as long as it lasts. They must be there only once."""

MOST = 28_100
"""Bytes that a stream keeps beside its question."""

ADVICE = (
    "bytes for each silent stream. More than before: see what was added to it, or is held by it. "
    "Where it has to be, measure what it costs (nox -s bench) and raise MOST in "
    "tests/work/test_memory.py; where there is less now, lower it."
)


TRIES = 3
"""Servers that are weighed at most. Under load, connections and the ledger's batches form otherwise
than at rest, and a stream seems to keep some hundred bytes more or less. What each of them keeps is
there in all tries.
"""


@pytest.mark.process
def test_a_silent_stream_keeps_no_more_than_it_did(tmp_path, record_property):
    found: list[float] = []
    while len(found) < TRIES and min(found, default=MOST + 1) > MOST:
        folder = tmp_path / str(len(found))
        folder.mkdir()
        found.append(_each(folder))
    record_property("bytes", str(list(map(round, found))))

    assert min(found) <= MOST, ADVICE


def _each(folder: Path) -> float:
    """Bytes for each of many streams, at a server of their own."""
    with (
        upstream_process() as upstream,
        weighed_process(upstream.port, folder) as server,
        ExitStack() as stack,
    ):
        before = _grown(server, FEW, stack)
        return (_grown(server, MANY - FEW, stack) - before) / (MANY - FEW) - TEXT


def _grown(server: Weighed, number: int, stack: ExitStack) -> int:
    """What is kept with so many more. The last comes alone, since the ledger remembers those that
    came last together.
    """
    _grow(server, number - 1, stack)
    _grow(server, 1, stack)
    return server.kept()


def _grow(server: Weighed, number: int, stack: ExitStack) -> None:
    """Until so many more are connected, have asked, and have had their first token."""
    ask = _long_question()
    clients = [stack.enter_context(server.connect()) for _ in range(number)]
    for client in clients:
        client.sendall(ask)
    for client in clients:
        _read_token(client)


def _long_question() -> bytes:
    """As it is asked everywhere, with much before it."""
    head, _, body = question(1, "hold").partition(b"\r\n\r\n")
    body = body.replace(b"Hello", b"hello, " * (TEXT // 7 + 1) + b"Hello")
    lines = [line for line in head.split(b"\r\n") if not line.startswith(b"Content-Length")]
    return b"\r\n".join([*lines, b"Content-Length: %d" % len(body), b"", body])


def _read_token(client: socket.socket) -> None:
    while MARK not in (data := client.recv(65_536)):
        assert data, "the stream has ended"
