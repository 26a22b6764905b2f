"""Outbox: operations that wait for a ledger which is away, until it is back."""

import logging
import math
import sys
import time
from collections.abc import Awaitable, Callable

import anyio
from anyio import CancelScope

from chatnest.errors import LedgerUnavailable
from chatnest.stores.reasons import reason_of

__all__ = ["Operation", "Outbox"]

_log = logging.getLogger("chatnest.accounting")

_MOST = 10_000
"""Operations that wait; beyond that, leases charge in full."""

_FLUSHED_AT_ONCE = 20

_TEND_SECONDS = 0.5
_SAY_SECONDS = 60.0

Operation = Callable[[], Awaitable[object]]


class Outbox:
    """Carries out operations of a ledger, each within ``seconds``, and keeps those that fail since
    it is away. All of them may be repeated.

    Settlements come before releases, and stay when there are too many: a release that is given up
    frees nothing that its lease would not end, and those who are refused can make many.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._settlements: dict[str, Operation] = {}
        self._releases: dict[str, Operation] = {}
        self._flushing = False
        self._say_again = -math.inf  # when, by time.monotonic(), that the ledger is away

    def __len__(self) -> int:
        return len(self._settlements) + len(self._releases)

    async def settle(self, turn_id: str, operation: Operation) -> bool:
        """Do it now, or later. Says whether the ledger was there."""
        return await self._do(turn_id, operation, self._settlements)

    async def release(self, turn_id: str, operation: Operation) -> bool:
        """Do it now, or later. Says whether the ledger was there."""
        return await self._do(turn_id, operation, self._releases)

    def release_later(self, turn_id: str, operation: Operation) -> None:
        """Do it when the ledger is back, which has given no answer."""
        self._postpone(turn_id, operation, self._releases, "no answer")

    async def flush(self, most: int = _FLUSHED_AT_ONCE) -> None:
        """Carry out some of what waits, oldest first, until something fails again. Whoever finds
        the ledger back does a little of it, one at a time, so that nobody has to wait for all.
        """
        if self._flushing or not self:
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
                _log.warning("nothing waits for the ledger any more")
                self._say_again = -math.inf
        finally:
            self._flushing = False

    async def tend(self) -> None:
        """Carry out what waits as soon as the ledger is back, also while nobody asks for anything.
        Ends when it is cancelled.
        """
        while True:
            await anyio.sleep(_TEND_SECONDS)
            await self.flush(most=sys.maxsize)

    def end(self) -> None:
        """Nothing is tried any more: say what that leaves."""
        if self:
            _log.error("ended while the ledger was away: %s", self._waiting())

    def _waiting(self) -> str:
        return (
            f"{len(self._settlements)} settlements and {len(self._releases)} releases wait for it, "
            "and leases charge those in full that it does not hear of"
        )

    async def _do(self, turn_id: str, operation: Operation, waiting: dict[str, Operation]) -> bool:
        away = ""
        try:
            with CancelScope(deadline=anyio.current_time() + self._seconds) as in_time:
                await operation()
            if in_time.cancelled_caught:
                away = f"no answer within {self._seconds:g} s"
        except TimeoutError:
            away = "it took too long"
        except LedgerUnavailable as exc:
            away = reason_of(exc).found
        except Exception:  # noqa: BLE001  # a fault of the ledger's: it would fail again
            _log.exception("turn %s: the ledger failed, its lease charges it in full", turn_id)
        if away:
            self._postpone(turn_id, operation, waiting, away)
        return not away

    def _postpone(
        self, turn_id: str, operation: Operation, waiting: dict[str, Operation], away: str
    ) -> None:
        waiting[turn_id] = operation
        now = time.monotonic()
        if now >= self._say_again:
            _log.warning("the ledger is away: %s; %s", away, self._waiting())
            self._say_again = now + _SAY_SECONDS
        if len(self) > _MOST:
            fullest = self._releases or self._settlements
            given_up = next(iter(fullest))
            del fullest[given_up]
            _log.error("turn %s: given up, its lease charges it in full", given_up)
