"""Deliveries: a background task that delivers each warning in the books at least once."""

import logging
import time
from typing import Final

import anyio
from anyio import fail_after

from chatnest.alerts.warning import BudgetWarning, OnWarning, warning_of
from chatnest.amounts import amount_text
from chatnest.errors import ConfigurationError, LedgerUnavailable
from chatnest.ledger.base import Ledger
from chatnest.ledger.watch import Crossing, Watched

__all__ = ["Deliveries"]

_log = logging.getLogger("chatnest.alerts")

_TICK_SECONDS: Final = 0.5
"""Maximum seconds from a settlement to the search for its warnings."""
_SWEEP_SECONDS: Final = 30.0
"""Seconds between two searches without a settlement, for warnings of workers that have ended."""
_ATTEMPTS: Final = 3
_ATTEMPT_SECONDS: Final = 5.0
"""Maximum seconds of one attempt. All attempts end before another worker may take over."""
_PAUSE_SECONDS: Final = 0.5
"""Seconds before the second attempt. Each later pause is twice as long."""
_KEPT: Final = 3 * 86_400_000
"""Milliseconds after which an undelivered warning is dropped."""


class Deliveries:
    """Delivers warnings to ``on_warning``, and logs them.

    It searches for warnings soon after a settlement that may have caused one. It also searches
    twice a minute if there is an ``on_warning``, or if ``watches``: limits of this process have
    ``warn_at``. Raises ConfigurationError for an ``on_warning`` with a ledger that keeps no
    warnings.
    """

    def __init__(
        self,
        ledger: Ledger,
        on_warning: OnWarning | None = None,
        *,
        watches: bool = False,
        currency: str = "USD",
    ) -> None:
        given: object = on_warning
        if given is not None and not callable(given):
            raise ConfigurationError(
                f"on_warning: expected an async function, got {type(given).__name__}."
            )
        if on_warning is not None and not isinstance(ledger, Watched):
            raise ConfigurationError(
                f"on_warning: expected a ledger that keeps warnings, got {ledger!r}. Add "
                "next_crossing and end_crossing to it, or leave on_warning out."
            )
        self._ledger = ledger
        self._on_warning = on_warning
        self._watches = watches or on_warning is not None
        self._currency = currency
        self._nudged = False
        self._sweep_at = 0.0  # by time.monotonic()

    def nudge(self) -> None:
        """Search soon, because a hold with ``warn_at`` has ended."""
        self._nudged = self._watches = True

    async def tend(self) -> None:
        """Deliver warnings until cancelled."""
        while isinstance(self._ledger, Watched):
            if self._nudged or (self._watches and time.monotonic() >= self._sweep_at):
                self._nudged, self._sweep_at = False, time.monotonic() + _SWEEP_SECONDS
                await self._sweep(self._ledger)
            await anyio.sleep(_TICK_SECONDS)

    async def _sweep(self, ledger: Watched) -> None:
        """Deliver all warnings, until one of them fails."""
        try:
            crossing = await ledger.next_crossing()
            while crossing is not None and await self._deliver(ledger, crossing):
                crossing = await ledger.next_crossing()
        except LedgerUnavailable:
            pass  # the next sweep tries again, and requests log the reason
        except Exception:  # noqa: BLE001  # a ledger may raise anything
            _log.exception("budget warnings cannot be read from %r", ledger)

    async def _deliver(self, ledger: Watched, crossing: Crossing) -> bool:
        """Deliver or drop a crossing, and note that. Returns False if the delivery failed."""
        warning = warning_of(crossing, self._currency)
        if crossing.is_new:
            _log_warning(warning)
        if self._ledger.now() - crossing.at > _KEPT:
            _log.error("budget warning dropped: all attempts failed for days: id=%s", warning.id)
            await ledger.end_crossing(crossing, "dropped")
            return True
        if self._on_warning is not None and not await self._attempt(self._on_warning, warning):
            return False
        await ledger.end_crossing(crossing, "delivered")
        return True

    async def _attempt(self, on_warning: OnWarning, warning: BudgetWarning) -> bool:
        """Call the hook until it succeeds, a few times."""
        for attempt in range(_ATTEMPTS):
            if attempt:
                await anyio.sleep(_PAUSE_SECONDS * 2 ** (attempt - 1))
            try:
                with fail_after(_ATTEMPT_SECONDS):
                    await on_warning(warning)
            except Exception as exc:  # noqa: BLE001  # a hook may raise anything
                reason = f"{type(exc).__name__}: {exc}"
            else:
                return True
        _log.error("budget warning not delivered: id=%s reason=%s", warning.id, reason)
        return False


def _log_warning(warning: BudgetWarning) -> None:
    is_money = warning.unit == "money"
    _log.warning(
        "budget warning: limit=%s account=%s window=%s threshold=%g used=%s of=%s unit=%s id=%s",
        warning.limit,
        f"{warning.kind}:{warning.name}" if warning.name else warning.kind,
        warning.window,
        warning.threshold,
        amount_text(warning.used) if is_money else warning.used,
        amount_text(warning.amount) if is_money else warning.amount,
        warning.currency if is_money else warning.unit,
        warning.id,
    )
