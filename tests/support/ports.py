"""Ports of the loopback."""

import atexit
import socket
import sys
from collections import deque
from typing import Final

_KEPT: Final = 64

_held: deque[socket.socket] = deque()


@atexit.register
def _let_go() -> None:
    while _held:
        _held.popleft().close()


def free_port() -> int:
    """One that nobody listens on, and that nobody else is given while a server starts on it.

    On Linux it stays bound: who asks for any port gets another one, and a server that names this
    one has it, since servers set SO_REUSEADDR. The last ones that were asked for are kept so.
    """
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", 0))
    port: int = sock.getsockname()[1]
    _held.append(sock)
    while len(_held) > (_KEPT if sys.platform == "linux" else 0):
        _held.popleft().close()
    return port
