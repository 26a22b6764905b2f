"""A piece of a run goes to its only reader at once, and the run is the same for everybody else."""

import pytest

from chatnest import RunSettings
from chatnest.events import Delta
from chatnest.runs.run import Run
from chatnest.streams.generation import Generation
from chatnest.testing import Answer, Conversation
from tests.runs.test_runs import KEY, cancel, ids, run_of
from tests.streams.short_cut import SendsNow
from tests.streams.support import answer_to, ask, error, kinds, serving, text

pytestmark = [pytest.mark.anyio, pytest.mark.loops("asyncio", "uvloop")]

WORDS = tuple(f"<{number}>" for number in range(60))
PACED = Answer(pieces=WORDS, pace=0.01)
"""Most of them come alone, and on a busy machine some meet."""
WHOLE = "".join(WORDS)


@pytest.fixture(autouse=True)
def server():
    """Here it is always the one that can send without waiting."""


async def test_events_are_numbered_and_a_replay_is_what_was_sent(upstream):
    upstream.script(PACED)
    async with serving(upstream) as app:
        async with SendsNow(app, json=ask(), headers=KEY) as c:
            received = await c.read_all()
        again = await answer_to(app, ask(), headers=KEY)

    assert c.sent_now
    assert (text(received), ids(received)) == (WHOLE, list(range(1, len(WORDS) + 2)))
    assert again.received == received


async def test_a_second_reader_joins_midway_and_both_get_all_of_it(upstream):
    upstream.script(PACED)
    async with serving(upstream) as app, SendsNow(app, json=ask(), headers=KEY) as first:
        await first.until(lambda: len(first.sent_now) > 3)
        async with Conversation(app, json=ask(), headers=KEY) as second:
            await second.read_all()
        await first.read_all()

    assert text(first.received) == WHOLE
    assert first.received == second.received


async def test_a_reader_that_leaves_and_resumes_misses_nothing(upstream):
    upstream.script(PACED)
    async with (
        serving(upstream, runs=RunSettings(linger=30)) as app,
        SendsNow(app, json=ask(), headers=KEY) as first,
    ):
        await first.until(lambda: len(first.sent_now) > 3)
        first.disconnect()
        seen = first.received
        rest = await run_of(app, first.headers["chatnest-run-id"], ids(seen)[-1])

    assert text(seen) + text(rest.received) == WHOLE
    assert ids(seen) + ids(rest.received) == list(range(1, len(WORDS) + 2))


async def test_the_oldest_events_are_dropped_beyond_the_bound(upstream):
    upstream.script(Answer(pieces=("x" * 100,), repeat=30, pace=0.01))
    async with (
        serving(upstream, runs=RunSettings(max_bytes=1_024)) as app,
        SendsNow(app, json=ask(), headers=KEY) as c,
    ):
        await c.until(lambda: len(c.sent_now) > 15)
        sources = [stream.source for stream in app._streams._streams]
        (run,) = (source.output for source in sources if isinstance(source, Generation))
        assert isinstance(run, Run)
        kept = run.since(0, 1_000)
        await c.read_all()

    assert text(c.received) == "x" * 3_000
    assert len(kept) <= 1_024 // 100


async def test_a_stop_ends_it_and_nothing_follows(upstream):
    upstream.script(Answer.endless(pace=0.01))
    async with (
        serving(upstream, default_profile="expanded") as app,
        SendsNow(app, json=ask(), headers=KEY) as c,
    ):
        await c.until(lambda: len(c.sent_now) > 3)
        receipt = (await cancel(app, c.headers["chatnest-run-id"])).problem()
        received = await c.read_all()

    assert receipt["outcome"] == "cancelled"
    assert (kinds(received)[-1], error(received)["code"]) == ("error", "cancelled")
    assert ids(received) == list(range(1, len(ids(received)) + 1))


@pytest.mark.parametrize("kept", [0, 1, 64, 65, 200])
async def test_the_next_events_are_the_same_from_the_end_as_from_the_start(kept):
    run = Run("run", owner="alice", linger=0, max_bytes=1 << 20)
    events = [Delta(str(number)) for number in range(kept)]
    await run.emit(events)

    for number in range(kept + 2):
        for most in (1, 63, 64, 65, 1_000):
            assert run.since(number, most) == events[number : number + most]
