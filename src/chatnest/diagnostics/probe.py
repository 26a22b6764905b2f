"""A probe of a deployed chat from outside. It requests one answer and records the frames' times.

Pings are the clock: the server sends them at a known interval. If two pings arrive closer together
than that, the first was held back, no matter how fast the model is.

The server may be broken or hostile, so every wait is bounded. A probe ends within two minutes.
"""

import math
import re
import uuid
from collections.abc import Mapping
from contextlib import aclosing
from time import monotonic
from typing import Any, Final

import anyio
import httpx2

from chatnest._util.terminal import excerpt
from chatnest.diagnostics.observations import PING_SECONDS, Answer, Observations, Reply
from chatnest.diagnostics.responses import (
    FlawedError,
    close,
    fetch,
    headers_of,
    media_type,
    parsed,
    pieces,
    read,
)
from chatnest.errors import ConfigurationError

__all__ = ["probe"]

_PINGS: Final = 4
_REPLY_SECONDS: Final = 15.0
"""Maximum seconds of one small response, from the request to its last byte."""
_CONNECT_SECONDS: Final = 10.0
_FIRST_FRAME_SECONDS: Final = 9.0
"""Maximum seconds before the first frame. A stream starts after 5, even if the model is silent."""
_READ_SECONDS: Final = 3.0
"""Maximum seconds of reading after the first frame, which is enough for several pings. Also the
timeout of a response that is not a stream, and of a request for ``/limits`` during the answer.
"""
_DISCONNECT_SECONDS: Final = 5.0
"""Maximum seconds for the server to notice the disconnect."""
_POLL: Final = 0.05
_SECRET: Final = {"authorization", "cookie"}
_RUN_ID: Final = re.compile(r"[0-9a-f]{32}")
_QUESTION: Final = "Write the numbers from 1 to 100, in words."
"""A question whose answer is long enough for a disconnect in the middle."""


async def probe(url: str, headers: Mapping[str, str], *, dry: bool) -> Observations:
    """Probe the chat at ``url``. Unless ``dry``, request an answer and disconnect in the middle.

    Raises ConfigurationError if the URL is invalid, or no HTTP server answers there.
    """
    try:
        address = httpx2.URL(url)
        timeout = httpx2.Timeout(None, connect=_CONNECT_SECONDS)  # `fetch` bounds the rest
        async with httpx2.AsyncClient(headers=headers, timeout=timeout, trust_env=False) as http:
            return await _Probe(http, address).run(dry=dry)
    except (httpx2.InvalidURL, httpx2.UnsupportedProtocol) as exc:
        raise ConfigurationError(
            "URL: expected an address such as https://host/api/chat, got another form."
        ) from exc
    except httpx2.RequestError as exc:
        reason = excerpt(str(exc)) or type(exc).__name__
        raise ConfigurationError(
            f"URL: expected a server at {_place(address)}, got an error: {reason}. Check the "
            "address and the server."
        ) from exc


def _place(url: httpx2.URL) -> str:
    return f"{url.host} port {url.port or (443 if url.scheme == 'https' else 80)}"


