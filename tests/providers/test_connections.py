"""Connections on real sockets: which are kept, how they are made, and that none is left."""

import asyncio
import gc
import re
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import httpx2
import pytest
import trustme

from chatnest import OpenAIProvider
from chatnest.events import Delta
from chatnest.providers.http import Connections, connections
from chatnest.providers.http.connections import make_transport
from chatnest.providers.http.http1 import Http1Connection
from chatnest.providers.http.responses import WHOLE
from chatnest.providers.http.transport import (
    KEEPALIVE_SECONDS,
    RECEIVE_BUFFER,
    RequestHead,
    TransportError,
)
from chatnest.requests import ModelRequest
from chatnest.testing import Answer, FakeUpstream
from chatnest.testing.answer_contract import question
from chatnest.turn import ModelCall

pytestmark = [pytest.mark.anyio, pytest.mark.loops("asyncio", "uvloop")]

FIELDS = (("Authorization", "Bearer k"), ("X-Name", "v"))


class Server:
    """Answers each request by ``answer``, and keeps the connection. ``heads`` are what it got."""

    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"

    def __init__(self) -> None:
        self.heads: list[bytes] = []
        self.peers: list[asyncio.StreamWriter] = []
        self.gone = 0
        self.hold = False
        self.deaf = False
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.peers.append(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head)
                length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
                assert length is not None
                await reader.readexactly(int(length[1]))
                if self.deaf:
                    break
                if not self.hold:
                    writer.write(self.answer)
        self.gone += 1
        writer.close()


@asynccontextmanager
async def serving(tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    served = Server()
    server = await asyncio.start_server(served.serve, "127.0.0.1", 0, ssl=tls)
    served.port = server.sockets[0].getsockname()[1]
    try:
        yield served
    finally:
        server.close()
        for peer in served.peers:
            with suppress(AttributeError):  # of asyncio in Python 3.11.2, where it was closed twice
                peer.transport.abort()
        await server.wait_closed()
        with anyio.fail_after(20):
            while served.gone < len(served.peers):
                await anyio.lowlevel.checkpoint()


def transport_to(port: int, *, host: str = "127.0.0.1", scheme: str = "http") -> Any:
    return make_transport(RequestHead(f"{scheme}://{host}:{port}/v1/chat?a=b", FIELDS))


class Call:
    """Calls ``noted`` when its request was sent."""

    def __init__(self, noted: Any = lambda: None) -> None:
        self._noted = noted
        self.headers: dict[str, str] = {}

    @property
    def sent(self) -> bool:
        return False

    @sent.setter
    def sent(self, value: bool) -> None:
        assert value
        self._noted()


def _nothing(_: object) -> None: ...


async def ask(transport: Any, body: bytes = b"{}") -> Any:
    return await transport.post(body, Call(), _nothing)


async def exchange(transport: Any) -> bytes:
    response = await ask(transport)
    body = b""
    while piece := await response.read():
        body += piece
    await response.aclose()
    return body


async def at_once(transport: Any, number: int) -> None:
    """So many connections are in use at a time, and then idle."""
    responses = [await ask(transport) for _ in range(number)]
    for response in responses:
        await response.read()
        await response.aclose()


async def until(condition: Any) -> None:
    with anyio.fail_after(20):
        while not condition():  # noqa: ASYNC110  # of sockets, which tell nobody
            await anyio.sleep(0.001)


async def test_a_request_has_its_head_and_the_length_of_its_body():
    async with serving() as server:
        transport = transport_to(server.port)
        await (await ask(transport, b"12345")).aclose()
        await transport.aclose()
    assert server.heads == [
        b"POST /v1/chat?a=b HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAuthorization: Bearer k\r\n"
        b"X-Name: v\r\nContent-Length: 5\r\n\r\n" % server.port
    ]


async def test_a_connection_is_used_again():
    async with serving() as server:
        transport = transport_to(server.port)
        assert [await exchange(transport) for _ in range(5)] == [b"hi"] * 5
        await transport.aclose()
    assert len(server.peers) == 1


async def test_it_is_told_that_a_request_has_left_and_not_before():
    told = []
    async with serving() as server:
        transport = transport_to(server.port)
        await (
            await transport.post(b"{}", Call(lambda: told.append(len(server.peers))), _nothing)
        ).aclose()
        await transport.aclose()
    assert len(told) == 1

    transport = transport_to(server.port)  # where nobody listens any more
    with pytest.raises(TransportError) as raised:
        await transport.post(b"{}", Call(lambda: told.append(0)), _nothing)
    assert isinstance(raised.value.__cause__, ConnectionRefusedError)
    assert len(told) == 1


class Clock:
    """The event loop of a transport, whose time the test tells. What is due then is done."""

    def __init__(self, transport: Any) -> None:
        self._loop = asyncio.get_running_loop()
        self._later: list[tuple[float, Any]] = []
        self.now = self._loop.time()
        transport._loop = self

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, act: Any) -> asyncio.TimerHandle:
        self._later.append((self.now + delay, act))
        return self._loop.call_later(3_600, lambda: None)

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        due = [act for at, act in self._later if at <= self.now]
        self._later = [(at, act) for at, act in self._later if at > self.now]
        for act in due:
            act()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)


