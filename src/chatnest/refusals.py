"""KnownRefusals: rates that a worker knows to be used up still, so that it need not ask again."""

from collections import OrderedDict

import msgspec

from chatnest.ledger.base import Limit, Refused

__all__ = ["KnownRefusals"]

_MOST = 10_000


class KnownRefusals:
    """Refusals by rates, until the moment in which something comes back.

    A window's entries leave by time alone, so nobody gets in before that, whatever happens. (Where
    an operator raises a limit, the new one is another limit here.) Not so tokens and streams: what
    is held may be given back at any moment. Times are the ledger's, in milliseconds.
    """

    def __init__(self) -> None:
        self._refused: OrderedDict[Limit, Refused] = OrderedDict()

    def __len__(self) -> int:
        return len(self._refused)

    def remember(self, refused: Refused) -> None:
        """Take note of a ledger's answer. Beyond 10,000 limits the oldest is forgotten."""
        if refused.state is not None and refused.state.limit.kind == "rate":
            self._refused[refused.state.limit] = refused
            if len(self._refused) > _MOST:
                self._refused.popitem(last=False)

    def find(self, limits: tuple[Limit, ...], now: int) -> Refused | None:
        """The first of these limits that is known to refuse at ``now``, as the ledger would."""
        for limit in limits:
            known = self._refused.get(limit) if limit.kind == "rate" else None
            if known is None:
                continue
            until = known.now + known.retry_after
            if known.now <= now < until:
                return msgspec.structs.replace(known, retry_after=until - now, now=now)
            del self._refused[limit]
        return None
