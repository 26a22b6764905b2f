"""Fill: how much of each limit the most recently admitted accounts have used. No I/O."""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Final

from chatnest.ledger.base import LimitState
from chatnest.ledger.limit import Limit

__all__ = ["Fill"]

_MOST: Final = 1_000
"""Maximum accounts of each limit."""
_FULLEST: Final = 32
"""Accounts of each limit that are read from the ledger again."""


class Fill:
    """Keeps the last state of the 1,000 accounts of each limit that were admitted most recently.
    ``names`` are the limits of the configuration. All other limits share one table, ``other``.
    """

    def __init__(self, names: Iterable[str], other: str) -> None:
        self._tables: dict[str, OrderedDict[str, LimitState]] = {
            name: OrderedDict() for name in (*names, other)
        }
        self._other = self._tables[other]

    def note(self, states: Iterable[LimitState]) -> None:
        """Keep the states of limits, as the ledger has them after an admission."""
        for state in states:
            table = self._tables.get(state.limit.name, self._other)
            table[state.limit.account] = state
            table.move_to_end(state.limit.account)
            if len(table) > _MOST:
                table.popitem(last=False)

    def fullest(self, now: int) -> tuple[Limit, ...]:
        """The limits of the fullest accounts, to be read again."""
        found: list[Limit] = []
        for table in self._tables.values():
            states = sorted(table.values(), key=lambda state: _ratio(state, now), reverse=True)
            found += (state.limit for state in states[:_FULLEST])
        return tuple(found)

    def ratios(self, now: int) -> Iterator[tuple[str, list[float]]]:
        """For each limit, how full its accounts are at ``now`` (ms): used and held, by amount."""
        for name, table in self._tables.items():
            yield name, [_ratio(state, now) for state in table.values()]


def _ratio(state: LimitState, now: int) -> float:
    most = state.limit.amount + state.granted
    if state.resets_at is not None and state.resets_at <= now:
        return 0.0
    return (state.used + state.held) / most if most > 0 else 1.0
