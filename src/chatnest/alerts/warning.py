"""BudgetWarning: a budget that has reached a threshold of its ``warn_at``. No I/O."""

from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Final

import msgspec

from chatnest.ledger.limit import Unit
from chatnest.ledger.watch import Crossing
from chatnest.policies.limits import EVERYBODY

__all__ = ["BudgetWarning", "OnWarning", "warning_of"]

_GROUP: Final = "group:"


class BudgetWarning(msgspec.Struct, frozen=True, kw_only=True):
    """An account has reached a threshold of a limit, for the first time in a window.

    ``id`` is the same in each delivery of this warning. ``limit`` is the limit's name. ``kind`` is
    ``"principal"``, ``"global"``, or the name of a group such as ``"team"``. ``name`` is the
    principal or the value of the group. ``window`` is the day (``"2026-11-30"``), the month
    (``"2026-11"``), the first day and the ISO 8601 length of any other window
    (``"2026-11-30/P7D"``), or, for a lifetime, ``"ever#NUMBER"`` with the number of grants.

    ``threshold`` is a part of ``amount``, such as 0.8. ``amount`` includes grants. ``used`` and
    ``amount`` are in ``unit``; money is in billionths of ``currency`` (nano-dollars). ``at`` is in
    milliseconds since the epoch, by the ledger's clock.
    """

    id: str
    limit: str
    kind: str
    name: str
    window: str
    threshold: float
    used: int
    amount: int
    unit: Unit
    currency: str
    at: int


OnWarning = Callable[[BudgetWarning], Awaitable[object]]
"""An async function that gets a warning. If it raises, the warning is delivered again later."""


def warning_of(crossing: Crossing, currency: str) -> BudgetWarning:
    """The warning of a row in the books."""
    kind, name = "principal", crossing.account
    if crossing.account == EVERYBODY:
        kind, name = "global", ""
    elif crossing.account.startswith(_GROUP):
        kind, _, name = crossing.account.removeprefix(_GROUP).partition(":")
    key = "\0".join(map(str, crossing.key))
    return BudgetWarning(
        id=f"warning_{sha256(key.encode()).hexdigest()[:32]}",
        limit=crossing.limit,
        kind=kind,
        name=name,
        window=crossing.window,
        threshold=crossing.threshold / 1_000,
        used=crossing.used,
        amount=crossing.amount,
        unit=crossing.unit,
        currency=currency if crossing.unit == "money" else "",
        at=crossing.at,
    )
