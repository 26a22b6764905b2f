"""``chatnest top`` shows the answers of all workers of a real server, and stops one of them."""

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from chatnest.testing import Answer, FakeUpstream
from tests.ledger.server import running
from tests.servers.support import Client, Process, Reply, children
from tests.support.terminal import Terminal
from tests.support.waiting import wait_for

CONFIG = """
[provider]
model = "gpt-5-mini"
base_url = "{base_url}"
price = {{ input = "1.00", output = "2.00" }}

[ledger]
url = "{url}"

[profiles.balanced]
max_concurrent_streams = 100
requests_per_minute = 60
"""


class Served:
    """A server of two workers, and the command ``chatnest top`` beside it."""

    def __init__(self, folder: Path, url: str, upstream: FakeUpstream, *, run: bool) -> None:
        self.folder = folder
        self.run = int(run)
        """The answer to stop: 1 is a run, 0 is none."""
        (folder / "c.toml").write_text(CONFIG.format(base_url=upstream.base_url, url=url))
        arguments = ["-m", "chatnest", "serve", "--config", "c.toml", "--port", "0"]
        self.process = Process([*arguments, "--workers", "2"], cwd=folder, OPENAI_API_KEY="k")

    def top(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "chatnest", "top", *arguments, "--config", "c.toml"],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def rows(self) -> list[dict[str, Any]]:
        done = self.top("--once", "--json")
        assert (done.returncode, done.stderr) == (0, "")
        return [json.loads(line) for line in done.stdout.splitlines()]

    def ask(self, stack: ExitStack, number: int, **fields: Any) -> Reply:
        client = stack.enter_context(Client(self.process.port))
        key = [f'Idempotency-Key: "{number}"'] if number % 2 else []
        body = {"messages": [{"role": "user", "content": f"question {number}"}], **fields}
        client.request("POST", body=body, headers=key)
        reply = client.reply()
        reply.until(b"event: token")
        return reply


@pytest.fixture(params=["sqlite", "redis"], scope="module")
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    tmp_path = tmp_path_factory.mktemp("top")
    with ExitStack() as stack:
        url = "sqlite:chatnest.db"
        if request.param == "redis":
            url = stack.enter_context(running(tmp_path)).url
        upstream = stack.enter_context(FakeUpstream())
        upstream.default = Answer(repeat=math.inf, pace=0.5)
        server = Served(tmp_path, url, upstream, run=request.param == "redis")
        stack.enter_context(server.process)
        server.process.ready()
        yield server


def test_top_shows_the_answers_of_all_workers_and_stops_one(served: Served) -> None:
    with ExitStack() as stack:
        wait_for(lambda: not served.rows())
        replies = [served.ask(stack, number) for number in range(6)]
        ids = [reply.headers["chatnest-request-id"] for reply in replies]
        rows: list[dict[str, Any]] = []
        wait_for(lambda: all("model" in row for row in rows or [{}]) or _fill(rows, served))
        assert [row["id"] for row in rows] == ids
        for row in rows:
            assert (row["model"], row["profile"]) == ("gpt-5-mini", "balanced")
            assert row["principal"].startswith("addr:")
            assert row["output_tokens"] > 0
            assert row["held_tokens"] > row["input_tokens"] > 0
            assert row["held_money"] == cost(row, row["held_tokens"])

        row = rows[served.run]
        done = served.top("stop", row["id"], "--json")
        assert (done.returncode, done.stderr) == (0, "")
        receipt = json.loads(done.stdout)
        assert receipt["money"] == cost(row, receipt["charged"])
        assert (receipt["id"], receipt["outcome"]) == (row["id"], "cancelled")
        assert receipt["source"] == "estimated"
        assert 0 < receipt["charged"] <= row["held_tokens"]
        assert b'"cancelled"' in replies[served.run].read_all()

        head, *lines = served.top().stdout.splitlines()
        words = ["id", "who", "model", "profile", "seconds", "tokens", "held", "money", "held"]
        assert head.split() == words
        assert [line.split()[0] for line in lines] == [each for each in ids if each != row["id"]]
        assert served.top("stop", "nobody").returncode == 1


