"""What every run log does: one contract, for memory, SQLite, Redis and a cluster."""

import anyio
import pytest

from chatnest.runs.base import REFUSED, Batch, Page, RunEnd, Signals
from chatnest.runs.entries import join_batches

pytestmark = pytest.mark.anyio

RUN, OTHER, THIRD, UNKNOWN = (letter * 32 for letter in "abcd")
END = RunEnd(outcome="done", charged=12, source="provider")


async def begin(log, run_id=RUN, key="k", **fields):
    return await log.claim(
        key, **{"owner": "ann", "fingerprint": "f", "run_id": run_id, "lease": 10, **fields}
    )


def batch(first: int, count: int = 2, data: bytes = b'["a", "\xc3\xa9"]') -> Batch:
    return Batch(first=first, count=count, data=data)


async def test_the_first_who_claims_a_key_has_it(log):
    first = await begin(log)
    second = await begin(log, OTHER, fingerprint="g")

    assert (first.run_id, first.mine) == (RUN, True)
    assert (second.run_id, second.fingerprint, second.mine) == (RUN, "f", False)
    assert await log.read(OTHER, 0, owner="ann") is None


async def test_of_many_at_once_one_has_it(log):
    mine = []

    async def one(number):
        mine.append((await begin(log, f"{number:032x}")).mine)

    async with anyio.create_task_group() as tasks:
        for number in range(30):
            tasks.start_soon(one, number)

    assert sorted(mine) == [False] * 29 + [True]


async def test_runs_without_a_key_are_never_the_same(log):
    assert (await begin(log, RUN, None)).mine
    assert (await begin(log, OTHER, None)).mine


async def test_events_are_read_after_a_number(log):
    await begin(log)
    for first in (1, 3, 5):
        await log.append({RUN: batch(first)}, lease=10)

    for after, firsts in [(0, [1, 3, 5]), (1, [1, 3, 5]), (2, [3, 5]), (5, [5]), (6, [])]:
        page = await log.read(RUN, after, owner="ann")
        assert [b.first for b in page.batches] == firsts
        assert (page.last, page.dropped, page.end) == (6, 0, None)
    assert page.batches == ()
    assert (await log.read(RUN, 0, owner="ann")).batches[0] == batch(1)


async def test_an_end_stays_and_the_key_still_leads_to_it(log):
    await begin(log)
    await log.append({RUN: batch(1)}, lease=10)
    await log.finish(RUN, END)
    await log.finish(RUN, RunEnd(outcome="cancelled", charged=0, source="none"))

    page = await log.read(RUN, 0, owner="ann")
    assert (page.end, page.lost, page.last) == (END, False, 2)
    assert not (await begin(log, OTHER)).mine


async def test_the_last_events_come_with_the_end(log):
    await begin(log)
    await log.append({RUN: batch(1)}, lease=10)

    assert await log.finish(RUN, END, batch(3))
    assert await log.finish(RUN, END, batch(3)), "a repetition, whose first answer was lost"
    assert not await log.finish(OTHER, END, batch(1))

    page = await log.read(RUN, 0, owner="ann")
    assert (page.last, page.end) == (4, END)
    data = join_batches(each.data for each in page.batches)
    assert data == join_batches([batch(1).data, batch(3).data])
    assert await log.read(OTHER, 0, owner="ann") is None


async def test_events_that_come_with_the_end_count_against_the_bound(log):
    await begin(log)
    large = b'["' + b"x" * 596 + b'"]'
    await log.append({RUN: batch(1, data=large)}, lease=10)

    await log.finish(RUN, END, batch(3, data=large))

    page = await log.read(RUN, 0, owner="ann")
    assert (page.dropped, [b.first for b in page.batches]) == (2, [3])


async def test_what_was_refused_frees_its_key(log):
    await begin(log)
    await log.drop(RUN)

    again = await begin(log, OTHER)

    assert (await log.read(RUN, 0, owner="ann") or Page(end=REFUSED)).refused
    assert (again.mine, again.run_id) == (True, OTHER)
    await log.drop(OTHER)
    assert (await begin(log)).mine


async def test_what_is_too_much_is_dropped_from_its_beginning(log):
    await begin(log)
    for first in range(1, 21, 2):
        await log.append({RUN: batch(first, data=b'["' + b"x" * 296 + b'"]')}, lease=10)

    page = await log.read(RUN, 0, owner="ann")
    assert (page.dropped, page.last) == (14, 20)
    assert [b.first for b in page.batches] == [15, 17, 19]


async def test_nothing_is_kept_before_a_gap(log):
    await begin(log)
    await log.append({RUN: batch(1)}, lease=10)
    await log.append({RUN: batch(9)}, lease=10)

    page = await log.read(RUN, 0, owner="ann")
    assert (page.dropped, page.last, [b.first for b in page.batches]) == (8, 10, [9])


async def test_signals_reach_the_worker(log):
    await begin(log)
    assert await log.signals([RUN]) == {}
    await log.read(RUN, 0, owner="ann")
    assert not await log.append({RUN: batch(1)}, lease=10), "which leaves the signals alone"
    assert await log.signals([RUN]) == {RUN: Signals(read=True)}
    assert await log.signals([RUN]) == {}
    await log.cancel(RUN)
    assert await log.signals([RUN]) == {RUN: Signals(cancelled=True)}
    await log.read(RUN, 0, owner="ann")
    assert await log.signals([RUN]) == {RUN: Signals(cancelled=True, read=True)}
    assert await log.signals([RUN]) == {RUN: Signals(cancelled=True)}


