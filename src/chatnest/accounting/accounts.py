"""Accounts: admit a turn under all limits at once, and settle it once."""

import logging
from collections.abc import Callable
from functools import partial
from time import monotonic

import msgspec
from anyio import CancelScope, current_time, fail_after

from chatnest.accounting.bills import dearest
from chatnest.accounting.budget_warnings import BudgetWarnings
from chatnest.accounting.charge import ChargeRules
from chatnest.accounting.local_books import LocalBooks, WhenAway
from chatnest.accounting.outbox import Outbox
from chatnest.accounting.refusal_counts import RefusalCounts
from chatnest.accounting.refusals import KnownRefusals
from chatnest.accounting.throttle import Throttle
from chatnest.bounds import Bounds
from chatnest.errors import (
    LedgerUnavailable,
    LimitExceeded,
)
from chatnest.ledger.base import Admitted, Charge, Hold, Ledger, Limit, Refused, Reservation
from chatnest.ledger.calendar import seconds_of
from chatnest.ledger.usage import UsageBooks
from chatnest.telemetry.base import BooksObserver
from chatnest.turn import Turn
from chatnest.wire.ratelimit import rate_limit_fields, seconds_until

__all__ = ["LEASE", "Accounts", "Admission"]

_log = logging.getLogger("chatnest.accounting")

LEASE = 30_000
"""Milliseconds until a hold expires, unless it is renewed. A generation renews it every 10 s."""


