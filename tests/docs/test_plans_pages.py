"""The programs and the file of docs/how-to/teams.md and plans.md, as they stand there."""

import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from chatnest.config.build import build_chat
from chatnest.config.sections import load_config
from chatnest.testing import Conversation

pytestmark = pytest.mark.anyio
HOW_TO = Path(__file__).parents[2] / "docs/how-to"
BLOCK = re.compile(r"^```(python|toml)\n(.*?)^```", re.MULTILINE | re.DOTALL)
ASK = {"messages": [{"role": "user", "content": "Hello"}]}


def blocks(page: str, language: str) -> list[str]:
    found = BLOCK.findall((HOW_TO / page).read_text())
    return [text for name, text in found if name == language]


def program(page: str, word: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "example"}
    exec(next(text for text in blocks(page, "python") if word in text), names)
    return names


async def limits_of(chat: Any, **headers: str) -> dict[str, Any]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with Conversation(chat, method="GET", path="/chat/limits", headers=named) as c:
        await c.read_all()
    return c.problem()


async def test_the_file_opens_what_the_page_says(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-a-key")
    (text,) = blocks("teams.md", "toml")
    file = tmp_path / "chatnest.toml"
    file.write_text(text)
    chat = build_chat(load_config(file, {"CHATNEST_LEDGER__URL": "memory:"}, {}))
    ann = await limits_of(chat, authorization="Bearer secret")  # what the hash is of
    await chat.aclose()
    assert (ann["plan"], ann["profile"]) == ("pro", "assistant")
    assert ann["profiles"] == ["assistant", "expanded"]


async def test_a_team_has_one_budget_by_its_plan():
    names = program("teams.md", "class TeamBudget")
    chat = names["chat"]
    async with Conversation(chat, json=ASK, headers={"authorization": "Bearer secret"}) as c:
        await c.read_all()
        await c.finished()
    ann = await limits_of(chat, authorization="Bearer secret")
    await chat.aclose()
    limits = {limit["name"]: limit for limit in ann["limits"]}
    assert limits["team-tokens"]["limit"] == names["TEAM_TOKENS"]["pro"]
    assert limits["team-tokens"]["used"] == limits["tokens"]["used"] > 0


async def test_a_framework_may_name_team_and_plan():
    chat = program("teams.md", "MEMBERS")["chat"]
    ann, bob = [await limits_of(chat, x_user=name) for name in ("ann", "bob")]
    await chat.aclose()
    assert (ann["profiles"], bob["profiles"]) == (["assistant", "expanded"], ["constrained"])


async def test_plans_come_from_the_database_and_outlive_it(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    names = program("plans.md", "sqlite3")
    with closing(sqlite3.connect(names["DATABASE"])) as database, database:
        database.execute("CREATE TABLE customers (name TEXT PRIMARY KEY, plan TEXT)")
        database.execute("INSERT INTO customers VALUES ('ann', 'pro'), ('eve', 'enterprise')")
    chat = names["chat"]
    ann, bob, eve = [await limits_of(chat, x_user=name) for name in ("ann", "bob", "eve")]
    with closing(sqlite3.connect(names["DATABASE"])) as database, database:
        database.execute("DROP TABLE customers")
    dan = await limits_of(chat, x_user="dan")
    again = await limits_of(chat, x_user="ann")
    await chat.aclose()
    assert (ann["plan"], ann["profile"]) == ("pro", "expanded")
    assert ann["profiles"] == ["expanded", "balanced"]
    assert bob["plan"] == dan["plan"] == "free"
    assert eve["code"] == "internal_error"
    assert again == {**ann, "limits": again["limits"]}
    assert "plan_of failed: error=OperationalError failures=1. The last known" in caplog.text
    assert "expected one of the plans (free, pro), got 'enterprise'" in caplog.text
