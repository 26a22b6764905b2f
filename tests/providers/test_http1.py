"""Http1Connection on a wire that leads nowhere: what a server may say, and what is made of it."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatnest.providers.http import http1
from chatnest.providers.http.http1 import Http1Connection, Http1Response
from chatnest.providers.http.transport import TransportError

pytestmark = [pytest.mark.anyio, pytest.mark.loops("asyncio")]

INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)
LENGTH = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"
TO_THE_END = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
BODY = b"one\ntwo\n\n"
CHUNKS = b"3\r\none\r\n5;x=y\r\n\ntwo\n\r\n1\r\n\n\r\n"
END = b"0\r\n\r\n"

WHOLE = {
    "chunks": CHUNKED + CHUNKS + END,
    "trailers": CHUNKED + CHUNKS + b"0\r\nx-late: 1\r\ncontent-type: no\r\n\r\n",
    "a length": LENGTH + BODY,
    "interim responses": INTERIM * 3 + CHUNKED + CHUNKS + END,
    "HTTP/1.0 that is kept": LENGTH.replace(b"1.1", b"1.0").replace(
        b"\r\n\r\n", b"\r\nconnection: keep-alive\r\n\r\n"
    )
    + BODY,
}
LENIENT = {
    "LF alone": (LENGTH + BODY).replace(b"\r\n", b"\n"),
    "a folded field": LENGTH.replace(b"OK\r\n", b"OK\r\nx: a\r\n\tb\r\n") + BODY,
    "spaces behind a size": CHUNKED + CHUNKS.replace(b"3\r\n", b"3  \r\n") + END,
    "a length beside chunks": CHUNKED.replace(b"transfer", b"content-length: 5\r\ntransfer")
    + (CHUNKS + END),
    "empty fields": LENGTH.replace(b"OK\r\n", b"OK\r\nx:\r\ny: \r\n") + BODY,
    "no reason": LENGTH.replace(b" OK", b"") + BODY,
}
"""What httpx2 takes as well, and a browser."""

CLOSED_AFTER = {
    "connection: close": LENGTH.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n") + BODY,
    "HTTP/1.0": LENGTH.replace(b"1.1", b"1.0") + BODY,
    "up to the end": TO_THE_END + BODY,
}


class Wire:
    """A transport that leads nowhere. ``abort`` is told to the connection by ``lose``."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closed = self._paused = False
        self.unsent = 0

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def is_closing(self) -> bool:
        return self.closed

    def abort(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        assert not self._paused
        self._paused = True

    def resume_reading(self) -> None:
        assert self._paused
        self._paused = False

    def is_paused(self) -> bool:
        return self._paused


class Call:
    sent = False

    def __init__(self) -> None:
        self.headers: Mapping[str, str] = {}


class Peer:
    """A connection, and what has become of it."""

    def __init__(self) -> None:
        self.free = self.lost = 0
        self.wire = Wire()
        self.connection = Http1Connection(asyncio.get_running_loop(), self._freed, self._lost)
        transport: Any = self.wire
        self.connection.connection_made(transport)

    def _freed(self, _: Http1Connection) -> None:
        self.free += 1

    def _lost(self, _: Http1Connection) -> None:
        self.lost += 1

    def ask(self) -> "asyncio.Task[Http1Response]":
        return asyncio.create_task(self.connection.ask(b"POST / HTTP/1.1\r\n\r\n", Call()))

    def say(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.connection.data_received(piece)

    def end(self, exc: Exception | None = None) -> None:
        self.connection.connection_lost(exc)

    async def answer(self, *pieces: bytes) -> Http1Response:
        task = self.ask()
        await asyncio.sleep(0)
        self.say(*pieces)
        return await task


async def body_of(response: Http1Response) -> bytes:
    body = b""
    while piece := await response.read():
        body += piece
    return body


# ---------------------------------------------------------------- what it may say


@pytest.mark.parametrize("said", (WHOLE | LENIENT).values(), ids=WHOLE | LENIENT)
async def test_a_response_is_the_same_however_it_is_cut(said):
    for cut in range(len(said) + 1):
        peer = Peer()
        for _ in range(2):  # on one connection
            task = peer.ask()
            await asyncio.sleep(0)
            peer.say(said[:cut])
            await asyncio.sleep(0)
            peer.say(said[cut:])
            response = await task
            assert response.status == 200
            assert response.headers.get("content-type") in {"text/event-stream", None}
            assert "x-late" not in response.headers
            assert await body_of(response) == BODY
            assert response.release()
            await response.aclose()
        assert (peer.free, peer.wire.closed, peer.connection.usable) == (2, False, True)


@given(st.data())
def test_in_any_pieces(data):
    said = data.draw(st.sampled_from(list(WHOLE.values())))
    cuts = sorted(data.draw(st.sets(st.integers(0, len(said)))))
    pieces = [said[i:j] for i, j in zip([0, *cuts], [*cuts, len(said)], strict=True)]

    async def main() -> bytes:
        return await body_of(await Peer().answer(*pieces))

    assert asyncio.run(main()) == BODY


@pytest.mark.parametrize("said", CLOSED_AFTER.values(), ids=CLOSED_AFTER)
async def test_a_connection_that_ends_with_its_response_is_not_used_again(said):
    peer = Peer()
    response = await peer.answer(said)
    peer.end()
    assert await body_of(response) == BODY
    await response.aclose()
    assert (peer.free, peer.lost, peer.connection.usable) == (0, 1, False)


@pytest.mark.parametrize("status", [204, 304])
async def test_a_response_without_a_body(status):
    peer = Peer()
    response = await peer.answer(b"HTTP/1.1 %d X\r\n\r\n" % status)
    assert (response.status, await body_of(response)) == (status, b"")
    await response.aclose()
    assert peer.free == 1


async def test_the_first_of_a_field_counts_by_its_name_in_lower_case():
    fields = b"Retry-After: 1\r\nretry-after: 2\r\nX: \xff\r\ncontent-length: 0\r\n"
    response = await Peer().answer(b"HTTP/1.1 429 No\r\n" + fields + b"\r\n")
    assert response.headers == {"retry-after": "1", "x": "\xff", "content-length": "0"}


async def test_what_arrives_together_is_read_together():
    peer = Peer()
    response = await peer.answer(CHUNKED)
    peer.say(CHUNKS, b"2\r\nab\r\n")
    assert await response.read() == BODY + b"ab"


class Takes:
    """Takes what does not begin with a minus."""

    def __init__(self) -> None:
        self.offered: list[bytes] = []

    def take(self, offered: bytes, /) -> bool:
        self.offered.append(offered)
        return not offered.startswith(b"-")


async def reading(response: Http1Response) -> "asyncio.Task[bytes]":
    async def read() -> bytes:
        return await response.read()

    task = asyncio.create_task(read())
    await asyncio.sleep(0)
    return task


async def test_what_comes_alone_while_it_is_waited_for_is_offered_first():
    peer, taker = Peer(), Takes()
    response = await peer.answer(CHUNKED)
    response.offer(taker)
    task = await reading(response)
    peer.say(b"1\r\na\r\n", b"1\r\nb\r", b"\n1\r\nc\r\n")
    await asyncio.sleep(0)

    assert not task.done()
    assert taker.offered == [b"a", b"b", b"c"]
    peer.say(b"2\r\n-d\r\n")
    assert await task == b"-d"
    assert taker.offered == [b"a", b"b", b"c", b"-d"]


async def test_what_has_to_be_read_is_not_offered():
    peer, taker = Peer(), Takes()
    response = await peer.answer(CHUNKED)
    response.offer(taker)
    peer.say(b"1\r\na\r\n")  # nobody waits
    assert await response.read() == b"a"
    task = await reading(response)
    peer.say(b"1\r\nb\r\n1\r\nc\r\n")  # two at once
    peer.say(b"1\r\nd\r\n")  # behind something that waits
    assert await task == b"bcd"
    task = await reading(response)
    peer.say(b"1\r\ne\r\n" + END)  # with the end
    assert (await task, await response.read()) == (b"e", b"")
    assert taker.offered == []


async def test_what_comes_before_a_fault_is_not_offered():
    peer, taker = Peer(), Takes()
    response = await peer.answer(CHUNKED)
    response.offer(taker)
    task = await reading(response)
    peer.say(b"1\r\na\r\nx\r\n")

    assert await task == b"a"
    with pytest.raises(TransportError):
        await response.read()
    assert taker.offered == []


async def test_the_next_response_is_offered_to_nobody():
    peer, taker = Peer(), Takes()
    response = await peer.answer(CHUNKED + END)
    response.offer(taker)
    assert await response.read() == b""
    await response.aclose()
    response = await peer.answer(CHUNKED)
    task = await reading(response)
    peer.say(b"1\r\na\r\n")

    assert (await task, taker.offered) == (b"a", [])


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("timeout=5", 5),
        ("max=100, Timeout = 7", 7),
        ('timeout="5";x', inf),
        ('timeout="5", max=3', 5),
        ("timeout=60, timeout=5,timeout=30", 5),
        ("timeout=0", 0),
        ("timeout=" + "9" * 5_000, inf),
        ("timeout=x, timeout=4", 4),
        *((garbage, inf) for garbage in ("", "timeout", "timeout=", "timeout=-5", "timeout=4.5")),
        *(
            (garbage, inf)
            for garbage in ("timeout=5s", "timeout=\xb2", "timeout=1e3", "timeout=nan")
        ),
        *((garbage, inf) for garbage in ("x-timeout=5", "max=5", "timeout 5", "x=timeout=5")),
    ],
)
async def test_for_how_long_the_server_keeps_it(said, seconds):
    field = b"\r\nKeep-Alive: " + said.encode("latin-1") + b"\r\n\r\n"
    peer = Peer()
    for answer, expected in ((LENGTH.replace(b"\r\n\r\n", field), seconds), (LENGTH, inf)):
        await (await peer.answer(INTERIM, answer + BODY)).aclose()
        assert peer.connection.responses.kept_for == expected
    assert peer.free == 2


