"""A client leaves in each phase of an answer, in each dialect: the model's connection is closed."""

import itertools
import sqlite3
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import anyio
import pytest

from chatnest.testing import Answer, FakeUpstream, Part, Text, Thinking, ToolCall
from chatnest.tokens import Tokenizer
from tests.endurance.conftest import Measured
from tests.endurance.support import CHECKED, centiles, leave, percentile, python_path
from tests.endurance.test_phases import TARGET, WAYS, read_until
from tests.servers.support import Client, Process
from tests.support.soak import SOAKS, amount
from tests.support.waiting import wait_for

MODELS: Final = {
    "openai-chat": "gpt-5",
    "openai-responses": "gpt-5",
    "anthropic-messages": "claude-sonnet-4-5",
}
THINKS = Thinking(["I should", " look"], signature="Zmlyc3Q=")
CALLS = ToolCall("call_1", "weather", ['{"city":', ' "Oslo"}'])
PHASES: dict[str, tuple[Sequence[Part] | None, int, bytes, Sequence[str]]] = {
    "before the answer": (None, 0, b"", ()),
    "in the thinking": ((THINKS,), 1, b'"I should"', ("I should",)),
    "in the text": (
        (THINKS, Text(["I will", " look"])),
        3,
        b'"I will"',
        ("I should look", "I will"),
    ),
    "in the arguments of a tool": (
        (THINKS, Text("Hm."), CALLS),
        4,
        b'{\\"city\\":',
        ("I should look", "Hm.", 'weather{"city":'),
    ),
}
"""The parts of an answer, the pieces that are sent of it, the last of them as the client gets it,
and all of them as they are counted.
"""
CONFIG = """
[providers.openai-chat]
base_url = "{address}/v1"
[providers.openai-responses]
api = "openai-responses"
base_url = "{address}/v1"
[providers.anthropic-messages]
api = "anthropic-messages"
base_url = "{address}"
{models}
[chat]
default_profile = "assistant"
events = ["reasoning", "tools"]
[profiles.assistant]
requests_per_minute = 1000000
daily_token_limit = 100000000
[hard_caps]
requests_per_minute = 1000000
daily_token_limit = 100000000
[bounds]
ledger_seconds = 20.0
lag_seconds = 60.0
"""
TOOLS = [{"type": "function", "function": {"name": "weather"}}]


@contextmanager
def serving(folder: Path, upstream: FakeUpstream) -> Iterator[int]:
    """``chatnest serve`` with a model of each dialect."""
    models = "".join(
        f'[models.{api}]\nprovider = "{api}"\nmodel = "{model}"\n' for api, model in MODELS.items()
    )
    text = CONFIG.format(address=upstream.origin, models=models)
    (folder / "own.toml").write_text(text, encoding="utf-8")
    command = ["-m", "chatnest", "serve", "--port", "0", "--config", "own.toml"]
    command += ["--ledger", "sqlite:books.db"]
    keys = {"OPENAI_API_KEY": "k", "ANTHROPIC_API_KEY": "k", "PYTHONPATH": python_path()}
    with Process(command, cwd=folder, **keys, **({} if SOAKS else CHECKED)) as process:
        yield process.ready()


def once(port: int, upstream: FakeUpstream, api: str, phase: str, how: str) -> float:
    """Seconds from the leaving to the end of the connection, as the model sees it."""
    parts, pieces, last, _ = PHASES[phase]
    answer = Answer.silence()
    if parts is not None:
        answer = Answer(parts=parts, after=pieces, ending="stall", usage=None)
    upstream.script(answer)
    requests = len(upstream.requests)
    with Client(port) as client:
        body = {
            "messages": [{"role": "user", "content": "Do I need an umbrella?"}],
            "model": api,
            "tools": TOOLS,
            "reasoningEffort": "medium",
        }
        client.request("POST", body=body)
        upstream.wait(lambda up: len(up.requests) > requests)
        seen = upstream.last
        if last:
            read_until(client.socket, last)
        left = time.monotonic()
        leave(client.socket, how)
        upstream.wait(lambda _: seen.state == "aborted", timeout=20)
    assert seen.closed_at is not None
    return max(0.0, seen.closed_at - left)


def charges(path: Path, model: str) -> list[tuple[int, str]]:
    """The output tokens and the outcomes of the turns of one model, in their order."""
    with closing(sqlite3.connect(path)) as db:
        rows = db.execute(
            "SELECT output_tokens, outcome FROM turns WHERE model = ? ORDER BY rowid", (model,)
        )
        return rows.fetchall()


def nothing_is_held(path: Path) -> bool:
    with closing(sqlite3.connect(path)) as db:
        (holds,) = db.execute("SELECT count(*) FROM holds WHERE state = 0").fetchone()
        (held,) = db.execute("SELECT coalesce(sum(held), 0) FROM counters").fetchone()
        return (holds, held) == (0, 0)


async def counted(texts: Sequence[str]) -> int:
    """The tokens of what had arrived."""
    counter = Tokenizer.for_model("gpt-5")
    return sum([await counter.count(text) for text in texts])


@pytest.mark.soak
@pytest.mark.parametrize("api", MODELS)
def test_stop_stops_in_every_phase_of_every_dialect(
    tmp_path, upstream, measured: Measured, api: str
):
    """Promise C: and what had arrived is charged, and nothing stays held."""
    took: dict[str, list[float]] = defaultdict(list)
    order: list[str] = []
    with serving(tmp_path, upstream) as port:
        for _, phase, how in itertools.product(range(amount(1, 100)), PHASES, WAYS):
            took[phase].append(once(port, upstream, api, phase, how))
            order.append(phase)
        books = tmp_path / "books.db"
        wait_for(lambda: len(charges(books, api)) == len(order), 20)
        assert nothing_is_held(books)
    arrived = {phase: anyio.run(counted, texts) for phase, (*_, texts) in PHASES.items()}
    for phase, (tokens, outcome) in zip(order, charges(books, api), strict=True):
        assert outcome == "client_gone"
        assert tokens >= arrived[phase] + 8
    for phase, seconds in took.items():
        measured(
            what=f"left {phase}, {api}",
            where="`chatnest serve`",
            target=TARGET,
            figure=centiles(seconds),
        )
    if SOAKS:
        late = {phase: percentile(seconds, 99) for phase, seconds in took.items()}
        assert {phase: ms for phase, ms in late.items() if ms > 100} == {}
