"""Cut at any byte of a stream with thinking and a call, an answer ends once and is paid for."""

import pytest

from chatnest.testing import Conversation, Text, Thinking, ToolCall, parse_events
from tests.dialects.support import DIALECTS, WEATHER, Dialect, asking, chatting
from tests.streams.short_cut import SendsNow
from tests.support.soak import amount

pytestmark = [pytest.mark.anyio, pytest.mark.loops("asyncio"), pytest.mark.soak]

PARTS = (
    Thinking(["Hm"], signature="c2ln"),
    Text(["Oslo"]),
    ToolCall("c1", "weather", ['{"city":', '"Oslo"}']),
)
STEP = amount(7, 1)
"""Bytes from one cut to the next."""

Frames = list[tuple[str, str]]


def frames(body: bytes) -> Frames:
    """The events of a stream, but for what is said of its cost."""
    events = [(event.event, event.data) for event in parse_events(body)]
    return [event for event in events if event[0] not in {"ping", "usage"}]


def steady(body: Frames) -> Frames:
    """The events without the ids that a fake gives by the number of the request."""
    return [(name, "" if name == "reasoning_signature" else data) for name, data in body]


@pytest.mark.parametrize(
    ("conversation", "events_per_write"),
    [(Conversation, 64), (SendsNow, 1)],
    ids=["together", "alone-sends-now"],
)
@pytest.mark.parametrize("dialect", DIALECTS, ids=[dialect.name for dialect in DIALECTS])
async def test_cut_at_any_byte(dialect: Dialect, upstream, conversation, events_per_write):
    body = asking(tools=[WEATHER])
    upstream.default = dialect.answer(*PARTS)
    errors = 0
    async with chatting(dialect, upstream) as chat:
        books, turns = chat.books, chat.ended.turns
        async with conversation(chat.app, json=body) as whole:
            await whole.read_all()
            await whole.finished()
        *expected, last = steady(frames(whole.received))
        assert last == ("done", "")
        for limit in range(0, upstream.last.bytes_written, STEP):
            upstream.default = dialect.answer(
                *PARTS, byte_limit=limit, events_per_write=events_per_write
            )
            async with conversation(chat.app, json=body) as c:
                await c.read_all()
                await c.finished()
            charge, hold = books.charges[-1], books.reservations[-1]
            assert len(books.charges) == len(books.reservations) == len(turns)
            assert 0 < charge.tokens <= hold.tokens, limit
            if c.status == 200:
                *pieces, end = frames(c.received)
                assert steady(pieces) == expected[: len(pieces)], limit
                assert end[0] in {"done", "error"}, limit
                assert not {name for name, _ in pieces} & {"done", "error"}, limit
                if charge.source == "estimated":
                    assert charge.output_tokens >= await chat.delivered(c.received), limit
                elif end[0] == "done":
                    assert (charge.input_tokens, charge.output_tokens) == (9, 4), limit
            else:
                assert c.problem()["charged"] is True, limit
            is_whole = c.status == 200 and end[0] == "done"
            assert charge.outcome == ("done" if is_whole else "upstream_interrupted"), limit
            errors += not is_whole
        assert errors > limit // STEP // 2  # most cuts are within the answer
        assert await books.held() == (0, 0)
        assert not books.repeated
