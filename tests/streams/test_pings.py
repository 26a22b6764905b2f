"""What time brings about: pings, the early start, deadlines; and what a slow reader holds up."""

import time
from typing import Any

import anyio
import pytest

from chatnest import Bounds, HardCaps
from chatnest.errors import StreamTimeout
from chatnest.events import Done, Usage
from chatnest.streams.open_stream import OpenStream
from chatnest.streams.response import Response
from chatnest.streams.source import Source
from chatnest.testing import Answer, Conversation, FakeUpstream, ProtocolViolation
from chatnest.wire import NativeFormat, StreamInfo
from tests.streams.support import (
    DONE,
    PATIENCE,
    PING,
    START,
    Books,
    answer_to,
    ask,
    error,
    input_tokens,
    kinds,
    profile,
    serving,
    text,
    token,
)

pytestmark = pytest.mark.anyio

# What the kernel and the fake upstream's connection may hold beside what chatnest reads.
KERNEL = 8_000_000


async def test_pings_come_while_the_model_is_silent(upstream):
    upstream.script(Answer.stall(1))
    async with serving(upstream, ping_interval=0.02) as app, Conversation(app, json=ask()) as c:
        await c.until(lambda: c.received.count(PING) >= 3 and token("Hello") in c.received)
        assert c.received.replace(PING, b"") == START + token("Hello")
        upstream.release()
        await c.read_all()
    assert (
        c.received.replace(PING, b"")
        == START + token("Hello") + token(" world") + token("!") + DONE
    )


@pytest.mark.parametrize("query", ["ping=0.2", "other=x&ping=0.200"])
async def test_a_client_may_ask_for_more_pings(upstream, query):
    upstream.script(Answer.stall(1))
    async with serving(upstream) as app, Conversation(app, query=query, json=ask()) as c:
        await c.until(lambda: c.received.count(PING) >= 2)
        upstream.release()
        await c.read_all()


async def test_nobody_gets_fewer_pings_by_asking(upstream):
    upstream.script(Answer.stall(1))
    async with (
        serving(upstream, ping_interval=0.02) as app,
        Conversation(app, query="ping=9999", json=ask()) as c,
    ):
        await c.until(lambda: c.received.count(PING) >= 2)
        upstream.release()
        await c.read_all()


@pytest.mark.parametrize("value", ["0", "0.1", "-1", "1e9", "nan", "inf", "often", "99999", "%00"])
async def test_pings_that_nobody_can_send_are_refused(upstream, value):
    async with serving(upstream) as app:
        c = await answer_to(app, ask(), query=f"ping={value}")
    assert c.status == 400
    assert b'"invalid_request"' in c.received
    assert not upstream.requests


async def test_no_ping_comes_before_the_stream_has_begun(upstream):
    upstream.script(Answer.silence())
    async with serving(upstream, ping_interval=0.005) as app, Conversation(app, json=ask()) as c:
        await upstream.until(lambda u: u.requests)
        await anyio.sleep(0.05)  # ten pings' time; that they do not come has no other sign
        assert c.messages == []
        upstream.release()
        await c.read_all()
    assert c.received.startswith(START)


async def run_stream(work, *, ping_seconds, bounds=None, kind=Response):
    """A stream alone, with a source of the test's own."""
    bounds = (bounds or Bounds()).resolved(local=False)

    async def app(scope, receive, send):
        await receive()
        response = kind(
            scope,
            receive,
            send,
            format=NativeFormat(),
            info=StreamInfo(request_id="1", model="m"),
            bounds=bounds,
            ping_seconds=ping_seconds,
        )
        source = Source(response, work, request_id="1", seconds=300)
        await OpenStream(source, response, settle_seconds=5).run()

    async with Conversation(app, json=ask()) as c:
        await c.finished()
    return c


async def test_no_ping_comes_once_the_stream_is_done():
    """Also where the clock and the end of the answer are due in the same instant."""
    for _ in range(20):
        release = anyio.Event()

        async def write(stream, release=release):
            await stream.start()
            async with anyio.create_task_group() as group:

                @group.start_soon
                async def _():
                    await anyio.sleep(0.002)
                    release.set()

                await anyio.sleep(0.001)
                time.sleep(0.004)  # noqa: ASYNC251 - now the ping is due as well
                await release.wait()
            return Done("stop", Usage(1, 1))

        c = await run_stream(write, ping_seconds=0.003)
        assert c.received.replace(PING, b"") == START + DONE
        assert c.received.endswith(DONE)


async def test_an_early_start_that_comes_with_the_end_begins_nothing():
    for _ in range(20):

        async def write(stream):
            stream.output.expect_start()
            await anyio.sleep(0.001)
            time.sleep(0.004)  # noqa: ASYNC251 - now the early start is due as well
            raise KeyError

        c = await run_stream(write, ping_seconds=9, bounds=Bounds(early_start_seconds=0.003))
        if c.status == 200:
            assert c.received.startswith(START + PING)
            assert error(c.received)["code"] == "internal_error"
        else:
            assert c.problem()["code"] == "internal_error"


