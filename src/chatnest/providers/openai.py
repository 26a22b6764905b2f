"""OpenAIProvider: OpenAI, and every server that speaks its chat completions."""

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from types import ModuleType
from typing import Any, Final

from anyio import CancelScope, move_on_after
from anyio.lowlevel import RunVar, checkpoint

from chatnest.errors import ConfigurationError, UpstreamInterrupted
from chatnest.events import ProviderEvent
from chatnest.providers.base import ProviderStream
from chatnest.providers.decode import ChunkDecoder, EventSplitter
from chatnest.tokens import Tokenizer
from chatnest.turn import ModelCall

__all__ = ["OpenAIProvider"]

DEFAULT_MODEL: Final = "gpt-4o-mini"
DEFAULT_BASE_URL: Final = "https://api.openai.com/v1"

_REASONING: Final = ("o1", "o3", "o4", "gpt-5")
"""Models that take max_completion_tokens instead of max_tokens, and no temperature."""

_RESERVED: Final = {
    *("max_completion_tokens", "max_tokens", "messages", "model", "n", "stream"),
    "stream_options",
}

_FED_AT_ONCE: Final = 32_768
"""Bytes that are decoded without a break: a flood of them must not keep the event loop."""

_DRAIN_SECONDS: Final = 0.05
"""For the end of a body after its last event, so that the connection can be used again."""


class OpenAIProvider:
    """Asks an OpenAI-compatible server.

    ``api_key`` and ``base_url`` default to OPENAI_API_KEY and OPENAI_BASE_URL; without a key it
    raises ConfigurationError, except for a ``base_url`` of your own, which may need none.
    ``encoding`` is how tokens are counted beforehand: by default the model's own, for unknown
    models ``o200k_base``; ``"bytes"`` never counts too little for any model. ``include_usage``
    asks for the bill at the stream's end; turn it off for servers that refuse the field.
    ``options`` are further fields of the request, such as ``{"seed": 1}``. ``client`` takes an
    ``openai.AsyncOpenAI`` of your own (such as ``AsyncAzureOpenAI``) instead; it belongs to one
    event loop, and closing it is yours.
    """

    def __init__(
        self,
        *,
        model: str = DEFAULT_MODEL,
        api_key: str | None = None,
        base_url: str | None = None,
        organization: str | None = None,
        project: str | None = None,
        encoding: str | None = None,
        include_usage: bool = True,
        options: Mapping[str, Any] | None = None,
        client: Any = None,
        max_event_bytes: int = 262_144,
        max_answer_bytes: int = 67_108_864,
    ) -> None:
        self.model = model
        try:
            self.counter: Tokenizer = Tokenizer.for_model(model, encoding=encoding)
        except ValueError as exc:
            raise ConfigurationError(f"encoding: {exc}") from None
        self._base_url = base_url or os.environ.get("OPENAI_BASE_URL") or DEFAULT_BASE_URL
        if not self._base_url.startswith(("http://", "https://")):
            raise ConfigurationError(
                f"base_url {self._base_url!r} must begin with http:// or https://"
            )
        key = api_key or os.environ.get("OPENAI_API_KEY")
        if client is None and not key:
            if self._base_url == DEFAULT_BASE_URL:
                raise ConfigurationError(
                    "OPENAI_API_KEY is not set: set it, pass api_key=..., or point base_url "
                    "at a server that needs no key"
                )
            key = "none"
        self._account = {"organization": organization, "project": project}
        self._key = key or ""
        self._include_usage = include_usage
        self._options = dict(options or {})
        if reserved := _RESERVED & set(self._options):
            raise ConfigurationError(
                f"options[{min(reserved)!r}] is chatnest's to set: it is what is held and counted"
            )
        # Retries are a policy of chatnest's, also where the client is not.
        self._own_client = None if client is None else client.with_options(max_retries=0)
        self._max_event_bytes = max_event_bytes
        self._max_answer_bytes = max_answer_bytes
        self._clients: RunVar[Any] = RunVar(f"chatnest_openai_{id(self)}")
        self._sdk = _import_sdk()

    def __repr__(self) -> str:
        scheme, _, rest = self._base_url.partition("://")
        shown = f"{scheme}://{rest.rpartition('@')[2]}"  # without a user and password
        return f"OpenAIProvider(model={self.model!r}, base_url={shown!r})"

    @asynccontextmanager
    async def open(self, call: ModelCall) -> AsyncIterator[ProviderStream]:
        """See Provider.open."""

        def sent() -> None:
            call.sent = True

        if self._own_client is not None:
            call.sent = True  # its transport does not tell
        token = self._sdk.REQUEST_SENT.set(sent)
        try:
            response = await self._sdk.ask(await self._client(), self._request(call))
        finally:
            self._sdk.REQUEST_SENT.reset(token)
        call.sent = True
        decoder = ChunkDecoder(
            EventSplitter(max_event=self._max_event_bytes, max_total=self._max_answer_bytes),
            max_chunks=2 * call.max_output_tokens + 1_000,
        )
        body = response.extensions[self._sdk.BODY] if self._own_client is None else _Body(response)
        stream = _AnswerStream(body, decoder)
        try:
            yield stream
        finally:
            with CancelScope(shield=True), move_on_after(1):
                await stream.drain()
                await response.aclose()

    async def aclose(self) -> None:
        client = self._clients.get(None)
        if client is not None:
            self._clients.set(None)
            await client.aclose()

    def _request(self, call: ModelCall) -> dict[str, Any]:
        reasoning = self.model.startswith(_REASONING)
        request: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": m.role, "content": m.content} for m in call.messages],
            "stream": True,
            "max_completion_tokens" if reasoning else "max_tokens": call.max_output_tokens,
        }
        if not reasoning:
            request["temperature"] = call.temperature
        if self._include_usage:
            request["stream_options"] = {"include_usage": True}
        return request | self._options

    async def _client(self) -> Any:
        if self._own_client is not None:
            return self._own_client
        client = self._clients.get(None)
        if client is None:
            client = _LoopClient(
                self._sdk.make_client(api_key=self._key, base_url=self._base_url, **self._account)
            )
            await client.start()
            self._clients.set(client)
        return client.client


