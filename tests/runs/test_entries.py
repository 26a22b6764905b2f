"""What a log keeps is read by the version that wrote it and by later ones; earlier ones say so."""

import pytest

from chatnest import DemoProvider, MemoryRunLog
from chatnest.errors import ReplayUnavailable, UpstreamInterrupted
from chatnest.events import (
    Delta,
    Done,
    Failed,
    Reasoning,
    ReasoningSignature,
    Refusal,
    Source,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from chatnest.runs.base import Batch, RunEnd
from chatnest.runs.entries import VERSION, join_batches, read_batch, write_batch
from chatnest.testing import Conversation
from tests.runs.test_runs import cancel, run_of, said
from tests.streams.support import CLIENT, error, kinds, serving, text

pytestmark = pytest.mark.anyio

RUN = "a" * 32
END = RunEnd(outcome="done", charged=3, source="provider")
DONE = Done("stop", Usage(1, 2))
LATER = {
    "a tag": b'[%d,{"type":"image","data":""}]' % (VERSION + 1),
    "a version alone": b'[%d,"of another meaning"]' % (VERSION + 1),
    "a tag without a version": b'["a",{"type":"image"}]',
    "a kind of value": b"[[1]]",
    "another document": b'{"version":2}',
    "no JSON": b"\x00\x01",
    "no UTF-8": b'["\xff"]',
    "joined with one of ours": join_batches(
        [write_batch([Delta("a")]), b'[%d,{"type":"image"}]' % (VERSION + 1)]
    ),
}


@pytest.mark.parametrize(
    "entries",
    [
        [Delta("a"), Delta("é"), DONE],
        [Failed(UpstreamInterrupted())],
        [Delta("1"), Delta(" 2")],
        [
            Reasoning("Hm\ud800"[:2]),
            ReasoningSignature("s=", "anthropic-messages", "claude", redacted=True, id="rs_1"),
            ToolCall(0, "call_1", "look_up"),
            ToolCallDelta(0, '{"a": 1}'),
            Source("https://example.com", "Example", 1, 2),
            Refusal("No"),
            Done("length", Usage(9, 8, "provider", 7, 6, 5), incomplete=True),
        ],
    ],
    ids=["an answer", "a failure", "numbers as text", "all pieces"],
)
def test_what_is_written_has_a_version_and_is_read_as_it_was(entries):
    data = write_batch(entries)

    unseen = any(isinstance(entry, Reasoning) for entry in entries)
    assert data.startswith(b"[%d," % (VERSION if unseen else 1))
    assert [describe(entry) for entry in read_batch(data)] == [describe(e) for e in entries]


def describe(entry):
    if isinstance(entry, Failed):
        return (entry.error.code, entry.error.status, entry.error.detail, entry.charged)
    return entry


def test_batches_of_the_first_release_are_read():
    data = (
        b'["Hi"," there",{"type":"done","finish_reason":"stop","input_tokens":1,"output_tokens":2,'
        b'"source":"provider"}]'
    )

    assert read_batch(data) == [Delta("Hi"), Delta(" there"), DONE]


def test_joined_batches_are_read_with_and_without_versions():
    data = join_batches([b'["a"]', write_batch([Delta("b")]), b'["c"]', write_batch([DONE])])

    assert read_batch(data) == [Delta("a"), Delta("b"), Delta("c"), DONE]


@pytest.mark.parametrize("data", LATER.values(), ids=LATER)
def test_what_a_later_version_has_written_is_refused_and_logged(data, caplog):
    with pytest.raises(ReplayUnavailable) as caught:
        read_batch(data)

    assert "later version" in caught.value.detail
    (line,) = caplog.messages
    assert line.startswith("run log entries are unreadable: ")


async def written(log, *batches: bytes, end: RunEnd | None = None) -> None:
    """A run of the client's that another worker writes, two events to each batch."""
    await log.claim("k", owner=CLIENT, fingerprint="f", run_id=RUN, lease=30)
    for number, data in enumerate(batches):
        await log.append({RUN: Batch(first=2 * number + 1, count=2, data=data)}, lease=30)
    if end is not None:
        await log.finish(RUN, end)


OURS = write_batch([Delta("a"), Delta("b")])
THEIRS = b'[%d,{"type":"image","data":""},"x"]' % (VERSION + 1)


async def test_a_replay_of_a_later_version_is_unavailable(log):
    await written(log, THEIRS, end=END)
    async with serving(None, provider=DemoProvider(), run_log=log) as app:
        c = await run_of(app, RUN)

    assert (c.status, c.problem()["code"]) == (410, "replay_unavailable")


async def test_a_replay_that_goes_over_to_a_later_version_ends_where_it_does(log):
    await written(log, OURS, THEIRS, end=END)
    async with serving(None, provider=DemoProvider(), run_log=log) as app:
        c = await run_of(app, RUN)
        again = await run_of(app, RUN, after=3)

    if isinstance(log, MemoryRunLog):  # it has joined the batches of the ended run
        assert (c.status, c.problem()["code"]) == (410, "replay_unavailable")
    else:
        assert (c.status, text(c.received), kinds(c.received)[-1]) == (200, "ab", "error")
        assert error(c.received)["code"] == "replay_unavailable"
    assert (again.status, again.problem()["code"]) == (410, "replay_unavailable")


async def test_a_reader_of_a_running_run_meets_a_later_version(log):
    await written(log, OURS)
    async with serving(None, provider=DemoProvider(), run_log=log) as app:
        async with Conversation(app, method="GET", path=f"/api/chat/runs/{RUN}") as c:
            await said(c, b'"b"')
            await log.append({RUN: Batch(first=3, count=2, data=THEIRS)}, lease=30)
            await c.read_all()
        page = await log.read(RUN, 0, owner=CLIENT)

    assert (c.status, text(c.received), kinds(c.received)[-1]) == (200, "ab", "error")
    assert error(c.received)["code"] == "replay_unavailable"
    assert (page.end, page.last) == (None, 4), "its worker is not disturbed"


async def test_a_run_of_a_later_version_is_cancelled_as_any_other(log):
    await written(log, THEIRS, end=END)
    async with serving(None, provider=DemoProvider(), run_log=log) as app:
        c = await cancel(app, RUN)

    assert (c.status, c.problem()["outcome"]) == (200, "done")
