"""ChatNestClient: asks a chat over HTTP, and reads its documents."""

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, Self

import anyio
import httpx2
import msgspec

from chatnest.client.answer import Answer, Receipt
from chatnest.client.errors import ChatError
from chatnest.client.responses import check, document_of, response_to
from chatnest.client.tools import Tool, ToolRun, tool_rounds
from chatnest.events import Piece

__all__ = ["ChatNestClient"]


class ChatNestClient:
    """A client of the chat at ``url``, such as ``https://example.com/api/chat``. Runs on asyncio
    and trio.

    ``headers`` go with every request, for authentication. ``patience`` is the number of seconds for
    which the client tries to reconnect, or waits if the server asks it to. ``http`` is a client of
    your own, which you close yourself.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        patience: float = 30.0,
        http: httpx2.AsyncClient | None = None,
    ) -> None:
        self.url: str = url.rstrip("/")
        self.patience: float = patience
        self._owns = http is None
        # A stream has a ping every 15 seconds, so three missing pings mean a dead connection.
        self.http: httpx2.AsyncClient = http or httpx2.AsyncClient(timeout=45.0, trust_env=False)
        self.http.headers.update(headers or {})

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    @asynccontextmanager
    async def ask(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        profile: str | None = None,
        linger: float | None = None,
        key: str | None = None,
        tools: Sequence[Mapping[str, Any]] = (),
        events: Collection[str] = (),
        options: Mapping[str, Any] | None = None,
    ) -> AsyncIterator[Answer]:
        """Send a chat request and read its answer within the block. Leaving the block early cancels
        the answer, unless ``linger`` is set.

        ``messages`` have ``role`` and ``content``, as docs/reference/wire.md has them. ``tools``
        are in the form of Chat Completions. ``events`` are kinds of additional events; with tools,
        their default is ``reasoning`` and ``tools``. ``options`` are further fields of the
        request, such as ``{"model": "large", "toolChoice": "required"}``. ``linger`` is the number
        of seconds for which the server continues the answer after a disconnect, by default
        ``patience``; the server may allow less. ``key`` is the Idempotency-Key, by default a new
        one. Two calls with the same key share one answer.
        """
        body: dict[str, Any] = {
            "messages": [dict(message) for message in messages],
            "usageEvent": True,
            "linger": self.patience if linger is None else linger,
            **(options or {}),
        }
        if profile is not None:
            body["profile"] = profile
        if tools:
            body["tools"] = [dict(tool) for tool in tools]
            events = events or ("reasoning", "tools")
        if events:
            body["events"] = list(events)
        answer = Answer(self, body, key=key, events=(*events, "usage") if events else ())
        finished = False
        try:
            yield answer
            finished = answer.usage is not None
        finally:
            with anyio.move_on_after(2, shield=True):
                await answer.aclose()
                if not finished and linger is None and answer.run_id is not None:
                    with suppress(ChatError):  # the answer may have ended; the first error counts
                        await self.cancel(answer.run_id)

    async def run_tools(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Tool | Callable[..., Any]],
        *,
        rounds: int = 8,
        on_event: Callable[[Piece], object] | None = None,
        profile: str | None = None,
        events: Collection[str] = (),
        options: Mapping[str, Any] | None = None,
    ) -> ToolRun:
        """Ask, make the calls of the answer, and ask again with their results, until an answer has
        no calls. There are at most ``rounds`` requests.

        ``tools`` are functions, sync or async, whose names, docstrings and annotations the model
        gets, or ``Tool`` objects. An error of a function goes back to the model, and so does its
        thinking, with its signatures. ``on_event`` gets each piece when it arrives.

        Raises ChatError, with the code ``too_many_rounds`` if the last answer still has calls.
        """
        ask = partial(self.ask, profile=profile, events=events, options=options)
        return await tool_rounds(ask, messages, tools, rounds=rounds, on_event=on_event)

    async def cancel(self, run_id: str) -> Receipt:
        """Cancel a run on the server. Raises ChatError."""
        document = await self._fetch("DELETE", f"/runs/{run_id}")
        try:
            return msgspec.convert(document, Receipt)
        except msgspec.ValidationError as exc:
            raise ChatError(0, {"detail": "The server's response is not a receipt."}) from exc

    async def limits(self, profile: str | None = None) -> dict[str, Any]:
        """The limits and what is left of them, as in docs/reference/wire.md. Raises ChatError."""
        return await self._fetch("GET", "/limits", {} if profile is None else {"profile": profile})

    async def _fetch(
        self, method: str, path: str, params: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Fetch a document below ``url``. Raises ChatError."""
        request = self.http.build_request(method, f"{self.url}{path}", params=params)
        try:
            async with response_to(self.http, request) as response:
                await check(response)
                document = await document_of(response)
        except httpx2.TransportError as exc:
            raise ChatError(0, {"detail": "The server cannot be reached."}) from exc
        if document is None:
            raise ChatError(0, {"detail": "The server's response is incomplete."})
        return document

    async def aclose(self) -> None:
        """Close the HTTP client, unless it was passed in."""
        if self._owns:
            await self.http.aclose()