async def test_what_is_stopped_before_it_begins_does_not_begin():
    async def write(stream):
        stream.stop(StreamTimeout(1))
        await stream.start()

    c = await run_stream(write, ping_seconds=9)
    assert (c.status, c.problem()["code"]) == (504, "stream_timeout")


async def test_a_clock_that_is_late_is_no_fault():
    """Where a ping is due while the clock is held up, it comes at once."""

    class Slow(Response):
        async def tend(self, now):
            await anyio.sleep(0.03)
            return await super().tend(now)

    async def write(stream):
        await stream.start()
        await anyio.sleep(0.1)
        return Done("stop", Usage(1, 1))

    c = await run_stream(write, ping_seconds=0.001, kind=Slow)
    assert c.received.replace(PING, b"") == START + DONE


async def test_a_model_that_is_slow_to_answer_gets_an_early_start(upstream):
    upstream.script(Answer.silence())
    bounds = Bounds(early_start_seconds=0.02)
    async with serving(upstream, bounds=bounds) as app, Conversation(app, json=ask()) as c:
        await c.until(lambda: c.received == START + PING)
        assert c.status == 200
        await upstream.until(lambda u: u.requests)
        upstream.release()
        await c.read_all()
    assert c.received == START + PING + token("Hello") + token(" world") + token("!") + DONE


@pytest.mark.parametrize(
    ("answer", "code", "charged"),
    [
        (Answer.error(401, opening="silence"), "upstream_account", False),
        (Answer.silence(), "upstream_timeout", True),
        (Answer.html(), "upstream_bad_response", False),
    ],
)
async def test_a_failure_after_the_early_start_is_an_error_event(
    upstream, answer, code, charged, waits
):
    upstream.default = answer
    bounds = Bounds(early_start_seconds=0.001)

    class Slow:
        def classify(self, turn, failure, attempt):
            return 1.0 if attempt == 1 and failure.transient else None

    options = {"bounds": bounds, "policies": [Slow()]}
    async with serving(upstream, **options) as app, Conversation(app, json=ask()) as c:
        await c.until(lambda: c.received.startswith(START + PING))
        await upstream.until(lambda u: u.requests)
        if code == "upstream_account":
            upstream.release()
        elif code == "upstream_timeout":
            waits.end()
        await c.finished()
    assert kinds(c.received) == ["start", "error"]
    assert (error(c.received)["code"], error(c.received)["charged"]) == (code, charged)


async def test_a_whole_stream_has_a_deadline(upstream, clock):
    upstream.script(Answer.endless(pace=0.05))
    books, bounds = (
        Books(),
        Bounds(send_seconds=10_000),
    )  # one that is under way then is no slow one
    async with serving(upstream, ledger=books, bounds=bounds, ping_interval=0.02) as app:
        async with Conversation(app, json=ask()) as c:
            await c.until(lambda: c.received.count(token(" a")) > 3)
            clock.advance(bounds.resolved(local=True).stream_seconds)
            await c.read_all()
            await c.finished()
        await upstream.until(lambda u: u.aborted == 1, timeout=PATIENCE)
        counted = await app.provider.counter.count(text(c.received))
        least = await input_tokens(app) + counted + 8
        # a piece that was read in the very instant of the deadline is not sent any more
        assert least <= books.charge.tokens <= least + 1
    assert error(c.received)["code"] == "stream_timeout"
    assert error(c.received)["retryable"] is True
    assert books.charge.outcome == "stream_timeout"


async def test_the_deadline_before_the_stream_is_a_504(upstream):
    upstream.script(Answer.silence())
    async with serving(upstream, bounds=Bounds(stream_seconds=0.1)) as app:
        c = await answer_to(app, ask())
    assert (c.status, c.problem()["code"]) == (504, "stream_timeout")


async def test_the_deadline_holds_for_policies_too(upstream):
    class Stuck:
        async def prepare(self, turn):
            await anyio.sleep_forever()

    options = {"bounds": Bounds(stream_seconds=0.05), "policies": [Stuck()]}
    async with serving(upstream, **options) as app:
        c = await answer_to(app, ask())
    assert (c.status, c.problem()["code"]) == (504, "stream_timeout")
    assert not upstream.requests


async def test_a_reader_that_has_stopped_is_let_go(upstream):
    upstream.script(Answer.endless(pace=0.02))
    books = Books()
    async with serving(upstream, ledger=books, bounds=Bounds(send_seconds=0.1)) as app:
        # Nobody would read an end.
        with pytest.raises(ProtocolViolation, match="before its last"):  # noqa: PT012 - the whole of it
            async with Conversation(app, json=ask()) as c:
                await c.until(lambda: c.received.endswith(token(" a")))
                c.stall()
                await c.finished()
        await upstream.until(lambda u: u.aborted == 1, timeout=PATIENCE)
    assert books.charge.outcome == "client_stalled"
    assert await books.held() == (0, 0)


