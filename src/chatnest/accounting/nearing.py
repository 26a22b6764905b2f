"""Nearing: limits that clients see nothing of, and that are nearly used up, go to the log once."""

import logging
from collections import OrderedDict
from typing import Final

from chatnest.ledger.base import LimitState

__all__ = ["Nearing"]

_log = logging.getLogger("chatnest.accounting")

_PARTS: Final = (4, 5)
"""Four fifths of a limit."""
_MOST: Final = 1_000


class Nearing:
    """Which hidden budgets have been warned of, each once a day and worker, when four fifths of it
    are used or held. Beyond 1,000 of them the oldest is forgotten, and may be warned of again.
    """

    def __init__(self) -> None:
        self._warned: OrderedDict[tuple[str, str], int | None] = OrderedDict()

    def look(self, state: LimitState) -> None:
        """Warn of one, unless that was done for this day."""
        limit = state.limit
        if (state.used + state.held) * _PARTS[1] < limit.limit * _PARTS[0]:
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
            limit.limit,
            state.used,
            state.held,
        )
