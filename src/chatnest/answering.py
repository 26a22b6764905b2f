"""Answering: one turn from its policies to its settlement, whatever happens on the way."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from types import TracebackType
from typing import Self

import anyio
import msgspec
from anyio import CancelScope, move_on_after
from anyio.lowlevel import checkpoint

from chatnest.accounting.accounts import Accounts
from chatnest.bounds import ResolvedBounds
from chatnest.conversation import ModelRequest
from chatnest.endings import check_end
from chatnest.errors import (
    AnswerTooLong,
    ChatNestError,
    ClientGone,
    InternalError,
    UpstreamBadResponse,
    UpstreamError,
    UpstreamTimeout,
)
from chatnest.events import Delta, Done, ProviderEvent, Usage
from chatnest.failures import log_failure
from chatnest.policies.base import PolicyChain
from chatnest.providers import Provider
from chatnest.providers.base import ProviderStream
from chatnest.streams.generation import Generation
from chatnest.turn import Answer, ModelCall, Turn
from chatnest.wire.ratelimit import rate_limit_fields

__all__ = ["Answering"]

_log = logging.getLogger("chatnest.app")


class Answering:
    """What stands between a turn and its answer: policies, accounts and the model."""

    def __init__(
        self, provider: Provider, policies: PolicyChain, accounts: Accounts, bounds: ResolvedBounds
    ) -> None:
        self._provider = provider
        self._policies = policies
        self._accounts = accounts
        self._bounds = bounds

    async def answer(self, generation: Generation) -> Done:
        """Policies, then one admission, then the model, then one settlement, whatever happens."""
        turn = generation.turn
        admission = self._accounts.weigh(turn, self._policies.limits)
        await self._policies.prepare(turn)
        await turn.fit()
        await generation.check_client()
        admitted = await admission.hold()
        hold = admitted.hold
        generation.output.add_headers(
            {
                **rate_limit_fields(admitted.states, admitted.now),
                "ChatNest-Request-Id": turn.id,  # as the books have it
            }
        )
        del admission, admitted  # the limits need not live as long as the stream
        generation.renew_with(partial(self._accounts.renew, hold))
        failure: BaseException | None = None
        try:
            async with await self._open(generation) as opened:
                answer, events = turn.answer, opened.events
                await generation.start(opened.first)
                opened.first = []
                if answer.tokens_left < 0 or answer.bytes_left < 0:
                    await self._look_at_length(turn)
                if generation.output.puts_now and (offer := getattr(events, "offer", None)):
                    offer(generation)
                async for batch in events:
                    await generation.put(answer.add(batch))
                    if answer.tokens_left < 0 or answer.bytes_left < 0:
                        await self._look_at_length(turn)
                check_end(answer)
        except ChatNestError as exc:
            failure = exc
            raise
        except Exception as exc:
            _log.exception("request %s failed", turn.id)
            failure = InternalError()
            raise failure from exc
        except BaseException:  # cancelled: the client left, a deadline passed, or a shutdown
            failure = generation.stopped or ClientGone()
            raise
        finally:
            log_failure(turn, failure)
            with move_on_after(self._bounds.settle_seconds, shield=True):
                try:
                    if turn.call is not None and turn.call.unread is not None:
                        await _take_unread(turn, turn.call.unread)
                finally:
                    await self._accounts.settle(turn, hold, failure)
                await self._policies.finished(turn)
        estimate = Usage(turn.input_tokens, turn.charged - turn.input_tokens, "estimated")
        return Done(turn.answer.finish_reason or "", turn.answer.usage or estimate)

    async def _open(self, generation: Generation) -> "_Open":
        """Ask the model, again where a policy says so, until something billable has come."""
        turn = generation.turn
        deadline = anyio.current_time() + self._bounds.first_byte_seconds
        generation.call_model()
        attempt = 1
        while True:
            try:
                return await self._ask(generation, deadline)
            except UpstreamError as exc:
                delay = None
                if _may_repeat(turn.answer, exc):
                    delay = self._policies.classify(turn, exc, attempt)
                if delay is None or anyio.current_time() + delay >= deadline:
                    raise
                log_failure(turn, exc)
                if not exc.reached_model:
                    turn.call = None  # it cost nothing, should the client leave now
                if turn.answer.begun:
                    turn.answer = Answer()
            generation.call_model()
            await anyio.sleep(delay)
            attempt += 1

    async def _ask(self, generation: Generation, deadline: float) -> "_Open":
        turn = generation.turn
        request = ModelRequest(
            messages=(*turn.system, *turn.messages),
            max_output_tokens=turn.max_output_tokens,
            temperature=turn.profile.temperature,
        )
        turn.call = ModelCall(request=request, request_id=turn.id)
        answer = turn.answer
        answer.tokens_left = turn.max_output_tokens
        answer.bytes_left = self._bounds.answer_bytes
        call = self._provider.open(turn.call)
        with CancelScope(deadline=deadline) as waiting:
            opened = _Open(call, await call.__aenter__(), [])
            turn.answer.begun = True
            if waiting.cancel_called:
                async with opened:
                    await checkpoint()  # which ends it, since its time was up
        if waiting.cancelled_caught:
            raise UpstreamTimeout
        generation.alive()
        try:
            while not answer.said:  # what fails before anything billable has its own status
                if (batch := await anext(opened.events, None)) is None:
                    check_end(answer)
                    break
                opened.first += answer.add(batch)
                if not answer.said:
                    generation.alive()
        except BaseException:
            async with opened:
                raise
        return opened

    async def _look_at_length(self, turn: Turn) -> None:
        """Count an answer whose upper estimate is beyond its limit, and say how far it may go until
        it is counted again. Raises AnswerTooLong.
        """
        if turn.answer.bytes_left < 0:
            raise AnswerTooLong
        left = turn.most_counted - await turn.output_tokens()
        if left < 0:
            raise AnswerTooLong
        turn.answer.tokens_left = max(left, turn.slack)


async def _take_unread(turn: Turn, unread: Iterator[Sequence[ProviderEvent]]) -> None:
    """Take note of what had arrived when the answer was left. The connection is closed by now."""
    turn.answer.begun = True
    for events in unread:
        turn.answer.add(events)
        if turn.answer.bytes_left < 0:
            return
        await checkpoint()


def _may_repeat(answer: Answer, failure: UpstreamError) -> bool:
    """Whether the model may be asked again: what was answered with 200 may be billed, unless it was
    a refusal.
    """
    if answer.said or isinstance(failure, UpstreamBadResponse):
        return False
    return not (answer.begun and failure.reached_model)


class _Open(msgspec.Struct):
    """A call that the model has taken, entered already, and what came ``first``. While it is read,
    the frames of its asking need not live, nor be gone through for each token.
    """

    call: AbstractAsyncContextManager[ProviderStream]
    events: ProviderStream
    first: list[Delta]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        return await self.call.__aexit__(kind, failure, traceback)
