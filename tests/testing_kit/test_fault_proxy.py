"""FaultProxy: what passes, what does not, and how a connection ends."""

from collections.abc import AsyncIterator

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketStream

from chatnest.testing import FaultProxy

pytestmark = pytest.mark.anyio

SECONDS = 10


@pytest.fixture
async def echo() -> AsyncIterator[int]:
    """The port of a server that sends back what it gets."""

    async def serve(stream: SocketStream) -> None:
        try:
            async for data in stream:
                await stream.send(data)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            return
        finally:
            with anyio.CancelScope(shield=True):
                await stream.aclose()

    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(listener.serve, serve)
        yield listener.extra(SocketAttribute.local_port)
        tasks.cancel_scope.cancel()


@pytest.fixture
async def proxy(echo: int) -> AsyncIterator[FaultProxy]:
    with anyio.fail_after(SECONDS):
        async with FaultProxy("127.0.0.1", echo) as proxy:
            yield proxy


async def connect(proxy: FaultProxy) -> SocketStream:
    return await anyio.connect_tcp("127.0.0.1", proxy.port)


async def asks(stream: SocketStream, data: bytes = b"hello") -> bytes:
    await stream.send(data)
    return await stream.receive()


async def test_at_first_everything_passes(proxy: FaultProxy):
    async with await connect(proxy) as stream:
        assert await asks(stream) == b"hello"
        assert (proxy.connections, proxy.live) == (1, 1)
        await proxy.until(lambda it: (it.bytes_up, it.bytes_down) == (5, 5))
    await proxy.until(lambda it: it.live == 0)


async def test_a_lost_reply_was_asked_for_and_ends_the_connection(proxy: FaultProxy):
    proxy.lose_replies(to=b"second")
    async with await connect(proxy) as stream:
        assert await asks(stream, b"first") == b"first"
        with pytest.raises(anyio.EndOfStream):
            await asks(stream, b"second")
    assert proxy.replies_lost == 1
    assert proxy.bytes_up == len(b"firstsecond")
    async with await connect(proxy) as stream:
        assert await asks(stream, b"second") == b"second"


async def test_who_is_refused_comes_in_again_when_it_heals(proxy: FaultProxy):
    proxy.refuse()
    with pytest.raises(OSError):  # noqa: PT011  # of whichever kind
        await connect(proxy)
    proxy.heal()
    async with await connect(proxy) as stream:
        assert await asks(stream) == b"hello"


async def test_a_reset_ends_both_sides(proxy: FaultProxy):
    async with await connect(proxy) as stream:
        assert await asks(stream) == b"hello"
        proxy.reset()
        with pytest.raises(anyio.BrokenResourceError):
            await stream.receive()


async def test_a_black_hole_passes_later_what_it_took(proxy: FaultProxy):
    async with await connect(proxy) as stream:
        assert await asks(stream) == b"hello"
        proxy.black_hole()
        await stream.send(b"later")
        await proxy.until(lambda it: it.bytes_waiting == 5)
        assert proxy.bytes_up == 5
        proxy.black_hole(on=False)
        assert await stream.receive() == b"later"


async def test_a_black_hole_of_one_direction(proxy: FaultProxy):
    async with await connect(proxy) as stream:
        proxy.black_hole(only="down")
        await stream.send(b"hello")
        await proxy.until(lambda it: it.bytes_up == 5 and it.bytes_waiting == 5)
        assert proxy.bytes_down == 0
        proxy.heal()
        assert await stream.receive() == b"hello"


@pytest.mark.parametrize("reset", [False, True])
async def test_a_cut_comes_after_so_many_bytes(proxy: FaultProxy, reset: bool):
    ended = anyio.BrokenResourceError if reset else anyio.EndOfStream
    proxy.cut_after(3, reset=reset)
    async with await connect(proxy) as stream:
        await stream.send(b"hello")
        got = b""
        with pytest.raises(ended):  # noqa: PT012  # after however many pieces
            while True:
                got += await stream.receive()
    await proxy.until(lambda it: it.bytes_down == 3)
    assert b"hel".startswith(got)  # an RST may overtake what was sent before it
    assert reset or got == b"hel"


async def test_a_server_does_not_learn_that_its_client_is_gone(proxy: FaultProxy):
    proxy.half_open(only="up")
    async with await connect(proxy) as stream:
        assert await asks(stream) == b"hello"
    async with await connect(proxy) as stream:
        assert await asks(stream) == b"hello"
        assert proxy.live == 2
        proxy.half_open(on=False)
        await proxy.until(lambda it: it.live == 1)


async def test_a_delay_and_a_throttle_delay(proxy: FaultProxy):
    proxy.delay(0.02)
    proxy.throttle(100_000)
    async with await connect(proxy) as stream:
        begun = anyio.current_time()
        await stream.send(b"x" * 5_000)
        got = 0
        while got < 5_000:
            got += len(await stream.receive())
        # Each way: the delay, and a twentieth of a second for these bytes, or nearly so.
        assert anyio.current_time() - begun >= 0.04


async def test_what_makes_no_sense_is_refused(proxy: FaultProxy):
    with pytest.raises(ValueError, match="up"):
        proxy.black_hole(only="sideways")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected a number >= 0"):
        proxy.delay(-1)
    with pytest.raises(ValueError, match="rate"):
        proxy.throttle(0)
    assert "connections=0" in repr(proxy)
    assert proxy.url() == f"redis://127.0.0.1:{proxy.port}"
