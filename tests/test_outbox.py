"""The outbox keeps events in their order, joins them, and holds back who writes too much."""

import anyio
import pytest

from chatnest.events import Delta, Ping, Start
from chatnest.outbox import Outbox

pytestmark = pytest.mark.anyio


async def test_what_was_put_apart_is_taken_together_in_its_order():
    outbox = Outbox(100)

    await outbox.put([Delta("a"), Delta("b")])
    outbox.offer([Ping()])
    await outbox.put([Delta("c")])

    assert await outbox.take() == [Delta("a"), Delta("b"), Ping(), Delta("c")]


async def test_what_was_taken_is_not_taken_again():
    outbox = Outbox(100)
    await outbox.put([Delta("a")])
    await outbox.take()

    await outbox.put([Delta("b")])

    assert await outbox.take() == [Delta("b")]


async def test_who_takes_waits_for_something():
    outbox = Outbox(100)
    taken = []

    async def take():
        taken.extend(await outbox.take())

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(take)
            await anyio.wait_all_tasks_blocked()
            await outbox.put([])
            await anyio.wait_all_tasks_blocked()
            assert taken == []
            outbox.offer([])
            await anyio.wait_all_tasks_blocked()
            assert taken == []
            outbox.offer([Start()])

    assert taken == [Start()]


async def test_who_puts_waits_while_more_than_the_bound_is_waiting():
    outbox = Outbox(3)
    done = []

    async def put():
        await outbox.put([Delta("abc")])
        done.append("full")
        await outbox.put([Delta("d")])
        done.append("taken")

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(put)
            await anyio.wait_all_tasks_blocked()
            assert done == ["full"]
            assert outbox.blocked
            assert await outbox.take() == [Delta("abc"), Delta("d")]
            await anyio.wait_all_tasks_blocked()
            assert done == ["full", "taken"]
            assert not outbox.blocked


async def test_what_was_taken_makes_room_for_as_much_again():
    outbox = Outbox(3)

    with anyio.fail_after(10):
        for _ in range(3):
            await outbox.put([Delta("abc")])
            assert await outbox.take() == [Delta("abc")]


async def test_one_piece_larger_than_the_bound_is_taken_whole():
    outbox = Outbox(3)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(outbox.put, [Delta("x" * 1_000)])
            await anyio.wait_all_tasks_blocked()
            assert outbox.blocked
            assert await outbox.take() == [Delta("x" * 1_000)]


async def test_events_beside_the_model_are_offered_without_waiting_even_when_it_is_full():
    outbox = Outbox(3)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(outbox.put, [Delta("abcd")])
        await anyio.wait_all_tasks_blocked()
        outbox.offer([Ping()])
        assert outbox.blocked
        assert await outbox.take() == [Delta("abcd"), Ping()]


async def test_pings_weigh_nothing():
    outbox = Outbox(1)

    with anyio.fail_after(10):
        await outbox.put([Ping()] * 100)
        await outbox.put([Delta("a")])

    assert len(await outbox.take()) == 101


async def test_who_puts_and_is_cancelled_leaves_it_usable():
    outbox = Outbox(1)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(outbox.put, [Delta("abc")])
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()

    assert not outbox.blocked
    outbox.offer([Ping()])
    assert await outbox.take() == [Delta("abc"), Ping()]


async def test_who_takes_and_is_cancelled_loses_nothing():
    outbox = Outbox(10)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(outbox.take)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()

    await outbox.put([Delta("a")])
    assert await outbox.take() == [Delta("a")]


async def test_every_put_is_a_sign_of_life_also_an_empty_one_and_the_end_of_a_wait(monkeypatch):
    times = iter([1.0, 2.0, 3.0, 4.0, 5.0])
    monkeypatch.setattr("chatnest.outbox.monotonic", lambda: next(times))
    outbox = Outbox(1)
    assert outbox.touched == 1.0

    await outbox.put([])
    assert outbox.touched == 2.0
    outbox.offer([Ping()])
    assert outbox.touched == 2.0

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(outbox.put, [Delta("abc")])
            await anyio.wait_all_tasks_blocked()
            assert outbox.touched == 3.0
            await outbox.take()
    assert outbox.touched == 4.0
