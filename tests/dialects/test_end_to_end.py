"""A conversation of today, with images, tools, schemas and thinking, in each dialect."""

import json
from base64 import b64encode
from collections.abc import Sequence
from typing import Any

import pytest

from chatnest.client import ChatError, ChatNestClient, image_part
from chatnest.events import Usage
from chatnest.testing import (
    Answer,
    Conversation,
    Part,
    RedactedThinking,
    Text,
    Thinking,
    TokenUsage,
    ToolCall,
)
from tests.dialects.support import (
    DIALECTS,
    HI,
    QUERY,
    WEATHER,
    Dialect,
    asking,
    chatting,
    datas,
)
from tests.servers.support import uvicorn_thread
from tests.streams.short_cut import SendsNow
from tests.streams.support import answer_to, kinds, text
from tests.test_image_size import png

pytestmark = [pytest.mark.anyio, pytest.mark.loops("asyncio")]

FIRST, SECOND = "Zmlyc3Q=", "c2Vjb25k"
"""Signatures of two blocks of thinking."""
THINKS = Thinking(["I should", " look."], signature=FIRST)
CALLS = ToolCall("call_1", "weather", ['{"city":', ' "Oslo"}'])
PHOTO = png(640, 480)


@pytest.fixture(params=DIALECTS, ids=[dialect.name for dialect in DIALECTS])
def dialect(request) -> Dialect:
    found: Dialect = request.param
    return found


@pytest.fixture(params=[Conversation, SendsNow], ids=["waits", "sends-now"])
def conversation(request) -> type[Conversation]:
    """A server that waits for each write, and one that need not."""
    found: type[Conversation] = request.param
    return found


async def weather(city: str) -> str:
    """The weather of a city."""
    return f"Rain in {city}"


# ------------------------------------------------ what the model gets


def images(body: Any) -> list[Any]:
    """The images of the last message that a fake received, in the words of its dialect."""
    message = body["input"][-1] if "input" in body else body["messages"][-1]
    return [part for part in message["content"] if "image" in part["type"]]


async def test_a_photo(dialect, upstream):
    address = f"data:image/png;base64,{b64encode(PHOTO).decode()}"
    question = {"role": "user", "content": [{"type": "text", "text": "What?"}, image_part(PHOTO)]}
    async with chatting(dialect, upstream) as chat:
        await answer_to(chat.app, asking({"role": "user", "content": "What?"}))
        await answer_to(chat.app, asking(question))

    (image,) = images(upstream.last.json)
    plain, seen = (turn.input_tokens for turn in chat.ended.turns)
    match dialect.name:
        case "chat":
            assert image == {"type": "image_url", "image_url": {"url": address, "detail": "low"}}
            assert seen - plain == 70  # what is documented for gpt-5 with low detail
        case "responses":
            assert image == {"type": "input_image", "image_url": address, "detail": "low"}
            assert seen - plain == 70
        case _:
            source = {"type": "base64", "media_type": "image/png", "data": address[22:]}
            assert image == {"type": "image", "source": source}
            assert 640 * 480 // 750 <= seen - plain <= 2 * 640 * 480 // 750
    hold = chat.books.reservations[-1]
    assert hold.tokens == seen + chat.ended.turns[-1].max_output_tokens
    assert await chat.books.held() == (0, 0)


SCHEMA = {
    "type": "object",
    "properties": {"umbrella": {"type": "boolean"}},
    "required": ["umbrella"],
    "additionalProperties": False,
}


async def test_a_schema(dialect, upstream):
    upstream.script(dialect.answer(Text('{"umbrella": true}')))
    form = {"name": "advice", "schema": SCHEMA, "strict": True}
    async with chatting(dialect, upstream) as chat:
        plain = await answer_to(chat.app, asking())
        upstream.script(dialect.answer(Text('{"umbrella": true}')))
        c = await answer_to(
            chat.app, asking(responseFormat={"type": "json_schema", "json_schema": form})
        )

    assert plain.status == 200
    assert json.loads(text(c.received)) == {"umbrella": True}
    body = upstream.last.json
    match dialect.name:
        case "chat":
            assert body["response_format"] == {"type": "json_schema", "json_schema": form}
        case "responses":
            assert body["text"]["format"] == {"type": "json_schema", **form}
        case _:
            assert body["output_config"]["format"] == {"type": "json_schema", "schema": SCHEMA}
    first, second = chat.ended.turns
    assert second.input_tokens - first.input_tokens > len(SCHEMA)


# ------------------------------------------------ tools and thinking


async def test_two_calls_and_an_answer(dialect, upstream):
    upstream.script(
        dialect.answer(CALLS, ToolCall("call_2", "weather", '{"city": "Rome"}')),
        dialect.answer(Text("Take one.")),
    )
    async with chatting(dialect, upstream) as chat:
        with uvicorn_thread(chat.app) as port:
            async with ChatNestClient(f"http://127.0.0.1:{port}/api/chat") as client:
                run = await client.run_tools([HI], [weather])

    assert run.text == "Take one."
    assert [m["content"] for m in run.messages if m["role"] == "tool"] == [
        "Rain in Oslo",
        "Rain in Rome",
    ]
    assert results(upstream.last.json) == [
        ("call_1", "Rain in Oslo"),
        ("call_2", "Rain in Rome"),
    ]
    assert [charge.source for charge in chat.books.charges] == ["provider"] * 2
    assert await chat.books.held() == (0, 0)


