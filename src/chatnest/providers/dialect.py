"""Dialect: checks and decoding that the providers of all dialects share. No I/O."""

from collections.abc import Collection, Mapping
from http import HTTPStatus
from typing import Any, Final, TypeVar

import msgspec

from chatnest.errors import ConfigurationError, InvalidRequest
from chatnest.tokens.tokenizer import Tokenizer
from chatnest.tokens.tool_bounds import definitions

__all__ = ["OF_FIELDS", "checked_options", "counter_for", "decoded_together", "tokens_of_tools"]

_T = TypeVar("_T")

OF_FIELDS: Final = (HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY)
"""Statuses of refusals that may be due to a field."""


def counter_for(model: str, encoding: str | None, *, has_default: bool = True) -> Tokenizer:
    """The token counter of a provider, by its arguments ``model`` and ``encoding``.
    ``has_default`` is whether the model may be left out. Raises ConfigurationError.
    """
    if not model.strip():
        advice = " Name one, or leave it out." if has_default else ""
        raise ConfigurationError(f"model: expected the name of a model, got {model!r}.{advice}")
    try:
        return Tokenizer.for_model(model, encoding=encoding)
    except ValueError as exc:
        raise ConfigurationError(str(exc)) from None


def checked_options(options: Mapping[str, Any] | None, reserved: Collection[str]) -> dict[str, Any]:
    """The additional fields of a request. Raises ConfigurationError for ``reserved`` fields, which
    chatnest sets itself.
    """
    checked = dict(options or {})
    if found := set(reserved) & set(checked):
        raise ConfigurationError(
            f"options[{min(found)!r}]: expected a field that chatnest does not set itself. "
            "Remove it."
        )
    return checked


def tokens_of_tools(options: Mapping[str, Any]) -> int:
    """Maximum tokens of the definitions of the tools in the additional fields of a request, which
    the provider runs itself. Their results are input as well, without a known bound. Raises
    ConfigurationError.
    """
    tools = options.get("tools", [])
    if not isinstance(tools, list) or not all(isinstance(each, Mapping) for each in tools):
        raise _not_tools(type(tools).__name__)
    try:
        countable = definitions([msgspec.json.encode(tool).decode() for tool in tools])
    except (TypeError, InvalidRequest) as exc:
        raise _not_tools("one that cannot be sent") from exc
    return countable.tokens + sum(Tokenizer.bounds(text)[1] for text in countable.texts)


def _not_tools(found: str) -> ConfigurationError:
    return ConfigurationError(
        f"options['tools']: expected a list of objects of JSON, got {found}. Correct it."
    )


def decoded_together(decoder: msgspec.json.Decoder[_T], payloads: list[bytes]) -> list[_T] | None:
    """The values of payloads, decoded in one call, if each payload is exactly one value that the
    decoder accepts.
    """
    try:
        values = decoder.decode_lines(b"\n".join(payloads))
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    if len(values) != len(payloads) or not all(map(bytes.strip, payloads)):
        return None  # a payload has several lines, or one has two values and another is empty
    return values
