"""A visit to a deployed chat, from outside: what came back, and when. It asks for one answer.

Pings are the clock. They are asked for at a known interval, so that two which arrive closer
together than they were sent show that the first was held back, however fast the model is.

The server may be broken or hostile: whatever it sends, a visit ends within two minutes.
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

from chatnest._util.terminal import said
from chatnest.diagnostics.replies import (
    FlawedError,
    close,
    fetch,
    headers_of,
    media_type,
    parsed,
    pieces,
    read,
)
from chatnest.diagnostics.seen import PING_SECONDS, Answer, Reply, Seen
from chatnest.errors import ConfigurationError

__all__ = ["visit"]

_PINGS: Final = 4
_PATIENCE: Final = 15.0
"""Seconds for one small reply, from the request to its last byte."""
_CONNECT_SECONDS: Final = 10.0
_LONGEST_SILENCE: Final = 9.0
"""Seconds for the first frame: a stream begins after 5, whatever the model does."""
_LONGEST_READ: Final = 3.0
"""Seconds from the first frame on; by then, pings have come, or do not come. As many for what comes
instead of frames, and for the server to say that it writes.
"""
_LONGEST_LEAVING: Final = 5.0
_POLL: Final = 0.05
_SECRET: Final = {"authorization", "cookie"}
_RUN_ID: Final = re.compile(r"[0-9a-f]{32}")
_QUESTION: Final = "Write the numbers from 1 to 100, in words."
"""The answer is long enough to be left while it is being written."""


async def visit(url: str, headers: Mapping[str, str], *, dry: bool) -> Seen:
    """Look at the chat at ``url``. Unless ``dry``, ask it for an answer, and leave that unread.

    Raises ConfigurationError where nothing speaks HTTP.
    """
    try:
        address = httpx2.URL(url)
        timeout = httpx2.Timeout(None, connect=_CONNECT_SECONDS)  # the rest has one deadline
        async with httpx2.AsyncClient(headers=headers, timeout=timeout, trust_env=False) as http:
            return await _Visitor(http, address).visit(dry=dry)
    except (httpx2.InvalidURL, httpx2.UnsupportedProtocol) as exc:
        raise ConfigurationError("URL must be an address such as https://host/api/chat") from exc
    except httpx2.RequestError as exc:
        reason = said(str(exc)) or type(exc).__name__
        raise ConfigurationError(f"{_place(address)} cannot be reached: {reason}") from exc


def _place(url: httpx2.URL) -> str:
    return f"{url.host} port {url.port or (443 if url.scheme == 'https' else 80)}"


class _Visitor:
    def __init__(self, http: httpx2.AsyncClient, url: httpx2.URL) -> None:
        self._http = http
        self._url = url
        self._held_before = 0

    async def visit(self, *, dry: bool) -> Seen:
        first = await fetch(self._http, self._request("GET", "/limits"), _PATIENCE)
        if not first.status:
            raise ConfigurationError(f"{_place(self._url)} does not answer within {_PATIENCE:g} s")
        # The first has paid for the connection: the second shows what a round trip takes.
        limits = first if first.flaw else await self._small("GET", "/limits")
        seen = Seen(
            scheme=self._url.scheme,
            host=self._url.host,
            path=self._url.path.rstrip("/"),
            has_secrets=bool(_SECRET & {name.lower() for name in self._http.headers}),
            limits=limits,
        )
        if limits.status != httpx2.codes.OK or limits.held is None:
            return seen
        self._held_before = limits.held
        seen.run = await self._small("GET", f"/runs/{'0' * 32}")
        seen.refusal = await self._small("POST", content=b"{}")
        if not dry:
            seen.answer = answer = await self._ask()
            left = monotonic()
            if not answer.ended and answer.refusal is None:
                seen.gone = await self._until_it_is_gone(left)
            seen.receipt = await self._receipt(answer)
        return seen

    async def _small(
        self, method: str, path: str = "", content: bytes | None = None, *, within: float = 0.0
    ) -> Reply:
        since = monotonic()
        request = self._request(method, path, content)
        try:
            return await fetch(self._http, request, within or _PATIENCE)
        except httpx2.RequestError:
            return Reply(flaw="cut", seconds=monotonic() - since)

    def _request(self, method: str, path: str, content: bytes | None = None) -> httpx2.Request:
        headers = {} if content is None else {"content-type": "application/json"}
        return self._http.build_request(method, self._below(path), content=content, headers=headers)

    def _below(self, path: str) -> httpx2.URL:
        return self._url.copy_with(path=self._url.path.rstrip("/") + path)

    async def _is_held(self) -> bool | None:
        """Whether the server says that it is writing for us. None where it does not say."""
        held = (await self._small("GET", "/limits", within=_LONGEST_READ)).held
        return None if held is None else held > self._held_before

    # ------------------------------------------------ the one answer

    async def _ask(self) -> Answer:
        """Ask, read until there is enough to tell, and leave by closing the connection."""
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
                "accept-encoding": "gzip",  # as browsers say: what is compressed may come late
            },
        )
        response = await self._http.send(request, stream=True)
        try:
            answer.headers = headers_of(response)
            if media_type(response) != "text/event-stream":
                answer.refusal = await read(response, since, _LONGEST_READ)
            else:
                await _read_frames(answer, response, since)
        finally:
            await close(response)

    async def _watch(self, answer: Answer) -> None:
        """Hear from the server whether it writes, until there is nothing more to wait for."""
        since = monotonic()
        while True:
            await anyio.sleep(4 * _POLL)
            held = await self._is_held()
            if answer.was_held and held is False and not answer.frames:
                answer.ended = "unseen"
                await anyio.sleep(1)  # what was held back to the end comes now
                return
            answer.was_held = answer.was_held or bool(held)
            first = answer.frames[0][1] if answer.frames else math.inf
            silence = _LONGEST_SILENCE + (_LONGEST_READ if answer.headers else 0)
            now = monotonic() - since
            if now > first + _LONGEST_READ or (not answer.frames and now > silence):
                return

    # ------------------------------------------------ after it

    async def _until_it_is_gone(self, left: float) -> float | None:
        """Seconds until the server says that it writes for us no more. None: not in time."""
        while monotonic() < left + _LONGEST_LEAVING:
            if await self._is_held() is False:
                return monotonic() - left
            await anyio.sleep(_POLL / 5 if monotonic() < left + 2 * _POLL else _POLL)
        return None

    async def _receipt(self, answer: Answer) -> dict[str, Any] | None:
        """What came of it; where it is still being written, this ends it."""
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
    """Note a frame. Gives its name."""
    fields = dict(line.partition(b": ")[::2] for line in frame.split(b"\n"))
    name = fields.get(b"event", b"").decode("ascii", "replace")
    answer.frames.append((name, now))
    if name in {"done", "error"}:
        answer.ended = "frame"
    if name == "error":
        document = parsed(fields.get(b"data", b""))
        code = document.get("code") if isinstance(document, dict) else None
        answer.error = said(code) if isinstance(code, str) else "unknown"
    return name
