"""FaultProxy: a TCP proxy on loopback, in front of any server, that does what networks do."""

import contextlib
import math
import socket
from collections.abc import Callable
from types import TracebackType
from typing import Self

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from chatnest.testing.relay import BOTH, Cut, Direction, Faults, Relay

__all__ = ["FaultProxy"]


class FaultProxy:
    """A proxy on a free port of 127.0.0.1 in front of the TCP server at `host` and `port`.

    `async with FaultProxy("127.0.0.1", 6379) as proxy:` on asyncio and trio; the client under test
    connects to `proxy.port`. At first everything passes. Each fault is switched on and off by its
    method at any time, holds for live and for new connections, and stays until it is switched off
    or `heal` ends them all. Faults add up. Directions are "up", from the client to the server,
    and "down". A FIN is passed on as a FIN, an RST as an RST, a server that refuses as an RST.

    At most about 100 KiB a direction and connection are kept; a side that does not read holds up
    the other one. Leaving the block ends all connections, by FIN. Not for several threads.
    """

    def __init__(self, host: str, port: int) -> None:
        self.port: int = 0
        """Where it listens; known inside of the block."""
        self._address = (host, port)
        self._faults = Faults()
        self._relays: set[Relay] = set()
        self._bound: socket.socket
        self._listener: socket.socket | None = None
        self._group: TaskGroup

    async def __aenter__(self) -> Self:
        # Keeps the port while connections are refused: bound, and never listening.
        self._bound = _bind(0)
        self.port = self._bound.getsockname()[1]
        self._listen()
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
        # A failure of the test's own stays what it is, not a group of one.
        ours = isinstance(error, anyio.get_cancelled_exc_class())
        try:
            self._group.cancel_scope.cancel()
            return await self._group.__aexit__(*((kind, error, trace) if ours else (None,) * 3))
        finally:
            self._stop_listening()
            self._bound.close()
            while self._relays:
                self._relays.pop().drop()

    # What the test reads

    def url(self, scheme: str = "redis") -> str:
        """The proxy's address for a client, as `redis://127.0.0.1:40123`."""
        return f"{scheme}://127.0.0.1:{self.port}"

    @property
    def connections(self) -> int:
        """How many were accepted so far."""
        return self._faults.connections

    @property
    def live(self) -> int:
        """How many connections there are now."""
        return len(self._relays)

    @property
    def bytes_up(self) -> int:
        """How many bytes were passed on to the server."""
        return self._faults.passed["up"]

    @property
    def bytes_down(self) -> int:
        """How many bytes were passed on to clients."""
        return self._faults.passed["down"]

    @property
    def bytes_waiting(self) -> int:
        """How many bytes it has taken, and not yet passed on, in both directions."""
        return self._faults.waiting

    @property
    def replies_lost(self) -> int:
        """How many requests got no reply because of `lose_replies`."""
        return self._faults.dropped

    async def until(self, predicate: Callable[[Self], object], timeout: float = 20.0) -> None:  # noqa: ASYNC109 - as FakeUpstream's
        """Wait until `predicate(self)` holds; it is asked at each change, not at intervals.

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
        """Let everything arrive that much later, each way; 0 for no delay."""
        self._faults.latency = _not_negative("a delay", seconds)
        self._faults.notify()

    def throttle(self, rate: float | None) -> None:
        """Pass at most `rate` bytes a second, for each connection and way; None for no bound."""
        if rate is not None and not rate > 0:
            raise ValueError(f"a rate is greater than 0 bytes a second, not {rate}")
        self._faults.bandwidth = rate
        self._faults.notify()

    def refuse(self, on: bool = True) -> None:
        """Refuse new connections, as a port does where nobody listens. Live ones go on."""
        if on:
            self._stop_listening()
        elif self._listener is None:
            self._listen()
        self._faults.notify()

    def black_hole(self, on: bool = True, *, only: Direction | None = None) -> None:
        """Accept, and pass nothing: no byte, no FIN; or nothing in one direction `only`.

        What was sent meanwhile is kept, and passed on when the hole closes, as retransmissions
        are: a server may do late what its client has given up. `reset` before that forgets it.
        """
        self._faults.blocked = _directions(on, only)
        self._faults.notify()

    def half_open(self, on: bool = True, *, only: Direction | None = None) -> None:
        """Keep the end of one side from the other: no FIN and no RST passes, bytes do.

        With `only` "up" the server does not learn that its client is gone, with "down" the client
        does not learn that of its server; without, neither does. Passed on when switched off.
        """
        self._faults.held_ends = _directions(on, only)
        self._faults.notify()

    def lose_replies(self, times: int = 1, *, to: bytes = b"") -> None:
        """Swallow the next reply and close its connection by FIN, `times` times in all.

        The request has reached the server, which has done it. A reply is what the server says
        next; with `to`, what it says next after a request that contains those bytes (the last
        64 KiB are looked at). 0 for no more.
        """
        self._faults.replies_to_lose = int(_not_negative("a number of replies", times))
        self._faults.asking = to
        self._faults.notify()

    def cut_after(
        self, count: int | None, *, direction: Direction = "down", reset: bool = False
    ) -> None:
        """End each connection after `count` more bytes in `direction`, by FIN, or by RST.

        With 0 it ends where the next byte would pass. None for no end.
        """
        self._faults.cut = None
        if count is not None:
            (way,) = _directions(on=True, only=direction)
            self._faults.cut = Cut(int(_not_negative("a number of bytes", count)), way, reset)
        for relay in self._relays:
            relay.count_anew()

    def reset(self) -> None:
        """End all live connections by RST, both sides, now. New ones are accepted."""
        for relay in self._relays:
            relay.cut(reset=True)

    def heal(self) -> None:
        """End all faults. Connections that were ended stay so."""
        self._faults.clear()
        self.refuse(on=False)

    # The listener

    def _listen(self) -> None:
        self._listener = _bind(self.port)
        self._listener.listen(1024)

    def _stop_listening(self) -> None:
        if self._listener is not None:
            anyio.notify_closing(self._listener)
            self._listener.close()
            self._listener = None

    async def _serve(self) -> None:
        while True:
            await self._faults.wait(lambda: math.inf if self._listener is None else 0)
            with contextlib.suppress(anyio.ClosedResourceError):
                await self._accept()

    async def _accept(self) -> None:
        while self._listener is not None:
            await anyio.wait_readable(self._listener)
            # A client may be gone again, and the listener with it.
            with contextlib.suppress(BlockingIOError, ConnectionAbortedError):
                if self._listener is not None:
                    sock, _ = self._listener.accept()
                    self._begin(sock)

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


def _bind(port: int) -> socket.socket:
    sock = socket.socket()
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", port))
    except OSError:
        sock.close()
        raise
    return sock


def _directions(on: bool, only: str | None) -> frozenset[Direction]:
    if only is not None and only not in BOTH:
        raise ValueError(f"a direction is 'up' or 'down', not {only!r}")
    return frozenset(way for way in BOTH if on and only in {None, way})


def _not_negative(what: str, value: float) -> float:
    if not value >= 0:
        raise ValueError(f"{what} is zero or more, not {value}")
    return value
