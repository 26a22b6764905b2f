"""Answer: one answer as the client reads it, over as many connections as it needs."""

import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping
from contextlib import aclosing
from typing import Any, Final, Protocol, Self

import anyio
import httpx2
import msgspec

from chatnest.client.errors import ChatError, CutOffError
from chatnest.client.frames import Frames, decoded, piece_of
from chatnest.client.responses import check, response_to
from chatnest.client.said import Said
from chatnest.conversation import ToolCall
from chatnest.events import Delta, Piece

__all__ = ["Answer", "Receipt"]

_LONGEST_PAUSE: Final = 5.0
_SHORTEST_PAUSE: Final = 0.1


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a cancellation. ``charged`` is in tokens, ``source`` is where it comes from."""

    run_id: str
    was_running: bool
    outcome: str
    charged: int = 0
    source: str = "none"


class _Client(Protocol):
    http: httpx2.AsyncClient
    url: str
    patience: float

    async def cancel(self, run_id: str) -> Receipt: ...


class Answer:
    """An answer in progress: iterate over it for its text, piece by piece, or over ``events()``.

    ``run_id`` is set with the first piece, ``usage`` (the server's event) at the end. Iterating
    raises ChatError if the server refuses the request or the answer ends with an error.
    """

    def __init__(
        self,
        client: _Client,
        body: Mapping[str, Any],
        *,
        key: str | None = None,
        events: Collection[str] = (),
    ) -> None:
        self.key: str = key or str(uuid.uuid4())
        self.run_id: str | None = None
        self.usage: dict[str, Any] | None = None
        self._client = client
        self._body = msgspec.json.encode(body)
        self._events = ",".join(events)
        self._last = 0
        self._said = Said()
        self._pieces = self._read()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        while True:
            piece = await anext(self._pieces)
            if isinstance(piece, Delta):
                return piece.text

    def events(self) -> AsyncIterator[Piece]:
        """All pieces of the answer, as ``chatnest.events`` has them: Delta for its text, and the
        kinds that were asked for.
        """
        return self._pieces

    async def text(self) -> str:
        """The rest of the text, in one string."""
        return "".join([piece async for piece in self])

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The calls of your tools that have arrived. They are complete at the end of the answer,
        unless ``usage`` has ``incomplete``: then the last one must not be made.
        """
        return self._said.calls

    @property
    def message(self) -> dict[str, Any]:
        """The answer so far, as the message to send back in the next request."""
        return self._said.message()

    async def cancel(self) -> Receipt | None:
        """Cancel the answer on the server. None if its run is not known yet."""
        if self.run_id is None:
            return None
        return await self._client.cancel(self.run_id)

    async def aclose(self) -> None:
        """Stop reading."""
        await self._pieces.aclose()

    async def _read(self) -> AsyncGenerator[Piece, None]:
        """Read the pieces, over as many connections as the whole answer needs."""
        patience, pause = self._client.patience, _SHORTEST_PAUSE
        give_up = anyio.current_time() + patience
        while True:
            progressed, error = False, ChatError(0, {"detail": "The server cannot be reached."})
            try:
                async with response_to(self._client.http, self._request()) as response:
                    await check(response)
                    self.run_id = response.headers.get("chatnest-run-id", self.run_id)
                    async with aclosing(self._follow(response)) as pieces:
                        async for piece in pieces:
                            progressed = True
                            yield piece
                    return
            except httpx2.TransportError as exc:
                error.__cause__ = exc
            except CutOffError:
                pass
            except ChatError as exc:
                if not exc.retryable or exc.retry_after is None or self.run_id is not None:
                    raise
                error, pause = exc, max(_SHORTEST_PAUSE, exc.retry_after)
            if progressed:
                give_up, pause = anyio.current_time() + patience, _SHORTEST_PAUSE
            if anyio.current_time() + pause > give_up:
                raise error
            await anyio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _request(self) -> httpx2.Request:
        """The request for the answer, or for the rest of it."""
        http, url = self._client.http, self._client.url
        if self.run_id is not None and self._last:
            params: dict[str, int | str] = {"after": self._last}
            if self._events:
                params["events"] = self._events
            return http.build_request("GET", f"{url}/runs/{self.run_id}", params=params)
        return http.build_request(
            "POST",
            url,
            content=self._body,
            headers={"content-type": "application/json", "idempotency-key": f'"{self.key}"'},
        )

    async def _follow(self, response: httpx2.Response) -> AsyncGenerator[Piece, None]:
        """The new pieces from one connection. Raises ChatError if the answer ends with an error."""
        ended = False
        frames = Frames()
        async with aclosing(response.aiter_raw()) as data:
            async for part in data:  # until the body ends, which is after the last event
                for frame in frames.feed(part):
                    if frame.number > self._last and (piece := piece_of(frame)) is not None:
                        self._last = frame.number
                        self._said.add(piece)
                        yield piece
                    elif frame.name == "usage":
                        self.usage = decoded(frame.data, dict[str, Any])
                    elif frame.name == "error":
                        raise ChatError(response.status_code, decoded(frame.data, dict[str, Any]))
                    ended = ended or frame.name == "done"
        if not ended:
            raise CutOffError
