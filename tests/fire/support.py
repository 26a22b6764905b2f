"""Workers as real processes, crowds of clients, and the books as an auditor sees them."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.fire.app import open_ledger
from tests.servers.support import Client, Process, Reply, ask
from tests.support import books
from tests.support.ports import free_port
from tests.support.waiting import PATIENCE, wait_for

DONE = b"event: done"


@contextmanager
def serving(
    folder: Path, upstream: str, ledger: str, *options: str, **environ: str
) -> Iterator[int]:
    """uvicorn in a process, or several; gives the port once it answers."""
    port = free_port()
    command = ["-m", "uvicorn", "tests.fire.app:create_app", "--factory", *options]
    command += ["--port", str(port), "--log-level", "error", "--backlog", "2048"]
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join([root, *(p for p in sys.path if p)])
    with Process(
        command,
        cwd=folder,
        PYTHONPATH=path,
        FIRE_LEDGER=ledger,
        FIRE_UPSTREAM=upstream,
        **environ,
    ):
        wait_for(lambda: _answers(port))
        yield port


def _answers(port: int) -> bool:
    try:
        return limits(port, "nobody") is not None
    except (OSError, EOFError):
        return False


def send(port: int, user: str) -> Client:
    client = Client(port)
    client.socket.settimeout(PATIENCE)
    client.request("POST", body=ask(), headers=[f"X-User: {user}"])
    return client


def chat(port: int, user: str) -> Reply:
    """One whole exchange. Raises OSError or EOFError where the worker dies."""
    with send(port, user) as client:
        reply = client.reply()
        reply.read_all()
        return reply


def limits(port: int, user: str) -> dict[str, int]:
    """``used`` and ``held`` tokens."""
    with Client(port) as client:
        document = client.get("/api/chat/limits", f"X-User: {user}").json()
    (tokens,) = (limit for limit in document["limits"] if limit["name"] == "tokens")
    return {"used": tokens["used"], "held": tokens["held"]}


class Books(books.Books):
    """The ledger, from outside."""

    def __init__(self, where: str) -> None:
        super().__init__(partial(open_ledger, where))
