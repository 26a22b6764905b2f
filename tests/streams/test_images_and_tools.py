"""Images, tools and thinking, from a client's request to its frames; large bodies are bounded."""

import json
from typing import Any

import anyio
import anyio.lowlevel
import msgspec
import pytest

from chatnest import ASSISTANT, BALANCED, Bounds, ConfigurationError
from chatnest.asgi.data_urls import SMALL_BODY
from chatnest.conversation import Image, ToolResult
from chatnest.events import Delta, Reasoning, ReasoningSignature, Source, ToolCall, ToolCallDelta
from chatnest.testing import Conversation, parse_events
from tests.streams.support import PATIENCE, Books, answer_to, ask, serving
from tests.support.scripted import Scripted
from tests.test_image_size import png
from tests.test_request_parts import HI, call, calling, image, result, tool, url, user

pytestmark = [pytest.mark.anyio, pytest.mark.loops("asyncio")]

JSON = {"content-type": "application/json"}
OPEN: dict[str, Any] = {"profiles": [ASSISTANT], "default_profile": "assistant"}
ANSWER = (
    Reasoning("Hm"),
    ReasoningSignature("sealed", "p", "m"),
    Delta("I look."),
    Source("https://e.org"),
    ToolCall(0, "c1", "f"),
    ToolCallDelta(0, "{}"),
)
BIG = json.dumps({"messages": [user(image(url(png(9, 9) + b"x" * 400_000)))]}).encode()


async def posted(app: Any, body: bytes) -> Conversation:
    async with Conversation(app, body=body, headers=JSON) as c:
        await c.read_all()
        await c.finished()
    return c


def names(c: Conversation) -> list[str]:
    return [event.event for event in parse_events(c.received)]


async def test_events_come_only_where_they_are_asked_for():
    async with serving(None, provider=Scripted(ANSWER), **OPEN) as app:
        plain = await answer_to(app, ask())
        asked = await answer_to(app, ask(events=["reasoning", "tools", "sources", "usage"]))
    async with serving(None, provider=Scripted(ANSWER), events=["tools"], **OPEN) as app:
        by_operator = await answer_to(app, ask())

    assert names(plain) == ["start", "token", "done"]
    assert names(asked) == [
        *("start", "reasoning", "reasoning_signature", "token", "source", "tool_call"),
        *("tool_arguments", "usage", "done"),
    ]
    assert names(by_operator) == ["start", "token", "tool_call", "tool_arguments", "done"]


async def test_a_resumed_run_has_the_events_that_are_asked_for():
    async with serving(None, provider=Scripted(ANSWER), **OPEN) as app:
        first = await answer_to(
            app, ask(events=["tools"]), headers={**JSON, "idempotency-key": '"k"'}
        )
        path = f"/api/chat/runs/{first.headers['chatnest-run-id']}"
        plain = await answer_to(app, None, method="GET", path=path)
        asked = await answer_to(app, None, method="GET", path=path, query="events=reasoning,usage")
        wrong = await answer_to(app, None, method="GET", path=path, query="events=tools,secrets")

    assert names(plain) == ["start", "token", "done"]
    assert names(asked) == [
        *("start", "reasoning", "reasoning_signature", "token", "usage", "done"),
    ]
    ids = [event.id for event in parse_events(asked.received)]
    assert ids == ["", "1", "2", "3", "3", "7"]  # the usage has none of its own
    assert (wrong.status, wrong.problem()["code"]) == (400, "invalid_request")
    assert "secrets" not in wrong.problem()["detail"]


async def test_the_model_gets_what_the_client_sent():
    provider = Scripted([Delta("ok")])
    turn = [HI, calling(call()), result(is_error=True), user(image(url(png(3, 2))))]
    async with serving(None, provider=provider, **OPEN) as app:
        c = await answer_to(app, {"messages": turn, "tools": [tool()]})

    assert c.status == 200, c.received
    (request,) = provider.asked
    parts = [part for message in request.messages for part in message.parts]
    assert [type(part).__name__ for part in parts] == ["Text", "ToolCall", "ToolResult", "Image"]
    assert [each.name for each in request.tools] == ["f"]


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [user(image(url(png(1, 1))))]},
        {"messages": [HI], "tools": [tool()]},
        {"messages": [HI, calling(call()), result()]},
        {"messages": [HI], "responseFormat": {"type": "json_object"}},
        {"messages": [HI], "temperature": 1},
    ],
)
async def test_a_profile_that_does_not_allow_it_refuses_it(body):
    provider, books = Scripted([Delta("ok")]), Books()
    async with serving(None, provider=provider, profiles=[BALANCED], ledger=books) as app:
        c = await answer_to(app, body)

    assert (c.status, c.problem()["code"]) == (400, "invalid_request")
    assert provider.asked == []
    assert books.reservations == []


