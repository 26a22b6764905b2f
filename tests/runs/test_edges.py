"""Where a run and its readers meet badly: numbers beyond its end, two chats of one store, readers
at another worker, failures that are a reader's alone.
"""

from contextlib import AsyncExitStack
from typing import Any

import anyio
import pytest

from chatnest import Bounds, MemoryLedger, MemoryRunLog, RunSettings
from chatnest.ledger.sqlite import SQLiteLedger
from chatnest.runs import writer
from chatnest.testing import Answer, Conversation, EventReader
from tests.runs.test_runs import KEY, run_of, said
from tests.streams.support import (
    PATIENCE,
    PING,
    START,
    Books,
    answer_to,
    ask,
    error,
    kinds,
    serving,
    text,
)

pytestmark = pytest.mark.anyio

TOKENS = 12
WORDS = tuple(f"<{number}>" for number in range(1, 41))


class SlowEnd(MemoryRunLog):
    """Its end is recorded a moment after its events, as in every log with a disk or a network."""

    async def finish(self, run_id, end, batch=None):
        await anyio.sleep(0.05)
        return await super().finish(run_id, end, batch)


@pytest.mark.parametrize("broken", ["append", "finish", "signals"])
async def test_a_log_that_breaks_ends_no_answer(upstream, caplog, broken, monkeypatch):
    """Also at the end of the answer, while its reader still reads."""

    async def fail(*_: object, **__: object) -> None:
        raise RuntimeError("a log's own trouble")

    log: Any = MemoryRunLog()
    setattr(log, broken, fail)
    log.poll_seconds = 0.01
    monkeypatch.setattr(writer, "_APPEND_SECONDS", 0)
    upstream.default = Answer.text("one two three", pace=0.03)
    books = Books()
    async with serving(upstream, ledger=books, run_log=log) as app:
        c = await answer_to(app, ask(), headers=KEY)
    assert (c.status, text(c.received), kinds(c.received)[-1]) == (200, "one two three", "done")
    assert books.charge.outcome == "done"
    assert any("log's own trouble" in (record.exc_text or "") for record in caplog.records)


async def test_a_log_that_breaks_leaves_a_refusal_as_it_is(upstream):
    async def fail(_: str) -> None:
        raise RuntimeError("a log's own trouble")

    log: Any = MemoryRunLog()
    log.drop = fail
    async with serving(upstream, run_log=log) as app:
        c = await answer_to(app, ask(maxTokensPerRequest=1), headers=KEY)
    assert (c.status, c.problem()["code"]) == (413, "request_too_large")


def last_id(body: bytes) -> str:
    return [event.id for event in EventReader().feed(body) if event.id][-1]


@pytest.mark.parametrize("after", [3, 4, 999_999])
async def test_who_has_seen_it_all_is_told_the_end_once_it_comes(upstream, after):
    """And keeps nobody busy until then."""
    upstream.script(Answer.stall(1, pieces=("a", "b", "c")))
    async with serving(upstream, run_log=SlowEnd()) as app:
        async with Conversation(app, json=ask(), headers=KEY) as c:
            await said(c, b'"a"')
            run = c.headers["chatnest-run-id"]
            found: list[Conversation] = []
            async with anyio.create_task_group() as tasks:

                async def read() -> None:
                    found.append(await run_of(app, run, after))

                tasks.start_soon(read)
                await anyio.wait_all_tasks_blocked()
                upstream.release()
                await c.finished()
            assert text(c.received) == "abc"
        assert kinds(found[0].received)[-1] == "done"
        assert last_id(found[0].received) == "4"
        assert (await run_of(app, run, 4)).status == 204


async def test_two_chats_of_one_ledger_have_keys_of_their_own(upstream):
    books = Books()
    log = MemoryRunLog()
    shared: dict[str, Any] = {"ledger": books, "run_log": log}
    async with (
        serving(upstream, system_prompt="one", **shared) as one,
        serving(upstream, system_prompt="two", **shared) as two,
    ):
        first = await answer_to(one, ask(), headers=KEY)
        second = await answer_to(two, ask(), headers=KEY)
        assert first.headers["chatnest-run-id"] != second.headers["chatnest-run-id"]
        assert len(upstream.requests) == 2
        assert await books.used() == 2 * TOKENS


