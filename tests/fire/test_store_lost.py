"""The store killed, frozen and locked under ``chatnest serve``: nothing starts, nothing is lost."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from chatnest.testing import Answer, FakeUpstream
from tests.fire.support import DONE, Books, chat, send, write_config
from tests.ledger.server import Server
from tests.servers.support import KEY, Client, Process
from tests.support.soak import amount
from tests.support.waiting import PATIENCE, wait_for

USER, ACCOUNT, FRESH = "ann", "header:ann", 8 + 4
DURABLE = ("--appendonly", "yes", "--appendfsync", "always")


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Server]:
    """A server of this test's own, which keeps what it was told."""
    folder = tmp_path / "redis"
    folder.mkdir()
    server = Server(folder, *DURABLE)
    yield server
    server.stop()


@contextmanager
def serve(folder: Path, upstream: FakeUpstream, ledger: str) -> Iterator[int]:
    process = Process(
        [
            *("-m", "chatnest", "serve", "--port", "0", "--ledger", ledger),
            *("--config", str(write_config(folder))),
        ],
        cwd=folder,
        CHATNEST_PROVIDER__BASE_URL=upstream.base_url,
        CHATNEST_IDENTITY__HEADER="X-User",
        CHATNEST_PROFILES__BALANCED__REQUESTS_PER_MINUTE="60",
        CHATNEST_PROFILES__BALANCED__MAX_CONCURRENT_STREAMS="50",
        OPENAI_API_KEY=KEY,
    )
    with process:
        port = process.port
        wait_for(lambda: _get(port, "/healthz") == 200)
        yield port


def _get(port: int, path: str) -> int:
    with Client(port) as client:
        return client.get(path).status


def refused(port: int) -> float:
    """Seconds in which a request is refused for the ledger's sake."""
    begun = time.monotonic()
    reply = chat(port, USER)
    assert (reply.status, reply.json()["code"]) == (503, "ledger_unavailable")
    assert "retry-after" in reply.headers
    return time.monotonic() - begun


def while_it_is_away(port: int, upstream: FakeUpstream) -> str:
    """Everything is refused, soon; nobody asks the model."""
    asked = len(upstream.requests)
    first = refused(port)
    later = sorted(refused(port) for _ in range(20))
    assert len(upstream.requests) == asked
    assert first < 20, "0.6 s, where nothing else runs"
    return f"first {first * 1000:.0f} ms, then median {later[10] * 1000:.1f} ms"


def running(port: int, upstream: FakeUpstream) -> Client:
    """A stream that has begun, once the store has answered in the little time that it has."""
    upstream.default = Answer.stall(1)
    begun: list[Client] = []

    def begins() -> bool:
        client = send(port, USER)
        if client.reply().status == 200:
            begun.append(client)
        else:
            client.socket.close()
        return bool(begun)

    wait_for(begins)
    begun[0].until(b'"Hello"')
    upstream.default = Answer()
    return begun[0]


def ends_well(client: Client, upstream: FakeUpstream) -> None:
    upstream.release()
    client.until(DONE)
    client.socket.close()


def settled(books: Books, used: int) -> float:
    """Seconds until the books say so."""
    return wait_for(lambda: _looks(books) == (used, 0), 3 * PATIENCE / 4)


def _looks(books: Books) -> tuple[int, int]:
    try:
        return books.used_and_held(ACCOUNT)
    except Exception:  # noqa: BLE001  # not back yet
        return -1, -1


def test_a_store_that_is_away_at_the_start(tmp_path, upstream, redis):
    with serve(tmp_path, upstream, redis.url) as port:
        assert _get(port, "/readyz") == 503
        print(while_it_is_away(port, upstream))
        redis.start()
        wait_for(lambda: _get(port, "/readyz") == 200)
        wait_for(lambda: chat(port, USER).status == 200)
        settled(Books(redis.url), FRESH)


def test_a_store_that_is_killed_while_streams_run(tmp_path, upstream, redis):
    redis.start()
    books = Books(redis.url)
    with serve(tmp_path, upstream, redis.url) as port:
        client = running(port, upstream)
        redis.stop()
        told = while_it_is_away(port, upstream)
        ends_well(client, upstream)
        redis.start()
        took = settled(books, FRESH)
        print(f"{told}; drained {took:.2f} s after the start")
        wait_for(lambda: chat(port, USER).status == 200)
        settled(books, 2 * FRESH)
    assert books.check_money(ACCOUNT) == 2
    assert took < 20, "two seconds, where nothing else runs"


@pytest.mark.soak
def test_a_store_that_freezes(
    tmp_path, upstream, redis, record_property: Callable[[str, object], None]
):
    redis.start()
    books = Books(redis.url)
    with serve(tmp_path, upstream, redis.url) as port:
        clients = [running(port, upstream) for _ in range(5)]
        with redis.frozen():
            thaws = time.monotonic() + amount(1, 60)
            told = while_it_is_away(port, upstream)
            for client in clients[:3]:
                ends_well(client, upstream)
            time.sleep(max(0.0, thaws - time.monotonic()))
        if amount(0, 1):  # the leases of the two that still run have ended meanwhile
            wait_for(lambda: books.used_and_held(ACCOUNT)[1] >= 0)
        for client in clients[3:]:
            ends_well(client, upstream)
        took = settled(books, 5 * FRESH)
        record_property("soak", f"{told}; drained {took:.2f} s after the thaw")
        print(f"{told}; drained {took:.2f} s after the thaw")
    assert books.check_money(ACCOUNT) == 5
    assert took < 20, "two seconds, where nothing else runs"


def test_a_file_that_is_locked(tmp_path, upstream):
    books = Books(f"sqlite:{tmp_path / 'books.db'}")
    with serve(tmp_path, upstream, "sqlite:books.db") as port:
        client = running(port, upstream)
        with closing(sqlite3.connect(tmp_path / "books.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            first = refused(port)
            ends_well(client, upstream)
            assert len(upstream.requests) == 1
            other.execute("ROLLBACK")
        took = settled(books, FRESH)
        print(f"first {first * 1000:.0f} ms, drained {took:.2f} s after the lock")
        wait_for(lambda: chat(port, USER).status == 200)
        settled(books, 2 * FRESH)
    assert books.check_money(ACCOUNT) == 2