class Accounts:
    """The ledger as a turn sees it: with deadlines, errors for clients, and the charge rules.

    ``charge_unanswered`` is whether a call that reached the model but got no answer is charged for
    its input. ``charge_timeouts`` is whether this also applies to a call that took too long.
    ``when_away`` decides whether turns are admitted while the ledger is unavailable. ``nudge`` is
    called after the end of a hold whose limits have ``warn_at``. ``has_prices`` is whether turns
    cost money, in ``currency``.
    """

    def __init__(
        self,
        ledger: Ledger,
        bounds: Bounds,
        *,
        charge_unanswered: bool = True,
        charge_timeouts: bool = True,
        when_away: WhenAway | None = None,
        currency: str = "USD",
        nudge: Callable[[], None] | None = None,
        has_prices: bool = False,
    ) -> None:
        self._nudge = nudge
        self.currency: str = currency
        self._must_keep_currency = has_prices
        self.ledger = ledger
        self.outbox: Outbox = Outbox(bounds.ledger_seconds)
        self._bounds = bounds
        self._rules = ChargeRules(charge_unanswered, charge_timeouts)
        self._local = LocalBooks(when_away if when_away is not None else WhenAway(), ledger.now)
        self._known = KnownRefusals()
        self._throttle = Throttle()
        self.refusals: RefusalCounts = RefusalCounts(ledger, bounds.ledger_seconds)
        self._warnings = BudgetWarnings()
        self._observer: BooksObserver | None = None

    def watch(self, observer: BooksObserver) -> None:
        """Report the calls to the ledger to an observer."""
        self._observer = self.outbox.observer = observer

    async def keep_currency(self) -> None:
        """Store the currency in the ledger, once, if models have prices. Raises ConfigurationError
        if the ledger counts in another currency, or LedgerUnavailable.
        """
        if self._must_keep_currency and isinstance(self.ledger, UsageBooks):
            await self.ledger.keep_currency(self.currency)
        self._must_keep_currency = False

    def weigh(self, turn: Turn, limits: "LimitsOf") -> "Admission":
        """The admission of ``turn``, before its tokens are counted. ``limits`` returns the limits
        of a turn.

        Raises LimitExceeded if the ledger would certainly refuse the turn, or if too many large
        requests under its limits were refused before. In both cases its tokens are not counted.
        """
        if turn.is_large or self._known:
            under, now = limits(turn), self.ledger.now()
            refused = self._known.find(under, now)
            if refused is None and turn.is_large:
                refused = self._throttle.begin(under, now)
            if refused is not None:
                raise self._refusal(refused)
        return Admission(self, turn, limits, self._throttle if turn.is_large else None)

    async def admit(self, turn: Turn, limits: tuple[Limit, ...]) -> Admitted:
        """Hold the worst case of ``turn`` under every limit, and lower its maximum output to the
        tokens that are left. Raises LimitExceeded or LedgerUnavailable; nothing is held then.
        """
        turn.wanted_tokens = turn.max_output_tokens
        wish = Reservation(
            id=turn.id,
            limits=limits,
            output=turn.max_output_tokens,
            min_output=turn.min_output_tokens,
            input_tokens=turn.input_tokens,
            money=dearest(turn, limits, self.ledger.now),
            lease=LEASE,
            principal=turn.principal,
        )
        answer = await self._reserve(wish)
        if isinstance(answer, Refused):
            self._known.remember(answer, turn.min_output_tokens + turn.reply_tokens + 1)
            raise self._refusal(answer, wish)
        for state in answer.states:
            if state.limit.hidden and state.limit.kind == "budget":
                self._warnings.look(state)
        turn.max_output_tokens = answer.hold.output
        if self._observer is not None:
            self._observer.admitted(answer)
        return answer

    async def _reserve(self, wish: Reservation) -> Admitted | Refused:
        """Reserve in the ledger, or in the local books if the ledger is unavailable.

        If no answer arrives, the reservation may or may not exist. It is then released, now or as
        soon as the ledger is available again.
        """
        deadline = current_time() + self._bounds.ledger_seconds
        began = monotonic()
        try:
            with CancelScope(deadline=deadline) as in_time:
                if self._must_keep_currency:  # without lifespan events, the first turn does this
                    await self.keep_currency()
                answer = await self.ledger.reserve(wish)
            if not in_time.cancelled_caught:
                if self._observer is not None:
                    self._observer.called("reserve", monotonic() - began, failed=False)
                await self.outbox.flush()  # inside the try: a disconnect here releases the hold
                return answer
        except (LedgerUnavailable, TimeoutError) as exc:
            return self._reserve_here(wish, exc, monotonic() - began)
        except BaseException:
            with CancelScope(shield=True):
                await self.outbox.release(wish.id, partial(self.ledger.release, wish))
            raise
        return self._reserve_here(wish, None, monotonic() - began)

    def _reserve_here(
        self, wish: Reservation, cause: Exception | None, seconds: float
    ) -> Admitted | Refused:
        """Reserve in the local books. A turn admitted here is still settled in the ledger, even if
        we never learn whether its reservation exists there. Raises LedgerUnavailable.
        """
        if self._observer is not None:
            self._observer.called("reserve", seconds, failed=True)
        answer = self._local.reserve(wish) if self._local.may_count(wish.limits) else None
        if not isinstance(answer, Admitted):
            self.outbox.release_later(wish.id, partial(self.ledger.release, wish))
        if answer is None:
            raise LedgerUnavailable from cause
        return answer

    async def renew(self, hold: Hold) -> None:
        """Renew a hold. A failure is only logged: the lease outlasts one missed renewal."""
        self._local.renew(hold, LEASE)
        try:
            with fail_after(self._bounds.ledger_seconds):
                await self.ledger.renew(hold, LEASE)
        except Exception:  # noqa: BLE001  # a ledger may raise anything
            _log.warning("lease not renewed: turn=%s", hold.id)
        else:
            await self.outbox.flush()

    async def settle(self, turn: Turn, hold: Hold, failure: BaseException | None) -> Charge:
        """Charge a turn that has ended, and return the charge. Does not raise if the ledger is
        unavailable: the settlement then waits in the outbox.
        """
        charge = await self._rules.charge(turn, hold, failure)
        turn.outcome, turn.charged, turn.source = charge.outcome, charge.tokens, charge.source
        turn.charged_money = charge.money
        self._local.settle(hold, charge)
        if await self.outbox.settle(hold.id, partial(self.ledger.settle, hold, charge)):
            await self.outbox.flush()
            if self.refusals:
                await self.refusals.flush_if_due()
        if hold.watched and self._nudge is not None:
            self._nudge()
        return charge

    def _refusal(self, refused: Refused, wish: Reservation | None = None) -> LimitExceeded:
        state, wait = refused.state, refused.retry_after
        if state is None:  # cannot happen: only an id that was released before gets this answer
            raise LedgerUnavailable
        limit = state.limit
        self.refusals.count(limit.name, refused.now)
        needed = None
        if wait is None and wish is not None:
            cost = wish.costs()[limit.unit]
            least = cost.fixed + cost.per_output * wish.min_output
            needed = least if least > limit.amount + state.granted else None
        return LimitExceeded(
            limit.name,
            unit=limit.unit,
            window=seconds_of(limit),
            period=limit.window if isinstance(limit.window, str) else None,
            wait=None if wait is None else seconds_until(refused.now + wait, refused.now),
            amount=None if limit.hidden else limit.amount + state.granted,
            needed=needed,
            held=refused.by_held,
            currency=self.currency,
            headers=rate_limit_fields([state], refused.now),
        )


LimitsOf = Callable[[Turn], tuple[Limit, ...]]


class Admission(msgspec.Struct, frozen=True):
    """A turn that may be admitted. Its policies prepare it before ``hold``, and may change its
    limits. ``throttle`` is set if it has counted this turn as a large request.
    """

    accounts: Accounts
    turn: Turn
    limits: LimitsOf
    throttle: Throttle | None

    async def hold(self) -> Admitted:
        """Admit the turn, as Accounts.admit does."""
        limits = self.limits(self.turn)
        admitted = await self.accounts.admit(self.turn, limits)
        if self.throttle is not None:
            self.throttle.undo(limits, admitted.now)
        return admitted
