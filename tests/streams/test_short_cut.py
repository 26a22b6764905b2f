"""A piece that comes alone while everybody waits goes through at once, and means the same."""

from contextlib import AbstractAsyncContextManager
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from chatnest import Bounds, ChatNestApp, OpenAIProvider
from chatnest.answer import Answer
from chatnest.errors import ServerShutdown
from chatnest.events import Delta, Done, Reasoning
from chatnest.streams.generation import Generation
from chatnest.testing import Answer as Script
from tests.streams.short_cut import OneByOne, SendsNow
from tests.streams.support import (
    DONE,
    KEY,
    PATIENCE,
    PING,
    START,
    Books,
    ask,
    error,
    serving,
    text,
    token,
)

pytestmark = [pytest.mark.anyio, pytest.mark.loops("asyncio", "uvloop")]

WORDS = tuple(f" word{number}" for number in range(50))
ENDLESS = Script.endless(pace=0.02)
"""Some of them come alone, and on a busy machine some meet."""


@pytest.fixture(autouse=True)
def server():
    """Here it is always the one that can send without waiting."""


def chat(model: OneByOne, **options: Any) -> AbstractAsyncContextManager[ChatNestApp]:
    provider = OpenAIProvider(base_url=model.base_url, api_key=KEY)
    return serving(None, provider=provider, **options)


async def test_pieces_that_come_alone_take_the_short_cut():
    books = Books()
    async with (
        OneByOne(*WORDS) as model,
        chat(model, ledger=books) as app,
        SendsNow(app, json=ask()) as model.client,
    ):
        received = await model.client.read_all()

    assert received == START + b"".join(map(token, WORDS)) + DONE
    assert model.client.sent_now == [token(word) for word in WORDS[1:]]
    assert books.charge.output_tokens == len(WORDS)


async def test_what_was_said_is_charged_without_a_bill_too():
    books = Books()
    async with OneByOne(*WORDS, bills=False) as model, chat(model, ledger=books) as app:
        async with SendsNow(app, json=ask()) as model.client:
            await model.client.read_all()
        counted = await app.provider.counter.count("".join(WORDS))

    assert model.client.sent_now
    assert (books.charge.output_tokens, books.charge.source) == (counted, "estimated")


async def test_who_wraps_send_sees_all_of_it():
    seen = b""
    async with OneByOne(*WORDS) as model, chat(model) as app:

        async def wrapped(scope, receive, send):
            async def look(message):
                nonlocal seen
                seen += message.get("body", b"")
                await send(message)

            await app(scope, receive, look)

        async with SendsNow(wrapped, json=ask()) as model.client:
            received = await model.client.read_all()

    assert (text(received), received, model.client.sent_now) == ("".join(WORDS), seen, [])


async def test_who_does_not_read_is_waited_for_and_the_model_with_it(upstream):
    upstream.script(ENDLESS)
    async with serving(upstream, default_profile="expanded") as app, SendsNow(app, json=ask()) as c:
        await c.until(lambda: c.sent_now)
        c.stall()
        await c.blocked()
        seen, sent = c.received, upstream.last.pieces_sent
        await upstream.until(lambda u: u.last.pieces_sent > sent + 5)
        await anyio.wait_all_tasks_blocked()
        assert c.received == seen
        c.resume()
        await c.until(lambda: c.received.count(token(" a")) > sent + 5)

        assert c.received == START + token(" a") * c.received.count(token(" a"))


async def test_a_piece_does_not_overtake_a_ping(upstream):
    upstream.script(ENDLESS)
    held, free = anyio.Event(), anyio.Event()

    class Slow(SendsNow):
        async def _send(self, message):
            if message.get("body") == PING and self.sent_now and not held.is_set():
                held.set()
                await free.wait()
            await super()._send(message)

    async with (
        serving(upstream, ping_interval=0.1, default_profile="expanded") as app,
        Slow(app, json=ask()) as c,
    ):
        with anyio.fail_after(PATIENCE):
            await held.wait()
        before, sent = c.received, upstream.last.pieces_sent
        await upstream.until(lambda u: u.last.pieces_sent > sent + 5)
        await anyio.wait_all_tasks_blocked()
        assert c.received == before
        free.set()
        await c.until(lambda: len(c.received) > len(before))

        assert c.received[len(before) :].startswith(PING)


async def test_a_piece_is_a_sign_of_life_of_the_model(upstream):
    upstream.script(ENDLESS)
    async with serving(upstream, default_profile="expanded") as app, SendsNow(app, json=ask()) as c:
        await c.until(lambda: c.sent_now)
        (stream,) = app._streams._streams
        before, seen = stream.source.quiet_since, len(c.sent_now)
        await c.until(lambda: len(c.sent_now) > seen)

        assert stream.source.quiet_since > before


async def test_a_stream_that_is_stopped_hands_nothing_on(upstream):
    upstream.script(ENDLESS)
    async with serving(upstream, default_profile="expanded") as app, SendsNow(app, json=ask()) as c:
        await c.until(lambda: c.sent_now)
        (stream,) = app._streams._streams
        stream.source.stop(ServerShutdown())
        assert isinstance(stream.source, Generation)
        assert not stream.source.take("late")
        received = await c.read_all()

    assert error(received)["code"] == "server_shutdown"
    assert b"late" not in received


@pytest.mark.parametrize("bound", [8, 9])
async def test_an_answer_ends_at_its_bound(bound):
    bounds = Bounds(answer_bytes=bound)
    async with (
        OneByOne("aé", "中", "bcd", "e") as model,
        chat(model, bounds=bounds) as app,
        SendsNow(app, json=ask()) as model.client,
    ):
        received = await model.client.read_all()

    assert text(received) == ("aé中bcd" if bound == 8 else "aé中bcde")


class Willing:
    """An output that hands everything on."""

    def __init__(self) -> None:
        self.put: list[Delta | Reasoning] = []

    def put_now(self, event: Delta | Reasoning) -> bool:
        self.put.append(event)
        return True


async def test_an_answer_that_has_to_be_looked_at_goes_the_long_way():
    output: Any = Willing()
    turn: Any = SimpleNamespace(id="1", answer=Answer())
    turn.answer.tokens_left, turn.answer.bytes_left = 2, 100
    generation = Generation(turn, output, no_answer, Bounds().resolved(local=False), ())

    assert [generation.take(text) for text in ("a", "b", "c")] == [True, True, False]
    assert (turn.answer.tokens_left, turn.answer.text) == (0, "ab")


async def test_thinking_is_handed_on_and_counted_as_thinking():
    output: Any = Willing()
    turn: Any = SimpleNamespace(id="1", answer=Answer())
    turn.answer.tokens_left, turn.answer.bytes_left = 100, 100
    generation = Generation(turn, output, no_answer, Bounds().resolved(local=False), ())

    assert generation.take(Reasoning("One"))
    assert generation.take("a")
    assert not generation.take(Reasoning("x" * 50))  # it might exceed the bound
    assert output.put == [Reasoning("One"), Delta("a")]
    answer = turn.answer
    assert (answer.thinking, answer.text, answer.bytes_left) == ("One", "a", 96)


async def no_answer(_: Generation) -> Done:
    raise NotImplementedError
