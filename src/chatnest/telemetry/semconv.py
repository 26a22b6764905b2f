"""Semconv: the names of OpenTelemetry's GenAI conventions, in one of two generations. No I/O.

Both generations have the status Development. The first is 1.41: the last one in the common
repository, which Python's own package has. The other comes from
github.com/open-telemetry/semantic-conventions-genai. It has other names for all metrics and for
tokens written to a cache, and an attribute for the effort.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final, Literal, get_args
from urllib.parse import urlsplit

import msgspec

from chatnest.errors import ConfigurationError
from chatnest.events import Usage
from chatnest.telemetry.base import Attempted

__all__ = [
    "GENERATIONS",
    "OPT_IN",
    "Attributes",
    "Generation",
    "Names",
    "names_of",
    "of_metrics",
    "place_of",
]

Generation = Literal["1.41", "latest"]
"""A generation of the conventions."""

GENERATIONS: Final[tuple[Generation, ...]] = get_args(Generation)
OPT_IN: Final = "OTEL_SEMCONV_STABILITY_OPT_IN"
"""The variable that chooses the generation if no setting does."""
_LATEST: Final = "gen_ai_latest_experimental"
"""The value in that variable that chooses the latest generation."""

Attributes = dict[str, str | bool | int | float | list[str]]

_WORD: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_LONGEST: Final = 128

_PROVIDERS: Final[Mapping[str, str]] = {
    "anthropic.com": "anthropic",
    "api.cohere.com": "cohere",
    "api.deepseek.com": "deepseek",
    "generativelanguage.googleapis.com": "gcp.gemini",
    "aiplatform.googleapis.com": "gcp.vertex_ai",
    "api.groq.com": "groq",
    "api.mistral.ai": "mistral_ai",
    "api.perplexity.ai": "perplexity",
    "api.x.ai": "x_ai",
    "openai.azure.com": "azure.ai.openai",
    "amazonaws.com": "aws.bedrock",
}
"""The conventions' names of providers, by the end of the host name."""

_BY_API: Final[Mapping[str, tuple[str, str]]] = {
    "openai-chat": ("openai", "chat_completions"),
    "openai-responses": ("openai", "responses"),
    "anthropic-messages": ("anthropic", ""),
}
"""For each dialect, the provider's name if the host is not known, and OpenAI's name of the API."""

_CUSTOM: Final = "custom"
"""The name of a provider that is not one of chatnest's own."""


class Names(msgspec.Struct, frozen=True, kw_only=True):
    """The names that differ between the generations. None means that there is no such name."""

    cache_written: str
    effort: str | None
    duration: str
    first_chunk: str
    tokens: str | None
    """The histogram of the tokens, by their type."""
    input_tokens: str | None
    output_tokens: str | None
    cached_tokens: str | None
    written_tokens: str | None
    reasoning_tokens: str | None
    """The counters of the tokens, of one kind each."""

    def of_call(self, event: Attempted) -> Attributes:
        """The attributes of the span of a call, except those of ``place_of``."""
        found: Attributes = {
            "gen_ai.request.max_tokens": event.max_output_tokens,
            "gen_ai.request.stream": True,
        }
        if event.temperature is not None:
            found["gen_ai.request.temperature"] = event.temperature
        if event.effort is not None and self.effort is not None:
            found[self.effort] = event.effort
        if event.finish_reason and _WORD.fullmatch(event.finish_reason):
            found["gen_ai.response.finish_reasons"] = [event.finish_reason]
        if event.first_piece_seconds is not None:
            found["gen_ai.response.time_to_first_chunk"] = event.first_piece_seconds
        if event.error is not None:
            found["error.type"] = event.error.code
        if event.attempt.status:
            found["http.response.status_code"] = event.attempt.status
        usage = event.usage
        if usage is not None and usage.source == "provider":
            found |= self._of_usage(usage, openai=event.api.startswith("openai"))
        return found

    def _of_usage(self, usage: Usage, *, openai: bool) -> Attributes:
        found: Attributes = {
            "gen_ai.usage.input_tokens": usage.input_tokens,
            "gen_ai.usage.output_tokens": usage.output_tokens,
        }
        for name, tokens in (
            ("gen_ai.usage.cache_read.input_tokens", usage.cached_tokens),
            (self.cache_written, usage.cache_written_tokens),
            ("gen_ai.usage.reasoning.output_tokens", usage.reasoning_tokens),
        ):
            if tokens:
                found[name] = tokens
        for name, word in (
            ("gen_ai.response.id", usage.response_id),
            ("gen_ai.response.model", usage.model),
            ("openai.response.service_tier", usage.service_tier if openai else ""),
        ):
            if word:
                found[name] = word[:_LONGEST]
        return found


_NAMES: Final[Mapping[Generation, Names]] = {
    "1.41": Names(
        cache_written="gen_ai.usage.cache_creation.input_tokens",
        effort=None,
        duration="gen_ai.client.operation.duration",
        first_chunk="gen_ai.client.operation.time_to_first_chunk",
        tokens="gen_ai.client.token.usage",
        input_tokens=None,
        output_tokens=None,
        cached_tokens=None,
        written_tokens=None,
        reasoning_tokens=None,
    ),
    "latest": Names(
        cache_written="gen_ai.usage.cache_write.input_tokens",
        effort="gen_ai.request.reasoning.level",
        duration="gen_ai.client.inference.duration",
        first_chunk="gen_ai.client.inference.time_to_first_chunk",
        tokens=None,
        input_tokens="gen_ai.client.inference.usage.input_tokens",
        output_tokens="gen_ai.client.inference.usage.output_tokens",
        cached_tokens="gen_ai.client.inference.usage.cache_read.input_tokens",
        written_tokens="gen_ai.client.inference.usage.cache_write.input_tokens",
        reasoning_tokens="gen_ai.client.inference.usage.reasoning.output_tokens",
    ),
}


def names_of(chosen: str | None, environ: Mapping[str, str]) -> Names:
    """The names of the ``chosen`` generation. The default is the generation in
    OTEL_SEMCONV_STABILITY_OPT_IN, or else 1.41. Raises ConfigurationError.
    """
    if chosen is None:
        words = [word.strip() for word in environ.get(OPT_IN, "").split(",")]
        chosen = "latest" if _LATEST in words else "1.41"
    for generation in GENERATIONS:
        if generation == chosen:
            return _NAMES[generation]
    raise ConfigurationError(
        f"semconv: expected one of {', '.join(GENERATIONS)}, got {chosen!r}. Leave it out for 1.41."
    )


@lru_cache(256)
def place_of(api: str, address: str) -> Attributes:
    """The attributes that follow from a provider's dialect and address. All its calls have them."""
    provider, kind = _BY_API.get(api, (_CUSTOM, ""))
    try:
        parts = urlsplit(address)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port, parts = "", None, urlsplit("")
    found: Attributes = {"gen_ai.operation.name": "chat"}
    by_host = [name for end, name in _PROVIDERS.items() if f".{host}".endswith(f".{end}")]
    found["gen_ai.provider.name"] = by_host[0] if by_host and provider != _CUSTOM else provider
    if kind and found["gen_ai.provider.name"] == "openai":
        found["openai.api.type"] = kind
    if host:
        found["server.address"] = host
        found["server.port"] = port or (443 if parts.scheme == "https" else 80)
    return found


@lru_cache(256)
def of_metrics(api: str, address: str) -> Attributes:
    """The attributes of ``place_of``, except those that metrics do not have."""
    return {n: v for n, v in place_of(api, address).items() if n != "openai.api.type"}