class _Probe:
    def __init__(self, http: httpx2.AsyncClient, url: httpx2.URL) -> None:
        self._http = http
        self._url = url
        self._held_before = 0

    async def run(self, *, dry: bool) -> Observations:
        first = await fetch(self._http, self._request("GET", "/limits"), _REPLY_SECONDS)
        if not first.status:
            raise ConfigurationError(
                f"URL: expected a response from {_place(self._url)}, got none within "
                f"{_REPLY_SECONDS:g} s. Check the address and the server."
            )
        # The first request opened the connection, so the second one measures a round trip.
        limits = first if first.flaw else await self._small("GET", "/limits")
        observed = Observations(
            scheme=self._url.scheme,
            host=self._url.host,
            path=self._url.path.rstrip("/"),
            has_secrets=bool(_SECRET & {name.lower() for name in self._http.headers}),
            limits=limits,
        )
        if limits.status != httpx2.codes.OK or limits.held is None:
            return observed
        self._held_before = limits.held
        observed.run = await self._small("GET", f"/runs/{'0' * 32}")
        observed.refusal = await self._small("POST", content=b"{}")
        if not dry:
            observed.answer = answer = await self._ask()
            disconnected = monotonic()
            if not answer.ended and answer.refusal is None:
                observed.gone = await self._until_released(disconnected)
            observed.receipt = await self._receipt(answer)
        return observed

    async def _small(
        self, method: str, path: str = "", content: bytes | None = None, *, within: float = 0.0
    ) -> Reply:
        since = monotonic()
        request = self._request(method, path, content)
        try:
            return await fetch(self._http, request, within or _REPLY_SECONDS)
        except httpx2.RequestError:
            return Reply(flaw="cut", seconds=monotonic() - since)

    def _request(self, method: str, path: str, content: bytes | None = None) -> httpx2.Request:
        headers = {} if content is None else {"content-type": "application/json"}
        return self._http.build_request(method, self._below(path), content=content, headers=headers)

    def _below(self, path: str) -> httpx2.URL:
        return self._url.copy_with(path=self._url.path.rstrip("/") + path)

    async def _is_held(self) -> bool | None:
        """Return whether the server reports that it is writing our answer; None if unknown."""
        held = (await self._small("GET", "/limits", within=_READ_SECONDS)).held
        return None if held is None else held > self._held_before

    # ------------------------------------------------ the one answer

    async def _ask(self) -> Answer:
        """Request an answer, read enough of it to judge, and close the connection."""
        answer = Answer()
        async with anyio.create_task_group() as tasks:

            async def read() -> None:
                try:
                    await self._read(answer)
                except FlawedError as exc:
                    answer.ended = exc.flaw
                except httpx2.RequestError:
                    answer.ended = "cut"
                tasks.cancel_scope.cancel()

            tasks.start_soon(read)
            await self._watch(answer)
            tasks.cancel_scope.cancel()
        return answer

    async def _read(self, answer: Answer) -> None:
        since = monotonic()
        request = self._http.build_request(
            "POST",
            self._below("").copy_merge_params({"ping": str(PING_SECONDS)}),
            json={"messages": [{"role": "user", "content": _QUESTION}]},
            headers={
                "idempotency-key": f'"{uuid.uuid4()}"',
                "accept-encoding": "gzip",  # as browsers do: compression may delay frames
            },
        )
        response = await self._http.send(request, stream=True)
        try:
            answer.headers = headers_of(response)
            if media_type(response) != "text/event-stream":
                answer.refusal = await read(response, since, _READ_SECONDS)
            else:
                await _read_frames(answer, response, since)
        finally:
            await close(response)

    async def _watch(self, answer: Answer) -> None:
        """Poll whether the server is writing, until reading longer would show nothing new."""
        since = monotonic()
        while True:
            await anyio.sleep(4 * _POLL)
            held = await self._is_held()
            if answer.was_held and held is False and not answer.frames:
                answer.ended = "unseen"
                await anyio.sleep(1)  # frames that a proxy held back to the end arrive now
                return
            answer.was_held = answer.was_held or bool(held)
            first = answer.frames[0][1] if answer.frames else math.inf
            silence = _FIRST_FRAME_SECONDS + (_READ_SECONDS if answer.headers else 0)
            now = monotonic() - since
            if now > first + _READ_SECONDS or (not answer.frames and now > silence):
                return

    # ------------------------------------------------ after it

    async def _until_released(self, since: float) -> float | None:
        """Return the seconds until the server reports that it stopped writing, or None if late."""
        while monotonic() < since + _DISCONNECT_SECONDS:
            if await self._is_held() is False:
                return monotonic() - since
            await anyio.sleep(_POLL / 5 if monotonic() < since + 2 * _POLL else _POLL)
        return None

    async def _receipt(self, answer: Answer) -> dict[str, Any] | None:
        """Return the server's receipt of the answer. The request also ends a running answer."""
        run = answer.headers.get("chatnest-run-id", "")
        if not _RUN_ID.fullmatch(run):
            return None
        reply = await self._small("DELETE", f"/runs/{run}")
        is_one = reply.status == httpx2.codes.OK and isinstance(reply.document, dict)
        return reply.document if is_one else None


async def _read_frames(answer: Answer, response: httpx2.Response, since: float) -> None:
    rest, pings = b"", 0
    async with aclosing(pieces(response)) as body:
        async for piece in body:
            *frames, rest = (rest + piece).split(b"\n\n")
            for frame in frames:
                pings += _take(answer, frame, monotonic() - since) == "ping"
            answer.rest = len(rest)
            if answer.ended or pings >= _PINGS:
                return
    answer.ended = "cut"


def _take(answer: Answer, frame: bytes, now: float) -> str:
    """Record a frame and return its name."""
    fields = dict(line.partition(b": ")[::2] for line in frame.split(b"\n"))
    name = fields.get(b"event", b"").decode("ascii", "replace")
    answer.frames.append((name, now))
    if name in {"done", "error"}:
        answer.ended = "frame"
    if name == "error":
        document = parsed(fields.get(b"data", b""))
        code = document.get("code") if isinstance(document, dict) else None
        answer.error = excerpt(code) if isinstance(code, str) else "unknown"
    return name
