"""ChatNestClient: ask a chatnest server from Python, and lose nothing when the connection breaks.

It comes back by itself: with the same Idempotency-Key while nothing has been said, then to the run,
after the last event that was read. So an answer is generated and charged once, and read once.

The server may be broken or hostile: what is no answer is read within bounds, and not inflated.
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
"""As much of a problem document, of limits or of a receipt as is read."""

_DOCUMENT_SECONDS: Final = 5.0
"""For which the rest of one is waited for, once its head is there."""

_EVENT_BYTES: Final = 4_194_304
"""Bytes of an event that has not ended; it is as if the connection had broken."""


class ChatError(Exception):
    """The server refused, or the answer is not whole. ``code`` and the rest are the server's, as in
    docs/reference/errors.md; ``cut_off`` (status 0) says that it could not be reached for too long.
    """

    def __init__(self, status: int, fields: Mapping[str, Any]) -> None:
        self.status: int = status
        self.code: str = str(fields.get("code", _CUT))
        self.detail: str = str(fields.get("detail") or fields.get("message") or self.code)
        self.retryable: bool = bool(fields.get("retryable", False))
        self.retry_after: float | None = _seconds(fields.get("retry_after"))
        self.charged: bool = bool(fields.get("charged", False))
        super().__init__(self.detail)


def _seconds(said: object) -> float | None:
    """None for what is no time to wait for."""
    return said if isinstance(said, int | float) and 0 <= said < _NEVER else None


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a cancel: ``charged`` tokens, by the figure of ``source``."""

    run_id: str
    was_running: bool
    outcome: str
    charged: int = 0
    source: str = "none"


class Answer:
    """An answer that is being read: iterate over it for its text, piece by piece.

    ``run_id`` is known with the first piece, ``usage`` (the server's event) at the end.
    Iterating raises ChatError for what ended it, and for what refused it.
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
        """All that is left of it."""
        return "".join([piece async for piece in self._pieces])

    async def cancel(self) -> Receipt | None:
        """Have the server end it. None where it has not said which run it is."""
        if self.run_id is None:
            return None
        return await self._client.cancel(self.run_id)

    async def aclose(self) -> None:
        """Read no more."""
        await self._pieces.aclose()

    async def _read(self) -> AsyncGenerator[str, None]:
        """Connections, one after the other, until one has brought the end."""
        patience, pause = self._client.patience, _SHORTEST_PAUSE
        give_up = anyio.current_time() + patience
        while True:
            heard, error = False, ChatError(0, {"detail": "The server cannot be reached."})
            try:
                async with _response(self._client.http, self._request()) as response:
                    await _check(response)
                    self.run_id = response.headers.get("chatnest-run-id", self.run_id)
                    async with aclosing(self._follow(response)) as pieces:
                        async for piece in pieces:
                            heard = True
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
            if heard:
                give_up, pause = anyio.current_time() + patience, _SHORTEST_PAUSE
            if anyio.current_time() + pause > give_up:
                raise error
            await anyio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _request(self) -> httpx2.Request:
        """For the answer, or for what is left of it."""
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
        """The pieces of one connection that are new. Raises what ended the answer."""
        ended = False
        events = _Events()
        async with aclosing(response.aiter_raw()) as pieces:
            async for piece in pieces:  # to the body's end, which follows the last event
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
    """Events of chatnest's wire, whose lines end with LF, out of bytes in any pieces."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[tuple[str, str, int]]:
        """The name, data and number of each event that is whole now."""
        *frames, self._rest = (self._rest + data).split(b"\n\n")
        if len(self._rest) > _EVENT_BYTES:
            raise _CutOffError
        try:
            return [self._event(frame.decode()) for frame in frames]
        except ValueError as exc:  # no UTF-8, or no number
            raise _CutOffError from exc

    def _event(self, frame: str) -> tuple[str, str, int]:
        fields = dict(line.partition(": ")[::2] for line in frame.split("\n"))
        return fields.get("event", ""), fields.get("data", ""), int(fields.get("id", 0))


class _CutOffError(Exception):
    """The body ended before the answer, or is broken from here on."""


def _decoded(data: str, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(data, type=kind)
    except (ValueError, RecursionError) as exc:
        raise _CutOffError from exc


@asynccontextmanager
async def _response(
    http: httpx2.AsyncClient, request: httpx2.Request
) -> AsyncIterator[httpx2.Response]:
    """Once its head is there. Raises httpx2.TransportError."""
    request.headers["accept-encoding"] = "identity"  # or it may come late, and all at once
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
    """The problem document, or what the status says where a proxy answered instead."""
    return await _document(response) or {"code": f"http_{response.status_code}"}


async def _document(response: httpx2.Response) -> dict[str, Any] | None:
    """The JSON object that its body is, or what is read of that. None where it is none."""
    body = bytearray()
    with anyio.move_on_after(_DOCUMENT_SECONDS) as reading:
        async with aclosing(response.aiter_raw()) as pieces:
            async for piece in pieces:
                body += piece
                if len(body) > _DOCUMENT_BYTES:
                    reading.cancel()  # httpx2's generators end by that alone; trio minds
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


class ChatNestClient:
    """A chat at ``url``, such as ``https://example.com/api/chat``. On asyncio and trio.

    ``headers`` say who is asking. ``patience`` is for how many seconds it tries to come back, and
    waits where the server says when. ``http`` is a client of your own, whose closing is yours.
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
        # A stream has a ping every 15 seconds; one that is silent for longer is dead.
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
        """Ask, and read the answer within the block. Leaving it early ends the answer, unless it
        lingers.

        ``messages`` have ``role`` and ``content``. ``linger`` is for how many seconds the server
        goes on when the connection breaks (as long as ``patience``, where it allows that much).
        ``key`` is the Idempotency-Key, by default a new one: give your own to make two calls one.
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
                    with suppress(ChatError):  # it may have ended; why it was left counts
                        await self.cancel(answer.run_id)

    async def cancel(self, run_id: str) -> Receipt:
        """Have the server end a run. Raises ChatError."""
        document = await self._fetch("DELETE", f"/runs/{run_id}")
        try:
            return msgspec.convert(document, Receipt)
        except msgspec.ValidationError as exc:
            raise ChatError(0, {"detail": "The server's answer is no receipt."}) from exc

    async def limits(self, profile: str | None = None) -> dict[str, Any]:
        """What is left, as docs/reference/wire.md says. Raises ChatError."""
        return await self._fetch("GET", "/limits", {} if profile is None else {"profile": profile})

    async def _fetch(
        self, method: str, path: str, params: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """A document below ``url``. Raises ChatError."""
        request = self.http.build_request(method, f"{self.url}{path}", params=params)
        try:
            async with _response(self.http, request) as response:
                await _check(response)
                document = await _document(response)
        except httpx2.TransportError as exc:
            raise ChatError(0, {"detail": "The server cannot be reached."}) from exc
        if document is None:
            raise ChatError(0, {"detail": "The server's answer is not whole."})
        return document

    async def aclose(self) -> None:
        """Close the connections that are its own."""
        if self._owns:
            await self.http.aclose()