async def test_a_reader_that_is_slow_is_not_let_go(upstream):
    upstream.script(Answer.stall(1))
    bounds = Bounds(send_seconds=5, idle_seconds=5)
    async with serving(upstream, bounds=bounds) as app, Conversation(app, json=ask()) as c:
        await c.until(lambda: c.received.endswith(token("Hello")))
        c.stall()
        upstream.release()
        await c.blocked()
        c.resume()
        await c.read_all()
    assert text(c.received) == "Hello world!"
    assert c.received.endswith(DONE)


def generous(**fields):
    """A profile whose answers may be long."""
    own = profile(max_output_tokens=100_000, max_tokens_per_request=200_000, **fields)
    return {
        "profiles": [own],
        "default_profile": "own",
        "hard_caps": HardCaps(
            daily_token_limit=None, max_output_tokens=None, max_tokens_per_request=None
        ),
    }


async def test_a_stalled_reader_stalls_the_model():
    """What is in memory is bounded: one read, and what the kernel holds on the way."""
    options = generous(daily_token_limit=10_000_000)
    bounds = Bounds(answer_bytes=100_000_000)
    with FakeUpstream(Answer.endless("x" * 1_000), send_buffer=16_384) as upstream:
        async with serving(upstream, bounds=bounds, **options) as app:
            async with Conversation(app, json=ask()) as c:
                await c.until(lambda: token("x" * 1_000) in c.received)
                c.stall()
                await c.blocked()
                written = await standstill(upstream)
                assert written < len(c.received) + KERNEL
                seen = len(c.received)
                c.resume()
                await c.until(lambda: len(c.received) > seen + 200_000)
            await upstream.until(lambda u: u.aborted == 1, timeout=PATIENCE)


async def standstill(upstream):
    """Wait until nothing is written any more, and say how much was."""
    written, same = -1, 0
    with anyio.fail_after(20):
        while same < 5:
            await anyio.sleep(0.02)
            now = sum(seen.bytes_written for seen in upstream.requests)
            written, same = now, same + 1 if now == written else 0
    return written


async def test_an_idle_model_is_not_blamed_for_a_stalled_reader(clock):
    options: dict[str, Any] = {
        "bounds": Bounds(send_seconds=10_000),
        "ping_interval": 0.02,
        "default_profile": "expanded",
    }
    piece = "x" + " " * 999  # few tokens, for as many bytes
    with FakeUpstream(Answer.tokens(60, piece)) as upstream:
        async with serving(upstream, **options) as app, Conversation(app, json=ask()) as c:
            await c.until(lambda: c.received)
            c.stall(room=500)  # for pings: the write that waits must be a token's
            await c.blocked()
            clock.advance(2 * Bounds().idle_seconds)
            await clock.looked_at()
            c.resume()
            await c.read_all()
    assert text(c.received) == piece * 60
    assert c.received.endswith(DONE)


async def test_what_was_waiting_leaves_in_one_write_and_a_frame_for_each_delta(
    upstream, anyio_backend
):
    upstream.script(Answer.stall(1, pieces=tuple(f"{n} " for n in range(50))))
    async with serving(upstream) as app, Conversation(app, json=ask()) as c:
        await c.until(lambda: c.received.endswith(token("0 ")))
        c.stall()
        upstream.release()
        await c.blocked()
        await upstream.until(lambda u: u.served == 1)
        await anyio.wait_all_tasks_blocked()
        before = len(c.messages)
        c.resume()
        await c.read_all()
    assert text(c.received) == "".join(f"{n} " for n in range(50))
    assert c.received.count(b"event: token\n") == 50
    if anyio_backend == "asyncio":  # elsewhere httpx2 gives one piece at a time
        # The one that was blocked, and one or two with all the others.
        assert len(c.messages) - before <= 4


async def test_a_lone_token_leaves_at_once_and_alone(upstream):
    upstream.script(Answer.stall(1))
    async with serving(upstream) as app, Conversation(app, json=ask()) as c:
        await c.until(lambda: c.received.endswith(token("Hello")))
        bodies = [message["body"] for message in c.messages[1:]]
        assert bodies in ([START, token("Hello")], [START + token("Hello")])


async def test_a_lease_is_renewed_while_the_stream_lives(upstream, monkeypatch):
    monkeypatch.setattr("chatnest.streams.generation.RENEW_SECONDS", 0.01)
    renewed: list[int] = []
    often = anyio.Event()

    class Renewing(Books):
        async def renew(self, hold, lease):
            renewed.append(lease)
            if len(renewed) == 2:
                raise OSError("the ledger is away for a moment")
            if len(renewed) == 4:
                often.set()
            await super().renew(hold, lease)

    upstream.script(Answer.stall(1))
    async with serving(upstream, ledger=Renewing()) as app, Conversation(app, json=ask()) as c:
        await c.until(lambda: c.received.endswith(token("Hello")))
        with anyio.fail_after(PATIENCE):
            await often.wait()
        upstream.release()
        assert (await c.read_all()).endswith(DONE)
    assert set(renewed) == {30_000}