def results(body: Any) -> list[tuple[str, str]]:
    """The results of tools that a fake received."""
    if "input" in body:
        found = [item for item in body["input"] if item["type"] == "function_call_output"]
        return [(item["call_id"], item["output"]) for item in found]
    messages = body["messages"]
    found = [m for m in messages if m["role"] == "tool"]
    if found:
        return [(item["tool_call_id"], item["content"]) for item in found]
    blocks = [b for m in messages if isinstance(m["content"], list) for b in m["content"]]
    found = [block for block in blocks if block["type"] == "tool_result"]
    return [(block["tool_use_id"], block["content"]) for block in found]


def shape(body: Any) -> list[tuple[str, str, str]]:
    """The thinking, the calls and the results that a fake received, in their order: the kind, the
    text and the signature.
    """
    if "input" in body:
        return [_item(item) for item in body["input"] if item["type"] != "message"]
    found: list[tuple[str, str, str]] = []
    for message in body["messages"]:
        for detail in message.get("reasoning_details", ()):
            text = detail.get("text", "")
            found.append(("thinking", text, detail.get("signature") or detail.get("data", "")))
        found += [("call", c["function"]["arguments"], "") for c in message.get("tool_calls", ())]
        if message["role"] == "tool":
            found.append(("result", message["content"], ""))
        if isinstance(message["content"], list):
            found += [_block(block) for block in message["content"]]
    return found


def _item(item: dict[str, Any]) -> tuple[str, str, str]:
    match item["type"]:
        case "reasoning":
            text = "".join(part["text"] for part in item["summary"])
            return "thinking", text, item["encrypted_content"]
        case "function_call":
            return "call", item["arguments"], ""
        case _:
            return "result", item["output"], ""


def _block(block: dict[str, Any]) -> tuple[str, str, str]:
    match block["type"]:
        case "thinking":
            return "thinking", block["thinking"], block["signature"]
        case "redacted_thinking":
            return "thinking", "", block["data"]
        case "tool_use":
            return "call", json.dumps(block["input"]), ""
        case _:
            return "result", block["content"], ""


async def test_thinking_goes_back_unchanged_and_in_place_but_not_to_another_model(
    dialect, upstream
):
    upstream.script(
        dialect.answer(THINKS, CALLS),
        dialect.answer(
            RedactedThinking("aGlkZGVu"),
            Thinking("And there?", signature=SECOND),
            ToolCall("call_2", "weather", '{"city": "Rome"}'),
        ),
        dialect.answer(Text("Take one.")),
    )
    async with chatting(dialect, upstream) as chat:
        with uvicorn_thread(chat.app) as port:
            async with ChatNestClient(f"http://127.0.0.1:{port}/api/chat") as client:
                run = await client.run_tools([HI], [weather])
                received = shape(upstream.last.json)
                async with client.ask(
                    run.messages[:-1],
                    tools=[WEATHER],
                    options={"model": "other"},
                ) as answer:
                    assert await answer.text()

    expected = [
        ("thinking", "I should look.", FIRST),
        ("call", '{"city": "Oslo"}', ""),
        ("result", "Rain in Oslo", ""),
        ("thinking", "", "aGlkZGVu"),
        ("thinking", "And there?", SECOND),
        ("call", '{"city": "Rome"}', ""),
        ("result", "Rain in Rome", ""),
    ]
    assert received == expected
    assert upstream.last.json["model"] == dialect.other
    assert shape(upstream.last.json) == [each for each in expected if each[0] != "thinking"]
    for secret in (FIRST, SECOND, "aGlkZGVu"):
        assert secret.encode() not in upstream.last.body


# ------------------------------------------------ what it costs


USAGE = TokenUsage(120, 40, cached=64, cache_written=16, reasoning=25)


async def test_the_usage_has_its_classes_and_is_the_charge(dialect, upstream):
    upstream.script(dialect.answer(THINKS, Text("Yes."), usage=USAGE))
    async with chatting(dialect, upstream) as chat:
        c = await answer_to(chat.app, asking())

    usage = chat.turn.answer.usage
    assert usage is not None
    assert usage == Usage(
        120,
        40,
        cached_tokens=64,
        cache_written_tokens=16,
        reasoning_tokens=25,
        service_tier="standard" if dialect.name == "messages" else "default",
        model=usage.model,
        response_id=usage.response_id,
    )
    assert usage.response_id
    assert usage.model
    assert (chat.books.charge.input_tokens, chat.books.charge.output_tokens) == (120, 40)
    (sent,) = datas(c.received, "usage")
    assert (sent["total_tokens"], sent["source"]) == (160, "provider")
    assert await chat.books.used() == 160
    assert await chat.books.held() == (0, 0)


