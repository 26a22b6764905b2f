"""OpenAIProvider: OpenAI, and every server with its Chat Completions API."""

import logging
from collections.abc import Awaitable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, Final

import msgspec

from chatnest._util.arguments import check_kinds
from chatnest.errors import UpstreamError
from chatnest.providers.base import ProviderStream
from chatnest.providers.dialect import OF_FIELDS, checked_options, counter_for, tokens_of_tools
from chatnest.providers.http.answer_stream import OpenedAnswer
from chatnest.providers.http.network import (
    Route,
    ServerSettings,
)
from chatnest.providers.http.transport import Response
from chatnest.providers.openai.models import is_reasoning, unsupported_field
from chatnest.providers.openai.server import OpenAIServer
from chatnest.providers.openai_chat.decode import ChunkDecoder
from chatnest.providers.openai_chat.messages import sent_messages
from chatnest.providers.openai_chat.parameters import (
    ADVICE,
    ModelParameters,
    Parameters,
    droppable,
    is_about_a_value,
)
from chatnest.providers.openai_chat.think_tags import TagHabit
from chatnest.providers.openai_chat.thinking import FIELDS_OF_THINKING, ThinkingHabit
from chatnest.providers.refusals.error_documents import Refusal
from chatnest.providers.sse import EventSplitter
from chatnest.requests import ModelRequest
from chatnest.tokens.tokenizer import Tokenizer
from chatnest.turn import ModelCall

__all__ = ["OpenAIProvider"]

_log = logging.getLogger("chatnest.providers.openai")

DEFAULT_MODEL: Final = "gpt-4o-mini"

_RESERVED: Final = {
    *("max_completion_tokens", "max_tokens", "messages", "model", "n", "stream"),
    "stream_options",
}

_CHUNKS_PER_TOKEN: Final = 16
"""Maximum chunks for each token: a gateway may send one for each character, of about four."""

_MOST_CHANGES: Final = 3
"""Maximum fields that are changed for one call, each after a refusal."""


class _Known:
    """The facts of one model, by settings, by its name and by its answers."""

    __slots__ = ("hides", "parameters", "tags", "thinking")

    def __init__(
        self, parameters: Parameters, tags: TagHabit | None, model: str, *, hides: bool | None
    ) -> None:
        self.hides = hides  # its thinking, None if that is not known
        self.parameters = parameters
        self.tags = tags
        self.thinking = ThinkingHabit(model)


