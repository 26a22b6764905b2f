"""Answering: one turn from its policies to its settlement, which comes in any case."""

from collections.abc import Iterator, Sequence
from functools import partial
from time import monotonic

from anyio import move_on_after
from anyio.lowlevel import checkpoint

from chatnest.accounting.accounts import Accounts
from chatnest.attempts import Attempts, OpenCall
from chatnest.bounds import ResolvedBounds
from chatnest.endings import StopAnswer, cause_of, check_end, is_incomplete
from chatnest.errors import AnswerTooLong
from chatnest.events import Done, ProviderEvent, Usage
from chatnest.ledger.base import Hold
from chatnest.policies.base import PolicyChain
from chatnest.providers.base import ProviderStream
from chatnest.streams.generation import Generation
from chatnest.telemetry.observers import Observers
from chatnest.turn import Turn
from chatnest.wire.ratelimit import rate_limit_fields

__all__ = ["Answering"]


class Answering:
    """Applies the policies to a turn, reserves tokens, calls the model, and settles the turn."""

    def __init__(
        self,
        attempts: Attempts,
        policies: PolicyChain,
        accounts: Accounts,
        bounds: ResolvedBounds,
        observers: Observers,
    ) -> None:
        self._observers = observers
        self._attempts = attempts
        self._policies = policies
        self._accounts = accounts
        self._bounds = bounds

    async def answer(self, generation: Generation) -> Done:
        """Policies, then one admission, then the model, then one settlement in any case."""
        turn, policies = generation.turn, self._policies
        hold = await self._admit(generation)
        failure: BaseException | None = None
        try:
            opened, events = await self._attempts.open(generation)
            async with opened:
                await self._start(generation, opened, events)
                answer = turn.answer
                async for batch in events:
                    pieces = answer.add(batch)
                    if policies.watches:
                        policies.watch(turn, pieces)
                    await generation.put(pieces)
                    if answer.tokens_left < 0 or answer.bytes_left < 0:
                        await self._look_at_length(turn)
                check_end(answer, may_be_empty=turn.request.submission.may_be_empty)
        except StopAnswer as exc:
            failure = exc
        except BaseException as exc:
            failure = cause_of(exc, generation.stopped)
            raise
        finally:
            try:
                await self._settle(turn, hold, failure)
            finally:
                is_stopped, failure = failure is not None, None  # its traceback has this frame
        if is_stopped:
            await generation.start()  # a policy may stop the answer before the first piece is sent
        estimate = Usage(turn.input_tokens, turn.charged - turn.input_tokens, "estimated")
        return Done(
            turn.answer.finish_reason or "",
            turn.answer.usage or estimate,
            incomplete=turn.answer.calls is not None and is_incomplete(turn.answer),
        )

    async def _admit(self, generation: Generation) -> Hold:
        """Reserve the turn's tokens, after its policies have prepared it. The reservation is
        renewed until the generation ends.
        """
        turn, observers = generation.turn, self._observers
        turn.asked_at = monotonic()
        if observers.sees_requests:
            observers.asked(turn)
        try:
            admission = self._accounts.weigh(turn, self._policies.limits)
            await self._policies.prepare(turn)
            await turn.fit()
            await generation.check_client()
            admitted = await admission.hold()
        except BaseException as exc:
            if observers.watched:
                observers.not_admitted(turn, cause_of(exc, generation.stopped))
            raise
        hold = admitted.hold
        generation.output.add_headers(
            {
                **rate_limit_fields(admitted.states, admitted.now),
                "ChatNest-Request-Id": turn.id,  # its id in the ledger
            }
        )
        generation.renew_with(partial(self._accounts.renew, hold))
        if observers.sees_admissions:
            observers.admitted(turn, admitted)
        return hold

    async def _start(
        self, generation: Generation, opened: OpenCall, events: ProviderStream
    ) -> None:
        """Hand on the first pieces. A policy that watches must see each piece, so with such a
        policy no piece takes the short cut.
        """
        turn, policies, answer = generation.turn, self._policies, generation.turn.answer
        if self._observers.watched and answer.said:
            self._observers.first_piece(turn)
        if policies.watches:
            policies.watch(turn, opened.first)
        await generation.start(opened.first)
        opened.first = []
        if answer.tokens_left < 0 or answer.bytes_left < 0:
            await self._look_at_length(turn)
        if generation.output.puts_now and not policies.watches:
            offer = getattr(events, "offer", None)
            if offer is not None:
                offer(generation)

    async def _settle(self, turn: Turn, hold: Hold, failure: BaseException | None) -> None:
        """Charge the turn, and report its end."""
        with move_on_after(self._bounds.settle_seconds, shield=True):
            try:
                if turn.call is not None and turn.call.unread is not None:
                    await _take_unread(turn, turn.call.unread)
            finally:
                charge = await self._accounts.settle(turn, hold, failure)
                if isinstance(failure, StopAnswer):
                    _note_stop(turn, failure)
                if self._observers.watched:
                    self._observers.ended(turn, hold, charge)
            if self._policies.finishes:
                await self._policies.finished(turn)

    async def _look_at_length(self, turn: Turn) -> None:
        """Count an answer whose upper estimate exceeds its limit, and set how many tokens
        may arrive before the next count. Raises AnswerTooLong.
        """
        if turn.answer.bytes_left < 0:
            raise AnswerTooLong
        left = turn.most_counted - await turn.output_tokens()
        if left < 0:
            raise AnswerTooLong
        turn.answer.tokens_left = max(left, turn.slack)


def _note_stop(turn: Turn, stop: StopAnswer) -> None:
    """Give the answer the policy's reason to stop. If the charge is not the provider's figure, that
    figure came early and is not shown.
    """
    answer = turn.answer
    answer.finish_reason = stop.finish_reason
    if answer.usage is not None and answer.usage.total_tokens != turn.charged:
        answer.usage = None


async def _take_unread(turn: Turn, unread: Iterator[Sequence[ProviderEvent]]) -> None:
    """Add the events that had arrived when the answer was left. The connection is closed by now."""
    turn.answer.begun = True
    for events in unread:
        turn.answer.add(events)
        if turn.answer.bytes_left < 0:
            return
        await checkpoint()