async def test_without_a_usage_everything_that_arrived_is_counted(dialect, upstream, conversation):
    upstream.script(dialect.answer(THINKS, Text("I will look. "), CALLS, usage=None))
    async with chatting(dialect, upstream) as chat:
        async with conversation(chat.app, json=asking(tools=[WEATHER])) as c:
            await c.read_all()
            await c.finished()
        counter = chat.app.provider.counter
        counted = await counter.count("I will look. ")
        counted += await counter.count('I should look.weather{"city": "Oslo"}')

    assert chat.books.charge.source == "estimated"
    assert chat.books.charge.output_tokens == counted == await chat.delivered(c.received)
    assert chat.books.charge.input_tokens == chat.turn.input_tokens
    (usage,) = datas(c.received, "usage")
    assert usage["total_tokens"] == chat.books.charge.tokens


async def test_an_answer_that_was_cut_within_a_call_says_so(dialect, upstream):
    broken = dialect.answer(ToolCall("call_1", "weather", ['{"city":']), finish_reason="length")
    upstream.script(broken, broken)
    async with chatting(dialect, upstream) as chat:
        c = await answer_to(chat.app, asking(tools=[WEATHER]))
        with uvicorn_thread(chat.app) as port:
            async with ChatNestClient(f"http://127.0.0.1:{port}/api/chat") as client:
                with pytest.raises(ChatError) as caught:
                    await client.run_tools([HI], [weather])

    (usage,) = datas(c.received, "usage")
    assert usage["incomplete"] is True
    assert usage["finish_reason"] == "length"
    assert caught.value.code == "incomplete_call"


# ------------------------------------------------ clients that leave


PHASES: dict[str, tuple[Sequence[Part] | Answer, int]] = {
    "no head": (Answer.silence(), 0),
    "silent": ((), 0),
    "thinking": ((Thinking(["I should", " look"], signature=FIRST),), 1),
    "text": ((THINKS, Text(["I will", " look"])), 3),
    "arguments": ((THINKS, Text("Hm."), CALLS), 4),
}


@pytest.mark.parametrize("phase", PHASES)
async def test_a_client_that_leaves_pays_for_what_had_arrived(
    dialect, upstream, conversation, phase
):
    parts, pieces = PHASES[phase]
    answer = (
        parts
        if isinstance(parts, Answer)
        else dialect.answer(*parts, after=pieces, ending="stall", usage=None)
    )
    upstream.script(answer)
    async with chatting(dialect, upstream) as chat:
        async with conversation(chat.app, json=asking(tools=[WEATHER])) as c:
            await upstream.until(lambda up: up.requests and up.last.pieces_sent == pieces)
            if phase == "silent":
                await upstream.until(lambda up: up.last.bytes_written)
            await c.until(lambda: len(arrived(c.received)) == pieces)
            c.disconnect()
            await c.finished()
            assert c.late == []
        await upstream.until(lambda up: up.aborted == 1)
        output = await chat.delivered(c.received)
        margin = max(8, output // 20)

    charge = chat.books.charge
    assert (charge.outcome, charge.source) == ("client_gone", "estimated")
    assert (charge.input_tokens, charge.output_tokens) == (chat.turn.input_tokens, output + margin)
    assert bool(output) == bool(pieces)
    assert charge.tokens <= chat.books.reservations[0].tokens
    assert await chat.books.held() == (0, 0)


def arrived(body: bytes) -> list[str]:
    """The events of an answer that have a piece of it."""
    return [kind for kind in kinds(body) if kind in {"token", "reasoning", "tool_arguments"}]


# ------------------------------------------------ readers of a run


RUNS: dict[str, dict[str, Any]] = {
    "whole": {},
    "cut": {"after": 6, "ending": "cut"},
    "length": {"finish_reason": "length"},
}


@pytest.mark.parametrize("ending", RUNS)
async def test_a_resumed_reader_gets_the_frames_of_the_first(
    dialect, upstream, conversation, ending
):
    upstream.script(
        dialect.answer(
            THINKS,
            RedactedThinking("aGlkZGVu"),
            Text(["I will", " look."]),
            CALLS,
            ToolCall("call_2", "weather", ['{"city":', ' "Rome"}']),
            **RUNS[ending],
        )
    )
    key = {"idempotency-key": '"k"', "content-type": "application/json"}
    async with chatting(dialect, upstream) as chat:
        async with conversation(chat.app, json=asking(tools=[WEATHER]), headers=key) as first:
            await first.read_all()
        path = f"/api/chat/runs/{first.headers['chatnest-run-id']}"
        again = await answer_to(chat.app, None, method="GET", path=path, query=QUERY)
        half = await answer_to(chat.app, None, method="GET", path=path, query=f"{QUERY}&after=4")

    frames = first.received.split(b"\n\n")
    assert again.received.split(b"\n\n") == frames
    place = next(n for n, frame in enumerate(frames) if b"id: 4\n" in frame)
    left = half.received.split(b"\n\n")
    assert [f for f in left if not f.startswith(b"event: start")] == frames[place + 1 :]
    assert len(upstream.requests) == 1
    assert ("error" in kinds(first.received)) == (ending == "cut")
