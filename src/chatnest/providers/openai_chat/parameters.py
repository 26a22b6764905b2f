"""Parameters: the fields of a request beside its messages, for one model. No I/O.

The default depends on the family in the model's name. Settings override it, and a refusal that
names a field changes it.
"""

import re
from collections.abc import Collection
from typing import Any, Final, Literal

import msgspec

from chatnest.errors import ConfigurationError
from chatnest.providers.openai.models import is_reasoning
from chatnest.providers.openai_chat.fields import output_field, tool_fields
from chatnest.providers.refusals.error_documents import Refusal
from chatnest.requests import ModelRequest

__all__ = [
    "ADVICE",
    "ModelParameters",
    "Parameters",
    "droppable",
    "is_about_a_value",
]

_LIMITS: Final = ("max_tokens", "max_completion_tokens")

_OF_REASONING: Final = frozenset(
    {"temperature", "top_p", "presence_penalty", "frequency_penalty", "stop"}
)
"""Fields that OpenAI's reasoning models reject."""

_MAY_BE_MISSING: Final = frozenset(
    {
        *_OF_REASONING,
        *("seed", "parallel_tool_calls", "reasoning_effort", "stream_options"),
        *_LIMITS,
    }
)
"""Fields that a request can do without, if a server rejects them: the limit has another name, and
the others are wishes. Tools and a form of the answer are not: the client relies on them.
"""

_VALUE: Final = re.compile(
    r"unsupported value|supported values are|invalid value|does not support '"
)
"""Words of a refusal for one value of a field."""


class ModelParameters(msgspec.Struct, frozen=True, kw_only=True):
    """Facts of a model. None means the default for the family in the model's name.

    ``max_tokens_field`` is the field that limits the output. ``send_temperature`` is whether the
    model accepts a temperature. ``reasons`` is whether it thinks without showing it: an answer that
    breaks off is then charged for thinking as well. ``reasoning_effort`` is sent with every request
    if it is set. With ``think_tags``, text up to ``</think>`` is thinking, and is not shown; by
    default, this is so only for a local server whose text begins with ``<think>``.
    """

    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] | None = None
    send_temperature: bool | None = None
    reasons: bool | None = None
    reasoning_effort: str | None = None
    think_tags: bool | None = None

    def __post_init__(self) -> None:
        field: object = self.max_tokens_field
        if field is not None and field not in _LIMITS:
            raise ConfigurationError(
                f"max_tokens_field: expected {' or '.join(_LIMITS)}, got {field!r}."
            )


def droppable(sent: Collection[str], request: ModelRequest) -> frozenset[str]:
    """The fields of ``sent`` that may change if a server rejects them."""
    fields = _MAY_BE_MISSING.intersection(sent)
    takes_any_object = request.output is not None and request.output.schema is None
    return fields | {"response_format"} if takes_any_object else fields


class Parameters(msgspec.Struct, frozen=True, kw_only=True):
    """The fields that are sent to one model beside its messages. ``left_out`` are those that it
    rejects.
    """

    max_tokens_field: str
    left_out: frozenset[str]
    reasoning_effort: str | None
    object_as_schema: bool = False

    @classmethod
    def of(cls, model: str, told: ModelParameters, *, include_usage: bool) -> "Parameters":
        """The parameters by settings, or else by the model's name."""
        reasoning = is_reasoning(model)
        left_out = _OF_REASONING if reasoning else frozenset[str]()
        if told.send_temperature is not None:
            left_out -= {"temperature"}
            if not told.send_temperature:
                left_out |= {"temperature"}
        return cls(
            max_tokens_field=told.max_tokens_field or _LIMITS[reasoning],
            left_out=left_out if include_usage else left_out | {"stream_options"},
            reasoning_effort=told.reasoning_effort,
        )

    def fields(self, request: ModelRequest) -> dict[str, Any]:
        """The fields of a request. The client's sampling and effort override the settings."""
        sampling = request.sampling
        asked = sampling.temperature
        wishes: dict[str, Any] = {
            "temperature": request.temperature if asked is None else asked,
            "top_p": sampling.top_p,
            "presence_penalty": sampling.presence_penalty,
            "frequency_penalty": sampling.frequency_penalty,
            "seed": sampling.seed,
            "stop": list(sampling.stop) or None,
            "reasoning_effort": request.effort or self.reasoning_effort,
            "stream_options": {"include_usage": True},
        }
        if request.tools:
            wishes |= tool_fields(request)
        fields: dict[str, Any] = {self.max_tokens_field: request.max_output_tokens}
        left_out = self.left_out
        for name, value in wishes.items():
            if value is not None and name not in left_out:
                fields[name] = value  # noqa: PERF403  # a frame less
        if request.output is not None:
            as_schema = self.object_as_schema
            fields["response_format"] = output_field(request.output, object_as_schema=as_schema)
        return fields

    def without(self, field: str) -> "Parameters":
        """The parameters for a model that rejects ``field``. The limit of the output stays, under
        its other name: the reservation depends on it. A model that requires
        ``max_completion_tokens`` is a reasoning model, and rejects a temperature as well.
        """
        changes: dict[str, Any]
        match field:
            case "max_tokens":
                left_out = self.left_out | {"temperature"}
                changes = {"max_tokens_field": _LIMITS[1], "left_out": left_out}
            case "max_completion_tokens":
                changes = {"max_tokens_field": _LIMITS[0]}
            case "response_format":
                changes = {"object_as_schema": True}
            case _:
                changes = {"left_out": self.left_out | {field}}
        return msgspec.structs.replace(self, **changes)


ADVICE: Final = {
    "max_tokens": 'max_tokens_field = "max_completion_tokens" and send_temperature = false',
    "max_completion_tokens": 'max_tokens_field = "max_tokens"',
    "temperature": "send_temperature = false",
    "stream_options": "include_usage = false",
    "reasoning_effort": "no reasoning_effort",
}
"""The settings that avoid the refused request, by the rejected field. A field that is missing here
is a wish of clients, which no setting avoids.
"""


def is_about_a_value(refusal: Refusal) -> bool:
    """Whether a refusal is about one value of a field, of which others may be accepted."""
    return "unsupportedvalue" in refusal.names or _VALUE.search(refusal.words) is not None
