"""RefusalCounts: counts the refusals of each limit by hour, and writes the counts to the ledger."""

import logging
import time
from collections import defaultdict
from typing import Final

import anyio
from anyio import CancelScope

from chatnest.errors import LedgerUnavailable
from chatnest.ledger.base import Ledger
from chatnest.ledger.usage import UsageBooks, hour_of

__all__ = ["RefusalCounts"]

_log = logging.getLogger("chatnest.accounting")

_FLUSH_SECONDS: Final = 5.0
"""Seconds between two writes, in each worker."""

_MOST: Final = 2_000
"""Maximum counts that wait to be written. Refusals by further limits share one count."""

_OTHERS: Final = "(others)"


class RefusalCounts:
    """Counts the refusals in this worker by limit and hour, including those made without asking the
    ledger. Each write adds the counts since the last write, within ``seconds``.

    A worker that is killed loses the counts since its last write. If the ledger does not answer,
    the counts are kept and written again. So a write counts twice if only its answer was lost.
    """

    def __init__(self, ledger: Ledger, seconds: float) -> None:
        self._ledger = ledger if isinstance(ledger, UsageBooks) else None
        self._seconds = seconds
        self._counts: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._flush_at = time.monotonic() + _FLUSH_SECONDS

    def __len__(self) -> int:
        return len(self._counts)

    def count(self, name: str, now: int) -> None:
        """Count a refusal by the limit ``name`` at ``now`` (ms)."""
        if self._ledger is None:
            return
        place = hour_of(now), name
        if place not in self._counts and len(self._counts) >= _MOST:
            place = hour_of(now), _OTHERS
        self._counts[place] += 1

    async def flush_if_due(self) -> None:
        """Write the counts if the last write was at least five seconds ago."""
        if self._counts and time.monotonic() >= self._flush_at:
            await self.flush()

    async def flush(self) -> None:
        """Write the counts, or keep them if the ledger is unavailable."""
        self._flush_at = time.monotonic() + _FLUSH_SECONDS
        if self._ledger is None or not self._counts:
            return
        counts, self._counts = self._counts, defaultdict(int)
        written = False
        try:
            with CancelScope(deadline=anyio.current_time() + self._seconds):
                await self._ledger.count_refusals(dict(counts))
                written = True
        except LedgerUnavailable:
            pass
        except Exception:  # noqa: BLE001  # a ledger may raise anything
            written = True  # a fault of the ledger: a retry would fail again
            _log.exception("refusals not counted: limits=%s", len(counts))
        finally:
            if not written:
                for place, number in counts.items():
                    self._counts[place] += number

    async def tend(self) -> None:
        """Write the counts every five seconds. Runs until it is cancelled."""
        while True:
            await anyio.sleep(_FLUSH_SECONDS)
            await self.flush()
