"""Workers as real processes, crowds of clients, and the books as an auditor sees them."""

import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio

from chatnest.ledger.audit import Audited, TurnRecord, Verdict
from chatnest.ledger.base import Limit
from tests.fire.app import open_ledger
from tests.servers.support import Client, Process, Reply, ask

DONE = b"event: done"
PATIENCE = 60.0


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


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


def wait_for(condition: Callable[[], object], patience: float = PATIENCE) -> float:
    """Wait until it holds. Seconds that it took."""
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < patience
        time.sleep(0.01)
    return time.monotonic() - begun


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


class Books:
    """The ledger, from outside."""

    def __init__(self, where: str) -> None:
        self._where = where

    def verdict(self) -> Verdict:
        async def look() -> Verdict:
            ledger = open_ledger(self._where)
            assert isinstance(ledger, Audited)
            try:
                return await ledger.audit().verdict()
            finally:
                await ledger.aclose()

        return anyio.run(look)

    def turns(self) -> list[TurnRecord]:
        async def look() -> list[TurnRecord]:
            ledger = open_ledger(self._where)
            assert isinstance(ledger, Audited)
            try:
                return [r async for r in ledger.audit().records(0) if isinstance(r, TurnRecord)]
            finally:
                await ledger.aclose()

        return anyio.run(look)

    def used_and_held(self, user: str) -> tuple[int, int]:
        async def look() -> tuple[int, int]:
            ledger = open_ledger(self._where)
            limit = Limit(name="tokens", kind="budget", account=user, limit=1)
            try:
                (state,) = await ledger.usage((limit,))
            finally:
                await ledger.aclose()
            return state.used, state.held

        return anyio.run(look)
