"""OpenAIResponsesProvider: OpenAI, and every server with its Responses API."""

import logging
from collections.abc import Collection, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, Final

from chatnest._util.arguments import check_kinds
from chatnest.providers.base import ProviderStream
from chatnest.providers.dialect import checked_options, counter_for, tokens_of_tools
from chatnest.providers.http.answer_stream import OpenedAnswer
from chatnest.providers.http.network import Route, ServerSettings
from chatnest.providers.http.transport import Response
from chatnest.providers.openai.server import OpenAIServer
from chatnest.providers.openai_responses.decode import ResponseDecoder
from chatnest.providers.openai_responses.input_items import input_items
from chatnest.providers.openai_responses.parameters import ADVICE, Parameters, ResponsesParameters
from chatnest.providers.openai_responses.tools import text_fields, tool_fields
from chatnest.providers.sse import EventSplitter
from chatnest.tokens.tokenizer import Tokenizer
from chatnest.turn import ModelCall

__all__ = ["OpenAIResponsesProvider"]

_log = logging.getLogger("chatnest.providers.openai")

_RESERVED: Final = {
    *("background", "conversation", "input", "instructions", "max_output_tokens", "model"),
    *("previous_response_id", "prompt", "stream"),
}

_OBFUSCATING: Final = ("api.openai.com", ".openai.azure.com", ".cognitiveservices.azure.com")
"""Ends of the names of servers that pad their events."""

_LEAST_OUTPUT: Final = 16
"""The smallest ``max_output_tokens`` that OpenAI and Azure accept."""

_EVENTS_PER_TOKEN: Final = 16
"""Maximum events for each token. A gateway may send one for each of its about four characters."""


class OpenAIResponsesProvider:
    """A provider for a server with OpenAI's Responses API.

    The arguments are the same as OpenAIProvider's, except ``parameters``. ``max_event_bytes`` is
    larger by default, because the last event of an answer repeats the whole answer. The server
    stores nothing: each request has the whole conversation, with the model's thinking in encrypted
    form. Raises ConfigurationError.
    """

    def __init__(
        self,
        *,
        model: str,
        api_key: str | None = None,
        base_url: str | None = None,
        organization: str | None = None,
        project: str | None = None,
        encoding: str | None = None,
        parameters: ResponsesParameters | None = None,
        server: ServerSettings | None = None,
        options: Mapping[str, Any] | None = None,
        client: Any = None,
        max_event_bytes: int = 4_194_304,
        max_answer_bytes: int = 67_108_864,
    ) -> None:
        self.model = model
        self.counter: Tokenizer = counter_for(model, encoding, has_default=False)
        check_kinds(parameters=(parameters, ResponsesParameters))
        self._server = OpenAIServer(
            "/responses",
            api_key=api_key,
            base_url=base_url,
            organization=organization,
            project=project,
            server=server,
            client=client,
        )
        self.route: Route = self._server.route
        self.is_local: bool = self._server.is_local
        self.api: str = "openai-responses"
        self.trace: bool = self._server.trace
        self.least_output_tokens: int = 1 if self.is_local else _LEAST_OUTPUT
        self._told = parameters if parameters is not None else ResponsesParameters()
        self._obfuscates = self._server.host.endswith(_OBFUSCATING)
        self._learned: dict[str, Parameters] = {}  # by the model's name
        self._options = checked_options(options, _RESERVED)
        self.added_tokens: int = tokens_of_tools(self._options)
        self._max_event_bytes = max_event_bytes
        self._max_answer_bytes = max_answer_bytes

    def __repr__(self) -> str:
        return f"OpenAIResponsesProvider(model={self.model!r}, base_url={self._server.shown!r})"

    def open(self, call: ModelCall) -> AbstractAsyncContextManager[ProviderStream]:
        """See Provider.open."""
        request = call.request
        decoder = ResponseDecoder(
            EventSplitter(max_event=self._max_event_bytes, max_total=self._max_answer_bytes),
            max_events=_EVENTS_PER_TOKEN * request.max_output_tokens + 1_000,
            model=request.model or self.model,
            tools=bool(request.tools or self._options.get("tools")),
        )
        return OpenedAnswer(call, partial(self._ask, call, decoder), decoder)

    async def aclose(self) -> None:
        """See Provider.aclose."""
        await self._server.aclose()

    async def _ask(self, call: ModelCall, decoder: ResponseDecoder) -> Response:
        """See OpenAIServer.ask. If the server rejects a field, later requests to the model omit it.
        An effort is still sent, since the model may accept another one.
        """
        model = call.request.model or self.model
        response, accepted, field = await self._server.ask(
            call, decoder, self._known(model), partial(self._body, call, model)
        )
        if field and not (field == "reasoning.effort" and call.request.effort):
            self._learned[model] = accepted
            advice = f" Set {ADVICE[field]} to avoid this." if field in ADVICE else ""
            _log.warning(
                "model %r at %s rejects %s, so requests omit it.%s",
                *(model, self._server.shown, field, advice),
            )
        return response

    def _known(self, model: str) -> Parameters:
        learned = self._learned.get(model)
        if learned is None:
            return Parameters.of(model, self._told, obfuscates=self._obfuscates)
        return learned

    def _body(
        self, call: ModelCall, model: str, parameters: Parameters
    ) -> tuple[dict[str, Any], Collection[str]]:
        """The body of a request, and its fields that may be left out."""
        request = call.request
        added = parameters.fields(request)
        items = input_items(request.messages, model=model, image_detail=request.image_detail)
        body: dict[str, Any] = {"model": model, "input": items, "stream": True}
        body["max_output_tokens"] = request.max_output_tokens
        tools = tool_fields(request)
        body |= added | tools | text_fields(request.output) | self._options
        if self.added_tokens and tools:
            body["tools"] = [*tools["tools"], *self._options["tools"]]
        if parameters.reasons or self._told.reasons is not None:
            thinks = parameters.reasons and body.get("reasoning", {}).get("effort") != "none"
            call.hidden_tokens = request.max_output_tokens if thinks else 0
        parts = {f"reasoning.{part}" for part in added.get("reasoning", ())}
        return body, (added.keys() | parts) - self._options.keys()
