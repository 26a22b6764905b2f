"""ChatEndpoint: POST, which asks for an answer and streams it."""

from chatnest.answering import Answering
from chatnest.asgi.body_room import BodyShare
from chatnest.asgi.http import TAKEN
from chatnest.bounds import ResolvedBounds
from chatnest.endings import cause_of
from chatnest.endpoints.base import Exchange
from chatnest.errors import Overloaded
from chatnest.incoming import Incoming, IncomingChat
from chatnest.runs.service import Runs
from chatnest.streams.generation import Generation
from chatnest.streams.intake import Intake
from chatnest.streams.open_streams import OpenStreams
from chatnest.streams.response import Response
from chatnest.streams.whole import WholeResponse
from chatnest.telemetry.observers import Observers
from chatnest.wire.base import StreamInfo

__all__ = ["ChatEndpoint"]


class ChatEndpoint:
    """Reads a request, then answers it in one stream, or in a run that may outlive the stream."""

    def __init__(
        self,
        *,
        incoming: Incoming,
        answering: Answering,
        runs: Runs,
        streams: OpenStreams,
        intake: Intake,
        bounds: ResolvedBounds,
        observers: Observers,
    ) -> None:
        self._incoming = incoming
        self._answering = answering
        self._runs = runs
        self._streams = streams
        self._intake = intake
        self._bounds = bounds
        self._observers = observers

    async def serve(self, exchange: Exchange) -> None:
        """Stream the answer. Raises the error of a refused request, Overloaded, or ClientGone."""
        for tracing in self._observers.tracing:
            if tracing.arrived(exchange.scope, exchange.head):
                self._observers.refresh(tracing)
        intake, is_whole = (exchange.scope.get("extensions") or {}).get(TAKEN, (None, False))
        if intake is not self._intake and not self._intake.take():
            self._observers.refused(exchange.id, overloaded := Overloaded())
            raise overloaded
        del intake
        share = BodyShare(self._incoming.room)
        try:
            chat = await self._incoming.read(
                exchange.scope,
                exchange.receive,
                exchange.head,
                format=exchange.format,
                request_id=exchange.id,
                share=share,
            )
        except BaseException as exc:
            share.give_back()
            if is_whole:
                self._intake.place(counted=True)(False)  # by position
            self._observers.refused(exchange.id, cause_of(exc))
            raise
        try:
            response = self._response(exchange, chat, is_whole=is_whole)
        except BaseException:  # of a custom format
            share.give_back()
            raise
        del exchange  # its head need not live as long as the stream
        try:
            settings = self._runs.settings
            resumes = chat.request.submission.note is not None and settings.linger > 0
            if chat.key is not None or settings.resumable or resumes:
                await self._runs.serve(chat, response)
                return
            turn, candidates = chat.turn(chat.id), (chat.model,)
            del chat
            generation = Generation(
                turn, response, self._answering.answer, self._bounds, candidates
            )
            await self._streams.run(generation, response)
        finally:
            response.leave_place()
            if share.size:
                share.give_back()

    def _response(self, exchange: Exchange, chat: IncomingChat, *, is_whole: bool) -> Response:
        kind = Response if chat.request.submission.stream else WholeResponse
        return kind(
            exchange.scope,
            exchange.receive,
            exchange.send,
            format=exchange.format,
            info=StreamInfo(
                request_id=chat.id,
                model=chat.model.name,
                usage_event=chat.usage_event,
                events=chat.events,
                request=chat.request,
            ),
            bounds=self._bounds,
            ping_seconds=chat.ping_seconds,
            place=self._intake.place(counted=is_whole),
        )
