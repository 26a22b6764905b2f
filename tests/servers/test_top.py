"""``chatnest top`` shows the answers of all workers of a real server, and stops one of them."""

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from chatnest.testing import Answer, FakeUpstream
from tests.ledger.server import running
from tests.servers.support import Client, Process, Reply
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
"""


class Served:
    """A server of two workers, and the command ``chatnest top`` beside it."""

    def __init__(self, folder: Path, url: str, upstream: FakeUpstream, *, run: bool) -> None:
        self._folder = folder
        self.run = int(run)
        """The answer to stop: 1 is a run, 0 is none."""
        (folder / "c.toml").write_text(CONFIG.format(base_url=upstream.base_url, url=url))
        arguments = ["-m", "chatnest", "serve", "--config", "c.toml", "--port", "0"]
        self.process = Process([*arguments, "--workers", "2"], cwd=folder, OPENAI_API_KEY="k")

    def top(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "chatnest", "top", *arguments, "--config", "c.toml"],
            cwd=self._folder,
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


@pytest.fixture(params=["sqlite", "redis"])
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Served]:
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


def cost(row: dict[str, Any], tokens: int) -> int:
    """Nano-dollars of an answer of so many tokens, with those of its input."""
    return int(1_000 * row["input_tokens"] + 2_000 * (tokens - row["input_tokens"]))


def _fill(rows: list[dict[str, Any]], served: Served) -> bool:
    """Look once more: a busy machine may show an answer late."""
    rows[:] = served.rows()
    return False
