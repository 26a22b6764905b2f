"""Runs: one model call and one charge for a key, whoever reads, leaves, comes back or cancels."""

import json

import anyio
import pytest

from chatnest import RunSettings
from chatnest.ledger.sqlite import SQLiteLedger
from chatnest.testing import Answer, Conversation, EventReader
from tests.streams.support import Books, answer_to, ask, error, kinds, profile, serving, text

pytestmark = pytest.mark.anyio

KEY = {"Idempotency-Key": '"k1"'}
LINGER = RunSettings(linger=30.0)


def ids(body: bytes) -> list[int]:
    return [int(e.id) for e in EventReader().feed(body) if e.event in {"token", "done", "error"}]


async def said(c: Conversation, piece: bytes) -> None:
    await c.until(lambda: piece in c.received)


async def run_of(app, run_id: str, after: int = 0, **options) -> Conversation:
    return await answer_to(
        app, None, method="GET", path=f"/api/chat/runs/{run_id}", query=f"after={after}", **options
    )


async def cancel(app, run_id: str, **options) -> Conversation:
    return await answer_to(app, None, method="DELETE", path=f"/api/chat/runs/{run_id}", **options)


async def test_without_a_key_nothing_is_numbered(upstream):
    async with serving(upstream) as app:
        c = await answer_to(app, ask())

    assert b"id:" not in c.received
    assert {"chatnest-run-id", "idempotency-replayed"} & set(c.headers) == set()


async def test_the_same_key_replays_the_whole_with_one_call_and_one_charge(upstream):
    books = Books()
    async with serving(upstream, ledger=books) as app:
        first = await answer_to(app, ask(), headers=KEY)
        again = await answer_to(app, ask(), headers=KEY)

        assert again.received == first.received
        assert ids(first.received) == list(range(1, len(ids(first.received)) + 1))
        assert kinds(first.received)[-1] == "done"
        assert "idempotency-replayed" not in first.headers
        assert again.headers["idempotency-replayed"] == "true"
        assert again.headers["chatnest-run-id"] == first.headers["chatnest-run-id"]
        assert (len(upstream.requests), await books.used()) == (1, books.charge.tokens)


async def test_a_second_request_joins_and_reads_along(upstream):
    upstream.default = Answer.stall(1)
    async with (
        serving(upstream) as app,
        Conversation(app, json=ask(), headers=KEY) as first,
        Conversation(app, json=ask(), headers={"Idempotency-Key": "k1"}) as second,
    ):
        await said(first, b'data: "Hello"')
        await said(second, b'data: "Hello"')
        upstream.release()
        await first.read_all()
        await second.read_all()

    assert first.received == second.received
    assert len(upstream.requests) == 1


async def test_fifty_at_once_are_one_call(upstream):
    books, bodies = Books(), []
    async with serving(upstream, ledger=books) as app, anyio.create_task_group() as tasks:

        async def one():
            bodies.append((await answer_to(app, ask(), headers=KEY)).received)

        for _ in range(50):
            tasks.start_soon(one)

    assert len(bodies) == 50
    assert len(set(bodies)) == 1
    assert (len(upstream.requests), await books.used()) == (1, books.charge.tokens)


async def test_another_body_with_the_same_key_is_refused(upstream):
    async with serving(upstream) as app:
        await answer_to(app, ask(), headers=KEY)
        other = await answer_to(app, ask("Something else"), headers=KEY)

    assert (other.status, other.problem()["code"]) == (422, "idempotency_key_reused")
    assert len(upstream.requests) == 1


async def test_the_same_request_in_another_spelling_is_the_same(upstream):
    async with serving(upstream) as app:
        await answer_to(app, ask(), headers=KEY)
        body = json.dumps(ask() | {"profile": None, "linger": 1}, indent=2).encode()
        json_type = {"content-type": "application/json"}
        async with Conversation(app, body=body, headers=KEY | json_type) as c:
            await c.read_all()

    assert (c.status, len(upstream.requests)) == (200, 1)


