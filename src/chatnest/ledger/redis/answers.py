"""Answers: the answers of a RedisLedger's scripts as values of the ledger. No I/O."""

from collections.abc import Sequence
from operator import itemgetter
from typing import Final

from chatnest.ledger import model
from chatnest.ledger.base import (
    Admitted,
    Hold,
    Limit,
    LimitState,
    Line,
    Refused,
    Reservation,
)
from chatnest.ledger.days import day_end
from chatnest.ledger.redis.keys import Part

__all__ = ["ADMITTED", "DAYS", "REFUSED", "Admission", "in_order", "refusal", "states_of"]

REFUSED: Final = 0
ADMITTED: Final = 1
DAYS: Final = 3
"""First words of answers. The missing number, 2, is for a hold that has ended."""


class Admission:
    """A reservation over one or several steps."""

    def __init__(self, wish: Reservation) -> None:
        self.tokens: int = wish.tokens
        self.done: list[tuple[Part, int]] = []
        self._wish = wish
        self._days: list[tuple[int, int]] = []
        self._states: list[tuple[int, LimitState]] = []
        self._now = 0

    def add(self, part: Part, answer: Sequence[int]) -> None:
        """Add a step that was admitted."""
        _, self._now, self.tokens, admitted_at, *states = answer
        self.done.append((part, self.tokens))
        self._days.extend((index, admitted_at) for index, _ in part.limits)
        self._states.extend(states_of(part, states, self._now))

    def answer(self) -> Admitted:
        limits = self._wish.limits
        lines = [
            Line(
                model.counter_key(limits[index], admitted_at),
                "tokens" if limits[index].kind == "budget" else "streams",
            )
            for index, admitted_at in sorted(self._days)
            if limits[index].kind != "rate"
        ]
        hold = Hold(id=self._wish.id, tokens=self.tokens, lines=tuple(dict.fromkeys(lines)))
        return Admitted(hold=hold, states=in_order(self._states), now=self._now)


def refusal(part: Part, answer: Sequence[int]) -> Refused:
    """The refusal in a script's answer, with the state of the limit that refused."""
    kind, now, *rest = answer
    if kind != REFUSED:
        return Refused(state=None, retry_after=0, now=now)
    place, wait, by_held, *state = rest
    _, limit = part.limits[place - 1]
    return Refused(state=_state(limit, state, now), retry_after=wait, now=now, by_held=by_held == 1)


def states_of(part: Part, figures: Sequence[int], now: int) -> list[tuple[int, LimitState]]:
    """The state of each limit of a part, with the limit's index, from a script's figures."""
    return [
        (index, _state(limit, figures[3 * place : 3 * place + 3], now))
        for place, (index, limit) in enumerate(part.limits)
    ]


def _state(limit: Limit, figures: Sequence[int], now: int) -> LimitState:
    used, held, first = figures
    resets_at = None
    if limit.kind == "budget":
        resets_at = day_end(now, limit.timezone)
    elif limit.kind == "rate" and first >= 0:
        resets_at = first + limit.window * 1000
    return LimitState(limit=limit, used=used, held=held, resets_at=resets_at)


def in_order(states: list[tuple[int, LimitState]]) -> tuple[LimitState, ...]:
    """The states in the order of their limits' indexes."""
    return tuple(state for _, state in sorted(states, key=itemgetter(0)))
