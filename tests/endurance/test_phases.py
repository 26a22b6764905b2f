"""A client leaves in each phase, in each way: the upstream is closed, and the server lets go."""

import contextlib
import itertools
import socket
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from chatnest.testing import Answer, FakeUpstream
from tests.endurance.conftest import Measured
from tests.endurance.support import (
    CHECKED,
    Server,
    centiles,
    leave,
    percentile,
    request,
    uvicorn_process,
)
from tests.support.soak import SOAKS, amount
from tests.support.waiting import wait_for

SERVERS = [("asyncio", "h11"), ("uvloop", "httptools")]
WAYS = ("FIN", "RST", "half-close")
TARGET = "p50 20 ms, p99 100 ms"
ANSWERS = {
    "headers": Answer.silence(),
    "first token": Answer.stall(0),
    "tokens": Answer.stall(1),
    "send": Answer.endless("x" * 1_000),
    "ping": Answer.stall(1),
    "retry": Answer.error(500),
}
NAMES = {
    "body": "during the body",
    "admission": "during admission",
    "connect": "while connecting to the model",
    "headers": "while waiting for headers",
    "first token": "before the first token",
    "tokens": "between tokens",
    "send": "in a blocked send",
    "ping": "in a ping",
    "retry": "in the sleep before a retry",
    "done": "after done",
}
"""Of the fourth to the eighth the upstream sees the end."""
UNSEEN = ("send", "half-close")
"""Servers flush what waits before they tell of an end, and this client takes nothing."""
SEND = 5.0
"""Seconds: long enough to see that a send is blocked, on a machine that stands still at times."""
SEEN_UPSTREAM = ("headers", "first token", "tokens", "send", "ping")


@contextlib.contextmanager
def hole() -> Iterator[str]:
    """An address whose queue is full, so that to connect takes for ever."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"


def answer(seen: Any) -> Answer:
    return ANSWERS.get(seen.json["messages"][-1]["content"], Answer())


class Leaver:
    """Asks, waits until the phase is there, leaves, and finds out when that was noticed."""

    def __init__(self, server: Server, upstream: FakeUpstream) -> None:
        self.server = server
        self.upstream = upstream
        self._numbers = itertools.count()

    def once(self, phase: str, how: str) -> float:
        """Seconds from the leaving to the end of the upstream's request, or of the server's."""
        own = f"{phase}-{next(self._numbers)}".replace(" ", "-")
        data = request(phase, own)
        with socket.socket() as sock:
            if phase == "send":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            sock.settimeout(20)
            sock.connect(("127.0.0.1", self.server.port))
            reached = self._reached(phase, sock)
            sock.sendall(data[:-5] if phase == "body" else data)
            reached()
            left = time.monotonic()
            leave(sock, how)
            return max(0.0, self._noticed(phase, own) - left)

    def _reached(self, phase: str, sock: socket.socket) -> Callable[[], object]:
        """Waits until it is there, which must be asked for before."""
        requests = len(self.upstream.requests)
        if phase == "headers":
            return lambda: self.upstream.wait(lambda u: len(u.requests) > requests)
        if phase in {"first token", "tokens", "done"}:
            mark = {"first token": b"event: start", "tokens": b'"Hello"', "done": b"event: done"}
            return lambda: read_until(sock, mark[phase])
        if phase in {"body", "send"}:
            what = {"body": "bodies", "send": "blocked"}[phase]
            return lambda: wait_for(lambda: self.server.inside()[what] == 1)
        entered = self.server.entered(phase)
        return lambda: wait_for(lambda: self.server.entered(phase) > entered)

    def _noticed(self, phase: str, own: str) -> float:
        if phase in SEEN_UPSTREAM:
            seen = self.upstream.last
            self.upstream.wait(lambda _: seen.state == "aborted", timeout=20)
            assert seen.closed_at is not None
            return seen.closed_at
        ended: dict[str, float] = {}

        def has_ended() -> bool:
            ended.update(self.server.inside()["ended"])
            return own in ended

        wait_for(has_ended, 20)
        return ended[own]


def read_until(sock: socket.socket, mark: bytes) -> None:
    data = b""
    while mark not in data:
        more = sock.recv(65_536)
        assert more, data
        data += more


@pytest.mark.soak
@pytest.mark.parametrize(("loop", "http"), SERVERS)
def test_stop_stops_in_every_phase(tmp_path, upstream, measured: Measured, loop: str, http: str):
    """Promise C. In short, with a server that would complain of what it leaves behind."""
    upstream.default = answer
    rounds = amount(1, 100)
    took: dict[str, list[float]] = defaultdict(list)
    with (
        hole() as nowhere,
        uvicorn_process(
            tmp_path,
            upstream.base_url,
            loop,
            http,
            ENDURANCE_HOLE=nowhere,
            ENDURANCE_PING="0.02",
            ENDURANCE_SEND=str(SEND),
            **({} if SOAKS else CHECKED),
        ) as server,
    ):
        leaver = Leaver(server, upstream)
        leaver.once("done", "FIN")
        before = server.leaks()["counts"]
        for _, phase, how in itertools.product(range(rounds), NAMES, WAYS):
            if (phase, how) != UNSEEN:
                took[phase].append(leaver.once(phase, how))
        stalled = leaver.once(*UNSEEN)
        server.quiet(before, within=10)
    where = f"uvicorn, {loop} and {http}"
    for phase, seconds in took.items():
        what = f"left {NAMES[phase]}"
        measured(what=what, where=where, target=TARGET, figure=centiles(seconds))
    measured(
        what="half-closed in a blocked send, unread",
        where=where,
        target=f"send_seconds ({SEND:g} s)",
        figure=f"{stalled:.2f} s",
    )
    assert stalled < SEND + 20
    if SOAKS:
        late = {phase: percentile(seconds, 99) for phase, seconds in took.items()}
        assert {phase: ms for phase, ms in late.items() if ms > 100} == {}
