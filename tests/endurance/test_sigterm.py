"""SIGTERM while a hundred answers are being written: they are told, settled, and it is over."""

import signal
import sqlite3
import time
from collections import Counter
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from chatnest.testing import Answer, FakeUpstream
from tests.endurance.conftest import Measured
from tests.endurance.support import CHECKED, open_files, python_path
from tests.servers.support import LEFT_BEHIND, Client, Process, Reply
from tests.support.ports import free_port
from tests.support.soak import SOAKS, amount
from tests.support.waiting import wait_for

DRAIN = 0.5
STREAMS = amount(20, 100)
ROUNDS = amount(1, 100)
APP = "tests.endurance.app:create_app"
ROOMY = """
[profiles.balanced]
requests_per_minute = 1000000
max_concurrent_streams = 1000
daily_token_limit = 100000000
[hard_caps]
requests_per_minute = 1000000
daily_token_limit = 100000000
[bounds]
ledger_seconds = 20.0
"""


@dataclass(frozen=True)
class Host:
    """A server, and how long it or chatnest lets streams finish."""

    command: tuple[str, ...]
    environ: dict[str, str] = field(default_factory=dict)
    patience: float = DRAIN


HOSTS = {
    "chatnest serve": Host(
        ("chatnest", "serve", "--config", "own.toml", "--ledger", "sqlite:books.db"),
        {"CHATNEST_SERVER__DRAIN_SECONDS": str(DRAIN)},
    ),
    "uvicorn, drain_at_signal": Host(
        ("uvicorn", APP, "--factory", "--no-access-log"), {"ENDURANCE_DRAIN": str(DRAIN)}
    ),
    "uvicorn, its own timeout": Host(
        ("uvicorn", APP, "--factory", "--no-access-log", "--timeout-graceful-shutdown", "1"),
        patience=1,
    ),
    "hypercorn, its own timeout": Host(
        ("hypercorn", f"{APP}()", "--graceful-timeout", "1"), patience=1
    ),
    "granian, drain_at_signal": Host(
        ("granian", "--interface", "asgi", "--factory", APP), {"ENDURANCE_DRAIN": str(DRAIN)}
    ),
}


@pytest.mark.soak
@pytest.mark.parametrize("name", HOSTS)
def test_who_is_being_answered_is_told_and_settled(
    tmp_path: Path, upstream: FakeUpstream, measured: Measured, name: str
):
    host = HOSTS[name]
    open_files(4_096)
    upstream.default = Answer.stall(1)
    ends: Counter[str] = Counter()
    settled, held = 0, 0
    last: list[float] = []
    exits: list[float] = []
    for number in range(ROUNDS):
        folder = tmp_path / str(number)
        folder.mkdir()
        port = free_port()
        with start(host, port, folder, upstream) as process, ExitStack() as stack:
            wait_for(partial(answers, port, host))
            replies = open_streams(port, stack)
            begun = time.monotonic()
            process.signal(signal.SIGTERM)
            ends.update(end_of(reply) for reply in replies)
            last.append(time.monotonic() - begun)
            process.wait()
            exits.append(time.monotonic() - begun)
        turns, open_holds = books(folder / "books.db")
        settled, held = settled + turns, held + open_holds
    measured(
        what=f"SIGTERM with {STREAMS} open streams, {ROUNDS} times",
        where=name,
        target=f"`server_shutdown` after {host.patience:g} s, all settled, held 0, "
        f"exit within {host.patience + 5:g} s",
        figure=f"{dict(ends)}; {settled:,} settled, {held} held; told after at most "
        f"{max(last):.2f} s, exit after at most {max(exits):.2f} s",
    )
    assert ends == {"server_shutdown": ROUNDS * STREAMS}
    assert (settled, held) == (ROUNDS * STREAMS, 0)
    assert max(last) < host.patience + amount(8, 4), "not by the patience of ten seconds behind it"
    assert max(exits) < host.patience + amount(30, 5)


def start(host: Host, port: int, folder: Path, upstream: FakeUpstream) -> Process:
    (folder / "own.toml").write_text(ROOMY, encoding="utf-8")
    program = host.command[0]
    where = ("--bind", f"127.0.0.1:{port}") if program == "hypercorn" else ("--port", str(port))
    environ = {
        "ENDURANCE_UPSTREAM": upstream.base_url,
        "ENDURANCE_BOOKS": "books.db",
        "CHATNEST_PROVIDER__BASE_URL": upstream.base_url,
        "PYTHONPATH": python_path(),
    }
    environ |= host.environ | ({} if SOAKS else CHECKED)
    process = Process(["-m", *host.command, *where], cwd=folder, **environ)
    process.complaints = LEFT_BEHIND  # servers show each request that they have cancelled
    return process


def answers(port: int, host: Host) -> bool:
    path = "/readyz" if host.command[0] == "chatnest" else "/inside"
    try:
        with Client(port) as client:
            return client.get(path).status == 200
    except (OSError, EOFError):
        return False


def open_streams(port: int, stack: ExitStack) -> list[Reply]:
    clients = [stack.enter_context(Client(port)) for _ in range(STREAMS)]
    for client in clients:
        client.request("POST", body={"messages": [{"role": "user", "content": "Hi"}]})
    replies = [client.reply() for client in clients]
    for reply in replies:
        reply.until(b'"Hello"')
    return replies


def end_of(reply: Reply) -> str:
    try:
        reply.read_all()
    except (OSError, EOFError) as exc:
        return type(exc).__name__
    return str(reply.error["code"]) if reply.events[-1] == "error" else reply.events[-1]


def books(path: Path) -> tuple[int, int]:
    """Turns that were settled, and holds that stand."""
    with closing(sqlite3.connect(path)) as db:
        (turns,) = db.execute("SELECT count(*) FROM turns").fetchone()
        (holds,) = db.execute("SELECT count(*) FROM holds WHERE state = 0").fetchone()
        (held,) = db.execute("SELECT coalesce(sum(held), 0) FROM counters").fetchone()
        return turns, holds + held
