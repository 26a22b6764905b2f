"""A format with keys, paths and documents of its own: one submission, one answer, one charge."""

import anyio
import pytest

from chatnest import DemoProvider, NativeFormat, RunSettings
from chatnest.testing import Answer, Conversation
from tests.streams.support import Books, answer_to, ask, kinds, serving
from tests.support.plain_format import Plain

pytestmark = pytest.mark.anyio

ASK = {"chat": "c1", "text": "Hi"}
AGAIN = ASK | {"again": True}
WHOLE = ASK | {"stream": False}
LINGER = RunSettings(linger=30.0)
FORMATS = [NativeFormat(), Plain()]
CHAT = "/api/chat/plain"


def plain(upstream, **options):
    return serving(upstream, formats=FORMATS, **options)


async def post(app, body, path=CHAT, **options):
    return await answer_to(app, body, path=path, **options)


async def get(app, path, method="GET", **options):
    return await answer_to(app, None, path=path, method=method, **options)


async def said(c: Conversation, piece: bytes) -> None:
    await c.until(lambda: piece in c.received)


async def test_a_repeated_submission_is_the_same_answer(upstream):
    books = Books()
    async with plain(upstream, ledger=books) as app:
        first = await post(app, ASK)
        again = await post(app, ASK)
        used = await books.used()

    assert first.received == again.received == b"Hello world![stop n-Hi]"
    assert again.headers["idempotency-replayed"] == "true"
    assert (len(upstream.requests), used) == (1, books.charge.tokens)


async def test_other_texts_and_other_principals_are_other_submissions(upstream):
    async with plain(upstream) as app:
        await post(app, ASK)
        await post(app, ASK | {"text": "Ho"})
        await post(app, ASK, client=("127.0.0.2", 1))

    assert len(upstream.requests) == 3


async def test_without_deduplication_each_request_is_an_answer(upstream):
    async with plain(upstream, runs=RunSettings(deduplicate=False)) as app:
        await post(app, ASK)
        c = await post(app, ASK)

    assert len(upstream.requests) == 2
    assert "chatnest-run-id" not in c.headers


async def test_an_idempotency_key_comes_before_the_key_of_the_format(upstream):
    async with plain(upstream) as app:
        await post(app, ASK, headers={"idempotency-key": '"a"'})
        await post(app, ASK, headers={"idempotency-key": '"b"'})

    assert len(upstream.requests) == 2


async def test_a_key_that_does_not_replay_begins_a_new_answer_after_the_end(upstream):
    async with plain(upstream, policies=()) as app:  # without a rate
        first = await post(app, ASK)
        runs = {first.headers["chatnest-run-id"]}
        for _ in range(30):
            c = await post(app, AGAIN)
            runs.add(c.headers["chatnest-run-id"])

    assert len(runs) == len(upstream.requests) == 31


async def test_a_key_that_does_not_replay_joins_a_running_answer(upstream):
    async with plain(upstream) as app:
        await post(app, ASK)
        upstream.default = Answer.stall(1)
        async with (
            Conversation(app, json=AGAIN, path=CHAT) as first,
            Conversation(app, json=AGAIN, path=CHAT) as second,
        ):
            await said(first, b"Hello")
            await said(second, b"Hello")
            upstream.release()
            await first.read_all()
            await second.read_all()

    assert first.received == second.received
    assert len(upstream.requests) == 2


async def test_of_many_that_do_not_replay_one_asks(upstream):
    async with plain(upstream) as app:
        await post(app, ASK)
        upstream.default = Answer.stall(1)
        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(post, app, AGAIN)
            await upstream.until(lambda up: len(up.requests) == 2)
            await anyio.wait_all_tasks_blocked()
            upstream.release()

    assert len(upstream.requests) == 2


