"""Relay: one connection through a FaultProxy, and the faults that apply to it."""

import math
import socket
import struct
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final, Literal, NamedTuple

import anyio
import anyio.lowlevel
from anyio.abc import ObjectReceiveStream, ObjectSendStream, SocketAttribute, SocketStream

__all__ = ["BOTH", "Cut", "Direction", "Faults", "Relay"]

Direction = Literal["up", "down"]
"""A direction: ``up`` is from the client to the server, ``down`` from the server back."""

BOTH: Final[frozenset[Direction]] = frozenset(("up", "down"))

_PIECE: Final = 16_384
_PIECES: Final = 4
"""Maximum pieces queued in one direction, besides the one being read and the one being sent."""
_REQUEST: Final = 65_536
"""Maximum bytes of requests that `FaultProxy.lose_replies` can match."""
_SLICES: Final = 20
"""Parts of a second into which a limited bandwidth is divided."""
_RESET: Final = struct.pack("ii", 1, 0)
_GONE: Final = (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError)


class Cut(NamedTuple):
    """End a connection once ``most`` bytes have passed in a direction, by RST or by FIN."""

    most: int
    direction: Direction
    reset: bool


class Faults:
    """The active faults and the counters of a proxy. Relays read them before each step."""

    def __init__(self) -> None:
        self.passed: dict[Direction, int] = {"up": 0, "down": 0}
        self.waiting: int = 0
        self.dropped: int = 0
        self.connections: int = 0
        self.changed: anyio.Event = anyio.Event()
        self.clear()

    def clear(self) -> None:
        self.latency: float = 0.0
        self.bandwidth: float | None = None
        self.blocked: frozenset[Direction] = frozenset()
        self.held_ends: frozenset[Direction] = frozenset()
        self.cut: Cut | None = None
        self.replies_to_lose: int = 0
        self.asking: bytes = b""

    def notify(self) -> None:
        """Wake all waiters, so that they evaluate their condition again."""
        changed, self.changed = self.changed, anyio.Event()
        changed.set()

    async def wait(self, left: Callable[[], float]) -> None:
        """Wait until ``left()``, in seconds, is zero or less. It is called again at each change."""
        while (seconds := left()) > 0:
            with anyio.move_on_after(seconds):
                await self.changed.wait()

    def loses_reply_to(self, request: bytes) -> bool:
        """Return whether to drop the reply to `request`, and count the reply if so."""
        if not self.replies_to_lose or self.asking not in request:
            return False
        self.replies_to_lose -= 1
        self.dropped += 1
        return True


class _Piece(NamedTuple):
    """Bytes from one side, or the way its stream ended. ``request`` is the data it replies to."""

    data: bytes
    arrived: float
    end: Literal["", "fin", "rst"] = ""
    request: bytes = b""