# ---------------------------------------------------------------- where it breaks off


BROKEN = {
    "no HTTP": b"SSH-2.0-OpenSSH\r\n",
    "HTTP/2": b"HTTP/2 200\r\n\r\n",
    "a length that is none": b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
    "another protocol": b"HTTP/1.1 101 X\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n",
    "another protocol, unnamed": b"HTTP/1.1 101 X\r\n\r\n",
    "a field of NUL": b"HTTP/1.1 200 OK\r\nx\0: y\r\n\r\n",
    "heads without end": INTERIM * 17,
    "fields without end": b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 258,
}


@pytest.mark.parametrize("said", BROKEN.values(), ids=BROKEN)
async def test_what_is_no_response_ends_the_connection(said):
    peer = Peer()
    with pytest.raises(TransportError) as raised:
        await peer.answer(said)
    assert raised.value.__cause__ is not None
    assert peer.wire.closed
    assert not peer.connection.usable


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nx: ", b"HTTP/1.1 200 "])
async def test_a_head_without_end_ends_the_connection(head):
    peer = Peer()
    with pytest.raises(TransportError):
        await peer.answer(head, *[b"y" * 1_000] * 66)
    assert peer.wire.closed


async def test_heads_within_their_bounds_are_taken():
    fields = b"".join(b"x-%d: %b\r\n" % (n, b"y" * 200) for n in range(255))
    said = INTERIM * 15 + b"HTTP/1.1 200 OK\r\n" + fields + b"content-length: 0\r\n\r\n"
    response = await Peer().answer(said)
    assert len(response.headers) == 256


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 20", INTERIM, LENGTH[:-2]])
@pytest.mark.parametrize("exc", [None, ConnectionResetError()])
async def test_an_end_instead_of_a_head(said, exc):
    peer = Peer()
    task = peer.ask()
    await asyncio.sleep(0)
    peer.say(said)
    peer.end(exc)
    with pytest.raises(TransportError) as raised:
        await task
    assert isinstance(raised.value.__cause__, ConnectionResetError)


