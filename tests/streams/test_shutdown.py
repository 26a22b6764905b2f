"""The end of an application: who is still served, who is told, and what is settled."""

import asyncio
import gc
import math
import signal
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import anyio
import pytest

from chatnest import ChatNestApp, ConfigurationError, DemoProvider, OpenAIProvider
from chatnest.errors import ServerShutdown
from chatnest.testing import Answer, Conversation, FakeUpstream
from tests.streams.support import (
    DONE,
    KEY,
    PATIENCE,
    AwayBooks,
    Books,
    answer_to,
    ask,
    error,
    input_tokens,
    serving,
    token,
)
from tests.support.waiting import wait_for

pytestmark = pytest.mark.anyio


async def refusing(app):
    """Wait until the application refuses new requests."""
    with anyio.fail_after(PATIENCE):
        while True:
            try:
                await app.ready()
            except ServerShutdown:
                return
            await anyio.lowlevel.checkpoint()


async def test_an_answer_that_ends_in_time_is_whole_and_new_ones_are_refused(upstream):
    upstream.script(Answer.stall(1))
    async with serving(upstream) as app, anyio.create_task_group() as group:
        await app.ready()
        async with Conversation(app, json=ask()) as c:
            await c.until(lambda: c.received.endswith(token("Hello")))
            group.start_soon(app.drain, 20)
            await refusing(app)
            refused = await answer_to(app, ask())
            assert (refused.status, refused.problem()["code"]) == (503, "server_shutdown")
            assert refused.headers["retry-after"] == "1"
            upstream.release()
            assert (await c.read_all()).endswith(DONE)
    assert len(upstream.requests) == 1


async def test_an_answer_that_does_not_is_told_and_settled(upstream):
    upstream.script(Answer.stall(1))
    books = Books()
    async with serving(upstream, ledger=books) as app:
        async with Conversation(app, json=ask()) as c:
            await c.until(lambda: c.received.endswith(token("Hello")))
            await app.drain(0)
            await c.read_all()
        assert error(c.received)["code"] == "server_shutdown"
        assert error(c.received)["charged"] is True
        assert books.charge.tokens == await input_tokens(app) + 1 + 8
        await upstream.until(lambda u: u.aborted == 1, timeout=PATIENCE)
    assert await books.held() == (0, 0)


async def test_a_request_that_waits_for_the_model_is_refused_with_a_status(upstream):
    upstream.script(Answer.silence())
    async with serving(upstream) as app, Conversation(app, json=ask()) as c:
        await upstream.until(lambda u: u.requests)
        await app.drain(0)
        await c.read_all()
        assert (c.status, c.problem()["code"]) == (503, "server_shutdown")


async def test_a_body_that_is_on_its_way_is_not_waited_for(upstream):
    """Neither for its ten seconds, nor for as long as running answers have."""
    headers = {"content-type": "application/json"}
    async with (
        serving(upstream) as app,
        Conversation(app, send_body=False, headers=headers) as c,
    ):
        c.send_body(b'{"messages":[{"role":"user",', more=True)
        await anyio.wait_all_tasks_blocked()
        with anyio.fail_after(PATIENCE):
            await app.drain(60)
        await c.read_all()
        assert (c.status, c.problem()["code"]) == (503, "server_shutdown")
    assert not upstream.connections


async def test_an_application_that_was_closed_starts_again(upstream):
    async with serving(upstream) as app:
        for _ in range(2):
            await app.start()
            assert (await answer_to(app, ask())).received.endswith(DONE)
            await app.aclose()
            assert (await answer_to(app, ask())).status == 503


async def test_a_shutdown_in_the_middle_of_a_start_is_no_failure(upstream, monkeypatch):
    """A server that is told to end while it starts has started first, and then it ends."""
    async with serving(upstream) as app:
        monkeypatch.setattr(type(app.provider.counter), "warm", lambda _: app.drain(0))
        await app.start()
        assert (await answer_to(app, ask())).status == 503


