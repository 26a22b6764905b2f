"""ChatNestClient: a Python client of a chatnest server that survives broken connections.

It reconnects by itself: with the same Idempotency-Key until the first event has arrived, then by
resuming the run after the last event that it read. So an answer is generated, charged and read
once.

The server may be broken or hostile: everything but the answer is read within bounds, and nothing
is decompressed.
"""

import json
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any, Final, Self, TypeVar

import anyio
import httpx2
import msgspec

__all__ = ["Answer", "ChatError", "ChatNestClient", "Receipt"]

_T = TypeVar("_T")

_LONGEST_PAUSE: Final = 5.0
_SHORTEST_PAUSE: Final = 0.1
_NEVER: Final = 1e9
_CUT: Final = "cut_off"

_DOCUMENT_BYTES: Final = 65_536
"""Maximum bytes of a problem document, of limits or of a receipt."""

_DOCUMENT_SECONDS: Final = 5.0
"""Maximum seconds to wait for the rest of such a document after its head."""

_EVENT_BYTES: Final = 4_194_304
"""Maximum bytes of an incomplete event. A larger one counts as a broken connection."""


class ChatError(Exception):
    """The server refused the request, or the answer is incomplete.

    The fields are the server's, as in docs/reference/errors.md. The code ``cut_off``, with status
    0, means that the server could not be reached for too long.
    """

    def __init__(self, status: int, fields: Mapping[str, Any]) -> None:
        self.status: int = status
        self.code: str = str(fields.get("code", _CUT))
        self.detail: str = str(fields.get("detail") or fields.get("message") or self.code)
        self.retryable: bool = bool(fields.get("retryable", False))
        self.retry_after: float | None = _seconds(fields.get("retry_after"))
        self.charged: bool = bool(fields.get("charged", False))
        super().__init__(self.detail)


def _seconds(value: object) -> float | None:
    """The delay in seconds, or None if it is missing or implausible."""
    return value if isinstance(value, int | float) and 0 <= value < _NEVER else None


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a cancellation. ``charged`` is in tokens, ``source`` is where it comes from."""

    run_id: str
    was_running: bool
    outcome: str
    charged: int = 0
    source: str = "none"


class Answer:
    """An answer in progress: iterate over it for its text, piece by piece.

    ``run_id`` is set with the first piece, ``usage`` (the server's event) at the end. Iterating
    raises ChatError if the server refuses the request or the answer ends with an error.
    """

    def __init__(self, client: "ChatNestClient", body: bytes, key: str) -> None:
        self.key: str = key
        self.run_id: str | None = None
        self.usage: dict[str, Any] | None = None
        self._client = client
        self._body = body
        self._last = 0
        self._pieces = self._read()

    def __aiter__(self) -> AsyncIterator[str]:
        return self._pieces

    async def text(self) -> str:
        """The rest of the text, in one string."""
        return "".join([piece async for piece in self._pieces])

    async def cancel(self) -> Receipt | None:
        """Cancel the answer on the server. None if its run is not known yet."""
        if self.run_id is None:
            return None
        return await self._client.cancel(self.run_id)

    async def aclose(self) -> None:
        """Stop reading."""
        await self._pieces.aclose()

    async def _read(self) -> AsyncGenerator[str, None]:
        """Read the pieces, over as many connections as the whole answer needs."""
        patience, pause = self._client.patience, _SHORTEST_PAUSE
        give_up = anyio.current_time() + patience
        while True:
            progressed, error = False, ChatError(0, {"detail": "The server cannot be reached."})
            try:
                async with _response(self._client.http, self._request()) as response:
                    await _check(response)
                    self.run_id = response.headers.get("chatnest-run-id", self.run_id)
                    async with aclosing(self._follow(response)) as pieces:
                        async for piece in pieces:
                            progressed = True
                            yield piece
                    return
            except httpx2.TransportError as exc:
                error.__cause__ = exc
            except _CutOffError:
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
            return http.build_request(
                "GET", f"{url}/runs/{self.run_id}", params={"after": self._last}
            )
        return http.build_request(
            "POST",
            url,
            content=self._body,
            headers={"content-type": "application/json", "idempotency-key": f'"{self.key}"'},
        )

    async def _follow(self, response: httpx2.Response) -> AsyncGenerator[str, None]:
        """The new pieces from one connection. Raises ChatError if the answer ends with an error."""
        ended = False
        events = _Events()
        async with aclosing(response.aiter_raw()) as pieces:
            async for piece in pieces:  # until the body ends, which is after the last event
                for name, data, number in events.feed(piece):
                    if name == "token" and number > self._last:
                        text = _decoded(data, str)
                        self._last = number
                        yield text
                    elif name == "usage":
                        self.usage = _decoded(data, dict[str, Any])
                    elif name == "error":
                        raise ChatError(response.status_code, _decoded(data, dict[str, Any]))
                    ended = ended or name == "done"
        if not ended:
            raise _CutOffError


class _Events:
    """Splits bytes in pieces of any size into events of the native wire, whose lines end in LF."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[tuple[str, str, int]]:
        """The name, data and number of each event that ``data`` completes."""
        *frames, self._rest = (self._rest + data).split(b"\n\n")
        if len(self._rest) > _EVENT_BYTES:
            raise _CutOffError
        try:
            return [self._event(frame.decode()) for frame in frames]
        except ValueError as exc:  # invalid UTF-8, or an id that is not a number
            raise _CutOffError from exc

    def _event(self, frame: str) -> tuple[str, str, int]:
        fields = dict(line.partition(": ")[::2] for line in frame.split("\n"))
        return fields.get("event", ""), fields.get("data", ""), int(fields.get("id", 0))


class _CutOffError(Exception):
    """The body ended before the answer did, or is invalid."""


def _decoded(data: str, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(data, type=kind)
    except (ValueError, RecursionError) as exc:
        raise _CutOffError from exc


@asynccontextmanager
async def _response(
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


async def _check(response: httpx2.Response) -> None:
    if response.status_code != httpx2.codes.OK:
        raise ChatError(response.status_code, await _problem(response))


async def _problem(response: httpx2.Response) -> dict[str, Any]:
    """The problem document, or a code made from the status if a proxy answered instead."""
    return await _document(response) or {"code": f"http_{response.status_code}"}


async def _document(response: httpx2.Response) -> dict[str, Any] | None:
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
        messages: Sequence[Mapping[str, str]],
        *,
        profile: str | None = None,
        linger: float | None = None,
        key: str | None = None,
    ) -> AsyncIterator[Answer]:
        """Send a chat request and read its answer within the block. Leaving the block early cancels
        the answer, unless ``linger`` is set.

        ``messages`` have ``role`` and ``content``. ``linger`` is the number of seconds for which
        the server continues the answer after a disconnect, by default ``patience``; the server may
        allow less. ``key`` is the Idempotency-Key, by default a new one. Two calls with the same
        key share one answer.
        """
        body = {
            "messages": [dict(message) for message in messages],
            "usageEvent": True,
            "linger": self.patience if linger is None else linger,
        }
        if profile is not None:
            body["profile"] = profile
        answer = Answer(self, json.dumps(body).encode(), key or str(uuid.uuid4()))
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
            async with _response(self.http, request) as response:
                await _check(response)
                document = await _document(response)
        except httpx2.TransportError as exc:
            raise ChatError(0, {"detail": "The server cannot be reached."}) from exc
        if document is None:
            raise ChatError(0, {"detail": "The server's response is incomplete."})
        return document

    async def aclose(self) -> None:
        """Close the HTTP client, unless it was passed in."""
        if self._owns:
            await self.http.aclose()