async def test_the_last_one_used_is_used_first_so_that_others_can_expire():
    async with serving() as server:
        transport = transport_to(server.port)
        clock = Clock(transport)
        await at_once(transport, 4)
        assert len(server.peers) == 4
        before = [id(peer) for peer in server.peers]
        await exchange(transport)
        assert [id(peer) for peer in server.peers] == before
        assert len(server.heads) == 5
        clock.pass_time(KEEPALIVE_SECONDS - 1)
        assert await exchange(transport) == b"hi"
        clock.pass_time(1)
        await until(lambda: server.gone == 3)
        assert len(transport._open) == 1
        clock.pass_time(KEEPALIVE_SECONDS)
        await until(lambda: server.gone == 4)
        assert await exchange(transport) == b"hi"
        assert len(server.peers) == 5
        await transport.aclose()


def keeping(field: bytes) -> bytes:
    return Server.answer.replace(b"\r\n", b"\r\nKeep-Alive: " + field + b"\r\n", 1)


@pytest.mark.parametrize(
    ("field", "seconds"),
    [
        (b"timeout=5", 4.0),
        (b"timeout=20, max=9", 19.0),
        (b"timeout=120", 30.0),
        (b"timeout=" + b"9" * 5_000, 30.0),
        (b"timeout=soon", 30.0),
    ],
)
async def test_an_idle_one_is_used_for_less_time_than_the_server_keeps_it(field, seconds):
    async with serving() as server:
        server.answer = keeping(field)
        transport = transport_to(server.port)
        clock = Clock(transport)
        for passed, peers in ((0.0, 1), (seconds - 0.01, 1), (seconds, 2)):
            clock.now += passed
            assert await exchange(transport) == b"hi"
            assert len(server.peers) == peers
        await until(lambda: server.gone == 1)  # it is closed, too
        assert len(transport._open) == 1
        await transport.aclose()


@pytest.mark.parametrize("field", [b"timeout=0", b"timeout=1"])
async def test_one_that_the_server_keeps_for_no_time_is_not_kept(field):
    async with serving() as server:
        server.answer = keeping(field)
        transport = transport_to(server.port)
        for number in range(1, 4):
            assert await exchange(transport) == b"hi"
            assert not transport._idle
            assert len(server.peers) == number
        await until(lambda: server.gone == 3)
        await transport.aclose()


async def test_an_idle_one_is_as_old_as_its_last_answer_however_late_that_is_read():
    async with serving() as server:
        server.answer = keeping(b"timeout=5")
        transport = transport_to(server.port)
        clock = Clock(transport)
        response = await ask(transport)
        await until(lambda: response._connection.responses.stage == WHOLE)
        clock.now += 4.0
        await response.read()
        await response.aclose()
        assert not transport._idle
        await transport.aclose()


async def test_one_that_the_server_has_closed_is_not_used():
    async with serving() as server:
        transport = transport_to(server.port)
        await exchange(transport)
        server.peers[0].close()
        await until(lambda: not transport._open)
        assert await exchange(transport) == b"hi"
        await transport.aclose()
    assert len(server.peers) == 2