class OpenAIProvider:
    """A provider for an OpenAI-compatible server.

    ``api_key`` and ``base_url`` default to OPENAI_API_KEY and OPENAI_BASE_URL. A key is required
    unless ``base_url`` is set. ``encoding`` counts tokens before a request: by default the model's,
    ``o200k_base`` for unknown models; ``"bytes"`` never counts too few. ``include_usage`` requests
    the usage at the end of the stream; turn it off for servers that reject the field.
    ``parameters`` are facts of the model, and ``server`` settings of its server. ``options`` are
    additional fields of the request, such as ``{"seed": 1}``. ``client`` is an
    ``openai.AsyncOpenAI`` of your own, such as ``AsyncAzureOpenAI``, to use instead. It belongs to
    one event loop, and you close it. Raises ConfigurationError.
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
        parameters: ModelParameters | None = None,
        server: ServerSettings | None = None,
        options: Mapping[str, Any] | None = None,
        client: Any = None,
        max_event_bytes: int = 262_144,
        max_answer_bytes: int = 67_108_864,
    ) -> None:
        self.model = model
        self.counter: Tokenizer = counter_for(model, encoding)
        check_kinds(parameters=(parameters, ModelParameters))
        self._server = OpenAIServer(
            "/chat/completions",
            api_key=api_key,
            base_url=base_url,
            organization=organization,
            project=project,
            server=server,
            client=client,
        )
        self.route: Route = self._server.route
        self.is_local: bool = self._server.is_local
        self.api: str = "openai-chat"
        self.trace: bool = self._server.trace
        self._told = parameters if parameters is not None else ModelParameters()
        self._include_usage = include_usage
        self._models: dict[str, _Known] = {}
        self._options = checked_options(options, _RESERVED)
        self.added_tokens: int = tokens_of_tools(self._options)
        self._max_event_bytes = max_event_bytes
        self._max_answer_bytes = max_answer_bytes

    def __repr__(self) -> str:
        return f"OpenAIProvider(model={self.model!r}, base_url={self._server.shown!r})"

    def open(self, call: ModelCall) -> AbstractAsyncContextManager[ProviderStream]:
        """See Provider.open."""
        request = call.request
        model = request.model or self.model
        known = self._models.get(model) or self._known(model)
        decoder = ChunkDecoder(
            EventSplitter(max_event=self._max_event_bytes, max_total=self._max_answer_bytes),
            max_chunks=_CHUNKS_PER_TOKEN * request.max_output_tokens + 1_000,
            habit=known.tags,
            tools=bool(request.tools or self._options.get("tools")),
            model=model,
            thinking=known.thinking,
        )
        return OpenedAnswer(call, partial(self._ask, call, decoder, known), decoder)

    async def aclose(self) -> None:
        """See Provider.aclose."""
        await self._server.aclose()

    # ------------------------------------------------ one call

    def _known(self, model: str) -> _Known:
        """The facts of a model that is new. Its name is the operator's, so there are few."""
        told = self._told
        tags = None
        if told.think_tags or (told.think_tags is None and self.is_local):
            tags = TagHabit(model, always=told.think_tags is True)
        parameters = Parameters.of(model, told, include_usage=self._include_usage)
        hides = told.reasons if told.reasons is not None else is_reasoning(model) or None
        known = self._models[model] = _Known(parameters, tags, model, hides=hides)
        return known

    async def _ask(self, call: ModelCall, decoder: ChunkDecoder, known: _Known) -> Response:
        """Return the response once its head has arrived. Raises an UpstreamError unless the status
        is 2xx and the body can be read.

        If a refusal names a field that chatnest adds, one more request is sent without the field.
        If that succeeds, later requests omit the field.
        """
        parameters, refused = known.parameters, list[_UnsupportedField]()
        while True:
            try:
                response = await self._attempt(call, decoder, known, parameters)
                break
            except _UnsupportedField as exc:
                if len(refused) == _MOST_CHANGES:
                    raise exc.error from None
                refused.append(exc)
                call.sent = False  # a refusal costs nothing
                if exc.field not in FIELDS_OF_THINKING:
                    parameters = parameters.without(exc.field)
        for field in refused:
            self._learn(call.request.model or self.model, known, field)
        return response

    def _learn(self, model: str, known: _Known, refused: "_UnsupportedField") -> None:
        """Change later requests as well, unless another value of the field may be accepted."""
        field = refused.field
        if field in FIELDS_OF_THINKING:
            _log.warning(
                "model %r at %s wants thinking in another field.", model, self._server.shown
            )
            return
        if field == "reasoning_effort" and refused.is_about_a_value:
            return
        known.parameters = known.parameters.without(field)
        _log.warning(
            "model %r at %s rejects %s, so requests omit it.%s",
            *(model, self._server.shown, field, _advice(field)),
        )

    def _attempt(
        self, call: ModelCall, decoder: ChunkDecoder, known: _Known, parameters: Parameters
    ) -> Awaitable[Response]:
        asked = call.request
        model = asked.model or self.model
        added = parameters.fields(asked)
        messages = sent_messages(
            asked.messages, known.thinking, model=model, image_detail=asked.image_detail
        )
        request = {"model": model, "messages": messages, "stream": True} | added | self._options
        if self.added_tokens and "tools" in added:
            request["tools"] = [*added["tools"], *self._options["tools"]]
        if known.hides is not None:
            thinks = known.hides and request.get("reasoning_effort") != "none"
            call.hidden_tokens = asked.max_output_tokens if thinks else 0
        sent = _Sent(added.keys() - self._options, asked, messages, known.thinking)
        return self._server.post(call, decoder, request, sent.check)


class _UnsupportedField(Exception):
    """The server rejected ``field``, which chatnest adds; ``error`` is the refusal otherwise."""

    def __init__(self, field: str, error: UpstreamError, *, is_about_a_value: bool) -> None:
        super().__init__(field)
        self.field = field
        self.error = error
        self.is_about_a_value = is_about_a_value


class _Sent(msgspec.Struct):
    """One request as it was sent: the fields that chatnest added, and its messages."""

    added: Collection[str]
    request: ModelRequest
    messages: Sequence[Mapping[str, Any]]
    thinking: ThinkingHabit

    def check(self, refusal: Refusal, status: int, error: UpstreamError) -> None:
        """Raise _UnsupportedField if a refusal names one of the fields, or the field of the
        thinking that belongs to a tool call.
        """
        if status not in OF_FIELDS:
            return
        field = unsupported_field(refusal, droppable(self.added, self.request))
        has_calls = any("tool_calls" in message for message in self.messages)
        if not field and has_calls and self.thinking.learn(refusal):
            field = FIELDS_OF_THINKING[0]
        if field:
            by_value = is_about_a_value(refusal)
            raise _UnsupportedField(field, error, is_about_a_value=by_value) from None


def _advice(field: str) -> str:
    settings = ADVICE.get(field)
    return f" To avoid the refused request at each start, set {settings}." if settings else ""
