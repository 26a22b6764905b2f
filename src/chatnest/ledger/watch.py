"""Watch: a window of a limit with ``warn_at``, and the thresholds that its use reaches. No I/O.

Thresholds are in thousandths of the limit's amount plus grants.
"""

from typing import Final, Protocol, runtime_checkable

import msgspec

from chatnest.ledger.limit import Unit

__all__ = ["EVER", "LATEST", "SOONEST", "Crossing", "Watch", "WatchRow", "Watched", "retry_at"]

EVER: Final = "ever"
"""The period of a lifetime. Each grant begins a new window, ``ever#NUMBER``."""

SOONEST: Final = 30_000
LATEST: Final = 3_600_000
"""Minimum and maximum milliseconds between two attempts to deliver a crossing."""


class Watch(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A calendar window of a limit with ``warn_at``. A hold keeps it from its admission on.

    ``period`` names the window: ``2026-11-30``, ``2026-11``, the first day and the length in ISO
    8601, or ``ever``. The use of the window is the sum of the days from ``first`` to ``last`` that
    end after ``start`` (ms). ``first`` is the day before the window, since another time zone may
    have counted it. ``last`` is the last day of the window, since later days may have use as well.
    """

    name: str
    account: str
    period: str
    first: str
    last: str
    start: int
    unit: Unit
    amount: int
    thresholds: tuple[int, ...]


class WatchRow(msgspec.Struct):
    """The record of a watched window: ``mark`` is the highest threshold that was crossed while the
    number of grants was ``grants``, and never falls. ``watch`` is the latest one.
    """

    grants: int = 0
    mark: int = 0
    watch: Watch | None = None


class Crossing(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the books: an account has reached a threshold in a window.

    ``used`` and ``amount`` (with grants) are in ``unit``, at the time ``at`` (ms). ``state`` is
    ``pending``, ``delivered``, or ``dropped`` if all attempts failed for days. ``is_new`` is true
    in the first attempt to deliver it.
    """

    limit: str
    account: str
    window: str
    threshold: int
    unit: Unit
    used: int
    amount: int
    at: int
    state: str = "pending"
    is_new: bool = True

    @property
    def key(self) -> tuple[str, str, str, int]:
        return self.limit, self.account, self.window, self.threshold


@runtime_checkable
class Watched(Protocol):
    """A ledger that keeps crossings until they are delivered."""

    async def next_crossing(self) -> Crossing | None:
        """The oldest pending crossing that is due. It is due again after half a minute, or after
        as long as it is old, up to an hour, so other workers wait. Raises LedgerUnavailable.
        """

    async def end_crossing(self, crossing: Crossing, state: str) -> None:
        """Note that a crossing was ``delivered``, or ``dropped``. Raises LedgerUnavailable."""


def retry_at(at: int, now: int) -> int:
    """When to retry a crossing of the time ``at``, unless this attempt succeeds. The time between
    attempts doubles.
    """
    return now + min(max(now - at, SOONEST), LATEST)
