"""A program of a page in a process of its own, under its server, and what is asked of it."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from chatnest.ledger.base import wall_clock
from chatnest.ledger.sqlite import SQLiteLedger
from chatnest.testing import Answer, FakeUpstream
from tests.servers.support import KEY, LEFT_BEHIND, PATIENCE, Client, Process, ask
from tests.support.books import Books
from tests.support.soak import amount

ROOT = Path(__file__).parents[2]
LEASE_SECONDS = 31
HOLD = 408
"""Tokens of a short request: its input and all of the output that it might have got."""
INPUT = 9
"""And of its input alone."""
START = b"event: start\ndata: \n\n"
DONE = b"event: done\ndata: \n\n"


def environment(folder: Path, upstream: FakeUpstream, **more: str) -> dict[str, str]:
    """What a page tells its reader to set, and where the test's own modules are."""
    paths = [str(folder), str(ROOT), *(path for path in sys.path if path)]
    return {
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OPENAI_API_KEY": KEY,
        "OPENAI_BASE_URL": upstream.base_url,
        "SECRET_KEY": "a secret of the test's, long enough for everybody",
        **more,
    }


@contextmanager
def serving(
    arguments: Sequence[str], folder: Path, upstream: FakeUpstream, port: int, **environ: str
) -> Iterator[Process]:
    """A server's process, once it accepts connections."""
    with Process(arguments, cwd=folder, **environment(folder, upstream, **environ)) as process:
        process.complaints = LEFT_BEHIND  # some show each request that they have cancelled
        deadline = time.monotonic() + 2 * PATIENCE
        while not accepts(port):
            if process.ended() or time.monotonic() > deadline:
                raise AssertionError("".join(process.lines))
            time.sleep(0.02)
        yield process


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE).close()
    except OSError:
        return False
    return True


