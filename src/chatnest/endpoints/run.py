"""RunEndpoint: resumes a run, or cancels it."""

from typing import Literal

from chatnest.asgi.http import bounded, respond, respond_json, respond_nothing
from chatnest.asgi.resumption import last_event_id
from chatnest.bounds import ResolvedBounds
from chatnest.endpoints.base import Exchange
from chatnest.errors import NotFound
from chatnest.identity.access import Access
from chatnest.incoming import Incoming
from chatnest.lookups import LookUps
from chatnest.runs.service import Runs
from chatnest.streams.intake import Intake
from chatnest.streams.open_streams import OpenStreams
from chatnest.streams.response import Response
from chatnest.wire.base import HasReceipts, StreamInfo
from chatnest.wire.formats import Route

__all__ = ["RunEndpoint"]


class RunEndpoint:
    """The runs of a principal, by their id or by the id of their conversation."""

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

    async def serve(
        self, exchange: Exchange, route: Route, action: Literal["resume", "cancel"]
    ) -> None:
        """Resume the run after the last event that the client has seen, or cancel it. A
        conversation without a run that can be resumed or cancelled gets a 204.
        """
        principal = (await self._access.identity(exchange.scope)).principal
        self._look_ups.count(principal)
        run_id, note = route.run_id or "", ""
        if route.conversation is not None:
            noted = await self._runs.latest(principal, route.conversation)
            if noted is None:
                await self._respond_nothing(exchange)
                return
            run_id, note = noted
        if action == "cancel":
            await self._cancel(exchange, run_id, principal)
        else:
            await self._resume(exchange, run_id, principal, note, by_id=route.run_id is not None)

    async def _cancel(self, exchange: Exchange, run_id: str, principal: str) -> None:
        receipt = await self._runs.cancel(run_id, principal)
        send = bounded(exchange.send, self._bounds.send_seconds)
        if isinstance(format_ := exchange.format, HasReceipts):
            await respond(exchange.scope, send, format_.receipt(receipt))
        else:
            await respond_json(exchange.scope, send, receipt)

    async def _resume(
        self, exchange: Exchange, run_id: str, principal: str, note: str, *, by_id: bool
    ) -> None:
        self._streams.check()
        self._intake.check_room()
        after = last_event_id(exchange.scope) if by_id else 0
        events = self._incoming.events(exchange.scope)
        try:
            page = await self._runs.owned(run_id, principal, after)
        except NotFound:
            if by_id:
                raise
            page = None
        if page is None or (page.end is not None and (not by_id or after >= page.last)):
            await self._respond_nothing(exchange)
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
                note=note,
            ),
            bounds=self._bounds,
            ping_seconds=self._incoming.ping_seconds(exchange.scope),
            headers={"ChatNest-Run-Id": run_id},
        )
        await self._runs.resume(run_id, principal, after, response)

    async def _respond_nothing(self, exchange: Exchange) -> None:
        await respond_nothing(bounded(exchange.send, self._bounds.send_seconds))
