"""The Redis store emptied under ``chatnest serve``: running answers end well, and nothing new is
admitted until an operator adopts the store.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from chatnest.testing import FakeUpstream
from tests.fire.support import Books, chat
from tests.fire.test_store_lost import (
    ACCOUNT,
    FRESH,
    USER,
    ends_well,
    refused,
    running,
    serve,
    settled,
)
from tests.ledger.server import Server
from tests.servers.support import Client, said
from tests.support.soak import amount
from tests.support.waiting import PATIENCE, wait_for


def chatnest(folder: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """A command, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "chatnest", *arguments],
        cwd=folder,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def flush(server: Server) -> None:
    with server.client() as client:
        client.flushall()


def fail_over_to_nothing(server: Server) -> None:
    server.stop()
    server.start()


@pytest.fixture
def redis(tmp_path: Path):
    """It keeps nothing over a restart."""
    folder = tmp_path / "redis"
    folder.mkdir()
    server = Server(folder)
    yield server.start()
    server.stop()


def ready(port: int) -> tuple[int, str]:
    with Client(port) as client:
        reply = client.get("/readyz")
        return reply.status, str(json.loads(reply.read_all()).get("reason", ""))


@pytest.mark.parametrize("empty", [flush, fail_over_to_nothing])
def test_a_store_that_is_emptied_while_streams_run(
    tmp_path: Path, upstream: FakeUpstream, redis: Server, empty: Callable[[Server], None]
):
    streams, books = amount(12, 49), Books(redis.url)  # of 50 at a time
    with serve(tmp_path, upstream, redis.url) as port:
        clients = [running(port, upstream) for _ in range(streams)]
        empty(redis)
        wait_for(lambda: ready(port)[0] == 503 and "the books are gone" in ready(port)[1])
        asked = len(upstream.requests)
        for _ in range(10):
            refused(port)
        for client in clients:
            ends_well(client, upstream)
        refused(port)
        assert len(upstream.requests) == asked
        with redis.client() as client:
            assert not list(client.scan_iter("*:counters"))

        adopted = chatnest(tmp_path, "ledger", "adopt", "--ledger", redis.url)
        assert (adopted.returncode, adopted.stderr) == (0, "")
        assert "books missing since" in adopted.stdout
        settled(books, streams * FRESH)
        wait_for(lambda: ready(port) == (200, ""))
        assert chat(port, USER).status == 200
        settled(books, (streams + 1) * FRESH)
    assert books.check_money(ACCOUNT) == streams + 1 == len(upstream.requests)
    exported = chatnest(
        tmp_path, "ledger", "export", "--since", "2020-01-01", "--ledger", redis.url
    )
    records = [json.loads(line) for line in exported.stdout.splitlines()]
    assert [record["outcome"] for record in records] == ["done"] * (streams + 1)
    assert len({record["id"] for record in records}) == streams + 1


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
def test_a_server_that_may_evict_keys_is_not_served_with(
    tmp_path: Path, redis: Server, policy: str
):
    with redis.client() as client:
        client.config_set("maxmemory-policy", policy)

    ended = chatnest(tmp_path, "serve", "--port", "0", "--demo", "--ledger", redis.url)

    assert ended.returncode == 2
    assert f"expected noeviction, got {policy}" in said(ended.stderr)


def test_a_server_that_does_not_tell_its_policy_is_warned_about(
    tmp_path: Path, upstream: FakeUpstream, redis: Server
):
    with redis.client() as client:
        client.execute_command("ACL", "SETUSER", "default", "-info", "-config")
    with serve(tmp_path, upstream, redis.url) as port:
        assert chat(port, USER).status == 200
