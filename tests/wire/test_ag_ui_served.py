"""AG-UI in an application: one call to the model for a run, refusals, stop, and what comes back."""

import json
from typing import Any

import anyio
import pytest

from chatnest import BALANCED, NativeFormat, RunSettings
from chatnest.testing import (
    Answer,
    Conversation,
    RedactedThinking,
    Text,
    Thinking,
    ToolCall,
)
from chatnest.wire import AGUIFormat
from tests.dialects.support import DIALECTS, Dialect, chatting
from tests.streams.short_cut import SendsNow
from tests.streams.support import Books, answer_to, profile, serving
from tests.wire.agent import PIXEL, Agent, user

pytestmark = pytest.mark.anyio

PATH = "/api/chat/ag-ui"
FORMATS = (NativeFormat(), AGUIFormat())
TOOL = {"name": "weather", "description": "", "parameters": {"type": "object"}}


async def run(app: Any, agent: Agent, **fields: Any) -> Conversation:
    """One run of an agent, which it reads."""
    agent.events.clear()
    c = await answer_to(app, agent.body(**fields), path=PATH)
    if c.status == 200:
        agent.read(c.received)
    return c


@pytest.mark.parametrize("is_0", [True, False], ids=["0.0.59", "1.0"])
async def test_an_agent_asks_and_asks_again(upstream, is_0):
    agent = Agent(user(), is_0=is_0)
    async with serving(upstream, formats=FORMATS) as app:
        c = await run(app, agent)
        assert c.headers["content-type"] == "text/event-stream"
        assert agent.text == "Hello world!"
        assert agent.last is not None
        assert agent.last["result"] == {"finishReason": "stop"}
        assert agent.last["usage"][0]["totalTokens"] == 12

        agent.messages.append(user("And now?", "u2"))
        await run(app, agent, run="run-2")

    assert [m["content"] for m in upstream.last.json["messages"]] == [
        "Hi",
        "Hello world!",
        "And now?",
    ]
    assert len(upstream.requests) == 2


# ------------------------------------------------ one run, one charge


async def test_a_repeated_run_is_one_call_and_the_same_bytes(upstream):
    books, agent = Books(), Agent(user())
    async with serving(upstream, formats=FORMATS, ledger=books) as app:
        first = await answer_to(app, agent.body(), path=PATH)
        again = await answer_to(app, agent.body(state={"other": 1}), path=PATH)

        assert again.received == first.received
        assert (first.headers.get("idempotency-replayed"), len(upstream.requests)) == (None, 1)
        assert again.headers["idempotency-replayed"] == "true"
        assert await books.used() == books.charge.tokens


async def test_runs_at_once_are_one_call(upstream):
    upstream.default = Answer.stall(1)
    body = Agent(user()).body()
    async with (
        serving(upstream, formats=FORMATS) as app,
        Conversation(app, json=body, path=PATH) as one,
        Conversation(app, json=body, path=PATH) as two,
    ):
        await one.until(lambda: b"Hello" in one.received)
        await two.until(lambda: b"Hello" in two.received)
        upstream.release()
        await one.read_all()
        await two.read_all()

    assert one.received == two.received
    assert Agent(user()).read(one.received).text == "Hello world!"
    assert len(upstream.requests) == 1


async def test_a_run_of_another_thread_or_principal_is_another_run(upstream):
    body = Agent(user()).body()
    async with serving(upstream, formats=FORMATS) as app:
        await answer_to(app, body, path=PATH)
        await answer_to(app, {**body, "threadId": "thread-2"}, path=PATH)
        await answer_to(app, body, path=PATH, client=("127.0.0.2", 1))

    assert len(upstream.requests) == 3


@pytest.mark.parametrize(
    "changed", [{"messages": [user("Another")]}, {"forwardedProps": {"maxOutputTokens": 99}}]
)
async def test_a_run_id_of_another_request_is_refused(upstream, changed):
    async with serving(upstream, formats=FORMATS) as app:
        await run(app, Agent(user()))
        c = await run(app, Agent(user()), **changed)

    assert (c.status, c.problem()["code"]) == (422, "idempotency_key_reused")
    assert c.problem()["message"] == (
        "This runId came with another request before. A new request needs a new one."
    )
    assert len(upstream.requests) == 1


