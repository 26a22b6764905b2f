"""Parameters: the fields of a request other than its input, for one model. No I/O.

The defaults depend on the model's family, as its name shows. Settings override them. If the model
rejects a field, later requests omit it.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from chatnest.errors import ConfigurationError
from chatnest.providers.openai.models import is_reasoning
from chatnest.requests import ModelRequest

__all__ = ["ADVICE", "Parameters", "ResponsesParameters"]

_SUMMARIES: Final = ("auto", "concise", "detailed")


class ResponsesParameters(msgspec.Struct, frozen=True, kw_only=True):
    """Features of a model. None means the default of the model's family.

    ``reasons`` is whether the model thinks before it answers. If so, requests ask for its thinking
    in encrypted form, to send it back later. ``send_temperature`` is whether the model accepts a
    temperature. ``reasoning_effort`` is sent with requests that do not name an effort.
    ``reasoning_summary`` is sent with every request to a model that reasons. If it is None, only
    requests with an effort ask for a summary.
    """

    reasons: bool | None = None
    send_temperature: bool | None = None
    reasoning_effort: str | None = None
    reasoning_summary: Literal["auto", "concise", "detailed"] | None = None

    def __post_init__(self) -> None:
        summary: object = self.reasoning_summary
        if summary is not None and summary not in _SUMMARIES:
            raise ConfigurationError(
                f"reasoning_summary: expected {', '.join(_SUMMARIES)}, got {summary!r}."
            )


class Parameters(msgspec.Struct, frozen=True, kw_only=True):
    """The fields that one model accepts, other than its input."""

    reasons: bool
    temperature: bool
    top_p: bool
    default_effort: str | None
    summary: str | None
    effort: bool = True
    encrypts: bool = True
    may_summarize: bool = True
    store: bool = True
    obfuscates: bool = False

    @classmethod
    def of(cls, model: str, told: ResponsesParameters, *, obfuscates: bool) -> "Parameters":
        """The parameters from settings, or else from the model's name. A server that
        ``obfuscates`` pads its events, which costs bandwidth, unless a request turns it off.
        """
        reasons = is_reasoning(model) if told.reasons is None else told.reasons
        temperature = not reasons if told.send_temperature is None else told.send_temperature
        return cls(
            reasons=reasons,
            temperature=temperature,
            top_p=temperature,
            default_effort=told.reasoning_effort,
            summary=told.reasoning_summary,
            obfuscates=obfuscates,
        )

    def fields(self, request: ModelRequest) -> dict[str, Any]:
        """The fields that may be left out, by name."""
        fields: dict[str, Any] = {}
        sampling = request.sampling
        if self.store:
            fields["store"] = False
        if self.obfuscates:
            fields["stream_options"] = {"include_obfuscation": False}
        if self.reasons and self.encrypts:
            fields["include"] = ["reasoning.encrypted_content"]
        if self.temperature:
            own = sampling.temperature
            fields["temperature"] = request.temperature if own is None else own
        if self.top_p and sampling.top_p is not None:
            fields["top_p"] = sampling.top_p
        if reasoning := self._reasoning(request):
            fields["reasoning"] = reasoning
        return fields

    def _reasoning(self, request: ModelRequest) -> dict[str, str]:
        reasoning: dict[str, str] = {}
        effort = (request.effort or self.default_effort) if self.effort else None
        if effort:
            reasoning["effort"] = effort
        thinks = effort not in {None, "none"}
        summary = self.summary if self.summary and self.reasons else "auto" if thinks else None
        if summary and self.may_summarize:
            reasoning["summary"] = summary
        return reasoning

    def without(self, field: str) -> "Parameters":
        """The parameters for a model that rejects ``field``."""
        match field:
            case "store":
                changes: dict[str, Any] = {"store": False}
            case "stream_options":
                changes = {"obfuscates": False}
            case "include":
                changes = {"encrypts": False}
            case "top_p":
                changes = {"top_p": False}
            case "reasoning.summary":
                changes = {"may_summarize": False}
            case "reasoning.effort":
                changes = {"effort": False}
            case "reasoning":
                changes = {"effort": False, "may_summarize": False}
            case _:
                changes = {"temperature": False, "top_p": False}
        return msgspec.structs.replace(self, **changes)


ADVICE: Final[Mapping[str, str]] = {
    "include": "reasons = false",
    "temperature": "send_temperature = false",
    "top_p": "send_temperature = false",
    "reasoning.effort": "no reasoning_effort",
    "reasoning": "no reasoning_effort and no reasoning_summary",
}
"""A rejected field → the settings that omit it from the start."""
