"""Servers as they are: each shape of the table, before a chat with real sockets."""

from collections.abc import Iterator

import pytest

from chatnest.testing import Answer, Conversation, FakeUpstream
from tests.streams.support import Books, answer_to, ask, error, kinds, serving, text
from tests.world.shapes import SHAPES, Shape

pytestmark = pytest.mark.anyio


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    with FakeUpstream() as fake:
        yield fake


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        f"{record.levelname} {record.getMessage()}"
        for record in caplog.records
        if record.name == "chatnest.calls"
    ]


def outcome(c: Conversation) -> dict[str, object]:
    """What the client is told at the end."""
    if c.status != 200:
        return {**c.problem(), "charged": None}
    return {"code": "done"} if kinds(c.received)[-1] == "done" else error(c.received)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
async def test_a_shape_comes_out_as_the_table_has_it(upstream, caplog, shape: Shape):
    upstream.default = Answer(raw=shape.reply)
    books = Books()
    async with serving(upstream, ledger=books) as app:
        c = await answer_to(app, ask())

    told = outcome(c)
    assert (told["code"], text(c.received) if c.status == 200 else "") == (
        shape.outcome,
        shape.text,
    )
    assert (books.charge.tokens, books.charge.outcome) == (shape.charge, shape.outcome)
    assert len(upstream.requests) == shape.calls
    if shape.outcome != "done":
        assert c.status == 200 if shape.text else c.status != 200 or shape.charge
        assert told["charged"] in {None, shape.charge > 0}
    if shape.retryable is not None:
        assert told["retryable"] is shape.retryable
    if shape.retry_after is not None:
        assert told["retry_after"] == shape.retry_after

    said = lines(caplog)
    failed = 0 if shape.outcome == "done" else shape.calls - shape.calls_without_line
    assert len(said) == failed
    for line in said:
        assert f"request={books.reservations[0].id} address={upstream.base_url}" in line
        assert f"error={shape.outcome}" in line
        assert all(part in line for part in shape.line), line
        assert "secret" not in line


@pytest.mark.loops("asyncio")
async def test_a_reply_in_single_bytes_comes_out_the_same(anyio_backend, upstream):
    for name in ("stream: content as parts", "stream: gzip", "tags: tags in pieces"):
        head, _, body = SHAPES[name].reply.partition(b"\r\n\r\n")
        kind = [line for line in head.split(b"\r\n") if line.startswith(b"Content-Encoding")]
        headers = {"content-encoding": "gzip"} if kind else {}
        upstream.script(Answer(body=body, split=1, headers=headers))
        books = Books()
        async with serving(upstream, ledger=books) as app:
            c = await answer_to(app, ask())
        assert (text(c.received), books.charge.tokens) == ("Hello world", 12), name