@pytest.mark.parametrize(
    ("head", "rest", "exc"),
    [
        (CHUNKED, b"9\r\none", None),
        (CHUNKED, b"3\r\none\r\n", None),
        (CHUNKED, b"3\r\none\r\n0\r\n", None),
        (CHUNKED, b"3\r\none\r\n", ConnectionResetError()),
        (CHUNKED, b"3\r\none\r\nno size\r\n", None),
        (LENGTH, b"one", None),
        (TO_THE_END, b"one", ConnectionResetError()),
    ],
)
@pytest.mark.parametrize("waiting", [True, False])
async def test_what_came_before_a_break_is_read_first(head, rest, exc, waiting):
    peer = Peer()
    response = await peer.answer(head)
    task = asyncio.create_task(body_of(response)) if waiting else None
    await asyncio.sleep(0)
    peer.say(rest)
    peer.end(exc)
    assert task or await response.read() == b"one"
    with pytest.raises(TransportError):
        await (task or response.read())
    with pytest.raises(TransportError):
        await response.read()
    assert not response.release()
    await response.aclose()
    assert peer.free == 0


# ---------------------------------------------------------------- what nobody asked for


async def test_data_on_an_idle_connection_ends_it():
    peer = Peer()
    peer.say(WHOLE["a length"])
    assert peer.wire.closed
    assert not peer.connection.usable


