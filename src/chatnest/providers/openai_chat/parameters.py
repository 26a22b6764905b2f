"""What a model takes beside its messages: which field limits its output, and what may be sent.

Names of families are the default, settings overrule them, and a refusal that names a field teaches
what neither knew. No I/O.
"""

import re
from collections.abc import Collection
from typing import Any, Final, Literal

import msgspec

from chatnest.errors import ConfigurationError
from chatnest.providers.openai_chat.error_documents import Refusal
from chatnest.turn import ModelCall

__all__ = ["ADVICE", "ModelParameters", "Parameters", "is_reasoning", "unsupported_field"]

_LIMITS: Final = ("max_tokens", "max_completion_tokens")

_REASONING: Final = re.compile(
    r"(?:^|[^a-z0-9])(?:o[1-9](?![a-z0-9])|gpt-?(?:[5-9]|[12][0-9])(?![0-9])(?!.*\bchat\b))",
    re.ASCII,
)
"""Names of OpenAI's reasoning models: the o-series, and GPT 5 and later without the ``chat``
variants. Gateways put a vendor before the name, and Azure's deployments any word of their owner's.
``gpt-35`` is how Azure spells GPT 3.5.
"""

_UNSUPPORTED: Final = re.compile(
    r"unsupported|not supported|does not support|doesn't support|unrecognized|unknown"
    r"|not permitted|not allowed|forbidden|unexpected|extra"
)
"""What a refusal says of a field that the model or the server does not know."""

_NAMES: Final = {"unsupportedparameter", "unsupportedvalue", "unknownparameter", "extraforbidden"}
"""The same as a code or a type, in the form of Refusal.names."""


class ModelParameters(msgspec.Struct, frozen=True, kw_only=True):
    """Facts of a model that its name does not tell. None: by the name's family.

    ``max_tokens_field`` is the field that limits the output, ``send_temperature`` whether the
    model takes a temperature. ``reasoning_effort`` is sent with every request, where it is given.
    ``think_tags`` says whether the text begins with thinking that ends by ``</think>``, which is
    not shown then; by default only a text of a local server that begins with ``<think>``.
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
    """Whether a name is one of OpenAI's reasoning models, which take ``max_completion_tokens`` in
    place of ``max_tokens``, and no temperature.
    """
    return _REASONING.search(model.lower()) is not None


class Parameters(msgspec.Struct, frozen=True, kw_only=True):
    """What is sent to one model beside its messages."""

    max_tokens_field: str
    temperature: bool
    reasoning_effort: str | None
    include_usage: bool

    @classmethod
    def of(cls, model: str, told: ModelParameters, *, include_usage: bool) -> "Parameters":
        """By settings where there are any, else by the model's name."""
        reasoning = is_reasoning(model)
        return cls(
            max_tokens_field=told.max_tokens_field or _LIMITS[reasoning],
            temperature=not reasoning if told.send_temperature is None else told.send_temperature,
            reasoning_effort=told.reasoning_effort,
            include_usage=include_usage,
        )

    def fields(self, call: ModelCall) -> dict[str, Any]:
        """The fields of a request."""
        fields: dict[str, Any] = {self.max_tokens_field: call.max_output_tokens}
        if self.temperature:
            fields["temperature"] = call.temperature
        if self.reasoning_effort is not None:
            fields["reasoning_effort"] = self.reasoning_effort
        if self.include_usage:
            fields["stream_options"] = {"include_usage": True}
        return fields

    def without(self, field: str) -> "Parameters":
        """The same for a model that does not take ``field``. The limit of the output stays, under
        its other name: the reservation rests on it. A model that wants ``max_completion_tokens``
        is a reasoning model, and takes no temperature either.
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
"""The settings that make permanent what was learned of a field."""


def unsupported_field(refusal: Refusal, sent: Collection[str]) -> str:
    """The field among ``sent`` that a refusal says is not supported, or nothing.

    Servers name it apart (``param``, or the last part of ``loc``) or in their words alone.
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
