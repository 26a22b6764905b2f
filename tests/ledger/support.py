"""What the tests of all ledgers share: a clock, limits and wishes."""

import itertools
from datetime import UTC, datetime

from chatnest.ledger.base import Admitted, Cost, Ledger, Limit, Refused, Reservation
from chatnest.ledger.limit import Mode, Unit, Window

NOON = int(datetime(2026, 6, 1, 12, tzinfo=UTC).timestamp() * 1000)
SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000


class Clock:
    """Stands still until it is told."""

    def __init__(self, now: int = NOON) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


def utc(text: str) -> int:
    """Milliseconds of a time such as 2026-03-29T22:00."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def rate(limit: int, window: int = 60, account: str = "ann", name: str = "requests") -> Limit:
    return Limit(name=name, unit="requests", account=account, amount=limit, window=window)


def budget(limit: int, account: str = "ann", zone: str = "UTC", name: str = "tokens") -> Limit:
    return Limit(
        name=name, unit="tokens", window="day", account=account, amount=limit, timezone=zone
    )


def streams(limit: int, account: str = "ann", name: str = "streams") -> Limit:
    return Limit(name=name, unit="streams", account=account, amount=limit)


def amounts(  # noqa: PLR0917  # a table
    unit: Unit,
    limit: int,
    window: Window,
    account: str = "ann",
    zone: str = "UTC",
    starts: int = 1,
    mode: Mode = "enforce",
    name: str = "",
) -> Limit:
    """A limit of any unit and window."""
    return Limit(
        name=name or unit,
        unit=unit,
        account=account,
        amount=limit,
        window=window,
        timezone=zone,
        starts=starts,
        mode=mode,
    )


_ids = itertools.count()


def wish(
    *limits: Limit,
    tokens: int = 100,
    min_tokens: int | None = None,
    hold_id: str | None = None,
    lease: int = 30 * SECOND,
    read: int = 0,
    money: Cost = Cost(0, 0),  # noqa: B008  # frozen
) -> Reservation:
    return Reservation(
        id=hold_id or f"turn-{next(_ids)}",
        limits=limits,
        output=tokens,
        min_output=tokens if min_tokens is None else min_tokens,
        lease=lease,
        input_tokens=read,
        money=money,
    )


async def admit(ledger: Ledger, reservation: Reservation) -> Admitted:
    answer = await ledger.reserve(reservation)
    assert isinstance(answer, Admitted), answer
    return answer


async def refuse(ledger: Ledger, reservation: Reservation) -> Refused:
    answer = await ledger.reserve(reservation)
    assert isinstance(answer, Refused), answer
    return answer


async def balance(ledger: Ledger, limit: Limit) -> tuple[int, int]:
    """Used and held."""
    (state,) = await ledger.usage((limit,))
    return state.used, state.held
