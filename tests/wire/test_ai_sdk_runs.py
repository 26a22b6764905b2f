"""useChat's requests through the whole chat: one submission, one call and one charge."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from chatnest import ChatNestMiddleware, Limit, RunSettings
from chatnest.testing import Answer, Conversation
from chatnest.testing.upstream import Text, Thinking, ToolCall
from chatnest.wire import AISDKFormat, NativeFormat
from tests.streams.support import Books, answer_to, profile, serving
from tests.wire.ui_messages import UIMessage

pytestmark = pytest.mark.anyio

PATH = "/api/chat/ai-sdk"
LINGER = RunSettings(linger=30.0)
FORMATS = (NativeFormat(), AISDKFormat())
ROUTES = {"at its own path": PATH, "with a slash": f"{PATH}/"}


def question(words: str = "Hi", number: int = 1) -> dict[str, Any]:
    return {"id": f"u{number}", "role": "user", "parts": [{"type": "text", "text": words}]}


def body(*messages: dict[str, Any], **fields: Any) -> dict[str, Any]:
    sent = list(messages) or [question()]
    return {"id": "chat 1/2", "messages": sent, "trigger": "submit-message", **fields}


AGAIN = body(trigger="regenerate-message")


def chat(upstream, **options: Any):
    own = profile(tools=True, name="balanced")
    options.setdefault("profiles", [own])
    return serving(upstream, formats=FORMATS, **options)


async def ask(app, content: dict[str, Any] | None = None, **options: Any) -> Conversation:
    return await answer_to(app, content or body(), path=PATH, **options)


def stream_path(conversation: str = "chat 1/2") -> str:
    """As ASGI has it, decoded: the client has sent chat%201%2F2."""
    return f"{PATH}/{conversation}/stream"


async def resume(app, path: str = stream_path(), **options: Any) -> Conversation:
    return await answer_to(app, None, method="GET", path=path, **options)


async def cancel(app, path: str = stream_path(), **options: Any) -> Conversation:
    return await answer_to(app, None, method="DELETE", path=path, **options)


async def said(c: Conversation, piece: bytes) -> None:
    await c.until(lambda: piece in c.received)


@asynccontextmanager
async def first_said(c: Conversation, piece: bytes) -> AsyncIterator[None]:
    await said(c, piece)
    yield


# ---------------------------------------------------------------- an answer


@pytest.mark.parametrize("path", ROUTES.values(), ids=ROUTES)
async def test_an_answer_has_the_header_that_names_its_protocol(upstream, path):
    async with chat(upstream) as app:
        c = await answer_to(app, body(), path=path)
    message = UIMessage(c.received)

    assert c.status == 200
    assert c.headers["x-vercel-ai-ui-message-stream"] == "v1"
    assert c.headers["content-type"] == "text/event-stream"
    assert (message.text, message.ending) == ("Hello world!", ("stop", None))
    assert message.metadata["usage"]["inputTokens"] == 9


@pytest.mark.parametrize("path", ["", "/own"])
async def test_the_format_may_have_another_path(upstream, path):
    async with serving(upstream, formats=(AISDKFormat(path),), runs=LINGER) as app:
        upstream.default = Answer.stall(1)
        own, mount = f"/api/chat{path}", "/api/chat"
        async with (
            Conversation(app, json=body(id="c7"), path=own, root_path=mount) as first,
            first_said(first, b'"Hello"'),
            Conversation(app, method="GET", path=f"{own}/c7/stream", root_path=mount) as second,
            first_said(second, b'"Hello"'),
        ):
            upstream.release()
            assert await second.read_all() == await first.read_all()


async def test_its_paths_pass_a_middleware(upstream):
    async def never(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("the chat answers this itself")

    async with chat(upstream, runs=LINGER) as inner:
        app: Any = ChatNestMiddleware(never, chat=inner, path="/chat")
        first = await answer_to(app, body(), path="/chat/ai-sdk")
        later = await resume(app, "/chat/ai-sdk/chat 1/2/stream")
        gone = await cancel(app, "/chat/ai-sdk/unknown/stream")
        wrong = await answer_to(app, body(), path="/chat/ai-sdk/unknown/stream")

    assert [c.status for c in (first, later, gone, wrong)] == [200, 204, 204, 405]
    assert wrong.received == b"This path takes GET, DELETE."


async def test_a_refusal_is_a_sentence(upstream):
    class Once:
        def limits(self, turn: Any) -> list[Limit]:
            return [Limit(name="once", unit="requests", account="all", amount=1, window=60)]

    async with chat(upstream, policies=[Once()]) as app:
        await ask(app)
        c = await ask(app, body(question(number=2)))

    assert (c.status, c.headers["content-type"]) == (429, "text/plain; charset=utf-8")
    wait = c.headers["retry-after"]
    sentence = f"The limit of requests in 60 seconds is 1. Try again in {wait} second"
    assert c.received.decode().rstrip("s.") == sentence
    assert len(upstream.requests) == 1


async def test_a_failure_before_the_first_content_has_its_status(upstream):
    upstream.default = Answer.context_length()
    async with chat(upstream) as app:
        c = await ask(app)

    assert (c.status, c.received) == (400, b"The conversation is too long for the model.")


async def test_a_failure_after_content_keeps_the_content(upstream):
    upstream.default = Answer.cut(2)
    async with chat(upstream) as app:
        c = await ask(app)
    message = UIMessage(c.received)

    assert (message.text, message.error) == ("Hello world", "The answer was cut off.")
    assert message.facts == {"code": "upstream_interrupted", "retryable": True, "charged": True}


async def test_a_tool_is_called_and_answered_within_one_message(upstream):
    thinking = Thinking("Hm")
    upstream.script(
        Answer(parts=[thinking, Text("So."), ToolCall("c1", "weather", '{"city": "Paris"}')]),
        Answer(pieces=("Clear",)),
    )
    tools = {"weather": {"description": "Sky", "parameters": {"type": "object"}}}
    async with chat(upstream) as app:
        first = UIMessage((await ask(app, body(tools=tools))).received)
        first.answered({"sky": "clear"})
        again = body(question(), first.sent(), tools=tools, messageId=first.id)
        second = UIMessage((await ask(app, again)).received, first.parts)

    assert second.id == first.id
    assert (first.finish, second.finish) == ("tool-calls", "stop")
    assert not second.is_complete(), "or the client would ask again at once"
    sent = upstream.last.json["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "tool"]
    assert sent[1]["tool_calls"][0]["function"] == {
        "name": "weather",
        "arguments": '{"city":"Paris"}',
    }
    assert json.loads(sent[2]["content"]) == {"sky": "clear"}


@pytest.mark.parametrize("rule", ["ignore", "refuse", "allow"])
async def test_the_operator_decides_about_the_clients_system_prompt(upstream, rule):
    system = {"id": "s", "role": "system", "parts": [{"type": "text", "text": "Rhyme."}]}
    async with chat(upstream, client_system_prompt=rule) as app:
        c = await ask(app, body(system, question()))

    roles = [each["role"] for seen in upstream.requests for each in seen.json["messages"]]
    expected = {"ignore": ["user"], "refuse": [], "allow": ["system", "user"]}
    assert (c.status, roles) == (400 if rule == "refuse" else 200, expected[rule])


# ---------------------------------------------------------------- one submission, one charge


async def test_a_submission_that_comes_twice_at_once_is_one_call_and_one_charge(upstream):
    books = Books()
    upstream.default = Answer.stall(1)
    async with (
        chat(upstream, ledger=books) as app,
        Conversation(app, json=body(), path=PATH) as first,
        Conversation(app, json=body(timestamp=1), path=PATH) as second,
    ):
        await said(first, b'"Hello"')
        await said(second, b'"Hello"')
        upstream.release()
        assert await first.read_all() == await second.read_all()

        assert (len(upstream.requests), await books.used()) == (1, books.charge.tokens)


async def test_a_submission_is_replayed_as_long_as_it_is_kept(upstream):
    async with chat(upstream) as app:
        first = await ask(app)
        again = await ask(app)
        other = await ask(app, body(question(number=2)))

    assert again.received == first.received
    assert again.headers["idempotency-replayed"] == "true"
    assert UIMessage(other.received).id != UIMessage(first.received).id
    assert len(upstream.requests) == 2


async def test_another_users_submission_is_another(upstream):
    async with chat(upstream) as app:
        await ask(app, client=("10.0.0.1", 1))
        await ask(app, client=("10.0.0.2", 1))

    assert len(upstream.requests) == 2


async def test_a_failure_that_cost_something_is_replayed(upstream):
    upstream.script(Answer.cut(2))
    async with chat(upstream) as app:
        first = await ask(app)
        again = await ask(app)

    assert again.received == first.received
    assert len(upstream.requests) == 1


async def test_a_refusal_is_not_replayed(upstream):
    upstream.script(Answer.context_length())
    async with chat(upstream) as app:
        first = await ask(app)
        again = await ask(app)

    assert (first.status, again.status) == (400, 200)


async def test_another_answer_joins_one_that_is_running_and_follows_one_that_has_ended(upstream):
    async with chat(upstream) as app:
        await ask(app)
        one = await ask(app, AGAIN)
        upstream.default = Answer.stall(1)
        async with (
            Conversation(app, json=AGAIN, path=PATH) as two,
            Conversation(app, json=AGAIN, path=PATH) as joined,
        ):
            await said(two, b'"Hello"')
            await said(joined, b'"Hello"')
            upstream.release()
            ended = UIMessage(await two.read_all()), UIMessage(await joined.read_all())

    assert len(upstream.requests) == 3
    assert {message.text for message in ended} == {"Hello world!"}
    assert UIMessage(one.received).id not in {message.id for message in ended}


async def test_without_deduplication_each_request_is_a_call(upstream):
    async with chat(upstream, runs=RunSettings(deduplicate=False)) as app:
        first = await ask(app)
        again = await ask(app)

    assert "chatnest-run-id" not in first.headers
    assert "idempotency-replayed" not in again.headers
    assert len(upstream.requests) == 2


async def test_an_idempotency_key_wins(upstream):
    async with chat(upstream) as app:
        await ask(app, headers={"idempotency-key": '"one"'})
        await ask(app, headers={"idempotency-key": '"two"'})

    assert len(upstream.requests) == 2


# ---------------------------------------------------------------- stop and resume


async def test_without_linger_a_stop_ends_the_answer_and_there_is_nothing_to_resume(upstream):
    upstream.default = Answer.stall(1)
    async with chat(upstream) as app:
        async with Conversation(app, json=body(), path=PATH) as c:
            await said(c, b'"Hello"')
            resumed, cancelled = await resume(app), await cancel(app)
        await upstream.until(lambda up: up.aborted == 1)

    assert (resumed.status, resumed.received) == (204, b"")
    assert (cancelled.status, cancelled.received) == (204, b"")


@pytest.mark.parametrize("deduplicate", [True, False])
@pytest.mark.parametrize("content", [body(), AGAIN], ids=["a submission", "another answer"])
async def test_an_answer_that_lingers_is_resumed_from_its_beginning(upstream, content, deduplicate):
    upstream.default = Answer.stall(2)
    settings = RunSettings(linger=30.0, deduplicate=deduplicate)
    async with (
        chat(upstream, runs=settings) as app,
        Conversation(app, json=content, path=PATH) as whole,
    ):
        await said(whole, b'" world"')
        async with Conversation(app, method="GET", path=stream_path()) as stopped:
            await said(stopped, b'" world"')
        async with Conversation(app, method="GET", path=stream_path()) as resumed:
            await said(resumed, b'" world"')
            upstream.release()
            await resumed.read_all()
        await whole.read_all()
        late = await resume(app)

    assert resumed.received == whole.received
    assert resumed.headers["x-vercel-ai-ui-message-stream"] == "v1"
    assert whole.received.startswith(stopped.received)
    assert UIMessage(resumed.received).ending == ("stop", None)
    assert late.status == 204, "the answer has ended, and the client has it"
    assert len(upstream.requests) == 1


async def test_a_client_that_stops_and_resumes_has_the_whole_answer(upstream):
    upstream.default = Answer.stall(1)
    async with (
        chat(upstream, runs=LINGER) as app,
        Conversation(app, json=body(), path=PATH) as stopped,
    ):
        await said(stopped, b'"Hello"')
        stopped.disconnect()
        async with Conversation(app, method="GET", path=stream_path()) as resumed:
            await said(resumed, b'"Hello"')
            upstream.release()
            whole = await resumed.read_all()
        replayed = await ask(app)

    assert whole == replayed.received
    assert whole.startswith(stopped.received)
    assert UIMessage(whole).ending == ("stop", None)


async def test_a_continued_message_keeps_its_id_when_it_is_resumed(upstream):
    upstream.script(Answer(parts=[ToolCall("c1", "f", "{}")]), Answer.stall(1))
    async with chat(upstream, runs=LINGER) as app:
        first = UIMessage((await ask(app)).received)
        first.answered(1)
        content = body(question(), first.sent(), messageId=first.id)
        async with (
            Conversation(app, json=content, path=PATH) as second,
            first_said(second, b'"Hello"'),
            Conversation(app, method="GET", path=stream_path()) as resumed,
            first_said(resumed, b'"Hello"'),
        ):
            upstream.release()
            assert await resumed.read_all() == await second.read_all()

    assert UIMessage(resumed.received).id == first.id


async def test_an_answer_that_lingers_is_stopped_by_its_chat(upstream):
    books = Books()
    upstream.default = Answer.stall(2)
    async with (
        chat(upstream, runs=LINGER, ledger=books) as app,
        Conversation(app, json=body(), path=PATH) as stopped,
    ):
        await said(stopped, b'" world"')
        stopped.disconnect()
        receipt = (await cancel(app)).problem()
        again = (await cancel(app)).problem()

        assert (receipt["outcome"], receipt["was_running"]) == ("cancelled", True)
        assert again == receipt | {"was_running": False}
        assert receipt["charged"] == await books.used() > 0
        await upstream.until(lambda up: up.aborted == 1)


async def test_a_reader_of_an_answer_that_is_stopped_reads_a_sentence(upstream):
    upstream.default = Answer.stall(1)
    async with (
        chat(upstream, runs=LINGER) as app,
        Conversation(app, json=body(), path=PATH) as c,
    ):
        await said(c, b'"Hello"')
        await cancel(app)
        message = UIMessage(await c.read_all())

    assert (message.text, message.error) == ("Hello", "This answer was cancelled.")


UNKNOWN = {
    "another chat": {"path": stream_path("other")},
    "another user": {"client": ("10.9.9.9", 1)},
}


@pytest.mark.parametrize("options", UNKNOWN.values(), ids=UNKNOWN)
async def test_there_is_nothing_of_others_to_resume_or_to_cancel(upstream, options):
    upstream.default = Answer.stall(1)
    async with (
        chat(upstream, runs=LINGER) as app,
        Conversation(app, json=body(), path=PATH) as c,
    ):
        await said(c, b'"Hello"')
        resumed, cancelled = await resume(app, **options), await cancel(app, **options)
        upstream.release()
        await c.read_all()

    assert (resumed.status, cancelled.status) == (204, 204)


async def test_many_at_once_are_one_call(upstream):
    found: list[bytes] = []
    async with chat(upstream) as app, anyio.create_task_group() as tasks:

        async def one() -> None:
            found.append((await ask(app)).received)

        for _ in range(20):
            tasks.start_soon(one)

    assert (len(set(found)), len(upstream.requests)) == (1, 1)
