"""uvicorn on a socket of our own, as ``chatnest serve`` has: what waits for a client is little."""

import socket
import sys

import uvicorn

from tests.endurance.app import create_app


def main(loop: str, http: str) -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=2_048)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32_768)
    config = uvicorn.Config(
        create_app,
        factory=True,
        loop=loop,
        http=http,
        access_log=False,
        timeout_graceful_shutdown=5,
    )
    sys.stderr.write(f"port {listener.getsockname()[1]}\n")
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main(*sys.argv[1:])
