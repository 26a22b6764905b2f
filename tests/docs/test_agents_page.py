"""The page on agents: its programs run, and the stream is the one that it shows."""

import json
import re

import pytest

from chatnest.testing import Answer, Conversation, FakeUpstream, Text, ToolCall
from tests.docs.agents import PAGE, Script, model_of, programs

pytestmark = [pytest.mark.anyio, pytest.mark.loops("asyncio")]

SHOWN = re.findall(r"^```text\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture
def names(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-a-key")
    return programs()


async def test_the_stream_is_the_one_that_the_page_shows(names):
    chat, agent = names["chat"], names["agent"]
    body = {
        "messages": [{"role": "user", "content": "Do I need an umbrella in Oslo?"}],
        "events": ["reasoning", "tools", "usage"],
    }
    with agent.override(model=model_of(Script())):
        async with Conversation(chat, json=body) as c:
            came = (await c.read_all()).decode()
    await chat.aclose()
    assert came == f"event: start\ndata: \n\n{SHOWN[0]}\n"


async def test_without_events_there_is_only_text(names):
    chat, agent = names["chat"], names["agent"]
    body = {"messages": [{"role": "user", "content": "Hi"}]}
    with agent.override(model=model_of(Script())):
        async with Conversation(chat, json=body) as c:
            kinds = [kind async for kind, _ in c.events()]
    await chat.aclose()
    assert kinds == ["start", "token", "token", "done"]


async def test_the_contract_of_the_page_is_met(names):
    contract = names["TestHelpdesk"]()
    tests = [getattr(contract, name) for name in dir(contract) if name.startswith("test_")]
    assert len(tests) >= 5
    for test in tests:
        await test()


async def test_the_agent_asks_a_server_and_lets_its_connections_go(monkeypatch):
    body = {"messages": [{"role": "user", "content": "Do I need an umbrella in Oslo?"}]}
    with FakeUpstream(path="/v1/responses") as upstream:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-not-a-key")
        monkeypatch.setenv("OPENAI_BASE_URL", upstream.base_url)
        chat = programs()["chat"]
        for _ in range(2):  # the second time after aclose
            look = Answer(parts=[ToolCall("call_1", "weather", '{"city": "Oslo"}')])
            upstream.script(look, Answer(parts=[Text("Take an umbrella.")]))
            async with Conversation(chat, json=body) as c:
                came = [data async for kind, data in c.events() if kind == "token"]
            await chat.provider.aclose()
            assert "".join(map(json.loads, came)) == "Take an umbrella."
        await chat.aclose()

    first, second, *_ = [seen.json["max_output_tokens"] for seen in upstream.requests]
    assert first == 400
    assert second < first
