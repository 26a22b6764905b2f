"""Ports of the loopback."""

import socket


def free_port() -> int:
    """One that nobody listens on, and that nobody is given for a while."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