# ------------------------------------------------ large bodies


async def test_a_large_body_is_read_where_a_profile_allows_images():
    provider = Scripted([Delta("ok")])
    async with serving(None, provider=provider, **OPEN) as app:
        c = await posted(app, BIG)
    async with serving(None, provider=provider, profiles=[BALANCED]) as app:
        closed = await posted(app, BIG)
    async with serving(None, provider=provider) as app:  # its profile with images is not open
        not_open = await posted(app, BIG)

    assert c.status == 200, c.received
    assert isinstance(provider.asked[0].messages[0].parts[0], Image)
    assert (closed.status, not_open.status) == (413, 413)


@pytest.mark.parametrize(
    "body",
    [
        json.dumps(ask("x" * SMALL_BODY)).encode(),
        json.dumps(
            {"messages": [user(image(url(b"")))], "systemPrompt": "x" * SMALL_BODY}
        ).encode(),
        b'{"messages":[' + b'{"role":"user","content":"a"},' * 20_000,
        b'"url":"data:' * 30_000,
    ],
)
async def test_only_images_may_be_large(body):
    async with serving(None, provider=Scripted([Delta("ok")]), **OPEN) as app:
        c = await posted(app, body)

    assert (c.status, c.problem()["detail"]) == (
        413,
        "The request body is larger than 262,144 bytes.",
    )


async def test_a_large_body_is_parsed_in_a_thread(monkeypatch):
    parsed: list[str] = []
    real = anyio.to_thread.run_sync

    async def run_sync(work, *args, **options):
        parsed.append(work.__name__)
        return await real(work, *args, **options)

    monkeypatch.setattr("chatnest._util.threads.to_thread.run_sync", run_sync)
    async with serving(None, provider=Scripted([Delta("ok")]), **OPEN) as app:
        await answer_to(app, ask())
        assert "_parse_large" not in parsed
        await posted(app, BIG)

    assert "_parse_large" in parsed


def described(text: str, name: str = "f") -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "description": text}}


async def test_many_definitions_are_made_and_counted_in_threads(monkeypatch):
    """Each of the tools is short, and all together keep a core for 100 ms and more."""
    threads: list[str] = []
    real = anyio.to_thread.run_sync

    async def run_sync(work, *args, **options):
        threads.append(getattr(work, "__name__", ""))
        return await real(work, *args, **options)

    monkeypatch.setattr("chatnest._util.threads.to_thread.run_sync", run_sync)
    monkeypatch.setattr("chatnest.tokens.tokenizer.to_thread.run_sync", run_sync)
    provider = Scripted([Delta("ok")])
    await provider.counter.warm()
    async with serving(None, provider=provider, **OPEN) as app:
        await answer_to(app, {"messages": [HI], "tools": [described("word " * 20)]})
        assert not {"definitions_of", "count"}.intersection(threads)
        tools = [described("word " * 200, f"f{number}") for number in range(30)]
        await answer_to(app, {"messages": [HI], "tools": tools})

    assert threads.count("definitions_of") == threads.count("count") == 1
    assert len(provider.asked[-1].tools) == 30


def left(app: Any) -> float:
    room: float = app._chat._incoming.room.left
    return room


