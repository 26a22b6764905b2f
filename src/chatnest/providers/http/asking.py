"""ask: one request of a dialect, until the head of its response has arrived, and its parts."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from http import HTTPStatus
from typing import Final

from chatnest.errors import UpstreamUnavailable
from chatnest.providers.http.answer_stream import AnswerStream, Decoder
from chatnest.providers.http.bodies import closing, is_compressed, is_readable
from chatnest.providers.http.pool import LoopTransports
from chatnest.providers.http.transport import Response, TransportError
from chatnest.turn import ModelCall

__all__ = ["GOOD", "ask", "closed_unless", "note_late"]

GOOD: Final = range(HTTPStatus.OK, HTTPStatus.MULTIPLE_CHOICES)
"""Statuses of an answer: some gateways send 201 or 206."""


async def ask(
    transports: LoopTransports, body: bytes, call: ModelCall, decoder: Decoder
) -> Response:
    """Post a body, and note the response in the ``call``. Raises UpstreamUnavailable if there is
    none. If it is cancelled, ``call.unread`` decodes what had arrived.
    """
    transport = await transports.get()
    try:
        response = await transport.post(body, call, partial(note_late, call, decoder))
    except TransportError as exc:
        cause = type(exc.__cause__).__name__  # its text may contain addresses
        raise UpstreamUnavailable(facts={"cause": cause}) from exc
    call.sent = True
    call.status = response.status
    call.content_type = response.headers.get("content-type", "")
    return response


@asynccontextmanager
async def closed_unless(response: Response) -> AsyncIterator[None]:
    """Close the response if the block raises."""
    try:
        yield
    except BaseException:
        with closing():
            await response.aclose()
        raise


def note_late(call: ModelCall, decoder: Decoder, response: Response) -> None:
    """Note what had arrived of an answer whose request was cancelled. See Transport.post."""
    if response.status == HTTPStatus.OK and is_readable(response):
        compressed = is_compressed(response)
        call.unread = AnswerStream(response, decoder, compressed=compressed).unread()
