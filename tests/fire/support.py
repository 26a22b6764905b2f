"""Workers as real processes, crowds of clients, and the books as an auditor sees them."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from chatnest.amounts import amount_text
from chatnest.ledger.base import Ledger
from chatnest.ledger.limit import MOST
from tests.fire.app import (
    CONFIG,
    cost,
    money_limits,
    open_ledger,
)
from tests.servers.support import Client, Process, Reply, ask
from tests.support import books
from tests.support.ports import free_port
from tests.support.waiting import PATIENCE, wait_for

DONE = b"event: done"


def write_config(folder: Path, money: int = MOST) -> Path:
    """A file with a price and limits of money."""
    config = folder / "chatnest.toml"
    config.write_text(CONFIG.format(amount_text(money)))
    return config


@contextmanager
def serving(
    folder: Path, upstream: str, ledger: str, *options: str, money: int = MOST, **environ: str
) -> Iterator[int]:
    """uvicorn in a process, or several; gives the port once it answers. ``money`` is the amount of
    each limit of money, in nano-dollars.
    """
    port = free_port()
    config = write_config(folder, money)
    command = ["-m", "uvicorn", "tests.fire.app:create_app", "--factory", *options]
    command += ["--port", str(port), "--log-level", "error", "--backlog", "2048"]
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join([root, *(p for p in sys.path if p)])
    with Process(
        command,
        cwd=folder,
        PYTHONPATH=path,
        FIRE_CONFIG=str(config),
        FIRE_LEDGER=ledger,
        FIRE_UPSTREAM=upstream,
        **environ,
    ):
        wait_for(lambda: _answers(port), 3 * PATIENCE)
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

    def money(self, user: str) -> list[tuple[int, int]]:
        """What is used and held in nano-dollars: by the user, its team and the house."""

        async def look(ledger: Ledger) -> list[tuple[int, int]]:
            return [(each.used, each.held) for each in await ledger.usage(money_limits(user))]

        return self._look(look)

    def check_money(self, *users: str) -> int:
        """Check that each turn was charged its price, or what it held, and each account of
        ``users`` the sum of its turns. Returns the number of turns.
        """
        turns = self.turns()
        for turn in turns:
            charged = cost(turn.input_tokens, turn.output_tokens)
            if turn.outcome == "expired":
                charged = turn.held_money
            assert 0 < turn.money == charged, turn
            assert turn.tokens <= turn.held, turn
            assert turn.admitted_at is None or turn.money <= turn.held_money, turn
        for user in users:
            for limit, (used, held) in zip(money_limits(user), self.money(user), strict=True):
                mine = [
                    turn.money
                    for turn in turns
                    if any(
                        line.startswith(f"{limit.name}:") and line.endswith(f":{limit.account}")
                        for line in turn.lines
                    )
                ]
                assert (used, held) == (sum(mine), 0), limit
        verdict = self.verdict()
        assert (verdict.drifts, verdict.unsure) == ((), ())
        return len(turns)
