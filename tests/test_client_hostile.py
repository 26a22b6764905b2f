"""chatnest.client before servers that are broken or hostile: it ends, and has read a part."""

import math
from collections.abc import Callable, Iterator
from itertools import repeat
from threading import Event
from typing import Any

import anyio
import pytest

from chatnest import client as module
from chatnest.client import ChatError, ChatNestClient
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


# On trio, httpx2's connection pool leaves a generator to the garbage collector in this one.


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
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
