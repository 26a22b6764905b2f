"""A chat as ``chatnest serve`` serves it, in a process that counts the bytes of what it keeps."""

import gc
import json
import os
import socket
import subprocess
import sys
import tracemalloc
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import uvicorn
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from chatnest import Bounds, HardCaps
from chatnest.config.build import build_chat
from chatnest.config.sections import Config, LedgerSection, ProviderSection
from chatnest.profiles import BALANCED
from chatnest.server.protocol import BoundedProtocol
from chatnest.server.site import make_site

__all__ = ["Weighed", "weighed_process"]

_PLACE = "/kept"
_PATIENCE = 60.0


class Weighed:
    """The server, as its clients see it."""

    def __init__(self, port: int) -> None:
        self._port = port

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self._port), _PATIENCE)

    def kept(self) -> int:
        """Bytes of all objects, without garbage."""
        connection = HTTPConnection("127.0.0.1", self._port, timeout=_PATIENCE)
        try:
            connection.request("GET", _PLACE)
            found: int = json.load(connection.getresponse())
        finally:
            connection.close()
        return found


@contextmanager
def weighed_process(upstream: int, folder: Path) -> Iterator[Weighed]:
    """The server, with a model at a port of this machine; without what measures coverage, which
    keeps something for each frame.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.weighed", str(upstream), str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        env={name: value for name, value in os.environ.items() if "COVERAGE" not in name},
    )
    assert process.stdout is not None
    try:
        yield Weighed(int(process.stdout.readline()))
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def main(upstream: str, folder: str) -> None:
    tracemalloc.start()
    most = 10**9
    fields = {name: getattr(BALANCED, name) for name in BALANCED.__struct_fields__}
    fields |= {"requests_per_minute": most, "daily_token_limit": most}
    fields |= {"max_concurrent_streams": most, "max_tokens_per_request": 16_000}
    config = Config(
        provider=ProviderSection(base_url=f"http://127.0.0.1:{upstream}/v1"),
        profiles=(type(BALANCED)(**fields),),
        hard_caps=HardCaps(requests_per_minute=None, daily_token_limit=None),
        ledger=LedgerSection(url=f"sqlite:{folder}/books.db"),
        bounds=Bounds(ledger_seconds=_PATIENCE, lag_seconds=_PATIENCE),
    )
    site = make_site(config, build_chat(config))

    def app(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "http" and scope["path"] == _PLACE:
            gc.collect()
            return JSONResponse(tracemalloc.get_traced_memory()[0])(scope, receive, send)
        return site(scope, receive, send)

    listener = socket.create_server(("127.0.0.1", 0), backlog=1_024)
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    settings = uvicorn.Config(
        app,
        interface="asgi3",
        lifespan="on",
        http=BoundedProtocol,
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
    )
    uvicorn.Server(settings).run(sockets=[listener])


if __name__ == "__main__":
    main(*sys.argv[1:])