@pytest.mark.parametrize("more", [WHOLE["a length"], b"H", b"\0"])
async def test_what_comes_behind_a_response_is_none_of_the_next(more):
    peer = Peer()
    response = await peer.answer(WHOLE["chunks"] + more)
    assert await body_of(response) == BODY
    await response.aclose()
    assert peer.wire.closed
    assert (peer.free, peer.connection.usable) == (0, False)


# ---------------------------------------------------------------- who stops early


async def test_a_response_that_is_not_read_to_its_end_ends_the_connection():
    peer = Peer()
    response = await peer.answer(CHUNKED, b"3\r\none\r\n")
    await response.aclose()
    assert peer.wire.closed
    assert peer.free == 0


async def test_one_whose_end_is_here_is_kept_though_nobody_reads_it():
    peer = Peer()
    response = await peer.answer(CHUNKED, CHUNKS, END)
    await response.aclose()
    assert (peer.free, peer.wire.closed) == (1, False)
    assert await body_of(await peer.answer(LENGTH + b"x" * 9)) == b"x" * 9


async def test_it_is_closed_once_whatever_becomes_of_the_connection():
    peer = Peer()
    response = await peer.answer(WHOLE["chunks"])
    await response.aclose()
    other = await peer.answer(CHUNKED)
    await response.aclose()
    assert response.release()
    assert not peer.wire.closed
    await other.aclose()
    assert peer.wire.closed


async def test_who_stops_waiting_for_a_head_ends_the_connection():
    peer = Peer()
    task = peer.ask()
    await asyncio.sleep(0)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert peer.wire.closed
    peer.say(CHUNKED)
    peer.end()


async def test_who_stops_waiting_for_a_piece_can_read_it_later():
    peer = Peer()
    response = await peer.answer(CHUNKED)
    task = asyncio.ensure_future(response.read())
    await asyncio.sleep(0)
    task.cancel()
    peer.say(CHUNKS)
    with suppress(asyncio.CancelledError):
        await task
    assert await response.read() == BODY


