"""Parameters: the fields of a request beside its messages, for one model. No I/O.

The default depends on the family in the model's name. Settings override it, and a refusal that
names a field changes it.
"""

import re
from collections.abc import Collection
from typing import Any, Final, Literal

import msgspec

from chatnest.errors import ConfigurationError
from chatnest.providers.refusals.error_documents import Refusal
from chatnest.requests import ModelRequest

__all__ = ["ADVICE", "ModelParameters", "Parameters", "is_reasoning", "unsupported_field"]

_LIMITS: Final = ("max_tokens", "max_completion_tokens")

_REASONING: Final = re.compile(
    r"(?:^|[^a-z0-9])(?:o[1-9](?![a-z0-9])|gpt-?(?:[5-9]|[12][0-9])(?![0-9])(?!.*\bchat\b))",
    re.ASCII,
)
"""Names of OpenAI's reasoning models: the o-series, and GPT 5 and later except ``chat`` variants.
Gateways put a vendor before the name, and a deployment at Azure may have any prefix. ``gpt-35`` is
Azure's spelling of GPT 3.5.
"""

_UNSUPPORTED: Final = re.compile(
    r"unsupported|not supported|does not support|doesn't support|unrecognized|unknown"
    r"|not permitted|not allowed|forbidden|unexpected|extra"
)
"""Words of a refusal for a field that the model or the server does not support."""

_NAMES: Final = {"unsupportedparameter", "unsupportedvalue", "unknownparameter", "extraforbidden"}
"""Codes and types of such a refusal, in the form of Refusal.names."""


class ModelParameters(msgspec.Struct, frozen=True, kw_only=True):
    """Facts of a model. None means the default for the family in the model's name.

    ``max_tokens_field`` is the field that limits the output. ``send_temperature`` is whether the
    model accepts a temperature. ``reasoning_effort`` is sent with every request if it is set. With
    ``think_tags``, text up to ``</think>`` is thinking, and is not shown; by default, this is so
    only for a local server whose text begins with ``<think>``.
    """

    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] | None = None
    send_temperature: bool | None = None
    reasoning_effort: str | None = None
    think_tags: bool | None = None

    def __post_init__(self) -> None:
        field: object = self.max_tokens_field
        if field is not None and field not in _LIMITS:
            raise ConfigurationError(
                f"max_tokens_field: expected {' or '.join(_LIMITS)}, got {field!r}."
            )


def is_reasoning(model: str) -> bool:
    """Whether a model is one of OpenAI's reasoning models, which accept ``max_completion_tokens``
    instead of ``max_tokens``, and reject a temperature.
    """
    return _REASONING.search(model.lower()) is not None


class Parameters(msgspec.Struct, frozen=True, kw_only=True):
    """The fields that are sent to one model beside its messages."""

    max_tokens_field: str
    temperature: bool
    reasoning_effort: str | None
    include_usage: bool

    @classmethod
    def of(cls, model: str, told: ModelParameters, *, include_usage: bool) -> "Parameters":
        """The parameters by settings, or else by the model's name."""
        reasoning = is_reasoning(model)
        return cls(
            max_tokens_field=told.max_tokens_field or _LIMITS[reasoning],
            temperature=not reasoning if told.send_temperature is None else told.send_temperature,
            reasoning_effort=told.reasoning_effort,
            include_usage=include_usage,
        )

    def fields(self, request: ModelRequest) -> dict[str, Any]:
        """The fields of a request."""
        fields: dict[str, Any] = {self.max_tokens_field: request.max_output_tokens}
        if self.temperature:
            fields["temperature"] = request.temperature
        if self.reasoning_effort is not None:
            fields["reasoning_effort"] = self.reasoning_effort
        if self.include_usage:
            fields["stream_options"] = {"include_usage": True}
        return fields

    def without(self, field: str) -> "Parameters":
        """The parameters for a model that rejects ``field``. The limit of the output stays, under
        its other name: the reservation depends on it. A model that requires
        ``max_completion_tokens`` is a reasoning model, and rejects a temperature as well.
        """
        match field:
            case "max_tokens":
                changes: dict[str, Any] = {"max_tokens_field": _LIMITS[1], "temperature": False}
            case "max_completion_tokens":
                changes = {"max_tokens_field": _LIMITS[0]}
            case "stream_options":
                changes = {"include_usage": False}
            case "reasoning_effort":
                changes = {"reasoning_effort": None}
            case _:
                changes = {"temperature": False}
        return msgspec.structs.replace(self, **changes)


ADVICE: Final = {
    "max_tokens": 'max_tokens_field = "max_completion_tokens" and send_temperature = false',
    "max_completion_tokens": 'max_tokens_field = "max_tokens"',
    "temperature": "send_temperature = false",
    "stream_options": "include_usage = false",
    "reasoning_effort": "no reasoning_effort",
}
"""The settings that avoid the refused request, by the rejected field."""


def unsupported_field(refusal: Refusal, sent: Collection[str]) -> str:
    """The field of ``sent`` that the refusal calls unsupported, or empty.

    Servers name the field separately (``param``, or the last part of ``loc``) or in their text.
    """
    if not (_UNSUPPORTED.search(refusal.words) or refusal.names & _NAMES):
        return ""
    if refusal.param in sent:
        return refusal.param
    if refusal.param:
        return ""
    places = {field: re.search(rf"(?<![a-z_]){field}(?![a-z_])", refusal.words) for field in sent}
    found = [(match.start(), field) for field, match in places.items() if match]
    return min(found)[1] if found else ""
