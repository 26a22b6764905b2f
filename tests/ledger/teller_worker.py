"""A worker that reaches a threshold and is killed by itself: ``teller_worker.py WHERE WHEN``.

WHEN is ``before`` it tells the warning, ``within`` the hook, or ``after`` the hook has it.
"""

import os
import signal
import sys

import anyio

from chatnest.alerts import BudgetWarning
from chatnest.alerts.deliveries import Deliveries
from chatnest.ledger.base import Admitted, Charge, Ledger, Limit, Reservation
from chatnest.ledger.redis import RedisLedger
from chatnest.ledger.sqlite import SQLiteLedger
from chatnest.ledger.watch import Crossing

LIMIT = Limit(
    name="tokens", unit="tokens", window="lifetime", account="all", amount=1_000, warn_at=(500, 800)
)


async def spend(ledger: Ledger, name: str) -> None:
    wish = Reservation(id=name, limits=(LIMIT,), output=850, min_output=1)
    answer = await ledger.reserve(wish)
    assert isinstance(answer, Admitted)
    await ledger.settle(answer.hold, Charge(tokens=850))


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def main(where: str, when: str) -> None:
    ledger: Ledger = SQLiteLedger(where)
    if where.startswith("redis:"):
        ledger = RedisLedger(where, timeout=10)

    async def on_warning(warning: BudgetWarning) -> None:
        if when == "within":
            kill()
        sys.stdout.write(f"{warning.id}\n")
        sys.stdout.flush()

    async def end_crossing(crossing: Crossing, state: str) -> None:
        kill()

    await spend(ledger, "first")
    if when == "before":
        kill()
    ledger.end_crossing = end_crossing  # type: ignore[attr-defined]
    await Deliveries(ledger, on_warning).tend()


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], sys.argv[2])
