"""ModelsEndpoint: GET lists the models that a principal may use."""

from chatnest.asgi.http import bounded, respond
from chatnest.bounds import ResolvedBounds
from chatnest.endpoints.base import Exchange
from chatnest.errors import NotFound
from chatnest.identity.access import Access
from chatnest.lookups import LookUps
from chatnest.models import Catalogue
from chatnest.wire.base import HasModels

__all__ = ["ModelsEndpoint"]


class ModelsEndpoint:
    """The models of the profiles that are open to a principal."""

    def __init__(
        self, *, access: Access, look_ups: LookUps, models: Catalogue, bounds: ResolvedBounds
    ) -> None:
        self._access = access
        self._look_ups = look_ups
        self._models = models
        self._bounds = bounds

    async def serve(self, exchange: Exchange, name: str | None) -> None:
        """Respond with the list, or with the model ``name``. Raises UnknownModel."""
        identity = await self._access.identity(exchange.scope)
        self._look_ups.count(identity.principal)
        identity = await self._access.with_plan(identity)
        profiles = await self._access.open_profiles(identity)
        if name is not None:
            self._models.chosen(name, profiles, identity.models)
        format_ = exchange.format
        if not isinstance(format_, HasModels):
            raise NotFound
        names = self._models.names(profiles, identity.models)
        send = bounded(exchange.send, self._bounds.send_seconds)
        await respond(exchange.scope, send, format_.models(names, name))
