"""Generation: one answer while the model writes it. It knows no client, only an output."""

import math
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic
from typing import Final

from chatnest.accounting.accounts import LEASE
from chatnest.bounds import ResolvedBounds
from chatnest.errors import ChatNestError
from chatnest.events import Delta, Done, Failed, Reasoning
from chatnest.models import Candidate
from chatnest.streams.output import Output
from chatnest.streams.source import Source
from chatnest.turn import Turn

__all__ = ["Generation"]

RENEW_SECONDS: Final = LEASE / 3_000
"""Seconds between two renewals of a reservation, whose lease is LEASE milliseconds."""

_UTF8_BYTES: Final = 4
"""Maximum bytes of a character."""


class Generation(Source):
    """The answer to ``turn``, written by ``answer`` with one of the ``candidates``. Its reservation
    is renewed until it ends.

        waiting ── call_model() ──► calling ── alive(), start(), put() ──► answering ──► ended
                                       ▲                                      │
                                       └────────── the model is asked again ──┘

    Silence is limited while the model answers. Before that, the caller limits the wait. ``take`` is
    a step of the fast path, which the docstring of OfferingStream draws.
    """

    __slots__ = ("_renew", "_renew_at", "candidates", "turn")
    quiet_since: float

    def __init__(
        self,
        turn: Turn,
        output: Output,
        answer: Callable[["Generation"], Awaitable[Done]],
        bounds: ResolvedBounds,
        candidates: Sequence[Candidate],
    ) -> None:
        super().__init__(
            output,
            answer,
            request_id=turn.id,
            seconds=bounds.stream_seconds,
            idle_seconds=bounds.idle_seconds,
        )
        self.turn: Turn = turn
        self.candidates: Sequence[Candidate] = candidates
        self._renew: Callable[[], Awaitable[None]] | None = None
        self._renew_at = math.inf

    # ------------------------------------------------ for the answering

    def renew_with(self, renew: Callable[[], Awaitable[None]]) -> None:
        """Call ``renew`` from time to time until the generation ends."""
        self._renew = renew
        self._renew_at = monotonic() + RENEW_SECONDS

    def call_model(self) -> None:
        """Note that the model is called, once more or first. The caller limits the wait."""
        self.quiet_since = math.inf
        self.output.expect_start()

    def alive(self) -> None:
        """Note that the model answers, although there is nothing for the client yet."""
        self.quiet_since = monotonic()

    def take(self, piece: str | Reasoning, /) -> bool:
        """See Taker. Sends and counts a piece that arrived alone, without waking a task. Declines
        if the answer is near its limits, or stopped, or the output would need a wait.
        """
        answer = self.turn.answer
        event = Delta(piece) if isinstance(piece, str) else piece
        if (
            answer.tokens_left <= 0
            or answer.bytes_left < len(event.text) * _UTF8_BYTES
            or self.stopped is not None
            or not self.output.put_now(event)
        ):
            return False
        self.quiet_since = monotonic()
        if type(event) is Delta:
            answer.add_pieces((event.text,))
        else:
            answer.add_thoughts((event.text,))
        return True

    # ------------------------------------------------ for others

    async def tend(self, now: float) -> float:
        """See Source.tend; renews the reservation as well."""
        due = await super().tend(now)
        if now >= self._renew_at and self._renew is not None:
            self._renew_at = now + RENEW_SECONDS
            await self._renew()
        return min(due, self._renew_at, now + RENEW_SECONDS)

    def failed(self, error: ChatNestError) -> Failed:
        """The last event of a generation that ended by ``error``."""
        return Failed(error, charged=self.turn.charged > 0)