async def test_keys_belong_to_their_principal(upstream):
    async with serving(upstream) as app:
        ann = await answer_to(app, ask(), headers=KEY, client=("10.0.0.1", 1))
        bob = await answer_to(app, ask(), headers=KEY, client=("10.0.0.2", 1))
        run = ann.headers["chatnest-run-id"]
        stolen = await run_of(app, run, client=("10.0.0.2", 1))
        unknown = await run_of(app, "0" * 32, client=("10.0.0.2", 1))
        kill = await cancel(app, run, client=("10.0.0.2", 1))

    assert len(upstream.requests) == 2
    assert bob.headers["chatnest-run-id"] != run
    assert [c.status for c in (stolen, unknown, kill)] == [404, 404, 404]
    a, b = stolen.problem(), unknown.problem()
    assert {k: v for k, v in a.items() if k != "request_id"} == {
        k: v for k, v in b.items() if k != "request_id"
    }


async def test_refused_requests_are_not_remembered(upstream):
    tiny = profile(name="balanced", requests_per_minute=1, max_concurrent_streams=1)
    upstream.default = Answer.stall(1)
    async with serving(upstream, profiles=[tiny]) as app, Conversation(app, json=ask()) as busy:
        await said(busy, b'data: "Hello"')
        first = await answer_to(app, ask(), headers=KEY)
        again = await answer_to(app, ask(), headers=KEY)

    assert [c.status for c in (first, again)] == [429, 429]
    assert [c.headers.get("idempotency-replayed") for c in (first, again)] == [None, None]


async def test_an_upstream_that_failed_before_the_start_can_be_tried_again(upstream):
    upstream.script(Answer.error(500), Answer.error(500))
    books = Books()
    async with serving(upstream, ledger=books) as app:
        failed = await answer_to(app, ask(), headers=KEY)
        again = await answer_to(app, ask(), headers=KEY)

        assert (failed.status, again.status) == (502, 200)
        assert await books.used() == 12


async def test_who_leaves_without_linger_ends_it_and_who_asks_again_is_told(upstream):
    upstream.default = Answer.stall(1)
    async with serving(upstream) as app:
        async with Conversation(app, json=ask(), headers=KEY) as c:
            await said(c, b'data: "Hello"')
        again = await answer_to(app, ask(), headers=KEY)

    assert text(again.received) == "Hello"
    assert error(again.received)["code"] == "client_gone"
    await upstream.until(lambda u: u.aborted == 1)
    assert len(upstream.requests) == 1


async def test_who_comes_back_within_the_linger_loses_nothing(upstream):
    upstream.default = Answer.stall(1, pieces=("one", "two", "three"))
    books = Books()
    async with serving(upstream, ledger=books, runs=LINGER) as app, anyio.create_task_group() as t:
        first = Conversation(app, json=ask(), headers=KEY)

        async def leave_and_wait():
            async with first:
                await said(first, b'data: "one"')

        t.start_soon(leave_and_wait)
        while not first.is_disconnected:  # noqa: ASYNC110  # it tells nobody
            await anyio.sleep(0.001)
        run = first.headers["chatnest-run-id"]
        async with Conversation(app, method="GET", path=f"/api/chat/runs/{run}") as second:
            await said(second, b'data: "one"')
            upstream.release()
            await second.read_all()
        rest = await run_of(app, run, after=1)
        nothing = await run_of(app, run, after=4)

        assert text(second.received) == "onetwothree"
        assert text(rest.received) == "twothree"
        assert ids(rest.received) == [2, 3, 4]
        assert (nothing.status, nothing.received) == (204, b"")
        assert (len(upstream.requests), await books.used()) == (1, books.charge.tokens)


async def test_a_linger_that_nobody_uses_ends(upstream):
    upstream.default = Answer.stall(1)
    async with (
        serving(upstream) as app,
        Conversation(app, json=ask(linger=0.05), headers=KEY) as c,
    ):
        await said(c, b'data: "Hello"')
    await upstream.until(lambda u: u.aborted == 1)


@pytest.mark.parametrize("linger", [-1, "1", None])
async def test_a_linger_is_a_time_and_needs_a_key(upstream, linger):
    async with serving(upstream) as app:
        if linger is None:
            c = await answer_to(app, ask(linger=1))
        else:
            c = await answer_to(app, ask(linger=linger), headers=KEY)

    assert (c.status, c.problem()["code"]) == (400, "invalid_request")
    assert c.problem()["detail"].startswith("linger: ")


