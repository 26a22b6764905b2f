"""is_reasoning, unsupported_field: facts of models, from names and refusals. No I/O."""

import re
from collections.abc import Collection
from typing import Final

from chatnest.providers.refusals.error_documents import Refusal

__all__ = ["is_reasoning", "unsupported_field"]

_REASONING: Final = re.compile(
    r"(?:^|[^a-z0-9])(?:o[1-9](?![a-z0-9])|gpt-?(?:[5-9]|[12][0-9])(?![0-9])(?!.*\bchat\b))",
    re.ASCII,
)
"""Names of OpenAI's reasoning models: the o-series, and GPT 5 and later except ``chat`` variants.
Gateways put a vendor before the name, and a deployment at Azure may have any prefix. ``gpt-35`` is
Azure's spelling of GPT 3.5.
"""

_FORMS: Final = re.compile(r"response_format.{0,40}must be .?json_schema")
"""Words of a refusal of ``json_object``: LM Studio's."""

_UNSUPPORTED: Final = re.compile(
    r"unsupported|not supported|does not support|doesn't support|unrecognized|unknown"
    r"|not permitted|not allowed|forbidden|unexpected|extra"
)
"""Words of a refusal for a field that the model or the server does not support."""

_ORDINARY: Final = ("stop", "seed", "reasoning")
"""Names of fields that are ordinary words as well."""

_NAMES: Final = {"unsupportedparameter", "unsupportedvalue", "unknownparameter", "extraforbidden"}
"""Codes and types of such a refusal, in the form of Refusal.names."""


def is_reasoning(model: str) -> bool:
    """Whether a model is one of OpenAI's reasoning models, which accept ``max_completion_tokens``
    instead of ``max_tokens``, and reject a temperature.
    """
    return _REASONING.search(model.lower()) is not None


def unsupported_field(refusal: Refusal, sent: Collection[str]) -> str:
    """The field of ``sent`` that the refusal calls unsupported, or empty.

    Servers name the field separately (``param``, or the last part of ``loc``) or in their text.
    """
    if "response_format" in sent and _FORMS.search(refusal.words):
        return "response_format"
    if not (_UNSUPPORTED.search(refusal.words) or refusal.names & _NAMES):
        return ""
    known = [field for field in sent if field != "response_format"]
    if refusal.param in known:
        return refusal.param
    if refusal.param:
        return ""
    places = {field: _place(field, refusal.words) for field in known}
    found = [(place, field) for field, place in places.items() if place >= 0]
    return min(found)[1] if found else ""


def _place(field: str, words: str) -> int:
    """The place of a field's name in a text, or -1. An ordinary word needs quotes."""
    pattern = rf"(?<![a-z_]){field}(?![a-z_])"
    if field in _ORDINARY:
        pattern = rf"(?<=['\"`]){field}(?=['\"`])"
    found = re.search(pattern, words)
    return -1 if found is None else found.start()
