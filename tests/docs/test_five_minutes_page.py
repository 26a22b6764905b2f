"""The program of the first page a newcomer copies does what the page says."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from chatnest.testing import Conversation

PAGE = Path(__file__).parents[2] / "docs/tutorial/five-minutes.md"
MESSAGES = {"messages": [{"role": "user", "content": "Hello!"}]}


@pytest.fixture
def app() -> Any:
    pytest.importorskip("fastapi")
    (program,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(program, str(PAGE), "exec"), names)
    return names["app"]


async def ask(app: Any, key: str | None) -> Conversation:
    headers = [("x-api-key", key)] if key else []
    async with Conversation(app, json=MESSAGES, headers=headers) as asked:
        await asked.read_all()
    return asked


@pytest.mark.anyio
@pytest.mark.loops("asyncio")
async def test_each_user_has_two_requests_a_minute_and_strangers_none(app):
    answers = [await ask(app, "key-of-ann") for _ in range(3)]
    assert [each.status for each in answers] == [200, 200, 429]
    assert b"event: start" in answers[0].received
    assert b"event: token" in answers[0].received
    assert answers[0].received.rstrip().splitlines()[-2] == b"event: done"
    refusal = json.loads(answers[2].received)
    assert refusal["limit"]
    assert refusal["retry_after"] > 0
    assert (await ask(app, None)).status == 401
    assert (await ask(app, "key-of-bob")).status == 200