def watched(served: Served, **size: int) -> Terminal:
    command = [sys.executable, "-m", "chatnest", "top", "--config", "c.toml"]
    return Terminal(command, served.folder, **size)


def test_the_keys_of_top_choose_and_stop_an_answer(served: Served) -> None:
    with ExitStack() as stack:
        terminal = stack.enter_context(watched(served))
        terminal.until_shown("0 running answers")
        terminal.press("sy\x1b[B")  # there is nothing to stop
        replies = [served.ask(stack, number) for number in range(10, 14)]
        ids = [reply.headers["chatnest-request-id"] for reply in replies]
        terminal.until_shown("4 running answers")
        terminal.until(lambda: terminal.picture.count("gpt-5-mini") == 4)
        head, *rows = terminal.shown[1:6]
        assert head.split()[-4:] == ["tokens", "held", "money", "held"]
        assert [row[2:8] for row in rows] == [each[-6:] for each in ids]
        assert max(map(len, terminal.shown)) <= 80

        terminal.press("\x1b[B\x1b[B\x1bOB\x1b[A")  # which may come in one read
        terminal.until(lambda: terminal.chosen[2:8] == ids[2][-6:])
        terminal.press("s")
        terminal.until_shown(f"y: stop {ids[2]}")
        terminal.press("n")
        terminal.until_shown("q: quit")
        terminal.press("kjs")
        terminal.press("y")
        terminal.until_shown(f"stopped {ids[2]}: cancelled, charged")
        terminal.until_shown("3 running answers")
        assert b'"cancelled"' in replies[2].read_all()
        assert "money (estimated)" in " ".join(terminal.shown)

        for rows_and_columns in ((6, 40), (40, 200)):
            terminal.resize(*rows_and_columns)
            terminal.until(partial(_fits, terminal, *rows_and_columns))
        assert [row[:32] for row in terminal.shown[2:5]] == [ids[0], ids[1], ids[3]]
        terminal.press("q")
        assert terminal.wait() == 0
        assert terminal.is_restored()
        assert terminal.output.endswith("(estimated)\r\n")


def _fits(terminal: Terminal, rows: int, columns: int) -> bool:
    """Whether the newest picture was made for this size: its last line is the longest that fits."""
    lines = terminal.shown
    return (
        len(lines) <= rows
        and max(map(len, lines)) <= columns
        and ("up, down" in lines[-1]) == (columns > 60)
    )


@pytest.mark.parametrize("served", ["sqlite"], indirect=True)
def test_top_leaves_the_terminal_as_it_was_when_it_is_interrupted(served: Served) -> None:
    with ExitStack() as stack:
        wait_for(lambda: not served.rows())
        served.ask(stack, 20)
        for end in (signal.SIGTERM, signal.SIGHUP, None):
            terminal = stack.enter_context(watched(served))
            terminal.until_shown("1 running answer,")
            assert not terminal.is_restored()
            if end is None:
                pause_workers(served, stack)
                terminal.press("sy")
                terminal.until_shown("stopping")
                terminal.press("\x03")
            else:
                terminal.signal(end)
            assert terminal.wait() == 130
            assert terminal.is_restored()
            assert "Traceback" not in terminal.output


def pause_workers(served: Served, stack: ExitStack) -> None:
    """Stop the workers from answering until the stack ends."""
    for pid in children(served.process.pid):
        os.kill(pid, signal.SIGSTOP)
        stack.callback(os.kill, pid, signal.SIGCONT)


def cost(row: dict[str, Any], tokens: int) -> int:
    """Nano-dollars of an answer of so many tokens, with those of its input."""
    return int(1_000 * row["input_tokens"] + 2_000 * (tokens - row["input_tokens"]))


def _fill(rows: list[dict[str, Any]], served: Served) -> bool:
    """Look once more: a busy machine may show an answer late."""
    rows[:] = served.rows()
    return False
