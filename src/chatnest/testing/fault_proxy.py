"""FaultProxy: a TCP proxy on loopback that adds network faults in front of any server."""

import math
import socket
from collections.abc import Callable
from types import TracebackType
from typing import Self

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from chatnest.testing.listener import Listener
from chatnest.testing.relay import BOTH, Cut, Direction, Faults, Relay

__all__ = ["FaultProxy"]


class FaultProxy:
    """A proxy on a free port of 127.0.0.1 in front of the TCP server at `host` and `port`.

    `async with FaultProxy("127.0.0.1", 6379) as proxy:` runs on asyncio and trio; the client under
    test connects to `proxy.port`. At first everything passes. A method switches each fault on or
    off at any time. A fault applies to live and to new connections until its method switches it
    off or `heal` ends all faults. Faults combine. Directions are "up", from the client to the
    server, and "down". The proxy passes a FIN on as a FIN and an RST as an RST; if the server
    refuses the connection, the client gets an RST.

    The proxy buffers about 100 KiB at most for each direction of a connection, so a side that does
    not read blocks the other side (backpressure). The end of the block closes all connections by
    FIN. Not thread-safe.
    """

    def __init__(self, host: str, port: int) -> None:
        self.port: int = 0
        """The port the proxy listens on; set inside the `async with` block."""
        self._address = (host, port)
        self._faults = Faults()
        self._relays: set[Relay] = set()
        self._listener: Listener
        self._group: TaskGroup

    async def __aenter__(self) -> Self:
        self._listener = Listener()
        self.port = self._listener.port
        self._listener.listen()
        self._group = anyio.create_task_group()
        await self._group.__aenter__()
        self._group.start_soon(self._serve)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        # An exception of the test propagates unchanged, not wrapped in an exception group.
        ours = isinstance(error, anyio.get_cancelled_exc_class())
        try:
            self._group.cancel_scope.cancel()
            return await self._group.__aexit__(*((kind, error, trace) if ours else (None,) * 3))
        finally:
            self._listener.close()
            while self._relays:
                self._relays.pop().drop()

    # Counters

    def url(self, scheme: str = "redis") -> str:
        """Return the proxy's address for a client, such as `redis://127.0.0.1:40123`."""
        return f"{scheme}://127.0.0.1:{self.port}"

    @property
    def connections(self) -> int:
        """Number of connections accepted so far."""
        return self._faults.connections

    @property
    def live(self) -> int:
        """Number of connections open now."""
        return len(self._relays)

    @property
    def bytes_up(self) -> int:
        """Number of bytes passed on to the server."""
        return self._faults.passed["up"]

    @property
    def bytes_down(self) -> int:
        """Number of bytes passed on to clients."""
        return self._faults.passed["down"]

    @property
    def bytes_waiting(self) -> int:
        """Number of bytes read but not yet passed on, in both directions."""
        return self._faults.waiting

    @property
    def replies_lost(self) -> int:
        """Number of requests that got no reply because of `lose_replies`."""
        return self._faults.dropped

    async def until(self, predicate: Callable[[Self], object], timeout: float = 20.0) -> None:  # noqa: ASYNC109 - as FakeUpstream's
        """Wait until `predicate(self)` is true. It is evaluated at each change, not at intervals.

        Raises `TimeoutError` after `timeout` seconds.
        """
        with anyio.move_on_after(timeout) as scope:
            while not predicate(self):
                await self._faults.changed.wait()
        if scope.cancelled_caught:
            raise TimeoutError(f"not within {timeout} s: {self!r}")

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} port={self.port} connections={self.connections} "
            f"live={self.live} bytes_up={self.bytes_up} bytes_down={self.bytes_down} "
            f"bytes_waiting={self.bytes_waiting} replies_lost={self.replies_lost}>"
        )

    # The faults

    def delay(self, seconds: float) -> None:
        """Delay everything by `seconds` in each direction; 0 means no delay."""
        self._faults.latency = _not_negative("seconds", seconds)
        self._faults.notify()

    def throttle(self, rate: float | None) -> None:
        """Pass at most `rate` bytes a second per connection and direction; None means no limit."""
        if rate is not None and not rate > 0:
            raise ValueError(f"rate: expected None or a number > 0, got {rate}")
        self._faults.bandwidth = rate
        self._faults.notify()

    def refuse(self, on: bool = True) -> None:
        """Refuse new connections, as a port without a listener does. Live connections go on."""
        if on:
            self._listener.refuse()
        else:
            self._listener.listen()
        self._faults.notify()

    def black_hole(self, on: bool = True, *, only: Direction | None = None) -> None:
        """Accept connections but pass nothing, neither bytes nor FIN; `only` limits the direction.

        The proxy keeps the bytes sent while the hole is open and passes them on when it closes,
        like retransmissions: a server may act late on a request that its client gave up. `reset`
        before that discards them.
        """
        self._faults.blocked = _directions(on, only)
        self._faults.notify()

    def half_open(self, on: bool = True, *, only: Direction | None = None) -> None:
        """Hide the end of one side from the other: bytes pass, FIN and RST do not.

        With `only="up"` the server does not notice that its client has disconnected; with
        `only="down"` the client does not notice that its server has; by default neither does. The
        proxy passes the end on when the fault is switched off.
        """
        self._faults.held_ends = _directions(on, only)
        self._faults.notify()

    def lose_replies(self, times: int = 1, *, to: bytes = b"") -> None:
        """Drop the next reply and close its connection by FIN, `times` times in total.

        The request has reached the server, and the server has carried it out. A reply is the next
        data from the server; with `to`, the next data after a request that contains these bytes
        (in its last 64 KiB). 0 means none from now on.
        """
        self._faults.replies_to_lose = int(_not_negative("times", times))
        self._faults.asking = to
        self._faults.notify()

    def cut_after(
        self, count: int | None, *, direction: Direction = "down", reset: bool = False
    ) -> None:
        """End each connection after `count` more bytes in `direction`, by FIN, or by RST.

        With 0 a connection ends when the next byte would pass. None switches the fault off.
        """
        self._faults.cut = None
        if count is not None:
            (way,) = _directions(on=True, only=direction)
            self._faults.cut = Cut(int(_not_negative("count", count)), way, reset)
        for relay in self._relays:
            relay.count_anew()

    def reset(self) -> None:
        """End all live connections by RST on both sides now. New connections are accepted."""
        for relay in self._relays:
            relay.cut(reset=True)

    def heal(self) -> None:
        """Switch all faults off. Connections that a fault ended stay closed."""
        self._faults.clear()
        self.refuse(on=False)

    async def _serve(self) -> None:
        while True:
            await self._faults.wait(lambda: 0 if self._listener.is_listening else math.inf)
            await self._listener.accept(self._begin)

    def _begin(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        relay = Relay(sock, self._address, self._faults)
        self._relays.add(relay)
        self._faults.connections += 1
        self._faults.notify()
        self._group.start_soon(self._run, relay)

    async def _run(self, relay: Relay) -> None:
        try:
            await relay.run()
        finally:
            self._relays.discard(relay)
            self._faults.notify()


def _directions(on: bool, only: str | None) -> frozenset[Direction]:
    if only is not None and only not in BOTH:
        raise ValueError(f"direction: expected 'up' or 'down', got {only!r}")
    return frozenset(way for way in BOTH if on and only in {None, way})


def _not_negative(name: str, value: float) -> float:
    if not value >= 0:
        raise ValueError(f"{name}: expected a number >= 0, got {value}")
    return value
