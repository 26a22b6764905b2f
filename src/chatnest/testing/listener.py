"""Listener: a loopback port whose listening a test can switch on and off."""

import contextlib
import socket
from collections.abc import Callable

import anyio

__all__ = ["Listener"]


class Listener:
    """A free port of 127.0.0.1. It refuses connections until `listen`."""

    def __init__(self) -> None:
        # A bound socket that never listens keeps the port while connections are refused.
        self._bound = _bind(0)
        self.port: int = self._bound.getsockname()[1]
        self._socket: socket.socket | None = None

    @property
    def is_listening(self) -> bool:
        """Whether connections are accepted."""
        return self._socket is not None

    def listen(self) -> None:
        """Accept connections from now on."""
        if self._socket is None:
            self._socket = _bind(self.port)
            self._socket.listen(1024)

    def refuse(self) -> None:
        """Refuse connections from now on."""
        if self._socket is not None:
            anyio.notify_closing(self._socket)
            self._socket.close()
            self._socket = None

    def close(self) -> None:
        """Refuse connections and give the port back."""
        self.refuse()
        self._bound.close()

    async def accept(self, begin: Callable[[socket.socket], None]) -> None:
        """Call `begin` with each connection. Returns once connections are refused."""
        with contextlib.suppress(anyio.ClosedResourceError):
            while self._socket is not None:
                await anyio.wait_readable(self._socket)
                # The client may have disconnected, and the listener may be closed by now.
                with contextlib.suppress(BlockingIOError, ConnectionAbortedError):
                    if self._socket is not None:
                        begin(self._socket.accept()[0])


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