class _LoopClient:
    """An SDK client that is closed with its event loop, should nobody close it before: a mounted
    application is told of no shutdown. Both event loops finish async generators when they end.
    """

    def __init__(self, client: Any) -> None:
        self.client = client
        self._life = self._live()

    async def start(self) -> None:
        await anext(self._life)

    async def aclose(self) -> None:
        await self._life.aclose()

    async def _live(self) -> Any:
        try:
            yield
        finally:
            with CancelScope(shield=True), move_on_after(1):
                await self.client.close()


class _AnswerStream:
    """The events of one response."""

    def __init__(self, body: Any, decoder: ChunkDecoder) -> None:
        self._body = body
        self._decoder = decoder
        self._ended = False
        self._rest = b""

    def __aiter__(self) -> "_AnswerStream":
        return self

    async def __anext__(self) -> Sequence[ProviderEvent]:
        self._decoder.check()
        if self._decoder.closed or self._ended:
            self._decoder.end()
            raise StopAsyncIteration
        data = self._rest or await self._read()
        if data:
            self._rest = data[_FED_AT_ONCE:]
            if self._rest:
                await checkpoint()
            return self._decoder.feed(data[:_FED_AT_ONCE])
        self._ended = True
        self._decoder.end()
        raise StopAsyncIteration

    async def drain(self) -> None:
        """Read the end of a body whose last event was read; the connection is then reusable."""
        if self._decoder.closed:
            with move_on_after(_DRAIN_SECONDS):
                while not self._ended and await self._read():
                    pass

    async def _read(self) -> bytes:
        try:
            data: bytes = await self._body.read()
        except Exception as exc:  # whatever a transport raises, the answer has broken off
            self._ended = True
            if self._decoder.finished:
                return b""
            raise UpstreamInterrupted from exc
        return data


class _Body:
    """The body of a response that came through somebody else's transport."""

    def __init__(self, response: Any) -> None:
        self._pieces = aiter(response.stream)

    async def read(self) -> bytes:
        return await anext(self._pieces, b"")


def _import_sdk() -> ModuleType:
    from chatnest.providers import openai_client  # noqa: PLC0415  # it costs most of a second

    return openai_client
