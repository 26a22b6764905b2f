"""A client that sends on after its request and leaves: a server that has stopped reading, since the
next request has to wait, does not see that.
"""

import socket
import time
from functools import partial

import pytest

from chatnest.testing import Answer, FakeUpstream
from tests.endurance.conftest import Measured
from tests.endurance.support import CHECKED, leave, request, uvicorn_process
from tests.endurance.test_phases import read_until
from tests.support.soak import SOAKS, amount

SERVERS = [("asyncio", "h11"), ("uvloop", "httptools")]
if SOAKS:
    SERVERS += [("asyncio", "httptools"), ("uvloop", "h11")]
DEADLINE = amount(4, 10)
"""Seconds of a stream, whose first token has to come on a machine that stands still at times."""
PING = 0.1
STRAY = {"h11": b"stray", "httptools": b"GET /inside HTTP/1.1\r\nHost: localhost\r\n\r\n"}
"""What each parser stops at; the other's is seen through."""


def has_lost(count: int, upstream: FakeUpstream) -> bool:
    return upstream.aborted == count


@pytest.mark.soak
@pytest.mark.parametrize(("loop", "http"), SERVERS)
def test_a_client_whose_leaving_is_hidden_costs_no_more_than_the_deadline(
    tmp_path, upstream: FakeUpstream, measured: Measured, loop: str, http: str
):
    """By FIN and by RST, from a model that is silent: only pings are written."""
    upstream.default = Answer.stall(1)
    took: dict[str, float] = {}
    with uvicorn_process(
        tmp_path,
        upstream.base_url,
        loop,
        http,
        ENDURANCE_PING=str(PING),
        ENDURANCE_STREAM=str(DEADLINE),
        **({} if SOAKS else CHECKED),
    ) as server:
        before = server.leaks()["counts"]
        for how in ("FIN", "RST"):
            with socket.create_connection(("127.0.0.1", server.port), timeout=20) as sock:
                sock.sendall(request("tokens"))
                read_until(sock, b'"Hello"')
                sock.sendall(STRAY[http])
                left = time.monotonic()
                leave(sock, how)
            seen = upstream.last
            upstream.wait(partial(has_lost, len(took) + 1), timeout=DEADLINE + 20)
            assert seen.closed_at is not None
            took[how] = seen.closed_at - left
        server.quiet(before, within=20)
    measured(
        what=f"blind disconnect, a ping every {PING:g} s",
        where=f"uvicorn, {loop} and {http}",
        target=f"stream_seconds ({DEADLINE} s), or a ping that fails",
        figure=", ".join(f"{how} {seconds:.2f} s" for how, seconds in took.items()),
    )
    if SOAKS:
        assert max(took.values()) < DEADLINE + 1