async def test_what_waits_for_the_ledger_is_written_before_the_end(upstream):
    books = AwayBooks()
    async with serving(upstream, ledger=books) as app:
        assert (await answer_to(app, ask())).received.endswith(DONE)
        assert not books.charges
        books.away = False
    assert books.charge.tokens == 12
    assert await books.held() == (0, 0)


@contextmanager
def handling(handler) -> Iterator[None]:
    """A server's way with SIGTERM."""
    former = signal.signal(signal.SIGTERM, handler)
    try:
        yield
        assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        signal.signal(signal.SIGTERM, former)


async def test_a_signal_begins_a_drain_and_is_the_server_s_as_well(upstream):
    upstream.script(Answer.stall(1))
    seen: list[int] = []
    app = ChatNestApp(
        provider=OpenAIProvider(base_url=upstream.base_url, api_key="k"), drain_at_signal=0.01
    )
    with handling(lambda number, _: seen.append(number)):
        async with app.lifespan(), Conversation(app, json=ask()) as c:
            await c.until(lambda: c.received.endswith(token("Hello")))
            signal.raise_signal(signal.SIGTERM)
            await c.read_all()
            assert error(c.received)["code"] == "server_shutdown"
            assert seen == [signal.SIGTERM]


@pytest.mark.parametrize("handler", [signal.SIG_DFL, signal.SIG_IGN])
async def test_a_signal_that_the_server_does_not_handle_is_left_alone(upstream, handler):
    provider = OpenAIProvider(base_url=upstream.base_url, api_key="k")
    with handling(handler):
        async with ChatNestApp(provider=provider, drain_at_signal=1).lifespan():
            assert signal.getsignal(signal.SIGTERM) is handler


async def test_who_takes_the_signal_afterwards_keeps_it(upstream):
    provider = OpenAIProvider(base_url=upstream.base_url, api_key="k")

    def later(number, frame):
        raise AssertionError

    with handling(later):
        async with ChatNestApp(provider=provider, drain_at_signal=1).lifespan():
            assert signal.getsignal(signal.SIGTERM) is not later
            signal.signal(signal.SIGTERM, later)


def test_outside_of_the_main_thread_there_are_no_signals(upstream, anyio_backend):
    provider = OpenAIProvider(base_url=upstream.base_url, api_key="k")
    app = ChatNestApp(provider=provider, drain_at_signal=1)
    done: list[bool] = []

    async def live() -> None:
        async with app.lifespan():
            done.append(True)

    thread = threading.Thread(target=anyio.run, args=(live,), kwargs={"backend": anyio_backend})
    thread.start()
    thread.join(20)
    assert done == [True]


@pytest.mark.parametrize("seconds", [-1, math.inf, math.nan])
def test_a_drain_that_cannot_end_is_refused_at_the_start(seconds):
    with pytest.raises(ConfigurationError, match="drain_at_signal"):
        ChatNestApp(provider=DemoProvider(), drain_at_signal=seconds)


@pytest.mark.parametrize("use_uvloop", [False, True])
def test_an_event_loop_that_has_ended_is_kept_by_nobody(use_uvloop):
    """As where each request has one of its own, with Django's async_to_sync. None is closed by the
    application, which is told of no end.
    """
    ended = []
    provider = OpenAIProvider(api_key=KEY, base_url="http://127.0.0.1")
    app = ChatNestApp(provider=provider, ledger=Books())

    async def main() -> None:
        ended.append(weakref.ref(asyncio.get_running_loop()))
        async with FakeUpstream() as upstream:
            provider._server.base_url = upstream.base_url
            assert (await answer_to(app, ask())).received.endswith(DONE)

    for _ in range(3):
        anyio.run(main, backend_options={"use_uvloop": use_uvloop})

    def kept() -> list[object]:
        gc.collect()
        return [loop for loop in (each() for each in ended) if loop is not None]

    wait_for(lambda: not kept())  # by a thread of theirs until it has ended, which takes a moment
    assert len(ended) == 3
