"""The servers' pages: how each starts, and what becomes of an open stream at its end."""

from typing import NamedTuple

from tests.frameworks import pages

BIND = "--bind 127.0.0.1:{}"
TRIO, WORKERS = ("--worker-class", "trio"), ("--workers", "2")
QUIET = ("--no-control-socket",)


class Server(NamedTuple):
    """One of a page's commands, with flags of the test's. ``settles`` is whether a stream that is
    open when the server's patience ends is settled, or left to its lease; ``waits`` whether there
    is any patience; ``lifespan`` whether there is such a thing. ``patience`` stands in for the 30
    seconds of the page, ``drain`` for its 20, and ``streams`` are open when it is told to end.
    ``spoiled`` is whether it ends without waiting where a websocket was opened in the second
    before (Daphne 4.2).
    """

    page: str
    flags: tuple[str, ...] = ()
    command: int = 0
    bind: str = "--port {}"
    settles: bool = True
    waits: bool = True
    lifespan: bool = True
    patience: str = "1"
    drain: str = "0.2"
    streams: int = 3
    spoiled: bool = False

    def arguments(self, app: str, port: int) -> list[str]:
        """For Python."""
        words = pages.commands(f"servers/{self.page}.md")[self.command]
        words = [self.patience if word == "30" else word for word in words]
        words = [app if word == "shop:app" else word for word in words]
        if "--bind" in words:
            at = words.index("--bind")
            del words[at : at + 2]
        return ["-m", *words, *self.bind.format(port).split(), *self.flags]


KILLS = "20"
"""The patience of those that kill a worker then: a busy machine may not have settled in one second
what was told to end after a fifth of it.
"""

SERVERS: dict[str, Server] = {
    "uvicorn-asyncio-h11": Server("uvicorn", ("--loop", "asyncio", "--http", "h11")),
    "uvicorn-asyncio-httptools": Server("uvicorn", ("--loop", "asyncio", "--http", "httptools")),
    "uvicorn-uvloop-h11": Server("uvicorn", ("--loop", "uvloop", "--http", "h11")),
    "uvicorn-uvloop-httptools": Server("uvicorn", ("--loop", "uvloop", "--http", "httptools")),
    "hypercorn-asyncio": Server("hypercorn", bind=BIND),
    "hypercorn-trio": Server("hypercorn", TRIO, bind=BIND),
    # The first worker to end, which is the idle one, ends the other.
    "hypercorn-workers": Server(
        "hypercorn", WORKERS, bind=BIND, settles=False, waits=False, patience="30", streams=1
    ),
    "granian": Server("granian", patience=KILLS),
    "daphne": Server("daphne", waits=False, lifespan=False, spoiled=True),
    "gunicorn-asgi": Server("gunicorn", QUIET, bind=BIND, patience=KILLS),
    "gunicorn-uvicorn": Server("gunicorn", QUIET, command=1, bind=BIND, patience=KILLS),
}
