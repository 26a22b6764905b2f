"""Attempts: the calls to the model for one turn, until one of them answers."""

from contextlib import AbstractAsyncContextManager
from time import monotonic, time
from types import TracebackType
from typing import Self

import anyio
import msgspec
from anyio import CancelScope
from anyio.lowlevel import checkpoint

from chatnest.answer import Answer
from chatnest.bounds import ResolvedBounds
from chatnest.endings import cause_of, check_end
from chatnest.errors import UpstreamBadResponse, UpstreamError, UpstreamTimeout
from chatnest.events import Piece
from chatnest.models import Candidate
from chatnest.policies.base import PolicyChain
from chatnest.providers.base import ProviderStream
from chatnest.requests import ModelRequest
from chatnest.streams.generation import Generation
from chatnest.telemetry.observers import Observers
from chatnest.turn import Attempt, ModelCall, Turn

__all__ = ["Attempts", "OpenCall"]


class Attempts:
    """Calls the candidates of a generation in order until one sends something billable. A policy
    decides whether to retry a candidate.

    All attempts share ``first_byte_seconds``. A candidate that stays silent until then leaves no
    time for the next one, so only failures lead to it.
    """

    def __init__(
        self,
        policies: PolicyChain,
        bounds: ResolvedBounds,
        observers: Observers,
    ) -> None:
        self.observers: Observers = observers
        self._policies = policies
        self._bounds = bounds

    async def open(self, generation: Generation) -> "tuple[OpenCall, ProviderStream]":
        """Return the call that answers, which the caller must enter, and its events. Raises the
        error of the last attempt.
        """
        turn = generation.turn
        deadline = anyio.current_time() + self._bounds.first_byte_seconds
        candidates = iter(generation.candidates)
        candidate, number = next(candidates), 1
        generation.call_model()
        while True:
            try:
                return await self._call(candidate, generation, deadline)
            except UpstreamError as exc:
                if not _may_repeat(turn.answer, exc):
                    raise
                delay = self._policies.classify(turn, exc, number)
                if delay is not None and anyio.current_time() + delay < deadline:
                    number += 1
                elif (following := next(candidates, None)) is not None:
                    candidate, number, delay = following, 1, 0.0
                else:
                    raise
                _begin_again(turn, exc)
            generation.call_model()
            await anyio.sleep(delay)

    async def _call(
        self, candidate: Candidate, generation: Generation, deadline: float
    ) -> "tuple[OpenCall, ProviderStream]":
        """Call the model, and read until something billable arrives. A failure before that may be
        retried, or get its own HTTP status.
        """
        turn = generation.turn
        call = turn.call = ModelCall(
            request=_request(turn, candidate), request_id=turn.id, api=candidate.api
        )
        if candidate.trace and self.observers.tracing:
            call.headers = self.observers.trace_headers(turn.id, candidate.upstream)
        answer = turn.answer
        answer.tokens_left = turn.max_output_tokens
        answer.bytes_left = self._bounds.answer_bytes
        opened = OpenCall(self, generation, call, candidate.upstream, monotonic())
        try:
            with CancelScope(deadline=deadline) as waiting:
                context = candidate.provider.open(call)
                events = await context.__aenter__()
                opened.context = context
                answer.begun = True
                if waiting.cancel_called:
                    await checkpoint()  # raises the cancellation: the deadline has passed
            if waiting.cancelled_caught:
                raise UpstreamTimeout  # noqa: TRY301  # handled below, like any failure
            generation.alive()
            while not answer.said:
                if (batch := await anext(events, None)) is None:
                    check_end(answer, may_be_empty=turn.request.submission.may_be_empty)
                    break
                opened.first += answer.add(batch)
                if not answer.said:
                    generation.alive()
            answer.waited = monotonic() - opened.started
        except BaseException:
            async with opened:
                raise
        return opened, events


def _request(turn: Turn, candidate: Candidate) -> ModelRequest:
    asked = turn.request
    return ModelRequest(
        model=candidate.upstream,
        messages=(*turn.system, *turn.messages),
        max_output_tokens=turn.max_output_tokens,
        max_reasoning_tokens=turn.max_reasoning_tokens,
        temperature=turn.profile.temperature,
        tools=asked.tools,
        tool_choice=asked.tool_choice,
        output=asked.output,
        effort=asked.effort,
        sampling=asked.sampling,
        image_detail=candidate.image_detail,
    )


def _may_repeat(answer: Answer, failure: UpstreamError) -> bool:
    """Whether the model may be called again. A call that was accepted may be billed, so it is not
    repeated, unless its failure shows that the model did no work.
    """
    if answer.said or isinstance(failure, UpstreamBadResponse):
        return False
    return not (answer.begun and failure.reached_model)


def _begin_again(turn: Turn, failure: UpstreamError) -> None:
    """Forget a call that has failed, unless it may have cost something."""
    if not failure.reached_model:
        turn.call = None  # so a disconnect during the wait is not charged
    if turn.answer.begun:
        turn.answer = Answer()


class OpenCall(msgspec.Struct):
    """One call to the model. Leaving it adds an Attempt to the turn. ``first`` has the pieces that
    arrived during ``Attempts.open``. ``context`` is None until the provider has opened it.

    It is a class, so no frame of the opening stays in memory or is resumed for each token.
    """

    attempts: Attempts
    generation: Generation
    call: ModelCall
    model: str
    started: float
    context: AbstractAsyncContextManager[ProviderStream] | None = None
    first: list[Piece] = []

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
            if error is not None or observers.sees_attempts:
                observers.attempted(turn, call, attempt, error)
