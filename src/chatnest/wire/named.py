"""Formats by name: the ones that come with chatnest, each at its usual path. No I/O."""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final, Literal, get_args

from chatnest.errors import ConfigurationError
from chatnest.wire.ag_ui import AGUIFormat
from chatnest.wire.ai_sdk import AISDKFormat
from chatnest.wire.base import WireFormat
from chatnest.wire.native import NativeFormat
from chatnest.wire.openai_chat import OpenAIChatFormat
from chatnest.wire.openai_responses import OpenAIResponsesFormat

__all__ = ["FORMAT_NAMES", "FormatName", "formats_of", "named_formats"]

FormatName = Literal["native", "ai-sdk", "openai-chat", "openai-responses", "ag-ui"]
"""The name of a format."""

FORMAT_NAMES: Final[tuple[FormatName, ...]] = get_args(FormatName)

_KINDS: Final[Mapping[FormatName, Callable[[str], WireFormat]]] = {
    "native": NativeFormat,
    "ai-sdk": AISDKFormat,
    "openai-chat": OpenAIChatFormat,
    "openai-responses": OpenAIResponsesFormat,
    "ag-ui": AGUIFormat,
}
_PATHS: Final[Mapping[FormatName, str]] = {
    "native": "",
    "ai-sdk": "/ai-sdk",
    "openai-chat": "/v1/chat/completions",
    "openai-responses": "/v1/responses",
    "ag-ui": "/ag-ui",
}
_ELSEWHERE: Final = "/native"
"""The path of the native format where another one is at the path of the chat."""


def formats_of(formats: Iterable[WireFormat | FormatName]) -> tuple[WireFormat, ...]:
    """The formats, of which some may be named. A named one is at its usual path.

    Raises ConfigurationError for an unknown name.
    """
    if isinstance(formats, str):
        raise ConfigurationError(f"formats: expected a list of formats, got {formats!r}.")
    return tuple(_kind(each)(_PATHS[each]) if isinstance(each, str) else each for each in formats)


def named_formats(names: Collection[FormatName], at_chat: FormatName) -> tuple[WireFormat, ...]:
    """The formats with these names. The one called ``at_chat`` comes first, and is at the path of
    the chat itself; the native format is then at ``/native``, and all others at their usual paths.

    Raises ConfigurationError for an unknown name, and if ``at_chat`` is not among them.
    """
    if at_chat not in names:
        raise ConfigurationError(
            f"format: expected one of the formats ({', '.join(names)}), got {at_chat!r}. Add it to "
            "the formats, or choose another."
        )
    others = [name for name in dict.fromkeys(names) if name != at_chat]
    elsewhere = [_kind(name)(_PATHS[name] or _ELSEWHERE) for name in others]
    return (_kind(at_chat)(""), *elsewhere)


def _kind(name: FormatName) -> Callable[[str], WireFormat]:
    if name not in _KINDS:
        raise ConfigurationError(
            f"formats: expected names of formats ({', '.join(_KINDS)}), got {name!r}."
        )
    return _KINDS[name]
