"""No flood keeps the event loop: what is done without a break is counted, on no clock."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from chatnest import Bounds, ChatNestApp, OpenAIProvider
from chatnest.events import Delta, Start
from chatnest.providers.http.answer_stream import AnswerStream
from chatnest.providers.http.httpx2 import _OwnResponse
from chatnest.providers.openai_chat.decode import ChunkDecoder
from chatnest.providers.sse import EventSplitter
from chatnest.runs.run import Run
from chatnest.testing import Answer
from tests.hostile.floods import END, HEAD, INTERIM, LAST, chunk, event
from tests.streams.support import Pulse, answer_to, ask, error, kinds, profile, serving, text

pytestmark = pytest.mark.anyio
asyncio_only = pytest.mark.loops("asyncio")  # trio has httpcore2


async def test_reads_that_need_not_wait_do_not_keep_the_loop():
    pulse = Pulse()
    pieces = [b"\n"] * 5_000

    class Ready:
        async def read(self) -> bytes:
            pulse.work()
            return pieces.pop() if pieces else b""

    response: Any = Ready()

    decoder = ChunkDecoder(EventSplitter(), max_chunks=9)
    decoder._reader.finished = True
    async with anyio.create_task_group() as group:
        group.start_soon(pulse.beat)
        async for events in AnswerStream(response, decoder):
            assert not events
        group.cancel_scope.cancel()
    assert not pieces
    assert pulse.most <= 2 * 64


async def test_what_is_left_of_a_closed_body_is_read_with_breaks():
    pulse = Pulse()

    class Left:
        async def __aiter__(self) -> AsyncIterator[bytes]:
            for _ in range(5_000):
                pulse.work()
                yield b"a"

        async def aclose(self) -> None:
            pass

    async with anyio.create_task_group() as group:
        group.start_soon(pulse.beat)
        response: Any = SimpleNamespace(status_code=200, headers={}, stream=Left())
        await _OwnResponse(response).aclose()
        group.cancel_scope.cancel()
    assert 0 < pulse.most <= 4


async def test_a_long_run_is_replayed_in_parts():
    run = Run("0" * 32, owner="ann", linger=1, max_bytes=10**6)
    await run.emit([Start(), *[Delta("a")] * 2_500])
    lengths, reader = [], SimpleNamespace(position=0)
    while reader.position < 2_500:
        entries = await run.after(reader)
        reader.position += len(entries)
        lengths.append(len(entries))
    assert lengths == [1_000, 1_000, 500]
    assert len(run.since(0, 1_000)) == 1_000  # its writer asks again


@asyncio_only
async def test_a_flood_of_interim_responses_is_no_answer(upstream):
    raw = INTERIM * 100_000 + HEAD + chunk(event("a"))
    upstream.default = Answer(raw=raw)
    async with serving(upstream) as app:
        c = await answer_to(app, ask())
    assert (c.status, c.problem()["code"]) == (502, "upstream_unavailable")


PROSE = "Der Gatewayrechner schickt jedes Zeichen für sich: 4 Zeichen sind etwa ein Token. "


@pytest.mark.parametrize("limit", [150, 400, 3_000])
async def test_a_gateway_may_send_a_delta_for_each_character(upstream, limit):
    """Which are far more pieces than tokens, in an answer that keeps to its limit."""
    counted = await OpenAIProvider(base_url=upstream.base_url).counter.count(PROSE)
    whole = PROSE * (limit // counted)
    upstream.script(Answer(pieces=tuple(whole), events_per_write=64))
    own = profile(max_output_tokens=limit, max_tokens_per_request=9_000)
    async with serving(upstream, profiles=[own], default_profile="own") as app:
        c = await answer_to(app, ask(), timeout=30)
    assert kinds(c.received)[-1] == "done"
    assert text(c.received) == whole


@pytest.mark.parametrize("piece", ["a", "Wort ", "e\u0301", " "])
async def test_an_answer_beyond_its_limit_is_ended_however_it_is_cut(upstream, piece):
    upstream.script(Answer.tokens(200_000, piece, events_per_write=64))
    own = profile(max_output_tokens=100)
    bounds = Bounds(answer_bytes=100_000)
    async with serving(upstream, profiles=[own], default_profile="own", bounds=bounds) as app:
        c = await answer_to(app, ask(), timeout=30)
        counted = await app.provider.counter.count(text(c.received))
    assert error(c.received)["code"] in {"answer_too_long", "upstream_bad_response"}
    # And what came at once with the piece that was one too many: a chunk has 150 bytes or more.
    assert counted < 2 * (100 + 8) + 2 * 32_768 // 150


class Chatty:
    """An upstream that answers each request, and sends one answer more: behind it, or later."""

    def __init__(self, *, late: bool) -> None:
        self.asked = 0
        self.read = asyncio.Event()
        self.gone = asyncio.Event()
        self._late = late

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
                assert length is not None
                await reader.readexactly(int(length[1]))
                self.asked += 1
                writer.write(self._whole(f"answer {self.asked}"))
                if self._late:
                    await self.read.wait()
                writer.write(self._whole("of another"))
        writer.close()
        self.gone.set()

    def _whole(self, said: str) -> bytes:
        return HEAD + chunk(event(said)) + chunk(LAST) + END


@asyncio_only
@pytest.mark.parametrize("late", [True, False])
async def test_an_answer_to_nobody_is_given_to_nobody(late):
    upstream = Chatty(late=late)
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    app = ChatNestApp(provider=OpenAIProvider(base_url=url, api_key="k"), policies=[])
    for number in range(1, 5):
        c = await answer_to(app, ask())
        assert text(c.received) == f"answer {number}"
        upstream.read.set()
        with anyio.fail_after(20):  # the connection is not used again
            await upstream.gone.wait()
        upstream.read.clear()
        upstream.gone.clear()
    await app.aclose()
    server.close()
    await server.wait_closed()
