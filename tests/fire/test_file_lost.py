"""The ledger's file deleted and replaced under ``chatnest serve --workers 2``: running answers end,
new ones wait for the operator's step, and each is charged once.
"""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from chatnest.testing import Answer, FakeUpstream
from tests.fire.support import DONE, Books, chat, write_config
from tests.servers.support import KEY, Client, Process, ask, children
from tests.support.soak import amount
from tests.support.waiting import PATIENCE, wait_for

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")

USERS, EACH, FRESH = ("ann", "bob", "cid", "dot"), amount(5, 25), 8 + 4


@contextmanager
def serve(folder: Path, upstream: FakeUpstream) -> Iterator[Process]:
    options = ("--port", "0", "--workers", "2", "--ledger", "sqlite:books.db")
    process = Process(
        ["-m", "chatnest", "serve", *options, "--config", str(write_config(folder))],
        cwd=folder,
        CHATNEST_PROVIDER__BASE_URL=upstream.base_url,
        CHATNEST_IDENTITY__HEADER="X-User",
        CHATNEST_PROFILES__BALANCED__REQUESTS_PER_MINUTE="60",
        CHATNEST_PROFILES__BALANCED__MAX_CONCURRENT_STREAMS="50",
        OPENAI_API_KEY=KEY,
    )
    with process:
        process.ready()
        yield process


def ready(port: int) -> tuple[int, Any]:
    try:
        with Client(port) as client:
            reply = client.get("/readyz")
            return reply.status, reply.json()
    except (OSError, EOFError):
        return 0, {}


def adopt(folder: Path) -> str:
    command = [sys.executable, "-m", "chatnest", "ledger", "adopt", "--ledger", "sqlite:books.db"]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