async def test_a_conversation_is_resumed_from_its_beginning(upstream):
    upstream.default = Answer.stall(1)
    async with plain(upstream, runs=LINGER) as app:
        async with Conversation(app, json=ASK, path=CHAT) as left:
            await said(left, b"Hello")
            left.disconnect()
            async with Conversation(app, method="GET", path=f"{CHAT}/c1/stream") as c:
                await said(c, b"Hello")
                upstream.release()
                await c.read_all()
        after = await get(app, f"{CHAT}/c1/stream")

    assert c.received == b"Hello world![stop n-Hi]"
    assert (after.status, after.received) == (204, b"")
    assert len(upstream.requests) == 1


async def test_without_linger_there_is_nothing_to_resume(upstream):
    upstream.default = Answer.stall(1)
    async with plain(upstream) as app:
        async with Conversation(app, json=ASK, path=CHAT) as left:
            await said(left, b"Hello")
            during = await get(app, f"{CHAT}/c1/stream")
        after = await get(app, f"{CHAT}/c1/stream")
        await upstream.until(lambda up: up.served + up.aborted == 1)

    assert (during.status, after.status) == (204, 204)


async def test_a_conversation_of_another_principal_has_nothing_to_resume(upstream):
    upstream.default = Answer.stall(1)
    async with (
        plain(upstream, runs=LINGER) as app,
        Conversation(app, json=ASK, path=CHAT) as left,
    ):
        await said(left, b"Hello")
        left.disconnect()
        stranger = await get(app, f"{CHAT}/c1/stream", client=("127.0.0.2", 1))
        stopped = await get(app, f"{CHAT}/c1/stream", "DELETE", client=("127.0.0.2", 1))
        assert upstream.requests[0].state == "open"
        mine = await get(app, f"{CHAT}/c1/stream", "DELETE")

    assert (stranger.status, stopped.status, mine.received) == (204, 204, b"cancelled cancelled")


@pytest.mark.parametrize("deduplicate", [True, False])
async def test_a_conversation_is_stopped(upstream, deduplicate):
    upstream.default = Answer.stall(1)
    books = Books()
    settings = RunSettings(linger=30.0, deduplicate=deduplicate)
    async with plain(upstream, runs=settings, ledger=books) as app:
        async with Conversation(app, json=ASK, path=CHAT) as left:
            await said(left, b"Hello")
            left.disconnect()
            stopped = await get(app, f"{CHAT}/c1/stream", "DELETE")
        again = await get(app, f"{CHAT}/c1/stream")
        await upstream.until(lambda up: up.served + up.aborted == 1)

    assert (stopped.status, stopped.received) == (200, b"cancelled cancelled")
    assert again.status == 204
    assert books.charge.tokens > 0


async def test_a_run_is_cancelled_by_its_id_in_another_path(upstream):
    upstream.default = Answer.stall(1)
    async with plain(upstream) as app, Conversation(app, json=ASK, path=CHAT) as c:
        await said(c, b"Hello")
        run = c.headers["chatnest-run-id"]
        receipt = await get(app, f"{CHAT}/run_{run}/cancel", "POST")
        await c.read_all()
        missing = await post(app, {}, path=f"{CHAT}/run_{'0' * 32}/cancel")
        wrong = await get(app, f"{CHAT}/run_{run}/cancel", "GET")

    assert receipt.received == b"cancelled cancelled"
    assert c.received == b"Hello[cancelled]"
    assert (missing.status, wrong.status, wrong.headers["allow"]) == (404, 405, "POST")


# ------------------------------------------------ whole documents


@pytest.mark.parametrize("deduplicate", [True, False])
async def test_a_document_comes_at_once_and_at_the_end(upstream, deduplicate):
    upstream.default = Answer.stall(1)
    async with (
        plain(upstream, runs=RunSettings(deduplicate=deduplicate)) as app,
        Conversation(app, json=WHOLE, path=CHAT, query="ping=0.2") as c,
    ):
        await upstream.until(lambda up: len(up.requests) == 1)
        await anyio.sleep(0.5)  # pings and an early start would have come by now
        assert c.messages == []
        upstream.release()
        await c.read_all()

    assert c.received == b"Hello world![stop n-Hi]"
    assert c.headers["content-type"] == "application/json"
    assert "chatnest-request-id" in c.headers
    assert "x-plain" in c.headers