async def test_bodies_share_a_room_and_the_next_one_gets_a_503():
    bounds = Bounds(bodies_in_flight_bytes=1_000, ledger_seconds=PATIENCE, lag_seconds=PATIENCE)
    async with serving(None, provider=Scripted([Delta("ok")]), bounds=bounds, **OPEN) as app:
        async with (
            Conversation(app, send_body=False, headers=JSON) as first,
            Conversation(app, send_body=False, headers=JSON) as second,
        ):
            first.send_body(b" " * 900, more=True)
            await anyio.wait_all_tasks_blocked()
            second.send_body(b" " * 200, more=True)
            await second.read_all()
            assert (second.status, second.problem()["code"]) == (503, "overloaded")
            assert second.headers["retry-after"] == "2"
            assert left(app) == 100
            first.send_body(json.dumps(ask()).encode())
            await first.read_all()
            assert first.status == 200, first.received
        assert left(app) == 1_000


async def test_images_keep_their_room_until_the_answer_has_ended():
    bounds = Bounds(
        body_bytes=1_000,
        bodies_in_flight_bytes=len(BIG) + 1_000,
        ledger_seconds=PATIENCE,
        lag_seconds=PATIENCE,
    )
    provider = Scripted([Delta("ok")])
    async with serving(None, provider=provider, bounds=bounds, **OPEN) as app:
        async with Conversation(app, body=BIG, headers=JSON) as c:
            c.stall()
            await anyio.wait_all_tasks_blocked()
            while not provider.asked:
                await anyio.lowlevel.checkpoint()
            assert left(app) == 1_000
            other = await posted(app, BIG)
            assert other.status == 503
            assert (await answer_to(app, ask())).status == 200
            c.resume()
            await c.read_all()
        assert left(app) == bounds.bodies_in_flight_bytes
        assert (await posted(app, BIG)).status == 200
        assert left(app) == bounds.bodies_in_flight_bytes


@pytest.mark.parametrize("body", [BIG[:-2], BIG.replace(b"png", b"gif"), b"x" * 300_000])
async def test_a_large_body_that_is_refused_leaves_the_room_free(body):
    provider, books = Scripted([Delta("ok")]), Books()
    async with serving(None, provider=provider, ledger=books, **OPEN) as app:
        before = left(app)
        c = await posted(app, body)
        assert c.status in {400, 413}
        assert left(app) == before
    assert books.reservations == []


async def test_clients_that_disconnect_leave_the_room_free():
    async with serving(None, provider=Scripted([Delta("ok")]), **OPEN) as app:
        before = left(app)
        async with Conversation(app, send_body=False, headers=JSON) as c:
            c.send_body(BIG[:-9], more=True)
            await anyio.wait_all_tasks_blocked()
            assert left(app) < before
        assert left(app) == before


@pytest.mark.parametrize("kinds", ["tools", ["secrets"], [1]])
async def test_the_operators_events_are_checked(kinds):
    with pytest.raises(ConfigurationError, match=r"^events: expected a list of some of reasoning"):
        async with serving(None, provider=Scripted([]), events=kinds):
            pass


async def test_a_result_of_a_tool_keeps_its_error():
    provider = Scripted([Delta("ok")])
    async with serving(None, provider=provider, **OPEN) as app:
        await answer_to(app, {"messages": [HI, calling(call()), result(is_error=True)]})

    assert provider.asked[0].messages[-1].parts == (
        ToolResult(call_id="c1", text="42", is_error=True),
    )


async def test_a_crowd_of_large_bodies_is_answered_or_told_to_wait():
    pictures = [image(url(png(9, 9) + b"x" * 3_000_000)) for _ in range(2)]
    body = json.dumps({"messages": [user(*pictures)]}).encode()
    most = 3 * len(body) + 1_000
    bounds = Bounds(bodies_in_flight_bytes=most, ledger_seconds=PATIENCE, lag_seconds=PATIENCE)
    books, statuses = Books(), []
    profile = msgspec.structs.replace(ASSISTANT, max_concurrent_streams=100)
    options: dict[str, Any] = {"profiles": [profile], "default_profile": "assistant"}

    async def send(app: Any) -> None:
        statuses.append((await posted(app, body)).status)

    async with (
        serving(
            None, provider=Scripted([Delta("ok")]), ledger=books, bounds=bounds, **options
        ) as app,
        anyio.create_task_group() as tasks,
    ):
        for _ in range(8):
            tasks.start_soon(send, app)

    assert set(statuses) == {200, 503}
    assert statuses.count(200) >= 3
    assert left(app) == most
    assert await books.held() == (0, 0)
