"""What has arrived from the model counts, whether anybody has read it or not."""

import json

import pytest

from chatnest import Bounds
from chatnest.testing import Answer, Conversation, FakeUpstream
from tests.streams.support import START, Books, answer_to, ask, error, serving

# On trio httpx2 reads, and a margin stands for what it has not read.
pytestmark = [pytest.mark.anyio, pytest.mark.loops("asyncio", "uvloop")]

PIECES = 400
USAGE = (20, PIECES)


def chunk(**fields: object) -> bytes:
    return b"data: " + json.dumps({"object": "chat.completion.chunk", **fields}).encode() + b"\n\n"


def body(pieces: int = PIECES, *, usage: bool = True) -> bytes:
    events = [
        chunk(choices=[{"index": 0, "delta": {"content": " a"}, "finish_reason": None}])
    ] * pieces
    events.append(chunk(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}]))
    if usage:
        figures = {"prompt_tokens": USAGE[0], "completion_tokens": pieces}
        events.append(chunk(choices=[], usage=figures))
    return b"".join([*events, b"data: [DONE]\n\n"])


def at_once(content: bytes) -> Answer:
    """A response that is one write."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n"
    return Answer(raw=head % len(content) + content)


@pytest.mark.parametrize("mark", ["before the start", "after it"])
async def test_one_who_leaves_pays_what_had_arrived(upstream: FakeUpstream, mark: str):
    """Whether the response has begun, or its writer waits for the client to take it."""
    upstream.default = answer = at_once(body())
    size = len(answer.raw or b"")
    books = Books()
    async with serving(upstream, ledger=books) as app, Conversation(app, json=ask()) as c:
        c.stall(0 if mark == "before the start" else len(START))
        await c.blocked()
        await upstream.until(lambda u: u.last.bytes_written >= size)
        c.disconnect()
        await c.finished()
    charge = books.charge
    assert (charge.tokens, charge.source, charge.outcome) == (sum(USAGE), "provider", "client_gone")


async def test_without_a_figure_it_is_counted(upstream: FakeUpstream):
    upstream.default = answer = at_once(body(300, usage=False))
    size = len(answer.raw or b"")
    books = Books()
    async with serving(upstream, ledger=books) as app, Conversation(app, json=ask()) as c:
        c.stall()
        await c.blocked()
        await upstream.until(lambda u: u.last.bytes_written >= size)
        c.disconnect()
        await c.finished()
        counted = await app.provider.counter.count(" a" * 300)
    charge = books.charge
    assert (charge.output_tokens, charge.outcome) == (counted, "client_gone")


async def test_an_answer_that_is_too_long_is_read_no_further(upstream: FakeUpstream):
    upstream.default = at_once(body(2_000, usage=False))
    books = Books()
    async with serving(upstream, ledger=books, bounds=Bounds(answer_bytes=64)) as app:
        c = await answer_to(app, ask())
    assert error(c.received)["code"] == "answer_too_long"
    assert books.charge.output_tokens < 2_000