def ledger(folder: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    line = [sys.executable, "-m", "chatnest", "ledger", *command, "--ledger", "sqlite:books.db"]
    return subprocess.run(line, cwd=folder, check=False, capture_output=True, text=True)


def begin(port: int, user: str, key: str | None) -> Client:
    client = Client(port)
    client.socket.settimeout(PATIENCE)
    keyed = [] if key is None else [f'Idempotency-Key: "{key}"']
    client.request("POST", body=ask(), headers=[f"X-User: {user}", *keyed])
    assert client.reply().status == 200
    return client


def crowd(port: int, upstream: FakeUpstream) -> list[Client]:
    """Answers that have begun, half of them keyed: twenty, in a soak a hundred."""
    upstream.default = Answer.stall(1)
    clients = [
        begin(port, user, f"{user}-{number}" if number % 2 else None)
        for user in USERS
        for number in range(EACH)
    ]
    for client in clients:
        client.until(b'"Hello"')
    upstream.default = Answer()
    return clients


def end(clients: list[Client], upstream: FakeUpstream) -> None:
    upstream.release()
    for client in clients:
        client.until(DONE)
        client.socket.close()


def nothing_starts(port: int, upstream: FakeUpstream, reason: str) -> None:
    """By any worker, once each has noticed."""
    wait_for(lambda: all(ready(port)[0] == 503 for _ in range(20)))
    assert reason in ready(port)[1]["reason"]
    asked = len(upstream.requests)
    for _ in range(20):
        reply = chat(port, "ann")
        assert (reply.status, reply.json()["code"]) == (503, "ledger_unavailable")
    assert len(upstream.requests) == asked


def delete(path: Path) -> None:
    for ending in "", "-wal", "-shm":
        path.with_name(path.name + ending).unlink()


def delete_alone(path: Path) -> None:
    path.unlink()


def delete_log(path: Path) -> None:
    path.with_name(path.name + "-wal").unlink()


def replace(path: Path) -> None:
    """By a copy, made while answers run; the log stays, as it does with `mv`."""
    copy = path.with_name("copy")
    with closing(sqlite3.connect(path)) as one, closing(sqlite3.connect(copy)) as other:
        one.backup(other)
    copy.rename(path)


def restore(path: Path) -> None:
    """An older copy, in the way that SQLite has for it."""
    with (
        closing(sqlite3.connect(path)) as one,
        closing(sqlite3.connect(path.with_name("older"))) as other,
    ):
        other.backup(one)


LOST = [
    pytest.param(delete, "deleted", id="deleted"),
    pytest.param(delete_alone, "deleted", id="deleted-alone"),
    pytest.param(delete_log, "log", id="log-deleted"),
    pytest.param(replace, "replaced", id="replaced"),
    pytest.param(restore, "overwritten", id="restored"),
]


@pytest.mark.soak
@pytest.mark.parametrize(("lose", "reason"), LOST)
def test_all_that_runs_is_charged_once_and_nothing_starts_before_the_adoption(
    tmp_path: Path, upstream: FakeUpstream, lose: Callable[[Path], None], reason: str
):
    path = tmp_path / "books.db"
    books = Books(f"sqlite:{path}")
    with serve(tmp_path, upstream) as process:
        port = process.port
        with (
            closing(sqlite3.connect(path)) as one,
            closing(sqlite3.connect(tmp_path / "older")) as other,
        ):
            one.backup(other)
        clients = crowd(port, upstream)
        before = _generation(path)
        # A copy is told by what it lacks of what a worker has seen, which looks twice a second.
        wait_for(lambda: ready(port)[0] == 200 and _generation(path) > before + 1)
        lose(path)
        nothing_starts(port, upstream, reason)
        end(clients, upstream)
        nothing_starts(port, upstream, reason)

        assert "is the ledger from now on" in adopt(tmp_path)

        wait_for(lambda: all(ready(port)[0] == 200 for _ in range(20)))
        wait_for(lambda: len(books.turns()) == len(USERS) * EACH)
        for user in USERS:
            assert books.used_and_held(f"header:{user}") == (EACH * FRESH, 0)
        assert len({turn.id for turn in books.turns()}) == len(USERS) * EACH
        assert chat(port, "ann").status == 200
        wait_for(lambda: books.used_and_held("header:ann") == ((EACH + 1) * FRESH, 0))
        turns = len(USERS) * EACH + 1
        assert books.check_money(*[f"header:{user}" for user in USERS]) == turns
        assert len(upstream.requests) == turns


def _generation(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        (generation,) = connection.execute("SELECT generation FROM books").fetchone()
        return int(generation)


@pytest.mark.parametrize("lose", [delete, replace])
def test_a_worker_that_is_replaced_makes_no_second_set_of_books(
    tmp_path: Path, upstream: FakeUpstream, lose: Callable[[Path], None]
):
    path = tmp_path / "books.db"
    with serve(tmp_path, upstream) as process:
        port, workers = process.port, children(process.pid)
        assert chat(port, "ann").status == 200
        lose(path)
        victim = max(workers)
        os.kill(victim, signal.SIGKILL)
        wait_for(lambda: victim not in children(process.pid) and len(children(process.pid)) > 1)
        nothing_starts(port, upstream, "servers used it")
        assert path.exists() == (lose is replace)
        shown = ledger(tmp_path, "show")
        assert shown.returncode != 0
        if lose is replace:
            assert "replaced while servers used it" in shown.stderr

        adopt(tmp_path)
        wait_for(lambda: all(chat(port, "ann").status == 200 for _ in range(10)))
        assert ledger(tmp_path, "show").returncode == 0


def test_without_servers_another_file_is_just_that(tmp_path: Path, upstream: FakeUpstream):
    path = tmp_path / "books.db"
    with serve(tmp_path, upstream) as process:
        assert chat(process.port, "ann").status == 200
    path.unlink()
    with serve(tmp_path, upstream) as process:
        assert chat(process.port, "ann").status == 200
    assert Books(f"sqlite:{path}").used_and_held("header:ann") == (FRESH, 0)


def test_adopting_the_file_in_use_changes_nothing(tmp_path: Path, upstream: FakeUpstream):
    with serve(tmp_path, upstream) as process:
        assert chat(process.port, "ann").status == 200
        assert "the file was in its place" in adopt(tmp_path)
        wait_for(lambda: all(chat(process.port, "ann").status == 200 for _ in range(6)))
    turns = Books(f"sqlite:{tmp_path / 'books.db'}").check_money("header:ann")
    assert turns == len(upstream.requests)
