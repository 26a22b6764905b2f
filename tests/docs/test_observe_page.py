"""The observer of docs/how-to/observe.md, and a policy that ends an answer, as they stand there."""

import re
from pathlib import Path
from typing import Any, get_args

import pytest

from chatnest.telemetry import Observation
from chatnest.testing import Conversation

HOW_TO = Path(__file__).parents[2] / "docs/how-to"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)

pytestmark = pytest.mark.anyio


def program(page: str, part: str) -> dict[str, Any]:
    """What the program with ``part`` in it defines."""
    names: dict[str, Any] = {"__name__": "example"}
    exec(next(p for p in BLOCK.findall((HOW_TO / page).read_text()) if part in p), names)
    return names


async def test_the_observer_counts_refusals():
    names = program("observe.md", "class Refusals")
    chat = names["chat"]
    good = {"messages": [{"role": "user", "content": "Hello"}]}
    for body in (good, {"messages": 3}, {}):
        async with Conversation(chat, json=body) as c:
            await c.read_all()
            await c.finished()
    await chat.aclose()
    assert names["refusals"].counts == {"invalid_request": 2}


def test_the_page_has_every_field_of_every_event():
    page = (HOW_TO / "observe.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| .* \| (.*) \|$", page, re.MULTILINE))
    common = {"id", "time", "principal", "groups", "plan", "profile", "model"}
    assert {name: set(re.findall(r"`(\w+)`", row)) for name, row in rows.items()} == {
        event.__name__: set(event.__struct_fields__) - common for event in get_args(Observation)
    }


async def test_the_policy_ends_the_answer_at_a_word():
    names = program("custom-policy.md", "StopAnswer")
    chat = names["chat"]
    body = {"messages": [{"role": "user", "content": "Hello"}]}
    async with Conversation(chat, json=body) as c:
        received = (await c.read_all()).decode()
        await c.finished()
    await chat.aclose()
    assert len(received) > 1_000
    assert names["NoCodeName"].name not in received.lower()
    assert "event: done" in received