async def test_a_document_that_fails_in_its_middle_has_a_status_of_its_own(upstream):
    upstream.default = Answer.cut(1)
    books = Books()
    async with plain(upstream, ledger=books) as app:
        c = await post(app, WHOLE)

    assert (c.status, c.received) == (502, b"(upstream_interrupted True)")
    assert books.charge.tokens > 0


async def test_a_client_that_leaves_before_its_document_stops_the_answer(upstream):
    upstream.default = Answer.stall(1)
    async with plain(upstream, runs=RunSettings(deduplicate=False)) as app:
        async with Conversation(app, json=WHOLE, path=CHAT):
            await upstream.until(lambda up: len(up.requests) == 1)
        await upstream.until(lambda up: up.served + up.aborted == 1)

    assert upstream.requests[0].state == "aborted"


@pytest.mark.parametrize("stream", [True, False])
async def test_an_empty_answer_is_an_answer_where_the_format_says_so(upstream, stream):
    upstream.default = Answer.text("", finish_reason="length")
    async with plain(upstream) as app:
        empty = await post(app, ASK | {"empty": True, "stream": stream})
        failed = await post(app, ASK | {"text": "Ho", "stream": stream})

    assert empty.received == b"[length n-Hi]"
    assert b"empty_answer" in failed.received


# ------------------------------------------------ models and documents of the whole chat


async def test_the_models_of_the_principal_are_listed():
    async with serving(None, provider=DemoProvider(), formats=FORMATS) as app:
        every = await get(app, f"{CHAT}/models")
        one = await get(app, f"{CHAT}/models/demo")
        unknown = await get(app, f"{CHAT}/models/org/other:x")
        posted = await answer_to(app, ASK, path=f"{CHAT}/models")

    assert (every.status, every.received, one.received) == (200, b"demo", b"demo")
    assert (unknown.status, unknown.received) == (404, b"(model_not_found False)")
    assert (posted.status, posted.headers["allow"]) == (405, "GET")


async def test_the_native_format_has_its_paths_as_before(upstream):
    async with plain(upstream) as app:
        c = await answer_to(app, ask())

    assert kinds(c.received)[-1] == "done"


FORMATS_WITH_IDS = {
    "openai-chat": ("/v1/chat/completions", {"stream": True, "messages": ask()["messages"]}),
    "openai-responses": ("/v1/responses", {"stream": True, "input": "Hi"}),
}


@pytest.mark.parametrize(("path", "body"), FORMATS_WITH_IDS.values(), ids=FORMATS_WITH_IDS)
async def test_all_readers_of_an_answer_get_its_id(upstream, path, body):
    key = {"idempotency-key": '"k"'}
    async with serving(upstream, formats=list(FORMATS_WITH_IDS)) as app:
        first = await post(app, body, path=path, headers=key)
        second = await post(app, body, path=path, headers=key)

    assert first.received == second.received
    assert first.headers["x-request-id"] != second.headers["x-request-id"]


async def test_a_response_is_cancelled_by_its_id(upstream):
    upstream.default = Answer.stall(1)
    body = {"stream": True, "input": "Hi"}
    async with (
        serving(upstream, formats=["openai-responses"], runs=LINGER) as app,
        Conversation(app, json=body, path="/v1/responses") as c,
    ):
        await said(c, b'"delta":"Hello"')
        c.disconnect()
        path = f"/v1/responses/resp_{c.headers['chatnest-run-id']}/cancel"
        receipt = await post(app, {}, path=path)
        await upstream.until(lambda up: up.aborted == 1)

    assert b'"status":"cancelled"' in receipt.received
