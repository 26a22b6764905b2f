"""KnownRefusals: limits that still refuse, so that a worker need not ask the ledger. No I/O."""

from collections import OrderedDict
from typing import Final

import msgspec

from chatnest.ledger.base import Limit, LimitState, Refused

__all__ = ["KnownRefusals"]

_MOST = 10_000
"""Maximum limits in the table."""

_BUDGET_MILLISECONDS: Final = 1_000
"""Milliseconds for which a refusal by a hidden budget stays known."""


class KnownRefusals:
    """Remembers a refusal by a request rate until the first entry leaves the window of the rate.

    Entries leave a window by time alone, so no request can be admitted earlier. (A limit that the
    operator has raised counts as another limit.) Refusals by budgets and by limits of streams are
    not remembered, since a hold may be released at any moment. The exception is a hidden budget,
    which all visitors share. Once its tokens are spent, its refusal stays known for a second, so
    that a crowd costs the ledger one request a second. If it still has tokens for a smaller
    request, its refusal is not remembered. Times are the ledger's, in milliseconds.
    """

    def __init__(self) -> None:
        self._refused: OrderedDict[Limit, tuple[Refused, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._refused)

    def remember(self, refused: Refused, least: int = 1) -> None:
        """Remember a refusal of the ledger. ``least`` is how many tokens the smallest request
        needs. Beyond 10,000 limits the oldest entry is dropped.
        """
        if refused.state is None:
            return
        limit, wait = refused.state.limit, refused.retry_after
        if wait is None:  # the limit is too small for this request, but smaller ones may fit
            return
        if limit.kind == "rate" and limit.unit == "requests":
            until = refused.now + wait
        elif limit.hidden and _is_used_up(refused.state, least):
            until = refused.now + min(wait, _BUDGET_MILLISECONDS)
        else:
            return
        self._refused[limit] = refused, until
        if len(self._refused) > _MOST:
            self._refused.popitem(last=False)

    def find(self, limits: tuple[Limit, ...], now: int) -> Refused | None:
        """The refusal of the first of these limits that still refuses at ``now``, or None."""
        for limit in limits:
            if limit not in self._refused:
                continue
            known, until = self._refused[limit]
            if known.now <= now < until:
                wait = known.now + (known.retry_after or 0) - now
                return msgspec.structs.replace(known, retry_after=wait, now=now)
            del self._refused[limit]
        return None


def _is_used_up(state: LimitState, least: int) -> bool:
    limit = state.limit
    return limit.kind == "budget" and limit.unit == "tokens" and state.used + least > limit.amount
