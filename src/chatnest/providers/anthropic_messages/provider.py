"""AnthropicProvider: Claude, and every server with Anthropic's Messages API."""

import logging
import os
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from chatnest._util.addresses import is_local
from chatnest._util.arguments import check_kinds
from chatnest.errors import ConfigurationError
from chatnest.providers.anthropic_messages.decode import MessageDecoder
from chatnest.providers.anthropic_messages.models import Traits
from chatnest.providers.anthropic_messages.parameters import hidden_tokens, request_body
from chatnest.providers.anthropic_messages.request import (
    DEFAULT_BASE_URL,
    RESERVED,
    key_of,
    request_head,
)
from chatnest.providers.base import ProviderStream
from chatnest.providers.dialect import OF_FIELDS, checked_options, counter_for, tokens_of_tools
from chatnest.providers.http.answer_stream import OpenedAnswer
from chatnest.providers.http.asking import GOOD, ask, closed_unless
from chatnest.providers.http.bodies import check_coding, read_document
from chatnest.providers.http.network import (
    Route,
    ServerSettings,
    fault_of_address,
    find_route,
    without_user,
)
from chatnest.providers.http.pool import LoopTransports
from chatnest.providers.http.transport import Response, Transport
from chatnest.providers.refusals.error_documents import read_refusal
from chatnest.providers.refusals.faults import error_for
from chatnest.providers.sse import EventSplitter
from chatnest.tokens.tokenizer import Tokenizer
from chatnest.turn import ModelCall

__all__ = ["AnthropicProvider"]

_log = logging.getLogger("chatnest.providers.anthropic")

DEFAULT_MODEL: Final = "claude-haiku-4-5"

_EVENTS_PER_TOKEN: Final = 16
"""Maximum events for each token: a gateway may send one for each character, of about four."""

_encoder: Final = msgspec.json.Encoder()


class AnthropicProvider:
    """A provider for Claude, and for other servers with Anthropic's Messages API.

    ``api_key`` and ``base_url`` default to ANTHROPIC_API_KEY and ANTHROPIC_BASE_URL. A key is
    required unless ``base_url`` is set. ``encoding`` counts tokens before a request: ``o200k_base``
    by default, which is an estimate for Claude; ``"bytes"`` never counts too few. ``server`` has
    settings of the server. ``options`` are additional fields of the request, such as
    ``{"service_tier": "standard_only"}``; their ``tools`` are those that the server runs itself.
    Raises ConfigurationError.
    """

    def __init__(
        self,
        *,
        model: str = DEFAULT_MODEL,
        api_key: str | None = None,
        base_url: str | None = None,
        encoding: str | None = None,
        server: ServerSettings | None = None,
        options: Mapping[str, Any] | None = None,
        max_event_bytes: int = 1_048_576,
        max_answer_bytes: int = 67_108_864,
    ) -> None:
        self.model: str = model
        self.counter: Tokenizer = counter_for(model, encoding)
        self._base_url = base_url or os.environ.get("ANTHROPIC_BASE_URL") or DEFAULT_BASE_URL
        self._shown = without_user(self._base_url)
        if wrong := fault_of_address(self._base_url):
            raise ConfigurationError(f"base_url: {wrong}, got {self._shown!r}.")
        check_kinds(server=(server, ServerSettings))
        self._server = server if server is not None else ServerSettings()
        self.route: Route = find_route(self._base_url, self._server)
        self._key = key_of(api_key, is_needed=self._base_url == DEFAULT_BASE_URL)
        self.is_local: bool = is_local(urlsplit(self._base_url).hostname or "")
        self.api: str = "anthropic-messages"
        self.trace: bool = self._server.trace
        self._options = checked_options(options, RESERVED)
        self.added_tokens: int = tokens_of_tools(self._options)
        self._max_event_bytes = max_event_bytes
        self._max_answer_bytes = max_answer_bytes
        self._traits: dict[str, Traits] = {}
        self._transports = LoopTransports(self._make_transport)

    def __repr__(self) -> str:
        return f"AnthropicProvider(model={self.model!r}, base_url={self._shown!r})"

    def open(self, call: ModelCall) -> AbstractAsyncContextManager[ProviderStream]:
        """See Provider.open."""
        model = call.request.model or self.model
        decoder = MessageDecoder(
            EventSplitter(max_event=self._max_event_bytes, max_total=self._max_answer_bytes),
            model=model,
            max_events=_EVENTS_PER_TOKEN * call.request.max_output_tokens + 1_000,
        )
        return OpenedAnswer(call, partial(self._ask, call, model, decoder), decoder)

    async def aclose(self) -> None:
        """See Provider.aclose."""
        await self._transports.aclose()

    # ------------------------------------------------ one call

    async def _ask(self, call: ModelCall, model: str, decoder: MessageDecoder) -> Response:
        """Return the response once its head has arrived. Raises an UpstreamError unless the status
        is 2xx and the body can be read.

        If a refusal names a field that the model does not accept, one more request is sent without
        it. If that succeeds, so do later requests for this model.
        """
        call.place = self._shown
        traits = self._traits.get(model)
        if traits is None:
            traits = self._traits[model] = Traits.of(model)
        try:
            return await self._attempt(call, model, traits, decoder, may_learn=True)
        except _Unsupported as exc:
            learned = exc.traits
        call.sent = False  # a refusal costs nothing
        response = await self._attempt(call, model, learned, decoder, may_learn=False)
        self._traits[model] = learned
        _log.warning(
            "model %r at %s rejects a field, so requests omit it. accepted=%r",
            *(model, self._shown, learned),
        )
        return response

    async def _attempt(
        self,
        call: ModelCall,
        model: str,
        traits: Traits,
        decoder: MessageDecoder,
        *,
        may_learn: bool,
    ) -> Response:
        body = request_body(call.request, model, traits, self._options)
        call.hidden_tokens = hidden_tokens(body, call.request.max_output_tokens, traits)
        response = await ask(self._transports, _encoder.encode(body), call, decoder)
        if response.status in GOOD and "content-encoding" not in response.headers:
            return response
        async with closed_unless(response):
            if response.status in GOOD:
                check_coding(response)
                return response
            refusal = read_refusal(await read_document(response))
            if may_learn and response.status in OF_FIELDS:
                ours = {name: body[name] for name in body.keys() - self._options}
                if (learned := traits.without(refusal, ours)) is not None:
                    raise _Unsupported(learned)
            raise error_for(refusal, status=response.status, headers=response.headers)

    async def _make_transport(self) -> Transport:
        from chatnest.providers.http.connections import make_transport  # noqa: PLC0415  # httpx2

        return make_transport(request_head(self._base_url, self._key, self._server), self.route)


class _Unsupported(Exception):
    """The model refused a field; ``traits`` are those of a model that does not accept it."""

    def __init__(self, traits: Traits) -> None:
        super().__init__()
        self.traits = traits