async def test_the_signals_of_many_runs_are_those_of_each(log):
    for run_id in (RUN, OTHER, THIRD):
        await begin(log, run_id, None)
    await log.read(RUN, 0, owner="ann")
    await log.cancel(OTHER)
    await log.cancel(UNKNOWN)

    found = await log.signals([RUN, OTHER, THIRD, UNKNOWN])

    assert found == {
        RUN: Signals(read=True),
        OTHER: Signals(cancelled=True),
        UNKNOWN: Signals(forgotten=True),
    }
    assert await log.signals([]) == {}


async def test_many_runs_are_appended_to_at_once(log):
    for run_id in (RUN, OTHER):
        await begin(log, run_id, None, lease=0.02)
    await anyio.sleep(0.03)

    unknown = await log.append({RUN: batch(1), UNKNOWN: batch(1), OTHER: None}, lease=10)

    assert set(unknown) == {UNKNOWN}
    pages = [await log.read(run_id, 0, owner="ann") for run_id in (RUN, OTHER)]
    assert [(page.last, page.lost) for page in pages] == [(2, False), (0, False)]
    assert not await log.append({}, lease=10)


async def test_a_repeated_batch_adds_nothing(log):
    await begin(log)
    for first in (1, 1, 3, 1):
        assert not await log.append({RUN: batch(first)}, lease=10)

    page = await log.read(RUN, 0, owner="ann")
    assert (page.batches, page.last, page.dropped) == ((batch(1), batch(3)), 4, 0)


async def test_unknown_is_neither_cancelled_nor_refused(log):
    assert set(await log.append({RUN: None}, lease=10)) == {RUN}
    assert set(await log.append({RUN: batch(1)}, lease=10)) == {RUN}
    assert not await log.finish(RUN, END)
    await log.cancel(RUN)
    assert await log.signals([RUN]) == {RUN: Signals(forgotten=True)}
    assert await log.read(RUN, 0, owner="ann") is None


async def test_those_who_joined_a_run_read_that_it_was_refused(log):
    await begin(log)
    await begin(log, OTHER)
    await log.drop(RUN)

    assert (await log.read(RUN, 0, owner="ann")).refused
    assert await log.read(RUN, 0, owner="bob") is None
    assert await log.signals([RUN]) == {RUN: Signals(forgotten=True)}
    assert set(await log.append({RUN: batch(1)}, lease=10)) == {RUN}


async def test_a_run_that_was_lost_is_claimed_again(log, lose):
    await begin(log)
    await log.append({RUN: batch(1)}, lease=10)
    await lose(log)

    assert await log.append({RUN: batch(3)}, lease=10)
    assert (await begin(log)).mine
    assert (await begin(log)).mine, "a repetition, whose first answer was lost"
    assert not await log.append({RUN: batch(3)}, lease=10)
    assert (await begin(log, OTHER)).run_id == RUN
    page = await log.read(RUN, 0, owner="ann")
    assert (page.dropped, page.last) == (2, 4)
    assert await log.finish(RUN, END)


async def test_a_run_whose_key_another_has_goes_on_without_it(log, lose):
    await begin(log)
    await lose(log)
    assert (await begin(log, OTHER)).mine

    assert not (await begin(log)).mine
    assert await log.append({RUN: None}, lease=10)
    assert (await begin(log, RUN, None)).mine
    assert not await log.append({RUN: batch(1)}, lease=10)
    assert await log.finish(RUN, END)
    assert (await begin(log, "c" * 32)).run_id == OTHER


async def test_of_somebody_else_nothing_is_told_and_nothing_noted(log):
    """A stranger who has an id keeps nothing alive by it."""
    await begin(log)
    await log.append({RUN: batch(1)}, lease=10)

    assert await log.read(RUN, 0, owner="bob") is None
    assert await log.signals([RUN]) == {}


async def test_a_worker_that_is_not_heard_of_is_lost(log):
    await begin(log, lease=0.02)
    await anyio.sleep(0.03)
    assert (await log.read(RUN, 0, owner="ann")).lost

    await log.append({RUN: batch(1)}, lease=10)
    assert not (await log.read(RUN, 0, owner="ann")).lost
    await log.finish(RUN, END)
    assert not (await log.read(RUN, 0, owner="ann")).lost


@pytest.mark.parametrize("keep", [1])
async def test_a_run_is_forgotten_without_another_request(log, remains):
    """Also one whose worker has died, from the end of its lease on."""
    await begin(log)
    await log.append({RUN: batch(1)}, lease=10)
    await log.finish(RUN, END)
    await begin(log, OTHER, "other", lease=0.01)
    await log.append({OTHER: batch(1)}, lease=0.01)
    assert await remains(log)

    with anyio.fail_after(20):
        while await remains(log):
            await log.forget()
            await anyio.sleep(0.05)


@pytest.mark.parametrize("keep", [1])
async def test_an_ended_run_is_forgotten(log):
    await begin(log)
    await log.finish(RUN, END)
    with anyio.fail_after(20):
        while await log.read(RUN, 0, owner="ann") is not None:  # noqa: ASYNC110  # it tells nobody
            await anyio.sleep(0.05)
        while not (await begin(log, OTHER)).mine:  # noqa: ASYNC110  # it tells nobody
            await anyio.sleep(0.05)


async def test_a_note_is_kept_until_it_is_written_again(log):
    assert await log.noted("a") is None

    await log.note("a", "first", seconds=60)
    await log.note("b", "other", seconds=60)
    await log.note("a", 'é "second"', seconds=60)

    assert await log.noted("a") == 'é "second"'
    assert await log.noted("b") == "other"
    assert await log.noted("c") is None


async def test_a_note_is_kept_for_its_time(log):
    await log.note("a", "short", seconds=0.05)

    with anyio.fail_after(10):
        while await log.noted("a") is not None:  # noqa: ASYNC110  # the store has no event for it
            await anyio.sleep(0.02)
