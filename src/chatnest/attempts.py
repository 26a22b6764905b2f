"""Attempts: the calls of the model for one turn, until one of them answers."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from time import monotonic, time
from types import TracebackType
from typing import Self

import anyio
import msgspec
from anyio import CancelScope
from anyio.lowlevel import checkpoint

from chatnest.bounds import ResolvedBounds
from chatnest.conversation import ModelRequest
from chatnest.endings import cause_of, check_end
from chatnest.errors import UpstreamBadResponse, UpstreamError, UpstreamTimeout
from chatnest.events import Delta
from chatnest.policies.base import PolicyChain
from chatnest.providers import Provider
from chatnest.providers.base import ProviderStream
from chatnest.streams.generation import Generation
from chatnest.telemetry.observers import Observers
from chatnest.turn import Answer, Attempt, ModelCall, Turn

__all__ = ["Attempts", "OpenCall"]


class Attempts:
    """Calls the candidates one after the other, each again if a policy decides so, until one has
    sent anything that may be billed. There is one candidate so far: the provider.
    """

    def __init__(
        self,
        candidates: Sequence[Provider],
        policies: PolicyChain,
        bounds: ResolvedBounds,
        observers: Observers,
    ) -> None:
        self.observers: Observers = observers
        self._candidates = tuple(candidates)
        self._policies = policies
        self._bounds = bounds

    async def open(self, generation: Generation) -> "tuple[OpenCall, ProviderStream]":
        """The call that answers, to be entered, and its events. Raises what ended the last one."""
        turn = generation.turn
        deadline = anyio.current_time() + self._bounds.first_byte_seconds
        candidates = iter(self._candidates)
        provider, number = next(candidates), 1
        generation.call_model()
        while True:
            try:
                return await self._call(provider, generation, deadline)
            except UpstreamError as exc:
                if not _may_repeat(turn.answer, exc):
                    raise
                delay = self._policies.classify(turn, exc, number)
                if delay is not None and anyio.current_time() + delay < deadline:
                    number += 1
                elif (following := next(candidates, None)) is not None:
                    provider, number, delay = following, 1, 0.0
                else:
                    raise
                _begin_again(turn, exc)
            generation.call_model()
            await anyio.sleep(delay)

    async def _call(
        self, provider: Provider, generation: Generation, deadline: float
    ) -> "tuple[OpenCall, ProviderStream]":
        """Call the model, and read until anything billable has come: a failure before that has a
        status of its own.
        """
        turn = generation.turn
        request = ModelRequest(
            messages=(*turn.system, *turn.messages),
            max_output_tokens=turn.max_output_tokens,
            temperature=turn.profile.temperature,
        )
        call = turn.call = ModelCall(request=request, request_id=turn.id)
        answer = turn.answer
        answer.tokens_left = turn.max_output_tokens
        answer.bytes_left = self._bounds.answer_bytes
        opened = OpenCall(self, generation, call, provider.model, monotonic())
        try:
            with CancelScope(deadline=deadline) as waiting:
                context = provider.open(call)
                events = await context.__aenter__()
                opened.context = context
                answer.begun = True
                if waiting.cancel_called:
                    await checkpoint()  # which ends it, since its time was up
            if waiting.cancelled_caught:
                raise UpstreamTimeout  # noqa: TRY301  # which leaves the call as any failure does
            generation.alive()
            while not answer.said:
                if (batch := await anext(events, None)) is None:
                    check_end(answer)
                    break
                opened.first += answer.add(batch)
                if not answer.said:
                    generation.alive()
        except BaseException:
            async with opened:
                raise
        return opened, events


def _may_repeat(answer: Answer, failure: UpstreamError) -> bool:
    """Whether the model may be called again. A call that was answered with 200 may be billed, but
    not if it was refused.
    """
    if answer.said or isinstance(failure, UpstreamBadResponse):
        return False
    return not (answer.begun and failure.reached_model)


def _begin_again(turn: Turn, failure: UpstreamError) -> None:
    """Forget a call that has failed, unless it may have cost something."""
    if not failure.reached_model:
        turn.call = None  # it cost nothing, should the client leave now
    if turn.answer.begun:
        turn.answer = Answer()


class OpenCall(msgspec.Struct):
    """A call of the model from its beginning on, and the pieces that came ``first``. When it is
    left, it is one of the turn's attempts. ``context`` is None until the provider has opened it.

    While it is read, the frames that opened it need not live, nor be gone through for each token.
    """

    attempts: Attempts
    generation: Generation
    call: ModelCall
    model: str
    started: float
    context: AbstractAsyncContextManager[ProviderStream] | None = None
    first: list[Delta] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        try:
            if self.context is not None:
                return await self.context.__aexit__(kind, failure, traceback)
            return None
        finally:
            turn, call, observers = self.generation.turn, self.call, self.attempts.observers
            error = cause_of(failure, self.generation.stopped) if failure is not None else None
            seconds = monotonic() - self.started
            attempt = Attempt(
                model=self.model,
                started=time() - seconds,
                seconds=seconds,
                outcome=None if error is None else error.code,
                status=call.status,
            )
            turn.attempts += (attempt,)
            if error is not None or observers.watched:
                observers.attempted(turn, call, attempt, error)