async def test_where_a_kept_one_is_dead_the_next_attempt_meets_none_like_it():
    """As behind a balancer that forgets connections, and tells of it when they are used."""
    async with serving() as server:
        transport = transport_to(server.port)
        await at_once(transport, 3)
        server.deaf = True
        with pytest.raises(TransportError):
            await ask(transport)
        server.deaf = False
        assert await exchange(transport) == b"hi"
        await until(lambda: server.gone == 3)
        assert len(transport._open) == 1
        await transport.aclose()
    assert len(server.peers) == 4


async def test_closing_ends_those_in_use_and_leaves_none():
    async with serving() as server:
        server.hold = True
        transport = transport_to(server.port)
        async with anyio.create_task_group() as tasks:

            async def wait() -> None:
                with pytest.raises(TransportError):
                    await ask(transport)

            for _ in range(3):
                tasks.start_soon(wait)
            await until(lambda: len(server.heads) == 3)
            await transport.aclose()
        assert not transport._open
        assert not transport._idle
        await until(lambda: server.gone == 3)


async def test_one_that_is_released_after_the_closing_is_not_kept():
    async with serving() as server:
        transport = transport_to(server.port)
        await transport.aclose()
        assert await exchange(transport) == b"hi"
        await until(lambda: not transport._open)
        assert not transport._idle


async def test_one_that_has_ended_before_it_was_used_is_forgotten(monkeypatch):
    """Its end is told while whoever asked for it has not gone on yet."""
    async with serving() as server:
        transport = transport_to(server.port)
        connect = transport._address.connect

        async def connected(protocol: Any) -> Any:
            connection = await connect(protocol)
            server.peers[-1].transport.abort()
            await until(lambda: connection.responses._parser is None)  # it was told
            return connection

        monkeypatch.setattr(transport._address, "connect", connected)
        with pytest.raises(TransportError):
            await ask(transport)
        assert not transport._open


async def test_who_is_cancelled_while_connecting_leaves_nothing(monkeypatch):
    async def never(*_: Any, **__: Any) -> None:
        await anyio.sleep_forever()

    monkeypatch.setattr(connections, "start_connection", never)
    transport = transport_to(1)
    with anyio.move_on_after(0.01) as scope:
        await ask(transport)
    assert scope.cancelled_caught
    await transport.aclose()


async def test_who_is_cancelled_while_an_end_is_waited_for_leaves_nothing(monkeypatch):
    """By asyncio itself, which knows no shields."""
    monkeypatch.setattr("chatnest.providers.http.answer_stream._DRAIN_SECONDS", 20.0)
    monkeypatch.setattr("chatnest.providers.http.bodies._CLOSE_SECONDS", 20.0)
    asked = ModelRequest(messages=(), max_output_tokens=1, temperature=0.0)
    call = ModelCall(request=asked, request_id="r")
    read = asyncio.Event()
    async with FakeUpstream() as upstream:
        upstream.default = Answer(end_delay=3_600)
        provider = OpenAIProvider(base_url=upstream.base_url)

        async def one() -> None:
            async with provider.open(call) as events:
                async for _ in events:
                    pass
                read.set()

        task = asyncio.create_task(one())
        await read.wait()
        await asyncio.sleep(0)
        assert not task.done()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await upstream.until(lambda u: u.aborted == 1)
        await provider.aclose()


async def test_connecting_has_an_end(monkeypatch):
    async def never(*_: Any, **__: Any) -> None:
        await anyio.sleep_forever()

    monkeypatch.setattr(connections, "start_connection", never)
    monkeypatch.setattr(connections, "CONNECT_SECONDS", 0.01)
    with pytest.raises(TransportError) as raised, anyio.fail_after(20):
        await ask(transport_to(1))
    assert isinstance(raised.value.__cause__, TimeoutError)


