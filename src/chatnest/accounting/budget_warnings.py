"""BudgetWarnings: log a hidden budget once a day when 80 % of it is used or held."""

import logging
from collections import OrderedDict
from typing import Final

from chatnest.ledger.base import LimitState

__all__ = ["BudgetWarnings"]

_log = logging.getLogger("chatnest.accounting")

_PARTS: Final = (4, 5)
"""Four fifths of a limit."""
_MOST: Final = 1_000
"""Maximum budgets in the table."""


class BudgetWarnings:
    """Remembers which budgets this worker has logged today. Beyond 1,000 budgets the oldest entry
    is dropped, and its budget may be logged again.
    """

    def __init__(self) -> None:
        self._warned: OrderedDict[tuple[str, str], int | None] = OrderedDict()

    def look(self, state: LimitState) -> None:
        """Log a budget that is nearly used up, once a day."""
        limit = state.limit
        if (state.used + state.held) * _PARTS[1] < limit.amount * _PARTS[0]:
            return
        key = limit.name, limit.account
        if key in self._warned and self._warned[key] == state.resets_at:
            return
        self._warned[key] = state.resets_at
        if len(self._warned) > _MOST:
            self._warned.popitem(last=False)
        _log.warning(
            "80 %% of a limit is used: limit=%s account=%s of=%d used=%d held=%d. Beyond it, "
            "requests get a 429 until the day ends.",
            limit.name,
            limit.account,
            limit.amount,
            state.used,
            state.held,
        )