async def test_without_deduplication_each_request_is_a_run_of_its_own(upstream):
    async with serving(upstream, formats=FORMATS, runs=RunSettings(deduplicate=False)) as app:
        for _ in range(2):
            c = await run(app, agent := Agent(user()))
            assert agent.text == "Hello world!"
            assert "chatnest-run-id" not in c.headers

    assert len(upstream.requests) == 2


async def test_an_idempotency_key_of_the_application_counts_instead(upstream):
    headers = {"idempotency-key": '"k"'}
    async with serving(upstream, formats=FORMATS) as app:
        for number in (1, 2):
            body = Agent(user()).body(run=f"run-{number}")
            c = await answer_to(app, body, path=PATH, headers=headers)

    assert c.headers["idempotency-replayed"] == "true"
    assert len(upstream.requests) == 1


# ------------------------------------------------ stop, errors, silence


@pytest.mark.parametrize("runs", [RunSettings(), RunSettings(linger=60)], ids=["alone", "linger"])
async def test_a_closed_connection_stops_the_answer(upstream, runs):
    """No client of AG-UI could resume it, so it does not linger."""
    upstream.default = Answer.endless()
    books = Books()
    async with serving(upstream, formats=FORMATS, ledger=books, runs=runs) as app:
        async with Conversation(app, json=Agent(user()).body(), path=PATH) as c:
            await c.until(lambda: b"TEXT_MESSAGE_CONTENT" in c.received)
        await upstream.until(lambda u: u.aborted)

    assert books.charge.tokens > 0
    assert await books.held() == (0, 0)


async def test_an_error_before_the_answer_has_a_status(upstream):
    upstream.default = Answer.error(400)
    async with serving(upstream, formats=FORMATS) as app:
        c = await run(app, Agent(user()))

    assert (c.status, c.headers["content-type"]) == (502, "application/json")
    assert c.problem()["message"] == "The model did not take the request."
    assert c.problem()["code"] == "upstream_rejected"
    assert len(upstream.requests) == 1


async def test_an_error_within_the_answer_is_an_event(upstream):
    upstream.default = Answer.cut(2)
    agent = Agent(user())
    async with serving(upstream, formats=FORMATS) as app:
        await run(app, agent)

    assert agent.text == "Hello world"
    assert agent.last is not None
    assert (agent.last["type"], agent.last["code"]) == ("RUN_ERROR", "upstream_interrupted")
    assert agent.last["message"] == "The answer was cut off."
    assert len(upstream.requests) == 1


async def test_an_empty_answer_is_an_error(upstream):
    upstream.default = Answer(pieces=())
    agent = Agent(user())
    async with serving(upstream, formats=FORMATS) as app:
        c = await run(app, agent)

    code = c.problem()["code"] if c.status != 200 else (agent.last or {})["code"]
    assert code == "empty_answer"


async def test_a_silent_model_is_bridged_with_comments(upstream):
    upstream.default = Answer.stall(1)
    agent = Agent(user())
    async with (
        serving(upstream, formats=FORMATS, ping_interval=0.05) as app,
        Conversation(app, json=agent.body(), path=PATH) as c,
    ):
        await c.until(lambda: c.received.count(b": ping\n\n") > 2)
        upstream.release()
        await c.read_all()

    assert agent.read(c.received).text == "Hello world!"
    assert agent.comments > 2


REFUSALS: dict[str, tuple[dict[str, Any], dict[str, Any], int, str]] = {
    "a rate": ({"profiles": [profile(requests_per_minute=1)]}, {}, 429, "rate_limited"),
    "an identity": ({"identify": lambda _: None}, {}, 401, "unauthenticated"),
    "a profile": ({}, {"forwardedProps": {"profile": "expanded"}}, 403, "forbidden_profile"),
    "tools": ({}, {"tools": [TOOL]}, 400, "invalid_request"),
    "context": (
        {"client_system_prompt": "refuse"},
        {"context": [{"description": "a", "value": "b"}]},
        400,
        "invalid_request",
    ),
    "a body": ({}, {"runId": None}, 400, "invalid_request"),
}


