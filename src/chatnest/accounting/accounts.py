"""Accounts: a turn is admitted by all limits at once, and settled once, whatever ended it."""

import logging
from collections.abc import Callable
from typing import Final, Literal

import msgspec
from anyio import CancelScope, current_time, fail_after

from chatnest.accounting.effort import Effort
from chatnest.accounting.local_books import LocalBooks, WhenAway
from chatnest.accounting.nearing import Nearing
from chatnest.accounting.outbox import Outbox
from chatnest.accounting.refusals import KnownRefusals
from chatnest.bounds import Bounds
from chatnest.errors import (
    ChatNestError,
    LedgerUnavailable,
    LimitExceeded,
    UpstreamError,
    UpstreamTimeout,
)
from chatnest.events import Usage
from chatnest.ledger.base import Admitted, Charge, Hold, Ledger, Limit, Refused, Reservation
from chatnest.turn import Turn
from chatnest.wire.ratelimit import rate_limit_fields, seconds_until

__all__ = ["LEASE", "Accounts", "Admission"]

_log = logging.getLogger("chatnest.accounting")

LEASE = 30_000
"""Milliseconds that a hold lives without being renewed; it is renewed three times as often."""

_LARGE: Final = 8_192
"""Characters of a request. Counting fewer costs about as much as everything else about it."""

_COUNTING_SECONDS = 1.0
"""For counting an answer at its settlement, which must come whatever else keeps the cores busy."""


