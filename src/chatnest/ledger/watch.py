"""Watch: a window of a limit whose use is watched, and the thresholds that it reaches. No I/O.

Thresholds are in thousandths of the limit's amount and grants.
"""

from typing import Final, Protocol, runtime_checkable

import msgspec

from chatnest.ledger.limit import Unit

__all__ = ["EVER", "LATEST", "SOONEST", "Crossing", "Watch", "WatchRow", "Watched", "retry_at"]

EVER: Final = "ever"
"""The period of a lifetime. Each grant begins a new one, ``ever#NUMBER``."""

SOONEST: Final = 30_000
LATEST: Final = 3_600_000
"""Bounds of the milliseconds from one attempt to deliver a crossing to the next."""


class Watch(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A window of the calendar of a limit with ``warn_at``, as a hold keeps it from its admission.

    ``period`` names the window: ``2026-11-30``, ``2026-11``, the first day and the length in ISO
    8601, or ``ever``. Its use is that of the days from ``first`` to ``last`` that end after
    ``start`` (ms): ``first`` is the day before it, which another time zone may have counted, and
    ``last`` its own last day, since a window that is over has days after it.
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
    """The record of a watched window: the highest threshold that was crossed since the
    number of grants was ``grants``, and the latest watch. The mark never falls.
    """

    grants: int = 0
    mark: int = 0
    watch: Watch | None = None


class Crossing(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the books: a threshold that an account has reached in a window, once.

    ``used`` and ``amount``, with grants, are those at ``at`` (ms), in ``unit``. ``state`` is
    ``dropped`` if all attempts failed for days. ``is_new`` is true for the first attempt.
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
        """A pending crossing, oldest first. Other workers leave it alone for half a
        minute, or as long as it is old, up to an hour. Raises LedgerUnavailable.
        """

    async def end_crossing(self, crossing: Crossing, state: str) -> None:
        """Note that a crossing was ``delivered``, or ``dropped``. Raises LedgerUnavailable."""


def retry_at(at: int, now: int) -> int:
    """When a crossing of the time ``at`` is tried again, unless this attempt succeeds. The time
    between attempts doubles.
    """
    return now + min(max(now - at, SOONEST), LATEST)