class Site:
    """A running program of a page, and the checks that every one has to pass."""

    def __init__(
        self, process: Process, port: int, upstream: FakeUpstream, folder: Path, account: str
    ) -> None:
        self.process = process
        self.port = port
        self.login: tuple[str, ...] = ()
        self._before = 0
        self._upstream = upstream
        self._folder = folder
        self._account = account

    def answers_well(self, record_property: Callable[[str, object], None]) -> None:
        """What every server, program and login leaves as it is."""
        self.frames_arrive_one_by_one()
        self.the_user_pays()
        self.limits_are_reachable()
        self.a_refusal_is_a_problem_document()
        for each, times in self.stop_closes_the_upstream().items():
            record_property(each, times)
        self.a_run_can_be_read_again()

    def frames_arrive_one_by_one(self) -> None:
        """The upstream goes on only when the client has read what there was."""
        words = ("one", "two", "three")
        for number in (1, 2):
            self._upstream.script(Answer.stall(number, pieces=words))
            with Client(self.port) as client:
                client.request("POST", body=ask(), headers=self.login)
                reply = client.reply()
                assert (reply.status, reply.headers["content-type"]) == (200, "text/event-stream")
                assert reply.headers["x-accel-buffering"] == "no"
                said = b"".join(
                    b'event: token\ndata: "%b"\n\n' % word.encode() for word in words[:number]
                )
                reply.until(START + said)
                assert reply.body == START + said
                self._upstream.release()
                assert reply.read_all().endswith(DONE)
                assert reply.text == "onetwothree"

    def the_user_pays(self) -> None:
        """What was asked so far, two answers of 12 tokens, is on the user's account."""
        assert self._used_and_held() == (24, 0)

    def limits_are_reachable(self) -> None:
        with Client(self.port) as client:
            limits = client.get("/api/chat/limits", *self.login).json()["limits"]
        (tokens,) = (limit for limit in limits if limit["name"] == "tokens")
        assert (tokens["used"], tokens["held"]) == (24, 0)

    def a_run_can_be_read_again(self) -> None:
        """The id that the answer to an Idempotency-Key names leads back to it."""
        with Client(self.port) as client:
            headers = (*self.login, "Idempotency-Key: a-key-of-the-test-s")
            client.request("POST", body=ask(), headers=headers)
            reply = client.reply()
            text = reply.read_all()
            run = reply.headers["chatnest-run-id"]
        with Client(self.port) as client:
            assert client.get(f"/api/chat/runs/{run}", *self.login).body == text

    def a_refusal_is_a_problem_document(self) -> None:
        with Client(self.port) as client:
            client.request("POST", body={}, headers=self.login)
            refused = client.reply()
            assert refused.headers["content-type"] == "application/problem+json"
            assert (refused.status, refused.json()["code"]) == (400, "invalid_request")

    def a_stranger_is_refused(self) -> None:
        with Client(self.port) as client:
            client.request("POST", body=ask())
            assert client.reply().status == 401

    def stop_closes_the_upstream(self) -> dict[str, list[float]]:
        """A token comes when the model says it, and the model is left when the client leaves: the
        milliseconds of both, of several answers.
        """
        answers = amount(3, 15)  # a minute has 30 requests, of which some are others'
        times = [self._one_that_is_stopped() for _ in range(answers)]
        return {
            "first_token_ms": [round(token, 1) for token, _ in times],
            "stop_ms": [round(stop, 1) for _, stop in times],
        }

    def _one_that_is_stopped(self) -> tuple[float, float]:
        before, asked = self._upstream.aborted, len(self._upstream.requests)
        self._upstream.script(Answer.stall(1, opening="silence"))
        with Client(self.port) as client:
            client.request("POST", body=ask(), headers=self.login)
            self._upstream.wait(lambda u: len(u.requests) > asked, timeout=PATIENCE)
            said = time.monotonic()
            self._upstream.release()
            client.reply().until(b'data: "Hello"\n\n')
            read = time.monotonic()
        left = time.monotonic()
        self._upstream.wait(lambda u: u.aborted > before, timeout=PATIENCE)
        closed = self._upstream.last.closed_at
        assert closed is not None
        return 1000 * (read - said), 1000 * (closed - left)

    def the_page_s_requests_work(self, requests: Sequence[list[str]], password: str) -> None:
        """What a page asks by curl, one after the other; the last is answered whole."""
        curl = shutil.which("curl")
        if curl is None:
            pytest.skip("curl is not installed")
        answer = b""
        for _, *shown in requests:
            words = [
                word.replace(":8000/", f":{self.port}/").replace("=...", f"={password}")
                for word in shown
            ]
            answer = subprocess.run(
                [curl, "-sS", "--noproxy", "*", "--max-time", str(PATIENCE), *words],
                cwd=self._folder,
                check=True,
                capture_output=True,
            ).stdout
        assert (answer[: len(START)], answer[-len(DONE) :]) == (START, DONE)

    def the_host_heard(self) -> list[str]:
        """What its lifespan has told the framework."""
        notes = self._folder / "host.txt"
        return notes.read_text().split() if notes.exists() else []

    def the_rest_is_the_host_s(self, neighbour: int = 404) -> None:
        """``neighbour`` is the status of a path that begins as the chat's does."""
        with Client(self.port) as client:
            assert client.get("/hello", *self.login).json() == {"hello": "ann"}
        with Client(self.port) as client:
            assert client.get("/api/chatter", *self.login).status == neighbour

    def websockets_are_the_host_s(self) -> None:
        headers = [tuple(field.split(": ", 1)) for field in self.login]
        address = f"ws://127.0.0.1:{self.port}/ws"
        with connect(address, additional_headers=headers, proxy=None) as websocket:  # type: ignore[arg-type]  # pairs
            websocket.send("hello")
            assert websocket.recv(timeout=PATIENCE) == "hello"
            # Hypercorn 0.18 dies on trio where both ends close at the same moment. Granian leaves
            # the closing of Quart's to the client.
            with suppress(ConnectionClosed, TimeoutError):
                websocket.recv(timeout=1)

    def sigterm_settles(self, streams: int) -> tuple[int, int]:
        """End it while answers run. What was used by these answers, and what is still held."""
        self._before, _ = self._used_and_held()
        with ExitStack() as stack:
            for _ in range(streams):
                self._upstream.script(Answer.stall(1))
                client = stack.enter_context(Client(self.port))
                client.request("POST", body=ask(), headers=self.login)
                client.reply().until(b'data: "Hello"\n\n')
            self.process.signal(signal.SIGTERM)
            self.process.wait()
        self._upstream.wait(lambda u: not u.open_sockets)
        used, held = self._used_and_held()
        return used - self._before, held

    def after_the_lease(self) -> tuple[int, int]:
        """The same, once the lease of a worker that was killed is over."""
        used, held = self._used_and_held(later=LEASE_SECONDS)
        return used - self._before, held

    def sigterm_lets_it_end(self) -> None:
        """An answer that ends after the signal and within the server's patience is whole."""
        self._upstream.script(Answer.stall(1))
        with Client(self.port) as client:
            client.request("POST", body=ask(), headers=self.login)
            reply = client.reply()
            reply.until(b'data: "Hello"\n\n')
            self.process.signal(signal.SIGTERM)
            self._upstream.release()
            assert reply.read_all().endswith(DONE)
        self.process.wait()
        assert self._used_and_held() == (12, 0)

    def _used_and_held(self, later: int = 0) -> tuple[int, int]:
        """Tokens of the user's, in so many seconds from now."""
        path, clock = self._folder / "chatnest.db", lambda: wall_clock() + later * 1000
        return Books(lambda: SQLiteLedger(path, clock=clock)).used_and_held(self._account)
