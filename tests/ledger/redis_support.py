"""What the tests of RedisLedger share: limits, a random life, and what the server sees."""

import random
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from chatnest.ledger.base import Admitted, Charge, Hold, Limit, Reservation
from chatnest.ledger.redis import RedisLedger
from tests.ledger.server import Server
from tests.ledger.support import (
    HOUR,
    SECOND,
    Clock,
    budget,
    rate,
    streams,
    wish,
)


def limits_of(who: str) -> tuple[Limit, ...]:
    return (rate(20, account=who), budget(5_000, account=who), streams(9, account=who))


async def live_a_little(ledger: RedisLedger, clock: Clock, seed: int) -> int:
    """Operations of every kind, and expiries, over accounts that share holds. Says how many."""
    dice = random.Random(seed)
    wishes: list[Reservation] = []
    holds: list[Hold] = []
    for step in range(150):
        clock.now += dice.choice([0, 0, SECOND, 11 * SECOND, HOUR])
        who = dice.choice(["ann", "bob", ""])
        limits = limits_of(who) if step % 10 else (rate(20, account=who),)
        match dice.randrange(7):
            case 0 | 1 | 2:
                wishes.append(wish(*limits, *limits_of("team"), lease=12 * SECOND))
                answer = await ledger.reserve(wishes[-1])
                if isinstance(answer, Admitted):
                    holds.append(answer.hold)
            case 3 if holds:
                await ledger.settle(dice.choice(holds), Charge(tokens=dice.randrange(150)))
            case 4 if wishes:
                await ledger.release(dice.choice(wishes))
            case 5 if holds:
                await ledger.renew(dice.choice(holds), 12 * SECOND)
            case _:
                await ledger.usage(limits)
    return len(wishes)


@contextmanager
def watched(server: Server) -> Iterator[Callable[[], list[list[str]]]]:
    """Gives the commands that the server has seen, those of scripts with ``lua`` in front."""
    with server.client() as client, server.client() as marker:
        marker.echo("here we go")
        connection = client.connection_pool.get_connection()
        connection.send_command("MONITOR")
        connection.read_response()

        def seen() -> list[list[str]]:
            marker.echo("that is all")
            commands: list[list[str]] = []
            while True:
                line = connection.read_response().decode("unicode-escape")
                words = re.findall(r'"((?:[^"\\]|\\.)*)"', line)
                if words == ["ECHO", "that is all"]:
                    return commands
                commands.append([*(["lua"] if " lua] " in line else []), *words])

        yield seen
        connection.disconnect()
