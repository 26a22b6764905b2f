"""LimitsEndpoint: GET says what is left of the limits."""

from chatnest._util.deadlines import within
from chatnest.asgi.heads import query_value
from chatnest.asgi.http import bounded, respond_json
from chatnest.bounds import ResolvedBounds
from chatnest.endpoints.base import Exchange
from chatnest.errors import MethodNotAllowed
from chatnest.identity.access import Access
from chatnest.incoming import Incoming
from chatnest.ledger.base import Ledger, Limit
from chatnest.lookups import LookUps
from chatnest.models import Catalogue
from chatnest.policies.base import PolicyChain
from chatnest.profiles import profile_name
from chatnest.turn import LookUp
from chatnest.wire.limits import limits_document

__all__ = ["LimitsEndpoint"]


class LimitsEndpoint:
    """The limits of a principal under one of its profiles."""

    def __init__(
        self,
        *,
        access: Access,
        look_ups: LookUps,
        incoming: Incoming,
        policies: PolicyChain,
        ledger: Ledger,
        models: Catalogue,
        bounds: ResolvedBounds,
        currency: str,
    ) -> None:
        self._access = access
        self._look_ups = look_ups
        self._incoming = incoming
        self._policies = policies
        self._ledger = ledger
        self._models = models
        self._bounds = bounds
        self._currency = currency

    async def serve(self, exchange: Exchange) -> None:
        """Respond with the limits, as JSON. Raises LedgerUnavailable."""
        scope = exchange.scope
        if scope["method"] not in {"GET", "HEAD"}:
            raise MethodNotAllowed("GET", "HEAD")
        identity = await self._access.identity(scope)
        self._look_ups.count(identity.principal)
        identity = await self._access.with_plan(identity)
        asked = query_value(scope, "profile")
        profile = await self._access.profile(
            identity, None if asked is None else profile_name(asked)
        )
        limits: dict[Limit, None] = {}
        for model in self._models.permitted(profile, identity.models):
            look_up = LookUp(
                principal=identity.principal,
                groups=identity.groups,
                plan=identity.plan,
                headers=self._incoming.headers(scope),
                profile=profile,
                model=model.name,
                counter=model.counter,
            )
            limits |= dict.fromkeys(self._policies.shown_limits(look_up))
        with within(self._bounds.ledger_seconds):
            states = await self._ledger.usage(tuple(limits))
        allowed = await self._access.allowed(identity)
        send = bounded(exchange.send, self._bounds.send_seconds)
        document = limits_document(
            profile, allowed, states, plan=identity.plan, currency=self._currency
        )
        await respond_json(scope, send, document)