@pytest.mark.parametrize("unsent", [0, 1])
async def test_an_answer_to_half_a_request_ends_the_connection(unsent):
    peer = Peer()
    response = await peer.answer(LENGTH + BODY)
    assert await body_of(response) == BODY
    peer.wire.unsent = unsent
    await response.aclose()
    assert (peer.free, peer.wire.closed) == (1 - unsent, bool(unsent))


# ---------------------------------------------------------------- who reads slowly


async def test_a_reader_that_is_slow_keeps_the_server_from_being_read():
    peer = Peer()
    piece = b"%x\r\n%b\r\n" % (10_000, b"x" * 10_000)
    response = await peer.answer(CHUNKED)
    for _ in range(3):
        peer.say(piece)
        assert not peer.wire.is_paused()
    peer.say(piece, piece)
    assert peer.wire.is_paused()
    assert await response.read() == b"x" * 50_000
    assert not peer.wire.is_paused()
    assert http1._RECEIVE_BUFFER == 32_768


async def test_what_nobody_reads_is_not_waited_for_by_the_next():
    peer = Peer()
    response = await peer.answer(CHUNKED + b"%x\r\n%b\r\n" % (40_000, b"x" * 40_000) + END)
    assert peer.wire.is_paused()
    await response.aclose()
    assert not peer.wire.is_paused()
    assert await body_of(await peer.answer(WHOLE["chunks"])) == BODY


async def test_bytes_without_a_piece_do_not_wake_it_for_ever():
    peer = Peer()
    response = await peer.answer(CHUNKED)
    task = asyncio.ensure_future(response.read())
    for byte in b"00000003\r\n":
        await asyncio.sleep(0)
        peer.say(bytes([byte]))
    assert not task.done()
    peer.say(b"one\r\n")
    assert await task == b"one"


@pytest.mark.parametrize("cut", [*range(0, 44_000, 4_000), None])
async def test_a_large_head_is_no_body_that_nobody_reads(cut):
    fields = b"".join(b"x-%d: %b\r\n" % (n, b"y" * 200) for n in range(200))
    head = CHUNKED.replace(b"\r\n\r\n", b"\r\n" + fields + b"\r\n")
    peer = Peer()
    task = peer.ask()
    await asyncio.sleep(0)
    for piece in (head[:cut], head[len(head[:cut]) :], CHUNKS + END):
        assert not peer.wire.is_paused()
        peer.say(piece)
    assert await body_of(await task) == BODY


async def test_much_framing_before_a_piece_is_read():
    peer = Peer()
    response = await peer.answer(CHUNKED)
    task = asyncio.ensure_future(response.read())
    await asyncio.sleep(0)
    peer.say(b"3;", *[b"x" * 1_000] * 100)
    assert not peer.wire.is_paused()
    peer.say(b"\r\none\r\n")
    assert await task == b"one"
    assert not peer.wire.is_paused()


@pytest.mark.parametrize("framing", [b"0", b";"])
async def test_framing_without_end_ends_the_connection(framing):
    peer = Peer()
    response = await peer.answer(CHUNKED)
    peer.say(b"0" + framing, *[(b"0" if framing == b"0" else b"x") * 10_000] * 60)
    assert peer.wire.closed
    with pytest.raises(TransportError):
        await response.read()


# ---------------------------------------------------------------- garbage


@given(st.binary(max_size=300), st.sampled_from([b"", CHUNKED, LENGTH, CHUNKED + CHUNKS]))
def test_garbage_ends_in_an_answer_or_in_an_error(garbage, before):
    async def main() -> None:
        peer = Peer()
        task = peer.ask()
        await asyncio.sleep(0)
        peer.say(before + garbage)
        peer.end()
        with suppress(TransportError):
            response = await task
            assert 200 <= response.status < 1_000
            await body_of(response)

    asyncio.run(asyncio.wait_for(main(), 20))
