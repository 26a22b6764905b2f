"""Outbox: operations that wait until the ledger is available again."""

import logging
import math
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Literal

import anyio
from anyio import CancelScope

from chatnest.errors import LedgerUnavailable
from chatnest.stores.reasons import reason_of
from chatnest.telemetry.base import BooksObserver

__all__ = ["Operation", "Outbox"]

_log = logging.getLogger("chatnest.accounting")

_MOST = 10_000
"""Maximum waiting operations. If one is dropped, its lease charges the hold in full."""

_FLUSHED_AT_ONCE = 20
"""Maximum operations that one request carries out, of each kind."""

_TEND_SECONDS = 0.5
"""Seconds between two attempts of ``tend``."""
_WARN_SECONDS = 60.0
"""Minimum seconds between two warnings that the ledger is unavailable."""

Operation = Callable[[], Awaitable[object]]


class Outbox:
    """Carries out operations of a ledger, each within ``seconds``, and keeps those that fail
    because the ledger is unavailable. All operations are idempotent.

    Settlements are carried out before releases, and releases are dropped first if there are too
    many: the lease of a dropped release ends its hold, and refused clients can cause many of them.
    """

    def __init__(self, seconds: float) -> None:
        self.observer: BooksObserver | None = None
        self._seconds = seconds
        self._settlements: dict[str, Operation] = {}
        self._releases: dict[str, Operation] = {}
        self._flushing = False
        self._warn_at = -math.inf  # by time.monotonic()

    def __len__(self) -> int:
        return len(self._settlements) + len(self._releases)

    async def settle(self, turn_id: str, operation: Operation) -> bool:
        """Settle now, or later if the ledger is unavailable. Returns whether it is available."""
        return await self._do(turn_id, operation, self._settlements)

    async def release(self, turn_id: str, operation: Operation) -> bool:
        """Release now, or later if the ledger is unavailable. Returns whether it is available."""
        return await self._do(turn_id, operation, self._releases)

    def release_later(self, turn_id: str, operation: Operation) -> None:
        """Release once the ledger is available again, since it has not answered."""
        self._postpone(turn_id, operation, self._releases, "no answer")

    async def flush(self, most: int = _FLUSHED_AT_ONCE) -> None:
        """Carry out waiting operations, oldest first, at most ``most`` of each kind. Stops at the
        first failure. One flush runs at a time, so that no request waits for all operations.
        """
        if self._flushing or not (self._settlements or self._releases):
            return
        self._flushing = True
        try:
            for waiting in self._settlements, self._releases:
                for turn_id, operation in list(waiting.items())[:most]:
                    if not await self._do(turn_id, operation, waiting):
                        return
                    if waiting.get(turn_id) is operation:
                        del waiting[turn_id]
            if not self:
                _log.warning("ledger available again: settlements=0 releases=0")
                self._warn_at = -math.inf
        finally:
            self._flushing = False

    async def tend(self) -> None:
        """Carry out waiting operations soon after the ledger is available again, even if no
        request arrives. Runs until it is cancelled.
        """
        while True:
            await anyio.sleep(_TEND_SECONDS)
            await self.flush(most=sys.maxsize)

    def end(self) -> None:
        """Log the operations that were never carried out."""
        if self:
            _log.error("stopped while the ledger was unavailable: %s", self._waiting())

    def _waiting(self) -> str:
        return (
            f"settlements={len(self._settlements)} releases={len(self._releases)}. If one never "
            "reaches the ledger, its lease charges the hold in full."
        )

    async def _do(self, turn_id: str, operation: Operation, waiting: dict[str, Operation]) -> bool:
        reason, began = "", time.monotonic()
        try:
            with CancelScope(deadline=anyio.current_time() + self._seconds) as in_time:
                await operation()
            if in_time.cancelled_caught:
                reason = f"no answer within {self._seconds:g} s"
        except TimeoutError:
            reason = "it took too long"
        except LedgerUnavailable as exc:
            reason = reason_of(exc).found
        except Exception:  # noqa: BLE001  # a fault of the ledger: a retry would fail again
            _log.exception("ledger failed: turn=%s. Its lease charges the hold in full.", turn_id)
        if reason:
            self._postpone(turn_id, operation, waiting, reason)
        if self.observer is not None:
            name: Literal["settle", "release"] = (
                "settle" if waiting is self._settlements else "release"
            )
            self.observer.called(name, time.monotonic() - began, failed=bool(reason))
        return not reason

    def _postpone(
        self, turn_id: str, operation: Operation, waiting: dict[str, Operation], reason: str
    ) -> None:
        waiting[turn_id] = operation
        now = time.monotonic()
        if now >= self._warn_at:
            _log.warning("ledger unavailable: %s; %s", reason, self._waiting())
            self._warn_at = now + _WARN_SECONDS
        if len(self) > _MOST:
            fullest = self._releases or self._settlements
            dropped = next(iter(fullest))
            del fullest[dropped]
            _log.error("operation dropped: turn=%s. Its lease charges the hold in full.", dropped)
