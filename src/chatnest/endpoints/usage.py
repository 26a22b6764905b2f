"""UsageEndpoint: GET says what the caller has used in the last 30 days."""

from chatnest._util.deadlines import within
from chatnest.asgi.http import bounded, respond_json
from chatnest.bounds import ResolvedBounds
from chatnest.endpoints.base import Exchange
from chatnest.errors import MethodNotAllowed, NotFound
from chatnest.identity.access import Access
from chatnest.ledger.base import Ledger
from chatnest.ledger.usage import OWN_DAYS, UsageBooks, first_day
from chatnest.lookups import LookUps
from chatnest.wire.usage import usage_document

__all__ = ["UsageEndpoint"]


class UsageEndpoint:
    """The usage of a principal, by day and model."""

    def __init__(
        self,
        *,
        access: Access,
        look_ups: LookUps,
        ledger: Ledger,
        bounds: ResolvedBounds,
        currency: str,
    ) -> None:
        self._access = access
        self._look_ups = look_ups
        self._ledger = ledger
        self._bounds = bounds
        self._currency = currency

    async def serve(self, exchange: Exchange) -> None:
        """Respond with the usage, as JSON. Raises LedgerUnavailable, or NotFound if the ledger
        keeps no usage.
        """
        scope, ledger = exchange.scope, self._ledger
        if scope["method"] not in {"GET", "HEAD"}:
            raise MethodNotAllowed("GET", "HEAD")
        identity = await self._access.identity(scope)
        self._look_ups.count(identity.principal)
        if not isinstance(ledger, UsageBooks):
            raise NotFound
        since = first_day(ledger.now(), OWN_DAYS)
        with within(self._bounds.ledger_seconds):
            used = await ledger.own_usage(identity.principal, since)
        send = bounded(exchange.send, self._bounds.send_seconds)
        await respond_json(scope, send, usage_document(used, since, self._currency))
