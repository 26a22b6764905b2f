"""Door: accepts all waiting connections of ``chatnest serve``, and refuses chats under overload.

uvloop accepts one connection per turn of its loop. Clients of a busy worker would then wait in the
kernel for seconds, where the server can neither count nor refuse them.
"""

import asyncio
import re
import socket
from collections.abc import Callable
from time import thread_time
from typing import Any, Final

from chatnest.streams.intake import Intake

__all__ = ["Door"]

_ACCEPTED_AT_ONCE: Final = 128
"""Maximum connections accepted in one turn of the event loop."""
_PEEKED: Final = 16_384
"""Maximum bytes of a request that can be refused without a parser."""
_DEFER_SECONDS: Final = 1
"""Seconds that the kernel holds a connection under overload until its first bytes arrive."""
_DEFER: Final[int | None] = getattr(socket, "TCP_DEFER_ACCEPT", None)
_PAUSE_SECONDS: Final = 0.1
"""Seconds before the next attempt to accept after a failure, such as a lack of descriptors."""

_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,5})[ \t]*\r\n", re.IGNORECASE)
_NOT_PLAIN: Final = re.compile(rb"\r\n(?:expect|transfer-encoding|upgrade):", re.IGNORECASE)


class Door:
    """Accepts connections of ``listener``, and hands each to a protocol created by ``make``.

    While ``intake`` is crowded, the door peeks at the first bytes. It passes a complete request
    that begins with ``begins`` to ``admit``: True admits the request, bytes are its refusal, and
    None leaves the request to the protocol. Such a refusal costs a tenth of a protocol's.
    """

    def __init__(
        self,
        listener: socket.socket,
        loop: asyncio.AbstractEventLoop,
        make: Callable[[], Any],
        intake: Intake,
        *,
        begins: bytes,
        admit: Callable[[bytes], bool | bytes | None],
    ) -> None:
        self._listener = listener
        self._loop = loop
        self._make = make
        self._begins = begins
        self._intake = intake
        self._admit = admit
        self._deferring = False
        self._handing_over: set[asyncio.Task[Any]] = set()

    def open(self) -> None:
        """Start accepting."""
        if self._listener.fileno() >= 0:
            self._listener.setblocking(False)
            self._loop.add_reader(self._listener, self._accept)

    def close(self) -> None:
        """Stop accepting, and close the listener."""
        if self._listener.fileno() >= 0:
            self._loop.remove_reader(self._listener)
            self._listener.close()

    def _accept(self) -> None:
        crowded = self._intake.is_crowded
        self._defer(crowded)
        since = thread_time()
        self._accept_all(crowded)
        if crowded:
            self._intake.refusing += thread_time() - since

    def _accept_all(self, crowded: bool) -> None:
        for _ in range(_ACCEPTED_AT_ONCE):
            try:
                connection, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:
                self._loop.remove_reader(self._listener)
                self._loop.call_later(_PAUSE_SECONDS, self.open)
                return
            taken = crowded and self._screen(connection)
            if taken is not None:
                self._hand_over(connection, taken=taken)

    def _defer(self, crowded: bool) -> None:
        """Under overload, let the kernel hold connections until their first bytes arrive.

        This needs Linux. Elsewhere the protocol waits for the first bytes.
        """
        if crowded is not self._deferring and _DEFER is not None:
            self._deferring = crowded
            seconds = _DEFER_SECONDS if crowded else 0
            self._listener.setsockopt(socket.IPPROTO_TCP, _DEFER, seconds)

    def _screen(self, connection: socket.socket) -> bool | None:
        """Return whether the first request was admitted, or None if it was refused and closed."""
        try:
            data = connection.recv(_PEEKED, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False  # the protocol waits for the first bytes
        except OSError:
            data = b""
        if data and not self._is_whole(data):
            return False
        answer = self._admit(data) if data else b""
        if answer is None or answer is True:
            return bool(answer)
        with connection:
            if answer:
                _answer(connection, len(data), answer)
        return None

    def _is_whole(self, data: bytes) -> bool:
        """Return whether the bytes are one complete request and nothing else.

        The kernel would reset a connection that is closed with unread bytes, so the client might
        lose the answer.
        """
        if not data.startswith(self._begins):
            return False
        head = data.find(b"\r\n\r\n")
        length = _LENGTH.search(data, 0, head + 2)
        return (
            head >= 0
            and length is not None
            and int(length[1]) == len(data) - head - 4
            and not _NOT_PLAIN.search(data, 0, head)
        )

    def _hand_over(self, connection: socket.socket, *, taken: bool) -> None:
        connection.setblocking(False)
        protocol = self._make()
        protocol.taken = taken
        coroutine = self._loop.connect_accepted_socket(lambda: protocol, connection)
        task = self._loop.create_task(coroutine)
        self._handing_over.add(task)
        task.add_done_callback(self._handed_over)

    def _handed_over(self, task: asyncio.Task[Any]) -> None:
        self._handing_over.discard(task)
        if not task.cancelled():
            task.exception()  # the client has disconnected


def _answer(connection: socket.socket, size: int, answer: bytes) -> None:
    try:
        connection.recv(size, socket.MSG_DONTWAIT)
        connection.send(answer, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
    except OSError:
        pass  # the client has disconnected
