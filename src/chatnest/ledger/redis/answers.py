"""Answers: the answers of a RedisLedger's scripts as values of the ledger. No I/O."""

from collections.abc import Sequence
from operator import itemgetter
from typing import Final

import msgspec

from chatnest.ledger.base import (
    Admitted,
    Hold,
    LimitState,
    Line,
    Refused,
    Reservation,
)
from chatnest.ledger.counted import Counted, counted_at
from chatnest.ledger.redis.keys import Part, has_account
from chatnest.ledger.watch import Watch

__all__ = ["ADMITTED", "DAYS", "REFUSED", "Admission", "in_order", "refusal", "states_of"]

REFUSED: Final = 0
ADMITTED: Final = 1
DAYS: Final = 3
"""First words of answers. The missing number, 2, is for a hold that has ended."""


class Admission:
    """A reservation over one or several steps."""

    def __init__(self, wish: Reservation) -> None:
        self.output: int = wish.output
        self.done: list[tuple[Part, int]] = []
        self._wish = wish
        self._lines: list[tuple[int, Line]] = []
        self._states: list[tuple[int, LimitState]] = []
        self._over: list[tuple[int, str]] = []
        self._watched: list[tuple[int, Watch]] = []
        self._granted: dict[int, int] = {}
        self._now = 0

    def add(self, part: Part, answer: Sequence[int]) -> None:
        """Add a step that was admitted."""
        _, self._now, self.output, admitted_at, *figures = answer
        self.done.append((part, self.output))
        self._states += states_of(part, figures, self._now)
        counted = counted_at(part.under, admitted_at).limits
        for (index, limit), each, serial, is_over in zip(
            part.limits, counted, figures[_SERIAL::_WIDTH], figures[_OVER::_WIDTH], strict=True
        ):
            self._granted[index] = self.output
            if has_account(limit):
                self._lines.append((index, Line(each.key, limit.unit, serial)))
            if each.watch is not None:
                self._watched.append((index, each.watch))
            if is_over:
                self._over.append((index, limit.name))

    def answer(self) -> Admitted:
        money = self._wish.money
        lines = [line for _, line in sorted(self._lines, key=itemgetter(0))]
        hold = Hold(
            id=self._wish.id,
            tokens=self._wish.input_tokens + self.output,
            money=money.fixed + money.per_output * self.output,
            output=self.output,
            lines=tuple(dict.fromkeys(lines)),
            watched=tuple(
                dict.fromkeys(watch for _, watch in sorted(self._watched, key=itemgetter(0)))
            ),
        )
        over = tuple(name for _, name in sorted(self._over))
        states = in_order(self._states)
        if len(self.done) > 1:
            states = tuple(
                [
                    self._lowered(state, self._granted[index])
                    for index, state in sorted(self._states, key=itemgetter(0))
                ]
            )
        return Admitted(hold=hold, states=states, now=self._now, over=over)

    def _lowered(self, state: LimitState, granted: int) -> LimitState:
        """The state after the hold of an earlier step was lowered to the output of the last."""
        less = self._wish.costs()[state.limit.unit].per_output * (granted - self.output)
        if not less:
            return state
        if state.limit.kind == "rate":
            return msgspec.structs.replace(state, used=state.used - less)
        return msgspec.structs.replace(state, held=state.held - less)


_WIDTH: Final = 6
"""Figures of a limit's state in an answer: used, held, first, granted, and then:"""
_SERIAL, _OVER = 4, 5


def refusal(part: Part, answer: Sequence[int]) -> Refused:
    """The refusal in a script's answer, with the state of the limit that refused. Where a hold has
    several steps, it is that of the first one that refuses: its wait is not the longest.
    """
    kind, now, *rest = answer
    if kind != REFUSED:
        return Refused(state=None, retry_after=0, now=now)
    place, wait, by_held, *state = rest
    counted = counted_at(part.under, now).limits[place - 1]
    return Refused(
        state=_state(counted, state),
        retry_after=wait if wait >= 0 else None,
        now=now,
        by_held=by_held == 1,
    )


def states_of(part: Part, figures: Sequence[int], now: int) -> list[tuple[int, LimitState]]:
    """The state of each limit of a part, with the limit's index, from a script's figures."""
    counted = counted_at(part.under, now).limits
    return [
        (index, _state(each, figures[_WIDTH * place : _WIDTH * (place + 1)]))
        for place, ((index, _), each) in enumerate(zip(part.limits, counted, strict=True))
    ]


def _state(counted: Counted, figures: Sequence[int]) -> LimitState:
    used, held, first, granted, _, _ = figures
    resets_at = None
    if counted.length:
        resets_at = first + counted.length if first >= 0 else None
    elif counted.span is not None:
        resets_at = counted.span.end
    return LimitState(
        limit=counted.limit, used=used, held=held, resets_at=resets_at, granted=granted
    )


def in_order(states: list[tuple[int, LimitState]]) -> tuple[LimitState, ...]:
    """The states in the order of their limits' indexes."""
    return tuple(state for _, state in sorted(states, key=itemgetter(0)))
