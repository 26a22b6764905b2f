"""RunEndpoint: GET resumes a run, DELETE cancels it."""

from chatnest.asgi.http import bounded, respond_json, respond_nothing
from chatnest.asgi.resumption import last_event_id
from chatnest.bounds import ResolvedBounds
from chatnest.endpoints.base import Exchange
from chatnest.errors import MethodNotAllowed
from chatnest.identity.access import Access
from chatnest.incoming import Incoming
from chatnest.lookups import LookUps
from chatnest.runs.service import Runs
from chatnest.streams.intake import Intake
from chatnest.streams.open_streams import OpenStreams
from chatnest.streams.response import Response
from chatnest.wire.base import StreamInfo

__all__ = ["RunEndpoint"]


class RunEndpoint:
    """The runs of a principal, by id."""

    def __init__(
        self,
        *,
        access: Access,
        look_ups: LookUps,
        incoming: Incoming,
        runs: Runs,
        streams: OpenStreams,
        intake: Intake,
        bounds: ResolvedBounds,
        model: str,
    ) -> None:
        self._access = access
        self._look_ups = look_ups
        self._incoming = incoming
        self._runs = runs
        self._streams = streams
        self._intake = intake
        self._bounds = bounds
        self._model = model

    async def serve(self, exchange: Exchange, run_id: str) -> None:
        """Resume the run after the last event that the client has seen, or cancel it."""
        method = exchange.scope["method"]
        if method not in {"GET", "DELETE"}:
            raise MethodNotAllowed("GET", "DELETE")
        principal = (await self._access.identity(exchange.scope)).principal
        self._look_ups.count(principal)
        if method == "DELETE":
            receipt = await self._runs.cancel(run_id, principal)
            send = bounded(exchange.send, self._bounds.send_seconds)
            await respond_json(exchange.scope, send, receipt)
        else:
            await self._resume(exchange, run_id, principal)

    async def _resume(self, exchange: Exchange, run_id: str, principal: str) -> None:
        self._streams.check()
        self._intake.check_room()
        after = last_event_id(exchange.scope)
        events = self._incoming.events(exchange.scope)
        page = await self._runs.owned(run_id, principal, after)
        if page.end is not None and after >= page.last:
            await respond_nothing(bounded(exchange.send, self._bounds.send_seconds))
            return
        response = Response(
            exchange.scope,
            exchange.receive,
            exchange.send,
            format=exchange.format,
            info=StreamInfo(
                request_id=run_id,
                model=self._model,
                usage_event="usage" in events,
                events=events,
            ),
            bounds=self._bounds,
            ping_seconds=self._incoming.ping_seconds(exchange.scope),
            headers={"ChatNest-Run-Id": run_id},
        )
        await self._runs.resume(run_id, principal, after, response)
