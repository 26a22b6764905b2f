"""Replies of a server that may be broken or hostile: as much of each as there should be, in time.

A head has at most 100 KiB, as httpcore2 has it. What a server says of itself is cut here to what a
sentence has room for, before it is anybody's to show.
"""

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from time import monotonic
from typing import Any, Final

import anyio
import httpx2

from chatnest._util.terminal import said
from chatnest.diagnostics.seen import MOST_BYTES, Flaw, Reply

__all__ = ["FlawedError", "close", "fetch", "headers_of", "media_type", "parsed", "pieces", "read"]

_CLOSING_SECONDS: Final = 1.0


class FlawedError(Exception):
    """A body that could not be read to its end, and why."""

    def __init__(self, flaw: Flaw) -> None:
        self.flaw: Flaw = flaw
        super().__init__(flaw)


async def fetch(http: httpx2.AsyncClient, request: httpx2.Request, patience: float) -> Reply:
    """A small reply, or what has come of it in so many seconds.

    Raises httpx2.RequestError where the connection ends before there is a head.
    """
    since = monotonic()
    response = None
    with anyio.move_on_after(patience):
        response = await http.send(request, stream=True)
    if response is None:
        return Reply(flaw="slow", seconds=monotonic() - since)
    return await read(response, since, since + patience - monotonic())


async def read(response: httpx2.Response, since: float, patience: float) -> Reply:
    """The rest of a small reply, or what comes of it in so many seconds. It is closed then."""
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
    """A body, uncompressed, in the pieces in which it comes, until there is enough of it.

    Raises FlawedError for what comes after that, and for what cannot be read.
    """
    if "," in response.headers.get("content-encoding", ""):
        raise FlawedError("layered")  # a few bytes may be a day's work, with no way to stop it
    size = 0
    try:
        async with aclosing(response.aiter_bytes()) as body:
            async for piece in body:  # at most 1 MiB each, which may have been 1 KiB
                size += len(piece)
                if size > MOST_BYTES:
                    raise FlawedError("endless")
                yield piece
    except httpx2.DecodingError as exc:
        raise FlawedError("garbled") from exc
    except httpx2.RequestError as exc:
        raise FlawedError("cut") from exc


async def close(response: httpx2.Response) -> None:
    """Let go of its connection, unless all of it was read, whatever ends us."""
    with anyio.move_on_after(_CLOSING_SECONDS, shield=True):
        await response.aclose()


def media_type(response: httpx2.Response) -> str:
    """In small letters, without parameters."""
    return said(response.headers.get("content-type", "").partition(";")[0].strip().lower())


def headers_of(response: httpx2.Response) -> dict[str, str]:
    """By their names in small letters."""
    return {name: said(value) for name, value in response.headers.items()}


def parsed(content: bytes | bytearray) -> Any:
    """JSON, None for anything else."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None
