"""Responses of a server that may be broken or hostile, read with limits on size and time.

httpcore2 limits a head to 100 KiB. Text from the server is truncated and stripped of control
characters here, so that the checks can print it.
"""

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from time import monotonic
from typing import Any, Final

import anyio
import httpx2

from chatnest._util.terminal import excerpt
from chatnest.diagnostics.observations import MAX_BYTES, Flaw, Reply

__all__ = ["FlawedError", "close", "fetch", "headers_of", "media_type", "parsed", "pieces", "read"]

_CLOSING_SECONDS: Final = 1.0


class FlawedError(Exception):
    """The body could not be read to its end. ``flaw`` is the reason."""

    def __init__(self, flaw: Flaw) -> None:
        self.flaw: Flaw = flaw
        super().__init__(flaw)


async def fetch(http: httpx2.AsyncClient, request: httpx2.Request, patience: float) -> Reply:
    """Return a small response, or the part of it that arrived within ``patience`` seconds.

    Raises httpx2.RequestError if the connection ends before the head.
    """
    since = monotonic()
    response = None
    with anyio.move_on_after(patience):
        response = await http.send(request, stream=True)
    if response is None:
        return Reply(flaw="slow", seconds=monotonic() - since)
    return await read(response, since, since + patience - monotonic())


async def read(response: httpx2.Response, since: float, patience: float) -> Reply:
    """Read the rest of a small response for at most ``patience`` seconds, and close it."""
    content = bytearray()
    flaw: Flaw | None = "slow"
    try:
        with anyio.move_on_after(patience):
            async with aclosing(pieces(response)) as body:
                async for piece in body:
                    content += piece
            flaw = None
    except FlawedError as exc:
        flaw = exc.flaw
    finally:
        await close(response)
    return Reply(
        status=response.status_code,
        media_type=media_type(response),
        headers=headers_of(response),
        document=parsed(content) if flaw is None else None,
        seconds=monotonic() - since,
        flaw=flaw,
    )


async def pieces(response: httpx2.Response) -> AsyncGenerator[bytes, None]:
    """Yield the pieces of a body, uncompressed, as they arrive.

    Raises FlawedError if the body is longer than `MAX_BYTES` or cannot be read.
    """
    if "," in response.headers.get("content-encoding", ""):
        raise FlawedError("layered")  # a few bytes could take hours to decompress, unstoppably
    size = 0
    try:
        async with aclosing(response.aiter_bytes()) as body:
            async for piece in body:  # at most 1 MiB each, even from 1 KiB compressed
                size += len(piece)
                if size > MAX_BYTES:
                    raise FlawedError("endless")
                yield piece
    except httpx2.DecodingError as exc:
        raise FlawedError("garbled") from exc
    except httpx2.RequestError as exc:
        raise FlawedError("cut") from exc


async def close(response: httpx2.Response) -> None:
    """Close the response. Shielded from cancellation, and bounded by `_CLOSING_SECONDS`."""
    with anyio.move_on_after(_CLOSING_SECONDS, shield=True):
        await response.aclose()


def media_type(response: httpx2.Response) -> str:
    """Return the content type in lower case, without parameters."""
    return excerpt(response.headers.get("content-type", "").partition(";")[0].strip().lower())


def headers_of(response: httpx2.Response) -> dict[str, str]:
    """Return the headers by their names in lower case."""
    return {name: excerpt(value) for name, value in response.headers.items()}


def parsed(content: bytes | bytearray) -> Any:
    """Parse JSON. Return None for anything else."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None