class Relay:
    """Passes data between a client and a server, as far as the faults allow.

    Each direction has a reading task and a writing task with a short queue between them, so that
    a delay shifts all pieces equally and a side that does not read blocks the other one.
    """

    def __init__(self, sock: socket.socket, address: tuple[str, int], faults: Faults) -> None:
        self._sock = sock
        self._address = address
        self._faults = faults
        self._streams: dict[Direction, SocketStream] = {}
        """The stream to write to, by direction."""
        self._scope = anyio.CancelScope()
        self._resets = False
        self._request = bytearray()
        self._waiting = 0
        self._passed: dict[Direction, int] = {"up": 0, "down": 0}
        self._free: dict[Direction, float] = {"up": 0.0, "down": 0.0}

    async def run(self) -> None:
        """Relay until both sides have ended, or the connection is cut."""
        try:
            with self._scope:
                await self._connect()
                async with anyio.create_task_group() as tasks:
                    for direction in self._streams:
                        tasks.start_soon(self._pass_on, direction)
        finally:
            self._wait_more(-self._waiting)
            with anyio.CancelScope(shield=True):
                await self._close(self._streams.values())

    def cut(self, *, reset: bool) -> None:
        """End both sides of the connection now, by RST or by FIN."""
        self._resets |= reset
        self._scope.cancel()

    def count_anew(self) -> None:
        """Restart the count of bytes for `FaultProxy.cut_after`."""
        self._passed = {"up": 0, "down": 0}

    def drop(self) -> None:
        """Close the socket of a client whose relay never started."""
        self._sock.close()

    async def _connect(self) -> None:
        with anyio.CancelScope(shield=True):  # from here on the stream owns the socket
            self._streams["down"] = await SocketStream.from_socket(self._sock)
        await self._faults.wait(lambda: math.inf if self._faults.blocked == BOTH else 0)
        try:
            self._streams["up"] = await anyio.connect_tcp(*self._address)
        except OSError:
            self.cut(reset=True)
            await anyio.lowlevel.checkpoint()

    async def _pass_on(self, direction: Direction) -> None:
        send, receive = anyio.create_memory_object_stream[_Piece](_PIECES)
        with send, receive:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._read, direction, send)
                await self._write(direction, receive)
                tasks.cancel_scope.cancel()

    async def _read(self, direction: Direction, pieces: ObjectSendStream[_Piece]) -> None:
        source = self._streams["up" if direction == "down" else "down"]
        try:
            while True:
                data = await source.receive(_PIECE)
                self._wait_more(len(data))
                piece = _Piece(data, anyio.current_time(), request=self._take_request(direction))
                await pieces.send(piece)
        except anyio.EndOfStream:
            await pieces.send(_Piece(b"", anyio.current_time(), "fin"))
        except _GONE:
            await pieces.send(_Piece(b"", anyio.current_time(), "rst"))

    async def _write(self, direction: Direction, pieces: ObjectReceiveStream[_Piece]) -> None:
        async for piece in pieces:
            await self._due(direction, piece)
            if piece.end:
                await self._end(direction, piece)
                return
            if direction == "down" and self._faults.loses_reply_to(piece.request):
                self.cut(reset=False)
                await anyio.lowlevel.checkpoint()
            try:
                await self._deliver(direction, piece)
            except _GONE:
                return  # the task that reads from that side handles its end

    async def _deliver(self, direction: Direction, piece: _Piece) -> None:
        target, data = self._streams[direction], memoryview(piece.data)
        while data:
            size = self._most(direction, len(data))
            await anyio.lowlevel.checkpoint_if_cancelled()
            if direction == "up":
                self._request += data[:size]
                del self._request[:-_REQUEST]
            await target.send(bytes(data[:size]))
            self._count(direction, size)
            data = data[size:]
            if data:
                await self._due(direction, piece)

    async def _end(self, direction: Direction, piece: _Piece) -> None:
        held = self._faults
        await held.wait(lambda: math.inf if direction in held.held_ends else 0)
        if piece.end == "rst":
            self.cut(reset=True)
        else:
            with suppress(OSError, RuntimeError):  # the peer has just closed the connection
                await self._streams[direction].send_eof()

    async def _due(self, direction: Direction, piece: _Piece) -> None:
        """Wait for as long as the faults delay or block the rest of this piece."""

        def left() -> float:
            if direction in self._faults.blocked:
                return math.inf
            free = self._free[direction] if self._faults.bandwidth else 0
            return max(piece.arrived + self._faults.latency, free) - anyio.current_time()

        await self._faults.wait(left)

    def _most(self, direction: Direction, size: int) -> int:
        """Return how many of ``size`` bytes may pass now. Cuts the connection if none may."""
        faults = self._faults
        if faults.bandwidth:
            size = min(size, max(1, int(faults.bandwidth / _SLICES)))
        if faults.cut is not None and faults.cut.direction == direction:
            size = min(size, max(0, faults.cut.most - self._passed[direction]))
            if size == 0:
                self.cut(reset=faults.cut.reset)
        return size

    def _count(self, direction: Direction, size: int) -> None:
        faults = self._faults
        self._wait_more(-size)
        self._passed[direction] += size
        faults.passed[direction] += size
        if faults.bandwidth:
            begin = max(anyio.current_time(), self._free[direction])
            self._free[direction] = begin + size / faults.bandwidth
        cut = faults.cut
        if cut is not None and cut.direction == direction and self._passed[direction] >= cut.most:
            self.cut(reset=cut.reset)

    def _wait_more(self, size: int) -> None:
        self._waiting += size
        self._faults.waiting += size
        self._faults.notify()

    def _take_request(self, direction: Direction) -> bytes:
        """Return the end of the requests sent since the server's last data, and clear it."""
        if direction == "up":
            return b""
        request = bytes(self._request)
        self._request.clear()
        return request

    async def _close(self, streams: Iterable[SocketStream]) -> None:
        for stream in streams:
            if self._resets:
                with suppress(OSError, AttributeError):  # uvloop may have dropped the socket
                    sock = stream.extra(SocketAttribute.raw_socket)  # noqa: S610  # not Django's
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            await stream.aclose()
