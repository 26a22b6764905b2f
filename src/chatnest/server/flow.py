"""Flow: backpressure of one connection, and Event: a small asyncio.Event. uvicorn uses both."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from starlette.types import Send
from uvicorn.protocols.http.flow_control import FlowControl

from chatnest.server.front import is_hung_up

__all__ = ["Event", "Flow"]

_T = TypeVar("_T")


class Flow(FlowControl):
    """uvicorn's flow control, with an event only while a writer waits for a slow client.

    It knows when a write need not wait, so it also implements SendNow.
    """

    __slots__ = ("_transport", "_writable", "read_paused", "write_paused")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._writable: asyncio.Event | None = None
        self.read_paused: bool = False
        self.write_paused: bool = False

    def belongs_to(self, send: Send) -> bool:
        """See SendNow."""
        return getattr(getattr(send, "__self__", None), "flow", None) is self

    def piece(self, encode: Callable[[_T], bytes], content: _T) -> bool:
        """See SendNow. uvicorn's own ``send`` writes a body of unknown length in the same way."""
        if self.write_paused or self._transport.is_closing():
            return False
        if not (body := encode(content)):  # an empty chunk would end the body
            return True
        self._transport.write(b"%x\r\n%b\r\n" % (len(body), body))
        return True

    def is_gone(self) -> bool:
        """See SendNow."""
        return self._transport.is_closing() or is_hung_up(self._transport)

    async def drain(self) -> None:
        """Wait until the client reads again."""
        if self.write_paused:
            if self._writable is None:
                self._writable = asyncio.Event()
            await self._writable.wait()

    def pause_writing(self) -> None:
        """Called by the event loop when its buffer is full."""
        self.write_paused = True

    def resume_writing(self) -> None:
        """Called by the event loop when its buffer has room, and at the connection's end."""
        self.write_paused = False
        if self._writable is not None:
            self._writable.set()
            self._writable = None


class Event:
    """asyncio.Event in a fifth of its memory.

    It has a tuple of waiters instead of a deque, because most of the time there is one waiter: the
    task that watches for a disconnect.
    """

    __slots__ = ("_is_set", "_waiters")

    def __init__(self) -> None:
        self._is_set = False
        self._waiters: tuple[asyncio.Future[None], ...] = ()

    def set(self) -> None:
        self._is_set = True
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    def clear(self) -> None:
        self._is_set = False

    async def wait(self) -> None:
        if self._is_set:
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiters += (waiter,)
        try:
            await waiter
        finally:
            self._waiters = tuple(each for each in self._waiters if each is not waiter)
