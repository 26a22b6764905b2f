"""The files, the commands and the program of docs/how-to/limits.md, as they stand there."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from chatnest.config.build import build_chat
from chatnest.config.sections import load_config
from chatnest.ledger.sqlite import SQLiteLedger
from chatnest.testing import Conversation

PAGE = (Path(__file__).parents[2] / "docs/how-to/limits.md").read_text()
BLOCK = re.compile(r"^```(python|toml|shell-session)\n(.*?)^```", re.MULTILINE | re.DOTALL)
ASK = {"messages": [{"role": "user", "content": "Hello"}]}


def blocks(language: str) -> list[str]:
    return [text for name, text in BLOCK.findall(PAGE) if name == language]


async def limits_of(chat: Any, **headers: str) -> dict[str, dict[str, Any]]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with Conversation(chat, method="GET", path="/chat/limits", headers=named) as c:
        await c.read_all()
    return {limit["name"]: limit for limit in c.problem()["limits"]}


@pytest.mark.anyio
async def test_the_first_file_limits_what_it_says(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-a-key")
    file = tmp_path / "chatnest.toml"
    file.write_text(blocks("toml")[0])
    chat = build_chat(load_config(file, {"CHATNEST_LEDGER__URL": "memory:"}, {}))
    limits = await limits_of(chat)
    await chat.aclose()
    assert limits["own-month"]["limit"] == "5.00"
    assert limits["house"]["limit"] == "50.00"
    assert limits["large-model"]["limit"] == "0.10"  # without a plan: the smallest
    assert "team-month" not in limits  # an address is in no team
    assert "tpm" not in limits  # a shadow


async def begin(ledger: SQLiteLedger) -> None:
    await ledger.check()
    await ledger.aclose()


@pytest.mark.process
def test_a_grant_counts_once(tmp_path):
    (tmp_path / "chatnest.toml").write_text(blocks("toml")[1])
    anyio.run(begin, SQLiteLedger(tmp_path / "chatnest.db"))
    (session,) = blocks("shell-session")
    lines = session.splitlines()
    for command, expected in zip(lines[::2], lines[1::2], strict=True):
        words = command.removeprefix("$ chatnest ").replace('"paid by card"', "paid").split()
        run = subprocess.run(
            [sys.executable, "-m", "chatnest", *words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        assert re.sub(r"at \S+Z;", "at TIME;", run.stdout.strip()) == expected


@pytest.mark.anyio
async def test_the_program_counts_money_for_the_team():
    names: dict[str, Any] = {"__name__": "example"}
    exec(blocks("python")[0], names)
    chat = names["chat"]
    async with Conversation(chat, json=ASK, headers={"x-user": "ann"}) as c:
        await c.read_all()
        await c.finished()
    assert c.status == 200
    limits = await limits_of(chat, x_user="bob")
    await chat.aclose()
    assert limits["team-month"]["limit"] == "200.00"
    assert 0 < float(limits["team-month"]["used"]) < 0.01  # what ann has spent
    assert limits["asked"]["used"] == 0
