"""Responses as the client reads them: the head at once, documents within bounds."""

import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final

import anyio
import httpx2

from chatnest.client.errors import ChatError

__all__ = ["check", "document_of", "response_to"]

_DOCUMENT_BYTES: Final = 65_536
"""Maximum bytes of a problem document, of limits or of a receipt."""

_DOCUMENT_SECONDS: Final = 5.0
"""Maximum seconds to wait for the rest of such a document after its head."""


@asynccontextmanager
async def response_to(
    http: httpx2.AsyncClient, request: httpx2.Request
) -> AsyncIterator[httpx2.Response]:
    """The response, as soon as its head has arrived. Raises httpx2.TransportError."""
    request.headers["accept-encoding"] = "identity"  # compression may delay the frames
    response = await http.send(request, stream=True)
    try:
        yield response
    finally:
        with anyio.CancelScope(shield=True):
            await response.aclose()


async def check(response: httpx2.Response) -> None:
    """Raise ChatError for a failed response. Without a code of chatnest, it is ``http_STATUS``."""
    if response.status_code != httpx2.codes.OK:
        found = await document_of(response) or {"code": f"http_{response.status_code}"}
        raise ChatError(response.status_code, found)


async def document_of(response: httpx2.Response) -> dict[str, Any] | None:
    """The body as a JSON object, or None if it is not one or exceeds its bounds."""
    body = bytearray()
    with anyio.move_on_after(_DOCUMENT_SECONDS) as reading:
        async with aclosing(response.aiter_raw()) as pieces:
            async for piece in pieces:
                body += piece
                if len(body) > _DOCUMENT_BYTES:
                    reading.cancel()  # trio warns if httpx2's generators end in another way
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
