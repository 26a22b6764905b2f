"""Runs over several worker processes: one key is one call, whoever gets the request."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from statistics import quantiles

import pytest

from chatnest.testing import Answer, FakeUpstream
from tests.runs.support import used
from tests.servers.support import KEY, Client, Process, Reply, ask, children
from tests.support.soak import amount

pytestmark = pytest.mark.process

ROOMY = {
    "CHATNEST_PROFILES__BALANCED__MAX_CONCURRENT_STREAMS": "100",
    "CHATNEST_PROFILES__BALANCED__REQUESTS_PER_MINUTE": "1000",
    "CHATNEST_HARD_CAPS__REQUESTS_PER_MINUTE": "1000",
    "CHATNEST_BOUNDS__LEDGER_SECONDS": "10",
    "CHATNEST_LEDGER__TIMEOUT": "5",
    "CHATNEST_LEDGER__BUSY_TIMEOUT": "5",
}
WORKERS = amount(2, 4)
HEADERS = ["Idempotency-Key: k1"]

Start = Callable[[str], Process]


@pytest.fixture(params=["sqlite", "redis"])
def serve(
    request: pytest.FixtureRequest, tmp_path: Path, upstream: FakeUpstream
) -> Iterator[Process]:
    """``chatnest serve`` with two workers, in a soak with four."""
    ledger = "sqlite:books.db"
    if request.param == "redis":
        ledger = request.getfixturevalue("redis_server").url
    process = Process(
        ["-m", "chatnest", "serve", "--port", "0", "--workers", str(WORKERS), "--ledger", ledger],
        cwd=tmp_path,
        CHATNEST_PROVIDER__BASE_URL=upstream.base_url,
        CHATNEST_LEDGER__PREFIX=f"p{time.monotonic_ns()}",
        CHATNEST_RUNS__LINGER="30",
        OPENAI_API_KEY=KEY,
        **ROOMY,
    )
    with process:
        process.ready()
        yield process


def post(port: int) -> Client:
    client = Client(port)
    client.request("POST", body=ask(), headers=HEADERS)
    return client


def one_run(port: int, run: str, method: str = "GET") -> Reply:
    with Client(port) as client:
        client.request(method, f"/api/chat/runs/{run}")
        reply = client.reply()
        reply.read_all()
    return reply


@pytest.mark.soak
def test_fifty_at_once_over_several_workers(serve: Process, upstream: FakeUpstream):
    upstream.default = Answer.stall(3, pieces=tuple("abcdefgh"))
    clients = [post(serve.port) for _ in range(50)]
    upstream.wait(lambda u: u.requests)
    replies = [client.reply() for client in clients]
    upstream.release()
    bodies = {reply.read_all() for reply in replies}

    assert [reply.status for reply in replies] == [200] * 50
    assert len(bodies) == 1
    assert replies[0].text == "abcdefgh"
    assert sum("idempotency-replayed" in reply.headers for reply in replies) == 49
    assert len(upstream.requests) == 1
    assert used(serve.port) == 8 + 9
    for client in clients:
        client.socket.close()


@pytest.mark.soak
def test_a_cancel_reaches_the_worker_of_the_run(
    serve: Process, upstream: FakeUpstream, record_property: Callable[[str, object], None]
):
    upstream.default = Answer.stall(1)
    took = []
    for number in range(amount(8, 200)):
        headers = [f"Idempotency-Key: k{number}"]
        with Client(serve.port) as client:
            client.request("POST", body=ask(), headers=headers)
            reply = client.reply()
            reply.until(b'data: "Hello"')
            begun = time.monotonic()
            receipt = one_run(serve.port, reply.headers["chatnest-run-id"], "DELETE").json()
            upstream.wait(_has_aborted(number + 1))
            took.append(time.monotonic() - begun)
            assert receipt["was_running"]
            assert (receipt["outcome"], receipt["source"]) == ("cancelled", "estimated")
            reply.read_all()
            assert reply.error["code"] == "cancelled"
    p50, p99 = (quantiles(took, n=100)[at] * 1000 for at in (49, 98))
    record_property("soak", f"cancel over workers, {len(took)}: p50 {p50:.0f}, p99 {p99:.0f} ms")


@pytest.mark.soak
def test_who_reads_along_when_the_worker_dies_is_told(serve: Process, upstream: FakeUpstream):
    upstream.default = Answer.stall(1)
    first = post(serve.port)
    reply = first.reply()
    reply.until(b'data: "Hello"')
    run = reply.headers["chatnest-run-id"]
    pid = _worker_of(first, serve)
    os.kill(pid, signal.SIGSTOP)  # so that the others get those that come now
    clients = [post(serve.port) for _ in range(6)]
    upstream.wait(lambda u: u.requests)
    readers = [client.reply() for client in clients]
    with suppress(ProcessLookupError):  # its parent ends a worker that does not answer, too
        os.kill(pid, signal.SIGKILL)

    for reader in readers:
        reader.read_all()
        told = reader.error if reader.status == 200 else reader.json()
        assert (told["code"], told["retryable"]) == ("run_lost", True)
    with post(serve.port) as client:
        again = client.reply()
        again.read_all()
    for late in again, one_run(serve.port, run):
        assert b'"run_lost"' in late.read_all()
    assert len(upstream.requests) == 1
    for client in [first, *clients]:
        client.socket.close()


def _has_aborted(times: int) -> Callable[[FakeUpstream], bool]:
    return lambda upstream: upstream.aborted == times


def _worker_of(client: Client, serve: Process) -> int:
    """The process at the other end of a connection, by /proc."""
    ports = [f"{port:04X}" for port in (serve.port, client.socket.getsockname()[1])]
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    inode = next(row[9] for row in rows if [row[1][-4:], row[2][-4:]] == ports)
    for pid in children(serve.pid):
        if any(_leads_to(link, inode) for link in Path(f"/proc/{pid}/fd").iterdir()):
            return pid
    raise AssertionError(inode)


def _leads_to(link: Path, inode: str) -> bool:
    try:
        return str(link.readlink()) == f"socket:[{inode}]"
    except FileNotFoundError:
        return False  # it was closed meanwhile
