"""The identity is checked before a body is waited for, so strangers take no room for bodies."""

import json
from typing import Any

import anyio
import pytest
import trio
from trio.testing import MockClock

from chatnest import ASSISTANT, Bounds, ChatNestApp
from chatnest.asgi.data_urls import SMALL_BODY
from chatnest.events import Delta
from chatnest.testing import Conversation
from tests.streams.support import PATIENCE, ask, serving
from tests.streams.test_images_and_tools import BIG, OPEN, left
from tests.support.scripted import Scripted

pytestmark = [pytest.mark.anyio, pytest.mark.loops("asyncio")]

JSON = {"content-type": "application/json"}
BOUNDS = Bounds(ledger_seconds=PATIENCE, lag_seconds=PATIENCE)


async def nobody(_: Any) -> None:
    """A stranger, by a look into a database."""
    await anyio.lowlevel.checkpoint()


def key_holder(scope: Any) -> str | None:
    return "ann" if (b"x-key", b"k") in scope["headers"] else None


STRANGERS = [nobody, key_holder]


class Taken(Conversation):
    """Counts the pieces of the body that the application has taken."""

    pieces = 0

    async def _receive(self) -> Any:
        message = await super()._receive()
        self.pieces += message["type"] == "http.request"
        return message


@pytest.mark.parametrize("identify", STRANGERS)
async def test_a_stranger_with_a_large_body_gets_a_401_before_any_of_it_is_read(identify):
    headers = {**JSON, "content-length": str(8 * 1_048_576)}
    async with serving(None, provider=Scripted([]), identify=identify, **OPEN) as app:
        room = left(app)
        async with Taken(app, send_body=False, headers=headers) as c:
            await c.read_all()
            assert (c.status, c.problem()["code"]) == (401, "unauthenticated")
            assert (c.pieces, left(app)) == (0, room)


@pytest.mark.parametrize("identify", STRANGERS)
@pytest.mark.parametrize("declared", [{}, {"content-length": "1000"}])
async def test_a_stranger_whose_body_is_not_there_gets_a_401_after_its_first_piece(
    identify, declared
):
    async with serving(None, provider=Scripted([]), identify=identify, **OPEN) as app:
        room = left(app)
        async with Taken(app, send_body=False, headers={**JSON, **declared}) as c:
            c.send_body(b"{", more=True)
            await c.read_all()
            assert (c.status, c.problem()["code"]) == (401, "unauthenticated")
            assert (c.pieces, left(app)) == (1, room)


async def test_strangers_leave_the_room_to_those_who_are_known():
    bounds = Bounds(bodies_in_flight_bytes=len(BIG), ledger_seconds=PATIENCE, lag_seconds=PATIENCE)
    provider = Scripted([Delta("ok")])
    async with serving(None, provider=provider, identify=key_holder, bounds=bounds, **OPEN) as app:
        async with anyio.create_task_group() as tasks:
            for _ in range(8):
                tasks.start_soon(refused, app)
            async with Conversation(app, send_body=False, headers={**JSON, "x-key": "k"}) as c:
                c.send_body(BIG[:SMALL_BODY], more=True)
                c.send_body(BIG[SMALL_BODY:])
                await c.read_all()
                assert c.status == 200, c.received
        assert left(app) == len(BIG)


async def refused(app: ChatNestApp) -> None:
    async with Conversation(app, send_body=False, headers=JSON) as c:
        c.send_body(BIG[:-9], more=True)
        await c.read_all()
        assert c.status == 401


@pytest.mark.parametrize("pieces", [1, 2])
@pytest.mark.parametrize("length", [True, False])
async def test_the_identity_is_asked_for_once(pieces, length):
    asked: list[Any] = []

    async def identify(scope: Any) -> str:
        asked.append(scope)
        await anyio.lowlevel.checkpoint()
        return "ann"

    headers = {**JSON, **({"content-length": str(len(BIG))} if length else {})}
    async with (
        serving(None, provider=Scripted([Delta("ok")]), identify=identify, **OPEN) as app,
        Conversation(app, send_body=False, headers=headers) as c,
    ):
        for number in range(pieces):
            start, end = (len(BIG) * place // pieces for place in (number, number + 1))
            c.send_body(BIG[start:end], more=number + 1 < pieces)
        await c.read_all()
    assert c.status == 200, c.received
    assert len(asked) == 1


# ------------------------------------------------ the deadlines


def statuses(*, hook: float, gap: float, declared: bool = False, body: float = 10.0) -> str:
    """The code of a request whose hook takes ``hook`` seconds, and whose second piece comes ``gap``
    seconds after that, by a clock that does not wait.
    """

    async def identify(_: Any) -> str:
        await anyio.sleep(hook)
        return "ann"

    async def main() -> str:
        bounds = Bounds(body_seconds=body, stream_seconds=100.0, ledger_seconds=PATIENCE)
        app = ChatNestApp(
            provider=Scripted([Delta("ok")]),
            profiles=[ASSISTANT],
            default_profile="assistant",
            identify=identify,
            bounds=bounds,
        )
        content = json.dumps(ask()).encode()
        length = {"content-length": str(SMALL_BODY + 1)} if declared else {}
        async with Conversation(
            app, send_body=False, headers={**JSON, **length}, timeout=1_000
        ) as c:
            if not declared:
                c.send_body(content[:9], more=True)
            await anyio.sleep(hook + gap)
            c.send_body(content if declared else content[9:])
            await c.read_all()
        await app.aclose()
        return "answered" if c.status == 200 else str(c.problem()["code"])

    return trio.run(main, clock=MockClock(autojump_threshold=0))


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize(
    ("hook", "gap", "code"),
    [
        (0.0, 9.0, "answered"),
        (0.0, 11.0, "slow_body"),
        (50.0, 9.0, "answered"),  # the time of the hook is not the body's
        (50.0, 11.0, "slow_body"),
        (101.0, 0.0, "stream_timeout"),
    ],
)
def test_a_slow_hook_takes_no_time_from_the_body_and_gives_it_none(hook, gap, code, declared):
    assert statuses(hook=hook, gap=gap, declared=declared) == code