@pytest.mark.parametrize(
    "said", [b"SSH-2.0\r\n", b"HTTP/1.1 101 X\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n"]
)
async def test_one_that_has_broken_off_is_freed_at_once(said):
    """And not when the garbage is collected, which a server may do seldom."""
    loop = asyncio.get_running_loop()
    async with serving() as server:
        server.answer = said
        transport = transport_to(server.port)
        gc.collect()
        gc.disable()
        try:
            with suppress(TransportError):
                await ask(transport)
            await until(lambda: not transport._open)
            await until(lambda: server.gone == 1)
            alive = [one for one in gc.get_objects() if type(one) is Http1Connection]
            assert not [one for one in alive if one._loop is loop]
        finally:
            gc.enable()
        await transport.aclose()


# ---------------------------------------------------------------- names


class Names:
    """A loop's getaddrinfo: ``host`` has these addresses."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *addresses: tuple[str, int]) -> None:
        self.asked: list[Any] = []
        self._addresses = addresses
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(connections._Address, "_loop", _With(loop, self.find), raising=False)

    async def find(self, host: str, port: int, **_: Any) -> list[Any]:
        self.asked.append((host, port))
        await asyncio.sleep(0.01)
        return [
            (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address)
            for address in self._addresses
        ]


class _With:
    def __init__(self, loop: Any, find: Any) -> None:
        self._loop = loop
        self.getaddrinfo = find

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    def __get__(self, *_: Any) -> Any:
        return self

    def __set__(self, *_: Any) -> None:
        pass


async def test_a_rush_asks_for_a_name_once(monkeypatch):
    async with serving() as server:
        names = Names(monkeypatch, ("127.0.0.1", server.port))
        transport = transport_to(server.port, host="model.example")
        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(exchange, transport)
        assert names.asked == [("model.example", server.port)]
        monkeypatch.setattr(transport._address, "_known_until", 0.0)
        for connection in list(transport._idle):
            connection.abort()
        await exchange(transport)
        assert len(names.asked) == 2
        await transport.aclose()
    assert b"Host: model.example:%d\r\n" % server.port in server.heads[0]


async def test_a_name_that_nobody_knows(monkeypatch):
    transport = transport_to(1, host="model.invalid")

    async def nobody(*_: Any, **__: Any) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr(transport._address, "_loop", _With(asyncio.get_running_loop(), nobody))
    for _ in range(2):
        with pytest.raises(TransportError) as raised:
            await ask(transport)
        assert isinstance(raised.value.__cause__, socket.gaierror)


async def test_another_address_is_tried_where_one_does_not_answer(monkeypatch):
    async with serving() as server:
        with socket.socket() as deaf:
            deaf.bind(("127.0.0.1", 0))
            Names(monkeypatch, deaf.getsockname(), ("127.0.0.1", server.port))
            transport = transport_to(server.port, host="model.example")
            assert await exchange(transport) == b"hi"
            await transport.aclose()
    assert len(server.peers) == 1


# ---------------------------------------------------------------- TLS


@pytest.fixture
def authority(monkeypatch):
    """Who is trusted, instead of those whom the operating system trusts."""
    made = trustme.CA()

    def context(**options: Any) -> ssl.SSLContext:
        assert options == {"trust_env": False}
        trusting = ssl.create_default_context()
        made.configure_trust(trusting)
        return trusting

    monkeypatch.setattr(httpx2, "create_ssl_context", context)
    return made


def tls_for(authority: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


async def test_over_tls(authority):
    async with serving(tls_for(authority, "localhost")) as server:
        transport = transport_to(server.port, host="localhost", scheme="https")
        assert [await exchange(transport) for _ in range(3)] == [b"hi"] * 3
        chosen = server.peers[0].get_extra_info("ssl_object").selected_alpn_protocol()
        assert chosen == "http/1.1"
        await transport.aclose()
        assert not transport._open
    assert len(server.peers) == 1


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_what_has_arrived_in_the_kernel_is_read_once_more(authority, scheme):
    tls = tls_for(authority, "localhost") if scheme == "https" else None
    async with serving(tls) as server:
        server.answer = b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\nhi"
        transport = transport_to(server.port, host="localhost", scheme=scheme)
        response = await ask(transport)
        assert await response.read() == b"hi"
        server.peers[0].write(b" there")  # at once, and the event loop has no turn until it is read
        assert response.unread() == b" there"
        assert response.unread() == b""
        await response.aclose()
        assert response.unread() == b""
        await transport.aclose()


async def test_a_response_that_arrived_before_its_request_was_cancelled_is_late():
    async with serving() as server:
        server.answer = b""
        transport = transport_to(server.port)
        late: list[bytes] = []
        sent = asyncio.Event()

        async def post() -> None:
            call = Call(sent.set)
            await transport.post(b"{}", call, lambda response: late.append(response.unread()))

        task = asyncio.create_task(post())
        await sent.wait()
        await until(lambda: server.peers)
        server.peers[0].write(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\nhi")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert late == [b"hi"]
        await transport.aclose()


async def test_the_events_of_a_late_response_are_unread():
    async with serving() as server:
        server.answer = b""
        ours = Connections(f"http://127.0.0.1:{server.port}/ask")
        call = question()

        async def ask_and_read() -> None:
            async with ours.open(b"{}", call, lambda data: [Delta(data.decode())]):
                pytest.fail("the head came before the cancellation")

        task = asyncio.create_task(ask_and_read())
        await until(lambda: call.sent and server.peers)
        server.peers[0].write(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\ndata: hi\n\n")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await ours.aclose()
    assert call.unread is not None
    assert [event for batch in call.unread for event in batch] == [Delta("hi")]


async def test_over_tls_a_reader_that_is_slow_keeps_the_server_from_being_read(authority):
    """TLS has a buffer of its own, which is as small, and loses nothing."""
    total = 8_000_000
    length = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % total
    async with serving(tls_for(authority, "localhost")) as server:
        server.answer = length + b"x" * total
        transport = transport_to(server.port, host="localhost", scheme="https")
        response = await ask(transport)
        wire = response._connection._transport
        await until(lambda: response._connection._paused)
        sizes: list[int] = []

        def waiting() -> int:
            sizes.append(wire.get_read_buffer_size())
            return sizes[-1]

        await until(lambda: waiting() >= 32_768)
        for _ in range(20):
            await anyio.sleep(0.001)
            waiting()
        assert max(sizes) < 32_768 + 2 * RECEIVE_BUFFER + 16_384  # one read beyond
        read = 0
        with anyio.fail_after(20):
            while piece := await response.read():
                read += len(piece)
        assert read == total
        await response.aclose()
        await transport.aclose()


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_who_is_cancelled_leaves_nothing_wherever_it_is(authority, monkeypatch, scheme):
    """A socket that is closed while its transport lives gives its number, and what is read of it,
    to the next one.
    """
    monkeypatch.setattr(connections, "CONNECT_SECONDS", 2.0)
    loop = asyncio.get_running_loop()
    loop.set_debug(False)  # else the server tells of its ends as well

    def left() -> list[Http1Connection]:
        gc.collect()
        return [
            one for one in gc.get_objects() if type(one) is Http1Connection and one._loop is loop
        ]

    tls = tls_for(authority, "localhost") if scheme == "https" else None
    async with serving(tls) as server:
        server.hold = True
        transport = transport_to(server.port, host="localhost", scheme=scheme)
        await transport._address._resolve()
        for turns in range(30):
            task = asyncio.create_task(ask(transport))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await until(lambda: not left())
        assert not transport._open
        monkeypatch.setattr(connections, "CONNECT_SECONDS", 20.0)
        server.hold = False
        assert await exchange(transport) == b"hi"
        await transport.aclose()


@pytest.mark.parametrize("reason", ["of another name", "of a stranger"])
async def test_a_certificate_that_is_not_the_servers(authority, reason):
    asyncio.get_running_loop().set_debug(False)  # else the server tells of its end as well
    sent = []
    issuer = authority if reason == "of another name" else trustme.CA()
    name = "model.example" if reason == "of another name" else "localhost"
    async with serving(tls_for(issuer, name)) as server:
        transport = transport_to(server.port, host="localhost", scheme="https")
        with pytest.raises(TransportError) as raised:
            await transport.post(b"{}", Call(lambda: sent.append(1)), _nothing)
        await transport.aclose()
    assert isinstance(raised.value.__cause__, ssl.SSLCertVerificationError)
    assert not sent
    assert not server.heads