async def test_what_two_logs_begin_is_paid_twice(upstream):
    """Two workers that share a ledger and no log: two calls are two holds and two charges."""
    books = Books()
    async with serving(upstream, ledger=books) as one, serving(upstream, ledger=books) as two:
        for app in (one, two):
            assert (await answer_to(app, ask(), headers=KEY)).status == 200
        assert len(upstream.requests) == 2
        assert await books.used() == 2 * TOKENS


async def test_a_key_whose_run_is_forgotten_begins_a_new_one(upstream):
    now = [0.0]
    log = MemoryRunLog(RunSettings(keep=1), clock=lambda: now[0])
    async with serving(upstream, ledger=MemoryLedger(), run_log=log) as app:
        bodies = []
        for _ in range(2):
            bodies.append((await answer_to(app, ask(), headers=KEY)).received)
            now[0] += 2
    assert bodies[0] == bodies[1]
    assert len(upstream.requests) == 2


async def test_refusals_leave_nothing_in_the_log(upstream):
    log = MemoryRunLog()
    async with serving(upstream, run_log=log) as app:
        for number in range(20):
            headers = {"Idempotency-Key": f"k{number}"}
            refused = await answer_to(app, ask(maxTokensPerRequest=1), headers=headers)
            assert refused.status == 413
    assert repr(log) == "MemoryRunLog(0 runs)"
    assert not log._keys
    assert not log._ended


async def test_what_befalls_a_reader_has_no_number(upstream, tmp_path):
    """Or what it picks up by that number would lack an event."""
    upstream.script(Answer.stall(20, pieces=WORDS))
    async with (
        serving(upstream, ledger=SQLiteLedger(tmp_path / "b")) as one,
        serving(upstream, ledger=SQLiteLedger(tmp_path / "b")) as two,
        Conversation(one, json=ask(), headers=KEY) as writer,
    ):
        await said(writer, b'"<20>"')
        async with Conversation(two, json=ask(), headers=KEY) as reader:
            await said(reader, b'"<20>"')
            await two.drain(0)  # a deploy
            await reader.finished()
        assert error(reader.received)["code"] == "server_shutdown"
        run, seen = reader.headers["chatnest-run-id"], last_id(reader.received)
        assert seen == "20"
        assert (await run_of(two, run, 20)).status == 503
        upstream.release()
        rest = await run_of(one, run, int(seen))
        await writer.finished()
    assert text(reader.received) + text(rest.received) == "".join(WORDS)


async def test_who_reads_at_another_worker_is_somebody_who_reads(upstream, tmp_path, monkeypatch):
    monkeypatch.setattr("chatnest.runs.run._ELSEWHERE", PATIENCE)  # for one whose disk is busy
    upstream.script(Answer(pieces=WORDS, pace=0.03))
    async with (
        serving(upstream, ledger=SQLiteLedger(tmp_path / "b")) as one,
        serving(upstream, ledger=SQLiteLedger(tmp_path / "b")) as two,
        AsyncExitStack() as both,
    ):
        first = await both.enter_async_context(Conversation(one, json=ask(), headers=KEY))
        await said(first, b'"<1>"')
        second = await both.enter_async_context(Conversation(two, json=ask(), headers=KEY))
        await said(second, b'"<8>"')
        first.disconnect()
        await second.finished()
    assert text(second.received) == "".join(WORDS)
    assert kinds(second.received)[-1] == "done"


async def test_what_cost_nothing_is_not_remembered_although_it_started_early(upstream):
    late = Answer.error(503, opening="silence")
    upstream.script(late, Answer.error(503), Answer.tokens(2))
    books = Books()
    bounds = Bounds(early_start_seconds=0.1)
    async with serving(upstream, ledger=books, bounds=bounds) as app:
        async with Conversation(app, json=ask(), headers=KEY) as failed:
            await failed.until(lambda: failed.received.startswith(START + PING))
            await upstream.until(lambda u: u.requests)
            upstream.release()
            await failed.finished()
        assert error(failed.received)["charged"] is False
        again = await answer_to(app, ask(), headers=KEY)
        assert kinds(again.received)[-1] == "done"
        assert "idempotency-replayed" not in again.headers
        assert await books.used() == 8 + 2 + 1