@pytest.mark.parametrize(("options", "fields", "status", "code"), REFUSALS.values(), ids=REFUSALS)
async def test_a_refusal_is_a_sentence_in_json(upstream, options, fields, status, code):
    if "profiles" in options:
        options = {**options, "default_profile": "own", "allowed_profiles": ["own"]}
    async with serving(upstream, formats=FORMATS, **options) as app:
        if code == "rate_limited":
            await run(app, Agent(user()))
        seen = len(upstream.requests)
        c = await answer_to(app, {**Agent(user()).body(run="run-2"), **fields}, path=PATH)

        assert (c.status, c.headers["content-type"]) == (status, "application/json")
        problem = c.problem()
        assert problem["code"] == code
        assert problem["message"].endswith(".")
        assert len(problem["request_id"]) == 32
        assert ("retry-after" in c.headers) == ("retry_after" in problem) == (status == 429)
        assert len(upstream.requests) == seen


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", PATH, 405), ("DELETE", PATH, 405), ("GET", f"{PATH}/other", 405)],
)
async def test_a_run_has_no_path_of_its_own(upstream, method, path, status):
    async with serving(upstream, formats=FORMATS) as app:
        c = await answer_to(app, None, method=method, path=path)

    assert c.status == status


@pytest.mark.parametrize(
    ("setting", "roles"), [("ignore", ["user"]), ("allow", ["system", "user"])]
)
async def test_the_operator_decides_on_instructions(upstream, setting, roles):
    system = {"id": "s", "role": "system", "content": "Be kind."}
    async with serving(upstream, formats=FORMATS, client_system_prompt=setting) as app:
        await run(app, Agent(system, user()), context=[{"description": "a", "value": "b"}])

    assert [m["role"] for m in upstream.last.json["messages"]] == roles
    assert b"state" not in upstream.last.body


# ------------------------------------------------ in each dialect


@pytest.fixture(params=DIALECTS, ids=[dialect.name for dialect in DIALECTS])
def dialect(request) -> Dialect:
    found: Dialect = request.param
    return found


@pytest.fixture(params=[Conversation, SendsNow], ids=["waits", "sends-now"])
def conversation(request) -> type[Conversation]:
    """A server that waits for each write, and one that need not."""
    found: type[Conversation] = request.param
    return found


CALLS = ToolCall("call_1", "weather", ['{"city":', ' "Oslo"}'])
THINKS = Thinking(["I should", " look."], signature="c2ln")


@pytest.mark.loops("asyncio")
async def test_tools_and_thinking_go_there_and_back(upstream, dialect, conversation):
    upstream.script(
        dialect.answer(THINKS, RedactedThinking("c2VjcmV0"), Text("Let me look."), CALLS),
        dialect.answer(Text("Take one.")),
    )
    agent = Agent(user())
    async with chatting(dialect, upstream, formats=FORMATS) as chat:
        async with conversation(chat.app, json=agent.body(tools=[TOOL]), path=PATH) as c:
            await c.read_all()
        agent.read(c.received)
        assert {"REASONING_ENCRYPTED_VALUE", "TOOL_CALL_END", "RUN_FINISHED"} <= set(agent.types)
        agent.messages.append(
            {"id": "r1", "role": "tool", "toolCallId": "call_1", "content": "Rain"}
        )
        await run(chat.app, agent, run="run-2", tools=[TOOL])

    sent = json.dumps(upstream.last.json)
    assert agent.text.endswith("Take one.")
    for part in ("I should look.", "c2ln", "c2VjcmV0", "Let me look.", "call_1", "Oslo", "Rain"):
        assert sent.count(part) >= 1, part
    assert len(upstream.requests) == 2


@pytest.mark.loops("asyncio")
async def test_an_image_reaches_the_model(upstream, dialect):
    picture = {"type": "image", "source": {"type": "data", "value": PIXEL, "mimeType": "image/png"}}
    async with chatting(dialect, upstream, formats=FORMATS) as chat:
        c = await run(chat.app, Agent(user([{"type": "text", "text": "What?"}, picture])))

    assert c.status == 200
    assert PIXEL.encode() in upstream.last.body.replace(b"\\/", b"/")


async def test_many_readers_of_one_run_at_once(upstream):
    upstream.default = Answer.stall(1)
    body, seen = Agent(user()).body(), list[bytes]()

    async def read(app: Any) -> None:
        seen.append((await answer_to(app, body, path=PATH)).received)

    async with serving(upstream, formats=FORMATS) as app, anyio.create_task_group() as tasks:
        for _ in range(BALANCED.max_concurrent_streams * 5):
            tasks.start_soon(read, app)
        await upstream.until(lambda u: u.requests and u.last.pieces_sent)
        upstream.release()

    assert len(set(seen)) == 1
    assert len(upstream.requests) == 1
