"""Nothing of a request waits for a collection of garbage, which may be long in coming: an image has
megabytes.
"""

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from chatnest.endings import StopAnswer
from chatnest.testing import Answer, Conversation
from chatnest.turn import Turn
from tests.streams.support import answer_to, ask, policies, serving, text

pytestmark = pytest.mark.anyio


class Kept:
    """A policy that sees the turns, and does not keep them."""

    def __init__(self, *, stops: bool = False) -> None:
        self.turns: list[weakref.ref[Turn]] = []
        self._stops = stops

    async def prepare(self, turn: Turn) -> None:
        self.turns.append(weakref.ref(turn))
        await anyio.lowlevel.checkpoint()

    def watch(self, turn: Turn, pieces: Any) -> None:
        if self._stops and pieces:
            raise StopAnswer("stopped")


@pytest.fixture(autouse=True)
def _no_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def gone(turns: list[weakref.ref[Turn]]) -> bool:
    """Whether the turns are, a few turns of the event loop later."""
    for _ in range(10):
        await anyio.lowlevel.checkpoint()
    return [turn() for turn in turns] == [None] * len(turns)


ENDINGS = {
    "done": Answer(),
    "no text": Answer(pieces=()),
    "refused": Answer.error(400),
    "broken": Answer.error(500),
    "not a stream": Answer.html(),
    "cut": Answer.cut(1),
    "an error": Answer.error_event(1),
}


@pytest.mark.parametrize("ending", ENDINGS)
async def test_an_answer_that_has_ended_is_gone(upstream, ending):
    upstream.default = ENDINGS[ending]
    kept = Kept()
    async with serving(upstream, policies=[*policies(), kept]) as app:
        await answer_to(app, ask())
        assert len(kept.turns) == 1
        assert await gone(kept.turns)


@pytest.mark.parametrize("answer", [Answer.silence(), Answer.stall(0), Answer.stall(1)])
async def test_an_answer_whose_client_has_left_is_gone(upstream, answer):
    upstream.default = answer
    kept = Kept()
    async with serving(upstream, policies=[*policies(), kept]) as app:
        async with Conversation(app, json=ask()) as c:
            await upstream.until(lambda up: up.requests)
            if answer.after:
                await c.until(lambda: text(c.received))
            c.disconnect()
            await c.finished()
        assert len(kept.turns) == 1
        assert await gone(kept.turns)


async def test_an_answer_that_a_policy_has_stopped_is_gone(upstream):
    kept = Kept(stops=True)
    async with serving(upstream, policies=[*policies(), kept]) as app:
        await answer_to(app, ask())
        assert await gone(kept.turns)


async def test_a_refused_request_is_gone(upstream):
    scopes: list[weakref.ref[Any]] = []

    class Seen(dict[str, Any]):
        """A scope that can be referred to weakly."""

    async def app_of(app: Any, scope: Any, receive: Any, send: Any) -> None:
        seen = Seen(scope)
        scopes.append(weakref.ref(seen))
        await app(seen, receive, send)

    async with serving(upstream) as app:
        bodies: list[dict[str, Any]] = [ask(profile="nobody's"), {"messages": []}, {"messages": 1}]
        for body in bodies:

            async def wrapped(scope: Any, receive: Any, send: Any) -> None:
                await app_of(app, scope, receive, send)

            c = await answer_to(wrapped, body)  # type: ignore[arg-type]
            assert c.status == 400
            del c
        assert await gone(scopes)
