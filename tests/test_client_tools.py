"""chatnest.client sends images and tools, reads their events, and runs functions as tools."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from chatnest import ASSISTANT, ChatNestApp, MemoryLedger
from chatnest.client import ChatError, ChatNestClient, Tool, image_part
from chatnest.conversation import Image, Reasoning, ToolResult
from chatnest.events import Delta, ReasoningSignature, Source, ToolCall, ToolCallDelta
from chatnest.events import Reasoning as Thinking
from tests.servers.support import uvicorn_thread
from tests.support.scripted import Scripted
from tests.test_image_size import png

pytestmark = [pytest.mark.anyio, pytest.mark.loops("asyncio")]
HI = [{"role": "user", "content": "Hi"}]
CALL = (
    Thinking("Hm"),
    ReasoningSignature("sealed", "p", "m", redacted=True, id="r1"),
    Delta("I look. "),
    ToolCall(0, "c1", "weather"),
    ToolCallDelta(0, '{"city":'),
    ToolCallDelta(0, ' "Oslo"}'),
)


@contextmanager
def served(*answers: Any, reason: str = "") -> Iterator[tuple[Scripted, str]]:
    """A chat behind a port, in front of a script."""
    provider = Scripted(*answers, reason=reason)
    app = ChatNestApp(
        provider=provider,
        profiles=[ASSISTANT],
        default_profile="assistant",
        ledger=MemoryLedger(),
        identify=lambda _: "ann",
    )
    with uvicorn_thread(app) as port:
        yield provider, f"http://127.0.0.1:{port}/api/chat"


def weather(city: str, days: int = 1) -> dict[str, Any]:
    """The weather of a city."""
    return {"city": city, "days": days}


async def slow_weather(city: str) -> str:
    return f"Rain in {city}"


def test_a_tool_is_made_of_a_function():
    tool = Tool.of(weather)

    assert tool.definition() == {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather of a city.",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string"},
                    "days": {"type": "integer", "default": 1},
                },
                "required": ["city"],
                "additionalProperties": False,
            },
        },
    }


async def test_events_of_an_answer_are_read_and_can_be_sent_back():
    pieces = [*CALL, Source("https://e.org", "E")]
    with served(pieces) as (_, url):
        async with ChatNestClient(url) as client:
            kinds = ("reasoning", "tools", "sources")
            async with client.ask(HI, events=kinds) as answer:
                events = [event async for event in answer.events()]
            async with client.ask(HI) as plain:
                texts = [text async for text in plain]

    assert events == pieces
    assert texts == ["I look. "]
    assert answer.message == {
        "role": "assistant",
        "content": "I look. ",
        "reasoning": [
            {
                "text": "Hm",
                "signature": "sealed",
                "provider": "p",
                "model": "m",
                "redacted": True,
                "id": "r1",
            }
        ],
        "tool_calls": [
            {
                "id": "c1",
                "type": "function",
                "function": {"name": "weather", "arguments": '{"city": "Oslo"}'},
            }
        ],
    }


@pytest.mark.parametrize("function", [weather, slow_weather])
async def test_functions_are_called_and_thinking_goes_back(function):
    seen: list[object] = []
    tool = Tool.of(function)
    with served([*CALL[:3], ToolCall(0, "c1", tool.name), *CALL[4:]], [Delta("It rains.")]) as (
        provider,
        url,
    ):
        async with ChatNestClient(url) as client:
            run = await client.run_tools(HI, [function], on_event=seen.append)

    assert run.text == "It rains."
    assert [message["role"] for message in run.messages] == [
        "user",
        "assistant",
        "tool",
        "assistant",
    ]
    assert len(run.usage) == 2
    assert seen[-1] == Delta("It rains.")
    _, second = provider.asked
    parts = [part for message in second.messages for part in message.parts]
    assert parts[1] == Reasoning(
        text="Hm", signature="sealed", provider="p", model="m", redacted=True, id="r1"
    )
    found = '{"city":"Oslo","days":1}' if function is weather else "Rain in Oslo"
    assert parts[-1] == ToolResult(call_id="c1", text=found)


def broken(city: str) -> str:
    raise OSError(f"no weather for {city}")


@pytest.mark.parametrize(
    ("tool", "arguments", "said"),
    [
        (broken, '{"city": "Oslo"}', "OSError: no weather for Oslo"),
        (weather, '{"city": 5}', "ValidationError: Expected `str`, got `int` - at `$.city`"),
        (weather, "{oops", "DecodeError: "),
        (slow_weather, "{}", "There is no tool of this name."),
    ],
)
async def test_an_error_of_a_function_goes_back_to_the_model(tool, arguments, said):
    name = "weather" if tool is slow_weather else tool.__name__
    first = [ToolCall(0, "c1", name), ToolCallDelta(0, arguments)]
    with served(first, [Delta("Sorry.")]) as (provider, url):
        async with ChatNestClient(url) as client:
            run = await client.run_tools(HI, [tool])

    assert run.text == "Sorry."
    (result,) = provider.asked[1].messages[-1].parts
    assert isinstance(result, ToolResult)
    assert result.is_error
    assert result.text.startswith(said)


async def test_the_rounds_end():
    with served(CALL) as (provider, url):
        async with ChatNestClient(url) as client:
            with pytest.raises(ChatError) as caught:
                await client.run_tools(HI, [weather], rounds=3)

    assert caught.value.code == "too_many_rounds"
    assert len(provider.asked) == 3


async def test_calls_that_an_agent_has_made_are_not_made_again():
    called: list[str] = []

    def weather(city: str) -> str:
        called.append(city)
        return ""

    with served((*CALL, Delta("Sunny")), reason="stop") as (provider, url):
        async with ChatNestClient(url) as client:
            run = await client.run_tools(HI, [weather])

    assert (run.text, called, len(provider.asked)) == ("I look. Sunny", [], 1)


async def test_a_call_that_broke_off_is_not_made():
    called: list[str] = []

    def weather(city: str) -> str:
        called.append(city)
        return ""

    with served(CALL[:5], reason="length") as (_, url):
        async with ChatNestClient(url) as client:
            with pytest.raises(ChatError) as caught:
                await client.run_tools(HI, [weather])

    assert caught.value.code == "incomplete_call"
    assert called == []


async def test_an_image_is_sent_as_a_part():
    content = [{"type": "text", "text": "See"}, image_part(png(3, 2))]
    with served([Delta("ok")]) as (provider, url):
        async with (
            ChatNestClient(url) as client,
            client.ask(
                [{"role": "user", "content": content}],
                options={"maxOutputTokens": 100, "stop": ["END"]},
            ) as answer,
        ):
            assert await answer.text() == "ok"

    (request,) = provider.asked
    image = request.messages[0].parts[1]
    assert isinstance(image, Image)
    assert (image.width, image.height) == (3, 2)
    assert request.sampling.stop == ("END",)
    with pytest.raises(ValueError, match="expected a PNG"):
        image_part(b"oops")


def test_a_tool_of_a_schema_gets_its_arguments_as_they_are():
    tool = Tool(function=weather, name="w", parameters={"type": "object"})

    assert json.loads(json.dumps(tool.definition()))["function"]["parameters"] == {"type": "object"}