async def test_a_cancel_ends_it_and_gives_a_receipt(upstream):
    upstream.default = Answer.stall(1)
    books = Books()
    async with (
        serving(upstream, ledger=books, runs=LINGER) as app,
        Conversation(app, json=ask(), headers=KEY) as c,
    ):
        await said(c, b'data: "Hello"')
        run = c.headers["chatnest-run-id"]
        receipt = (await cancel(app, run)).problem()
        again = (await cancel(app, run)).problem()
        await c.read_all()

        assert error(c.received)["code"] == "cancelled"
        assert receipt == {
            "run_id": run,
            "was_running": True,
            "outcome": "cancelled",
            "charged": books.charge.tokens,
            "source": "estimated",
        }
        assert again == receipt | {"was_running": False}
        assert books.charge.outcome == "cancelled"
    await upstream.until(lambda u: u.aborted == 1)


async def test_with_resumable_every_answer_can_be_picked_up(upstream):
    async with serving(upstream, runs=RunSettings(resumable=True)) as app:
        c = await answer_to(app, ask())
        again = await run_of(app, c.headers["chatnest-run-id"], after=0)
        by_header = await answer_to(
            app,
            None,
            method="GET",
            path=f"/api/chat/runs/{c.headers['chatnest-run-id']}",
            headers={"Last-Event-ID": "1"},
        )

    assert again.received == c.received
    assert ids(by_header.received) == ids(c.received)[1:]


async def test_a_run_beyond_its_bound_is_exact_for_those_who_read_and_clear_for_others(upstream):
    upstream.default = Answer.stall(20, pieces=("x" * 100,), repeat=30)
    async with serving(upstream, runs=RunSettings(max_bytes=2_500)) as app:
        async with Conversation(app, json=ask(), headers=KEY) as c:
            await c.until(lambda: text(c.received) == "x" * 2_000)
            upstream.release()
            await c.read_all()
        late = await answer_to(app, ask(), headers=KEY)
        tail = await run_of(app, c.headers["chatnest-run-id"], after=29)

    assert text(c.received) == "x" * 3_000
    assert (late.status, late.problem()["code"]) == (410, "replay_unavailable")
    assert text(tail.received) == "x" * 100


async def test_the_first_reader_gets_the_limits_of_its_admission_and_who_joins_does_not(upstream):
    async with serving(upstream) as app:
        first = await answer_to(app, ask(), headers=KEY)
        again = await answer_to(app, ask(), headers=KEY)

    assert {"ratelimit", "ratelimit-policy", "chatnest-request-id"} <= set(first.headers)
    assert "ratelimit" not in again.headers


@pytest.mark.parametrize(
    "value", ['"', '""', "", "a b", '"a" ; x=1', '"\x80"', "k" * 256, '"a\\b"', "a,b"]
)
async def test_a_malformed_key_is_refused(upstream, value):
    async with serving(upstream) as app:
        c = await answer_to(app, ask(), headers={"Idempotency-Key": value})

    assert (c.status, len(upstream.requests)) == (400, 0)
    assert c.problem()["detail"].startswith("Idempotency-Key: must be one string")


@pytest.mark.parametrize("after", ["x", "-1", "1.5", "9" * 16])
async def test_a_malformed_number_is_refused(upstream, after):
    async with serving(upstream) as app:
        c = await run_of(app, "0" * 32, after=after)

    assert (c.status, c.problem()["code"]) == (400, "invalid_request")


async def test_a_run_takes_get_and_delete(upstream):
    async with serving(upstream) as app:
        c = await answer_to(app, ask(), path="/api/chat/runs/" + "0" * 32)

    assert (c.status, c.headers["allow"]) == (405, "GET, DELETE")


async def test_a_shutdown_tells_every_reader(upstream):
    upstream.default = Answer.stall(1)
    books = Books()
    async with serving(upstream, ledger=books) as app:
        async with Conversation(app, json=ask(), headers=KEY) as c:
            await said(c, b'data: "Hello"')
            await app.drain(0)
            await c.read_all()

        assert error(c.received)["code"] == "server_shutdown"
        assert books.charge.outcome == "server_shutdown"
        assert (await books.held())[0] == 0


async def test_by_default_runs_are_kept_where_the_ledger_is(upstream, tmp_path):
    """So that another worker finds them."""
    bodies = []
    for _ in range(2):
        async with serving(upstream, ledger=SQLiteLedger(tmp_path / "books.db")) as app:
            bodies.append((await answer_to(app, ask(), headers=KEY)).received)

    assert bodies[0] == bodies[1]
    assert len(upstream.requests) == 1
