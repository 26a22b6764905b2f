"""The team's budget of docs/how-to/custom-policy.md, as it stands there."""

import re
from pathlib import Path
from typing import Any

import pytest

from chatnest.testing import Conversation

PAGE = Path(__file__).parents[2] / "docs/how-to/custom-policy.md"
PROGRAMS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


async def _limits(chat: Any, key: str) -> dict[str, Any]:
    headers = {"x-api-key": key}
    async with Conversation(chat, method="GET", path="/chat/limits", headers=headers) as c:
        await c.read_all()
        return {limit["name"]: limit["used"] for limit in c.problem()["limits"]}


@pytest.mark.anyio
async def test_a_team_shares_its_budget():
    names: dict[str, Any] = {"__name__": "example"}
    exec(next(program for program in PROGRAMS if "class TeamBudget" in program), names)
    chat = names["chat"]
    body = {"messages": [{"role": "user", "content": "Hello"}]}
    async with Conversation(chat, json=body, headers={"x-api-key": "3f9a"}) as c:
        await c.read_all()
        await c.finished()
    ann, bob, eve = [await _limits(chat, key) for key in ("3f9a", "77c1", "a05e")]
    await chat.aclose()
    assert ann["team-tokens"] == bob["team-tokens"] == ann["tokens"] > 0
    assert bob["tokens"] == eve["tokens"] == eve["team-tokens"] == 0
