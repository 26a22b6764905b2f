"""Official clients against a real server: each behaviour as the user of the client sees it.

Every test notes its outcome with the number of calls to the model. ``tests.clients.table`` makes
the table of the docs of them.
"""

import os
from concurrent.futures import ThreadPoolExecutor

import anyio.to_thread
import pytest

from chatnest.testing import Answer, FakeUpstream, FaultProxy
from chatnest.testing.upstream import Source, Text, Thinking, ToolCall
from tests.clients.node import MISSING
from tests.clients.world import CLIENTS, Client, World

ALL = os.environ.get("CHATNEST_CLIENTS") == "all"
"""Whether every case is tried, as nox -s clients does. Otherwise it is one of each kind: clients
wait for seconds before they ask again.
"""

TOOL = Answer(parts=(ToolCall("call_1", "get_weather", '{"city":"Paris"}'),))
SUNNY = Answer.text("It is sunny.")


@pytest.fixture
def note(request, record_property, here):
    """Note the calls to the model under the name of the test."""

    def noted(outcome: str, case: str = "") -> None:
        name = request.node.originalname.removeprefix("test_") + (case and f"[{case}]")
        record_property(name, f"{outcome}|{len(here.upstream.requests)}")

    return noted


def charged(upstream: FakeUpstream) -> int:
    """How many calls to the model began an answer."""
    return sum(seen.bytes_written > 0 for seen in upstream.requests)


def test_text(here: World, client: Client, note):
    result = here.ask(client)

    assert (result["error"], result["text"]) == (None, "Hello world!")
    assert len(here.upstream.requests) == 1
    note("yes")


def test_whole(here: World, client: Client, note):
    if client.program not in {"openai_chat", "openai_responses"}:
        pytest.skip("the client streams")
    result = here.ask(client, "whole")

    assert (result["error"], result["text"]) == (None, "Hello world!")
    assert result["finish"] in {"stop", "completed"}
    note("yes")


def test_reasoning_and_sources(here: World, client: Client, note):
    here.upstream.default = Answer(
        parts=(Thinking("Let me think."), Text("It is so."), Source("https://example.org/a", "A"))
    )
    result = here.ask(client)

    assert (result["error"], result["text"]) == (None, "It is so.")
    assert result["reasoning"] == ("" if "reasoning" in client.hides else "Let me think.")
    assert result["sources"] == ([] if "sources" in client.hides else ["https://example.org/a"])
    note(", ".join({"reasoning", "sources"} - client.hides) or "hidden")


def test_tools(here: World, client: Client, note):
    if client.program == "assistant_stream":
        pytest.skip("a decoder, which calls no tools")
    here.upstream.script(TOOL, SUNNY)
    result = here.ask(client, "tools")

    assert result["error"] is None
    assert result["calls"] == [["get_weather", {"city": "Paris"}]]
    assert result["text"] == "It is sunny."
    _, second = here.upstream.requests
    assert second.json["messages"][-1]["role"] == "tool"
    assert second.json["messages"][-1]["content"] == "It is sunny in Paris."
    assert second.json["messages"][-1]["tool_call_id"] == "call_1"
    note("yes")


def test_image(here: World, client: Client, note):
    result = here.ask(client, "image")

    assert (result["error"], result["text"]) == (None, "Hello world!")
    (seen,) = here.upstream.requests
    kinds = [part["type"] for part in seen.json["messages"][-1]["content"]]
    assert sorted(kinds) == ["image_url", "text"]
    note("yes")


def test_stop(here: World, client: Client, note):
    here.upstream.default = Answer.endless(pace=0.05)  # far from the end when a slow client stops
    result = here.ask(client, "stop")
    here.upstream.wait(lambda up: up.requests and up.requests[-1].state == "aborted")

    assert result["error"] is None
    assert len(here.upstream.requests) == 1
    note("yes")


USE_CHAT = ["JavaScript-use_chat_7", "JavaScript-use_chat_6", "JavaScript-use_chat_5"]


@pytest.mark.parametrize("client", USE_CHAT, indirect=True)
def test_ten_turns_with_tools_are_twenty_calls(here: World, client: Client):
    answers = []
    for turn in range(10):
        answers += [Answer(parts=(ToolCall(f"c{turn}", "get_weather", '{"city":"Paris"}'),)), SUNNY]
    here.upstream.script(*answers)
    result = here.ask(client, "ten")

    assert result["error"] is None
    assert result["text"] == "It is sunny." * 10
    assert len(result["calls"]) == 10
    assert len(here.upstream.requests) == 20


@pytest.mark.parametrize("client", USE_CHAT, indirect=True)
def test_another_answer_is_another_call(here: World, client: Client):
    here.upstream.script(Answer(), SUNNY)
    result = here.ask(client, "regenerate")

    assert (result["error"], result["text"]) == (None, "It is sunny.")
    assert len(here.upstream.requests) == 2