class Accounts:
    """The ledger as a turn sees it: with deadlines, sentences and the rules of who pays what.

    ``charge_unanswered`` says whether a call that reached the model, and got no answer at all, is
    charged for its input, ``charge_timeouts`` whether it also is where it took too long, and
    ``when_away`` what may be admitted without the ledger.
    """

    def __init__(
        self,
        ledger: Ledger,
        bounds: Bounds,
        *,
        charge_unanswered: bool = True,
        charge_timeouts: bool = True,
        when_away: WhenAway | None = None,
    ) -> None:
        self.ledger = ledger
        self.outbox: Outbox = Outbox(bounds.ledger_seconds)
        self._bounds = bounds
        self._charge_unanswered = charge_unanswered
        self._charge_timeouts = charge_timeouts
        self._local = LocalBooks(when_away if when_away is not None else WhenAway(), ledger.now)
        self._known = KnownRefusals()
        self._effort = Effort()
        self._nearing = Nearing()

    def weigh(self, turn: Turn, limits: "LimitsOf") -> "Admission":
        """The admission of ``turn``, before its tokens are counted. ``limits`` names the limits of
        a turn.

        Raises LimitExceeded if the ledger is known to refuse the turn, so that nothing is counted
        in vain, and if too many large requests under these limits came to nothing.
        """
        large = sum([len(message.text) for message in turn.messages]) > _LARGE
        if large or self._known:
            under, now = limits(turn), self.ledger.now()
            refused = self._known.find(under, now)
            if refused is None and large:
                refused = self._effort.begin(under, now)
            if refused is not None:
                raise _refusal(refused, 0)
        return Admission(self, turn, limits, self._effort if large else None)

    async def admit(self, turn: Turn, limits: tuple[Limit, ...]) -> Admitted:
        """Hold the worst case of ``turn`` under every limit, and lower its output to what is left.

        Raises LimitExceeded, having counted nothing, or LedgerUnavailable.
        """
        wish = Reservation(
            id=turn.id,
            limits=limits,
            tokens=turn.input_tokens + turn.max_output_tokens,
            min_tokens=turn.input_tokens + turn.min_output_tokens,
            lease=LEASE,
        )
        answer = await self._reserve(wish)
        if isinstance(answer, Refused):
            self._known.remember(answer, turn.min_output_tokens + turn.reply_tokens + 1)
            raise _refusal(answer, wish.min_tokens)
        for state in answer.states:
            if state.limit.hidden and state.limit.kind == "budget":
                self._nearing.look(state)
        turn.max_output_tokens = answer.hold.tokens - turn.input_tokens
        return answer

    async def _reserve(self, wish: Reservation) -> Admitted | Refused:
        """Whatever keeps the answer from coming: whether it was carried out is unknown then, so it
        counts as refused, and is undone, at once or as soon as the ledger is back.
        """
        deadline = current_time() + self._bounds.ledger_seconds
        try:
            with CancelScope(deadline=deadline) as in_time:
                answer = await self.ledger.reserve(wish)
            if not in_time.cancelled_caught:
                await self.outbox.flush()  # within reach of what undoes it, should the client leave
                return answer
        except (LedgerUnavailable, TimeoutError) as exc:
            return self._reserve_here(wish, exc)
        except BaseException:
            with CancelScope(shield=True):
                await self.outbox.release(wish.id, lambda: self.ledger.release(wish))
            raise
        return self._reserve_here(wish, None)

    def _reserve_here(self, wish: Reservation, away: Exception | None) -> Admitted | Refused:
        """What is admitted here will be settled there, whatever the ledger has made of the wish."""
        answer = self._local.reserve(wish) if self._local.may_count(wish.limits) else None
        if not isinstance(answer, Admitted):
            self.outbox.release_later(wish.id, lambda: self.ledger.release(wish))
        if answer is None:
            raise LedgerUnavailable from away
        return answer

    async def renew(self, hold: Hold) -> None:
        """Keep a hold alive. A failure is no reason to stop an answer: the lease has slack."""
        self._local.renew(hold, LEASE)
        try:
            with fail_after(self._bounds.ledger_seconds):
                await self.ledger.renew(hold, LEASE)
        except Exception:  # noqa: BLE001  # whatever a ledger raises
            _log.warning("turn %s: the lease could not be renewed", hold.id)
        else:
            await self.outbox.flush()

    async def settle(self, turn: Turn, hold: Hold, failure: BaseException | None) -> None:
        """Charge what ``turn`` cost. Never raises for the ledger's sake: a settlement that cannot
        be written now waits, and is written with the next one.
        """
        charge = await self._charge(turn, hold, failure)
        turn.outcome, turn.charged, turn.source = charge.outcome, charge.tokens, charge.source
        if isinstance(failure, ChatNestError):
            failure.charged = charge.tokens > 0
        self._local.settle(hold, charge)
        if await self.outbox.settle(hold.id, lambda: self.ledger.settle(hold, charge)):
            await self.outbox.flush()

    async def _charge(self, turn: Turn, hold: Hold, failure: BaseException | None) -> Charge:
        """Promise B: the provider's figure where it came; nothing where the model was not reached;
        else what was delivered, and a margin for what was under way. The margin stays within the
        hold, what was delivered is charged in any case. What is no bill is forgotten.
        """
        answer = turn.answer
        usage = answer.usage
        if usage is not None and not (usage.input_tokens and usage.output_tokens):
            usage = answer.usage = _completed(turn, usage)
        source: Literal["provider", "estimated", "none"]
        if usage is not None and answer.finish_reason is not None:
            spent, output, source = usage.input_tokens, usage.output_tokens, usage.source
        elif not self._reached_model(turn, failure):
            spent, output, source = 0, 0, "none"
        else:
            spent, output, source = turn.input_tokens, await _delivered(turn), "estimated"
            if usage is not None and usage.output_tokens >= output:
                spent, output, source = usage.input_tokens, usage.output_tokens, usage.source
            elif failure is not None and answer.finish_reason is None:
                # A figure that came early, of less than was delivered since, is no bill.
                with_margin = output + max(8, output // 20)
                output = max(output, min(with_margin, hold.tokens - spent))
        return Charge(
            tokens=spent + output,
            input_tokens=spent,
            output_tokens=output,
            source=source,
            outcome=_outcome(failure),
            principal=turn.principal,
            profile=turn.profile.name,
            model=turn.model,
        )

    def _reached_model(self, turn: Turn, failure: BaseException | None) -> bool:
        if turn.answer.said:
            return True
        if turn.call is None or not turn.call.sent:
            return False
        if isinstance(failure, UpstreamError) and not failure.reached_model:
            return False
        if isinstance(failure, UpstreamTimeout) and not self._charge_timeouts:
            return False
        return turn.answer.begun or self._charge_unanswered


LimitsOf = Callable[[Turn], tuple[Limit, ...]]


class Admission(msgspec.Struct, frozen=True):
    """A turn that may be admitted. Its policies prepare it before ``hold``, which can change its
    limits. ``effort`` has noted a large one.
    """

    accounts: Accounts
    turn: Turn
    limits: LimitsOf
    effort: Effort | None

    async def hold(self) -> Admitted:
        """Admit the turn: see Accounts.admit."""
        limits = self.limits(self.turn)
        admitted = await self.accounts.admit(self.turn, limits)
        if self.effort is not None:
            self.effort.undo(limits, admitted.now)
        return admitted


def _completed(turn: Turn, usage: Usage) -> Usage | None:
    """A figure that lacks a part: none where it has no output beside something that came, with our
    count of the input where it has a total alone.
    """
    if not usage.output_tokens:
        return None if turn.answer.said else usage
    taken = min(turn.input_tokens, usage.output_tokens - 1)
    output = usage.output_tokens - taken
    return msgspec.structs.replace(usage, input_tokens=taken, output_tokens=output)


async def _delivered(turn: Turn) -> int:
    """Tokens of the answer; should there be no time to count them, as many as there can be."""
    try:
        with fail_after(_COUNTING_SECONDS):
            return await turn.output_tokens()
    except TimeoutError:
        return turn.most_output_tokens()


def _outcome(failure: BaseException | None) -> str:
    if failure is None:
        return "done"
    return failure.code if isinstance(failure, ChatNestError) else "cancelled"


def _refusal(refused: Refused, min_tokens: int) -> LimitExceeded:
    state = refused.state
    if state is None:  # cannot happen to an id that was just made
        raise LedgerUnavailable
    limit = state.limit
    fits = limit.kind != "budget" or limit.limit >= min_tokens
    return LimitExceeded(
        limit.name,
        unit=limit.unit,
        window=None if limit.kind == "concurrency" else limit.window,
        wait=seconds_until(refused.now + refused.retry_after, refused.now) if fits else None,
        amount=None if limit.hidden else limit.limit,
        needed=None if fits else min_tokens,
        held=refused.by_held,
        headers=rate_limit_fields([state], refused.now),
    )
