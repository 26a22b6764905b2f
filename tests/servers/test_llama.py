"""A real llama.cpp server as upstream: nobody here wrote what it sends."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from chatnest import ChatNestApp, MemoryLedger, OpenAIProvider
from chatnest.ledger.base import Charge, Hold, Settlement
from chatnest.policies import Policy, RetryOnce, TrimHistory
from chatnest.testing import Conversation, chat_nest_client, parse_events
from tests.servers.support import ask

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(
        not os.environ.get("CI")
        and not all(importlib.util.find_spec(name) for name in ("xllamacpp", "gguf", "numpy")),
        reason="xllamacpp, gguf and numpy are needed for a real llama.cpp server",
    ),
]


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL of a server in a process of its own, which ends with its standard input."""
    script = Path(__file__).with_name("llama_server.py")
    with subprocess.Popen(
        [sys.executable, script, tmp_path_factory.mktemp("model")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        url = process.stdout.readline().strip()
        assert url, "the server has not started"
        yield url
        process.stdin.close()
        assert process.wait(20) == 0


class Books(MemoryLedger):
    def __init__(self) -> None:
        super().__init__()
        self.charges: list[Charge] = []
        self.held: list[int] = []

    async def settle(self, hold: Hold, charge: Charge) -> Settlement:
        self.charges.append(charge)
        self.held.append(hold.tokens)
        return await super().settle(hold, charge)


def make_chat(url: str, books: Books, **options: Any) -> ChatNestApp:
    provider = OpenAIProvider(model="noise", base_url=url, options={"seed": 7, "temperature": 0})
    policies: list[Policy] = [TrimHistory(), RetryOnce()]
    return ChatNestApp(provider=provider, ledger=books, policies=policies, **options)


def asked_directly(url: str, content: str, max_tokens: int) -> tuple[str, dict[str, int], str]:
    """Text, usage and finish reason of the same request without chatnest."""
    body = {
        "messages": [{"role": "user", "content": content}],
        "max_tokens": max_tokens,
        "seed": 7,
        "temperature": 0,
    }
    answer = httpx2.post(f"{url}/chat/completions", json=body, timeout=60).json()
    choice = answer["choices"][0]
    return choice["message"]["content"], answer["usage"], choice["finish_reason"]


@pytest.mark.parametrize("content", ["Hi", "Tell me of word7 and word8.", "Grüße 👋🏽 你好"])
async def test_its_noise_is_streamed_and_charged_by_its_own_figures(llama, content):
    books = Books()
    app = make_chat(llama, books, usage_event=True)
    async with Conversation(app, json=ask(content, profile="constrained"), timeout=60) as c:
        await c.read_all()
    await app.aclose()
    text, usage, reason = asked_directly(llama, content, 150)
    view = chat_nest_client(c.received)
    assert (view.text.strip(), view.done, view.error) == (text.strip(), True, None)
    [event] = [event for event in parse_events(c.received) if event.event == "usage"]
    assert json.loads(event.data) == {
        "input_tokens": usage["prompt_tokens"],
        "output_tokens": usage["completion_tokens"],
        "total_tokens": usage["total_tokens"],
        "source": "provider",
        "finish_reason": reason,
    }
    [charge] = books.charges
    assert (charge.tokens, charge.source) == (usage["total_tokens"], "provider")
    assert charge.output_tokens <= 150


async def first_token(c: Conversation) -> None:
    await c.until(lambda: b"event: token" in c.received)


async def test_a_client_that_leaves_leaves_it_free_for_the_next(llama):
    books = Books()
    app = make_chat(llama, books)
    for _ in range(4):  # it has two slots
        async with Conversation(app, json=ask(), timeout=60) as c:
            await first_token(c)
            c.disconnect()
            await c.finished()
    async with Conversation(app, json=ask(profile="constrained"), timeout=60) as c:
        assert (await c.read_all()).endswith(b"event: done\ndata: \n\n")
    await app.aclose()
    assert {charge.outcome for charge in books.charges[:4]} <= {"client_gone", "done"}
    assert books.charges[4].outcome == "done"


async def test_a_conversation_that_is_too_long_for_it_is_known_as_such(llama):
    books = Books()
    app = make_chat(llama, books)
    async with Conversation(app, json=ask("long " * 1_200), timeout=60) as c:
        await c.read_all()
    await app.aclose()
    assert (c.status, c.problem()["code"]) == (400, "context_length")
    assert books.charges[0].tokens == 0


SCHEMA = {
    "type": "object",
    "properties": {"bread": {"enum": ["rye", "spelt"]}},
    "required": ["bread"],
    "additionalProperties": False,
}
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a place",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}}},
    },
}


async def test_a_schema_is_its_grammar(llama):
    books = Books()
    app = make_chat(llama, books, default_profile="assistant")
    form = {"type": "json_schema", "json_schema": {"name": "bread", "schema": SCHEMA}}
    async with Conversation(app, json=ask(responseFormat=form), timeout=60) as c:
        await c.read_all()
    await app.aclose()
    view = chat_nest_client(c.received)
    assert view.done
    assert json.loads(view.text)["bread"] in SCHEMA["properties"]["bread"]["enum"]  # type: ignore[index]
    [charge] = books.charges
    assert charge.source == "provider"


async def test_a_tool_loop_is_read_by_its_template_and_costs_what_was_held_at_most(llama):
    books = Books()
    provider = OpenAIProvider(model="noise", base_url=llama, encoding="bytes")
    app = ChatNestApp(provider=provider, ledger=books, policies=[], default_profile="assistant")
    call = {"name": "weather", "arguments": '{"place": "Oslo"}'}
    messages = [
        {"role": "user", "content": "How is the weather in Oslo?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "call_1", "type": "function", "function": call}],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "Sunny, 12 degrees"},
    ]
    body = {
        "messages": messages,
        "tools": [WEATHER],
        "maxOutputTokens": 100,
        "usageEvent": True,
        "temperature": 0,  # its noise at random may look like a broken call, which ends it
    }
    async with Conversation(app, json=body, timeout=60) as c:
        await c.read_all()
    await app.aclose()
    assert chat_nest_client(c.received).done
    [charge] = books.charges
    assert charge.source == "provider"
    [event] = [event for event in parse_events(c.received) if event.event == "usage"]
    spent = json.loads(event.data)["input_tokens"]
    assert 200 < spent <= books.held[0]
