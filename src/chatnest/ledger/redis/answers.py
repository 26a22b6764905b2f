"""Answers: the answers of a RedisLedger's scripts as values of the ledger. No I/O."""

from collections.abc import Sequence
from operator import itemgetter
from typing import Final, NamedTuple

import msgspec

from chatnest.ledger.base import (
    Admitted,
    Hold,
    Limit,
    LimitState,
    Line,
    Refused,
    Reservation,
)
from chatnest.ledger.books import counter_key
from chatnest.ledger.calendar import span_of_window
from chatnest.ledger.redis.keys import Part, has_account
from chatnest.ledger.watch import Watch
from chatnest.ledger.watching import watch_of

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
        for place, (index, limit) in enumerate(part.limits):
            state = _State(*figures[_WIDTH * place : _WIDTH * (place + 1)])
            self._states.append((index, _state(limit, state, self._now)))
            self._granted[index] = self.output
            if has_account(limit):
                line = Line(counter_key(limit, admitted_at), limit.unit, state.serial)
                self._lines.append((index, line))
            if limit.warn_at:
                self._watched.append((index, watch_of(limit, admitted_at)))
            if state.over:
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
        states = tuple(
            self._lowered(state, self._granted[index])
            for index, state in sorted(self._states, key=itemgetter(0))
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


class _State(NamedTuple):
    """The figures of a limit's state in an answer."""

    used: int
    held: int
    first: int
    granted: int
    serial: int
    over: int


_WIDTH: Final = len(_State._fields)


def refusal(part: Part, answer: Sequence[int]) -> Refused:
    """The refusal in a script's answer, with the state of the limit that refused. Where a hold has
    several steps, it is that of the first one that refuses: its wait is not the longest.
    """
    kind, now, *rest = answer
    if kind != REFUSED:
        return Refused(state=None, retry_after=0, now=now)
    place, wait, by_held, *state = rest
    _, limit = part.limits[place - 1]
    return Refused(
        state=_state(limit, _State(*state), now),
        retry_after=wait if wait >= 0 else None,
        now=now,
        by_held=by_held == 1,
    )


def states_of(part: Part, figures: Sequence[int], now: int) -> list[tuple[int, LimitState]]:
    """The state of each limit of a part, with the limit's index, from a script's figures."""
    return [
        (index, _state(limit, _State(*figures[_WIDTH * place : _WIDTH * (place + 1)]), now))
        for place, (index, limit) in enumerate(part.limits)
    ]


def _state(limit: Limit, state: _State, now: int) -> LimitState:
    resets_at = None
    if isinstance(limit.window, int):
        resets_at = state.first + limit.length if state.first >= 0 else None
    elif limit.window is not None and limit.window != "lifetime":
        resets_at = span_of_window(limit, now).end
    return LimitState(
        limit=limit,
        used=state.used,
        held=state.held,
        resets_at=resets_at,
        granted=state.granted,
    )


def in_order(states: list[tuple[int, LimitState]]) -> tuple[LimitState, ...]:
    """The states in the order of their limits' indexes."""
    return tuple(state for _, state in sorted(states, key=itemgetter(0)))