@pytest.mark.parametrize("client", USE_CHAT, indirect=True)
def test_a_page_that_is_loaded_again_has_the_whole_answer(lingering: World, client: Client):
    lingering.upstream.default = Answer.tokens(40, "ab ", pace=0.01)
    result = lingering.ask(client, "resume")

    assert (result["error"], result["text"]) == (None, "ab " * 40)
    assert len(lingering.upstream.requests) == 1


@pytest.mark.parametrize("end", ["cut", "error_event"] if ALL else ["cut"])
def test_error_after_text(here: World, client: Client, end, note):
    here.upstream.default = getattr(Answer, end)(2)
    result = here.ask(client)

    assert result["error"]
    assert len(here.upstream.requests) == 1
    note(_shown(result["error"]))


@pytest.mark.parametrize("end", ["cut", "empty", "thinking_only"] if ALL else ["cut"])
def test_charged_error_before_text(here: World, client: Client, end, note):
    """The model took the request, and may have been paid for it: no client asks again."""
    here.upstream.default = {
        "cut": Answer.cut(1, parts=(Thinking("Hm. Well."),)),
        "empty": Answer.text("", finish_reason="length", usage=(9, 5)),
        "thinking_only": Answer(parts=(Thinking("Hm."),), finish_reason="length", usage=(9, 5)),
    }[end]
    result = here.ask(client)

    assert len(here.upstream.requests) == 1
    note(_shown(result["error"]) if result["error"] else "done")


@pytest.mark.skipif(not ALL, reason="clients wait before they ask again: nox -s clients")
def test_uncharged_error(here: World, client: Client, note):
    """The provider refuses, so nothing was paid. Clients may ask again."""
    here.upstream.default = Answer.error(503)
    result = here.ask(client)

    assert result["error"]
    assert charged(here.upstream) >= 1
    note(_shown(result["error"]))


REFUSALS = {
    "busy": "requests in 60 seconds",
    "spent": "200",
    "narrow": "tokens",
    "nope": "model",
}


@pytest.mark.parametrize("model", REFUSALS if ALL else ["spent"])
def test_refusal(here: World, client: Client, model, note):
    """The user reads a sentence, and no refusal is repeated against the limit for long."""
    text = "word " * 150 if model == "narrow" else "Hi"
    if model == "busy":
        here.ask(client, model="busy", retries=0)
    if model == "spent":
        here.upstream.default = Answer(usage=(150, 40))
        here.ask(client, model="spent")
    before = len(here.upstream.requests)
    # A client waits for as long as a short limit asks for, unless its retries are off.
    retries = 0 if model == "busy" else 2
    result = here.ask(client, model=model, text=text, retries=retries)

    assert REFUSALS[model] in result["error"]
    assert "{" not in result["error"]
    assert len(here.upstream.requests) == before
    note(_shown(result["error"]), model)


@pytest.mark.anyio
@pytest.mark.loops("asyncio")
@pytest.mark.parametrize("idempotency", [False, True] if ALL else [True])
async def test_connection_cut(here: World, client: Client, idempotency, note):
    """The connection is lost within the answer, before its end."""
    here.upstream.default = Answer.stall(2)
    async with FaultProxy("127.0.0.1", here.port) as proxy, anyio.create_task_group() as tasks:
        result = {}

        async def ask() -> None:
            found = await anyio.to_thread.run_sync(
                lambda: here.ask(client, port=proxy.port, idempotency=idempotency)
            )
            result.update(found)

        tasks.start_soon(ask)
        await here.upstream.until(lambda up: up.requests and up.requests[0].pieces_sent >= 2)
        await proxy.until(lambda p: p.bytes_down > 0)
        here.upstream.default = Answer()
        proxy.reset()
        here.upstream.release()
    calls = len(here.upstream.requests)

    if idempotency:
        assert calls == 1
    assert calls <= 3
    note(_shown(result["error"]) if result["error"] else "done", str(idempotency))


SILENCE = 20.0 if ALL else 5.0
"""Seconds, in each of which a ping is sent."""


@pytest.mark.parametrize("silence", [{"first_delay": SILENCE}, {"end_delay": SILENCE}][: 1 + ALL])
def test_a_long_silence(here: World, silence):
    """Pings keep the connection, and no client takes them for anything else."""
    here.upstream.default = Answer(**silence)
    clients = [each for each in CLIENTS.values() if each.language == "Python" or not MISSING]
    with ThreadPoolExecutor(len(clients)) as pool:
        results = dict(zip(clients, pool.map(here.ask, clients), strict=True))

    for client, result in results.items():
        assert (result["error"], result["text"]) == (None, "Hello world!"), str(client)
    assert len(here.upstream.requests) == len(clients)


def _shown(error: str) -> str:
    """A sentence for the table."""
    return error.replace("|", "/").replace("\n", " ")[:120]
