"""chatnest.client before servers that are broken or hostile: it ends, and has read a part."""

import math
from collections.abc import Callable, Iterator
from itertools import repeat
from threading import Event
from typing import Any

import anyio
import pytest

from chatnest.client import ChatError, ChatNestClient
from chatnest.client import responses as module
from tests.test_check_hostile import (
    EVENTS,
    HANG,
    JSON,
    PROBLEM,
    Says,
    head,
    serving,
    trickle,
    whole,
)

pytestmark = pytest.mark.anyio

TOO_MUCH = 64 * 1_048_576
"""Bytes; the kernel holds a few MB of them for a client that does not read."""

BUSY = head(PROBLEM, "503 Service Unavailable")
DENSE = b" " * 65_536


async def told(client: ChatNestClient) -> None:
    async with client.ask([{"role": "user", "content": "Hi"}]) as answer:
        await answer.text()


CALLS: dict[str, Callable[[ChatNestClient], Any]] = {
    "ask": told,
    "cancel": lambda client: client.cancel("0" * 32),
    "limits": lambda client: client.limits(),
}
CALLED = {"ask": "POST", "cancel": "DELETE", "limits": "GET /limits"}


class Flood:
    """As much as nobody wants, and whether all of it was taken."""

    def __init__(self, start: bytes, piece: bytes = DENSE) -> None:
        self.taken = False
        self._start = start
        self._piece = piece

    def __call__(self, _: Event) -> Iterator[bytes]:
        yield self._start
        yield from repeat(self._piece, TOO_MUCH // len(self._piece))
        self.taken = True


async def refusal(call: str, says: Says, **options: Any) -> ChatError:
    with serving({CALLED[call]: says}) as url:
        async with ChatNestClient(url, **options) as client:
            with anyio.fail_after(HANG), pytest.raises(ChatError) as caught:
                await CALLS[call](client)
    return caught.value


@pytest.mark.parametrize("call", CALLS)
async def test_so_much_of_a_refusal_is_read(monkeypatch, call):
    monkeypatch.setattr(module, "_DOCUMENT_SECONDS", HANG)
    flood = Flood(BUSY)
    error = await refusal(call, flood)
    assert (error.status, error.code) == (503, "http_503")
    assert not flood.taken


@pytest.mark.parametrize("call", CALLS)
async def test_for_so_long_a_refusal_is_read(monkeypatch, call):
    monkeypatch.setattr(module, "_DOCUMENT_SECONDS", 0.1)
    error = await refusal(call, trickle(BUSY, b" "))
    assert (error.status, error.code) == (503, "http_503")


async def test_what_came_of_a_refusal_counts_where_its_end_does_not_come(monkeypatch):
    monkeypatch.setattr(module, "_DOCUMENT_SECONDS", 0.5)
    error = await refusal("ask", trickle(BUSY + b'{"code": "server_shutdown"}', b"\n"))
    assert (error.status, error.code) == (503, "server_shutdown")


@pytest.mark.parametrize("call", ["cancel", "limits"])
async def test_so_much_of_a_document_is_read_for_so_long(monkeypatch, call):
    monkeypatch.setattr(module, "_DOCUMENT_SECONDS", HANG)
    flood = Flood(head(JSON))
    much = await refusal(call, flood)
    monkeypatch.setattr(module, "_DOCUMENT_SECONDS", 0.1)
    slow = await refusal(call, trickle(head(JSON), b" "))
    deep = await refusal(call, lambda _: iter([head(JSON), b"[" * 60_000]))
    assert (much.code, slow.code, deep.code) == ("cut_off",) * 3
    assert not flood.taken


# On trio, httpx2's connection pool leaves a generator to the garbage collector where a body is not
# read to its end.
on_asyncio = pytest.mark.loops("asyncio")


@on_asyncio
async def test_an_event_has_an_end_or_the_connection_has():
    flood = Flood(head(EVENTS) + b"event: token\ndata: ")
    error = await refusal("ask", flood, patience=0.0)
    assert error.code == "cut_off"
    assert not flood.taken


@pytest.mark.parametrize(
    "said",
    ["soon", "1", -1, math.nan, math.inf, pytest.param(10**400, id="huge"), [1], {}, 0, 1e-9],
)
async def test_whatever_it_says_of_when_to_come_back_is_no_reason_to_hurry(said):
    asked = 0

    def busy(over: Event) -> Iterator[bytes]:
        nonlocal asked
        asked += 1
        document = {"code": "server_shutdown", "retryable": True, "retry_after": said}
        return whole(document, PROBLEM, "503 Service Unavailable")(over)

    error = await refusal("ask", busy, patience=0.35)
    assert error.code == "server_shutdown"
    assert asked <= 4
    assert error.retry_after == (said if said in (0, 1e-9) else None)


async def test_a_document_of_its_full_size_is_read():
    full = b'{"limits": "%b"}' % (b"x" * (module._DOCUMENT_BYTES - 14))
    assert len(full) == module._DOCUMENT_BYTES
    with serving({"GET /limits": lambda _: iter([head(JSON), full])}) as url:
        async with ChatNestClient(url) as client:
            assert len((await client.limits())["limits"]) == module._DOCUMENT_BYTES - 14


TOKEN = b'event: token\nid: 1\ndata: "a"\n\n'


@on_asyncio
@pytest.mark.parametrize(
    "broken",
    [
        b'event: token\nid: one\ndata: "b"\n\n',
        b"event: token\nid: " + b"9" * 5_000 + b'\ndata: "b"\n\n',
        b"event: token\nid: 2\ndata: \xff\n\n",
        b"event: token\nid: 2\ndata: 7\n\n",
        b"event: token\nid: 2\ndata: \n\n",
        b"event: token\nid: 2\ndata: " + b"[" * 60_000 + b"\n\n",
        b"event: usage\ndata: 7\n\n",
        b'event: error\ndata: "busy"\n\n',
    ],
    ids=["no number", "digits", "no UTF-8", "no text", "nothing", "deep", "usage", "error"],
)
async def test_an_event_that_is_broken_is_as_a_connection_that_is(broken):
    with serving({"POST": lambda _: iter([head(EVENTS) + TOKEN + broken])}) as url:
        async with ChatNestClient(url, patience=0.0) as client:
            with anyio.fail_after(HANG), pytest.raises(ChatError) as caught:
                await told(client)
    assert caught.value.code == "cut_off"


async def test_what_is_no_receipt_is_none():
    error = await refusal("cancel", whole({"was_running": "perhaps"}, JSON))
    assert error.detail == "The server's response is not a receipt."


@on_asyncio
async def test_why_an_answer_was_left_counts_more_than_a_cancel_that_fails():
    started = head(EVENTS).replace(b"\r\n\r\n", b"\r\nchatnest-run-id: " + b"0" * 32 + b"\r\n\r\n")
    cancels = 0

    def refuse(over: Event) -> Iterator[bytes]:
        nonlocal cancels
        cancels += 1
        return whole({"code": "server_shutdown"}, PROBLEM, "503 Service Unavailable")(over)

    async def leave(client: ChatNestClient) -> None:
        async with client.ask([{"role": "user", "content": "Hi"}]) as answer:
            async for _ in answer:
                raise LookupError("mine")

    with serving({"POST": trickle(started + TOKEN, b":\n"), "DELETE": refuse}) as url:
        async with ChatNestClient(url) as client:
            with anyio.fail_after(HANG), pytest.raises(LookupError, match="mine"):
                await leave(client)
    assert cancels == 1
