"""KnownRefusals: limits that a worker knows to be used up still, so that it need not ask again."""

from collections import OrderedDict
from typing import Final

import msgspec

from chatnest.ledger.base import Limit, Refused

__all__ = ["KnownRefusals"]

_MOST = 10_000

_BUDGET_MILLISECONDS: Final = 1_000
"""How long a refusal by a hidden budget is taken as it was."""


class KnownRefusals:
    """Refusals by rates, until the moment in which something comes back.

    A window's entries leave by time alone, so nobody gets in before that, whatever happens. (Where
    an operator raises a limit, the new one is another limit here.) Not so tokens and streams: what
    is held may be given back at any moment. Only a hidden budget, which all visitors are under,
    refuses for a second once its tokens are spent, so that a crowd costs the ledger one question a
    second. If it still has tokens for a smaller request, its refusal is not remembered. Times are
    the ledger's, in milliseconds.
    """

    def __init__(self) -> None:
        self._refused: OrderedDict[Limit, tuple[Refused, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._refused)

    def remember(self, refused: Refused, least: int = 1) -> None:
        """Take note of a ledger's answer. ``least`` is what the smallest request needs. Beyond
        10,000 limits the oldest is forgotten.
        """
        if refused.state is None:
            return
        limit = refused.state.limit
        if limit.kind == "rate":
            until = refused.now + refused.retry_after
        elif limit.hidden and limit.kind == "budget" and refused.state.used + least > limit.limit:
            until = refused.now + min(refused.retry_after, _BUDGET_MILLISECONDS)
        else:
            return
        self._refused[limit] = refused, until
        if len(self._refused) > _MOST:
            self._refused.popitem(last=False)

    def find(self, limits: tuple[Limit, ...], now: int) -> Refused | None:
        """The first of these limits that is known to refuse at ``now``, as the ledger would."""
        for limit in limits:
            if limit not in self._refused:
                continue
            known, until = self._refused[limit]
            if known.now <= now < until:
                wait = known.now + known.retry_after - now
                return msgspec.structs.replace(known, retry_after=wait, now=now)
            del self._refused[limit]
        return None
