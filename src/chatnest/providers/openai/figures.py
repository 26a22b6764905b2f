"""usage_in: the Usage in a server's usage object. No I/O.

All tokens that the provider charges count. ``prompt_tokens`` includes cached tokens, Anthropic's
``input_tokens`` does not. ``completion_tokens`` includes reasoning at OpenAI; at xAI only the total
does. An implausible usage is ignored, and chatnest then counts the answer itself.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final

import msgspec

from chatnest.events import Usage
from chatnest.providers.served import stated_cost

__all__ = ["usage_in"]

_MOST_TOKENS: Final = 1_000_000_000
"""Maximum tokens of a plausible figure: above any model's, and within every ledger's columns."""

_INPUT: Final = ("prompt_tokens", "input_tokens", "promptTokenCount", "prompt_token_count")
_OUTPUT: Final = (
    *("completion_tokens", "output_tokens", "candidatesTokenCount", "candidates_token_count"),
)
_TOTAL: Final = ("total_tokens", "totalTokenCount", "total_token_count")
_CACHED: Final = (
    *("cached_tokens", "cache_read_input_tokens", "prompt_cache_hit_tokens", "cache_read_tokens"),
    *("cachedContentTokenCount", "prompt_cached_tokens", "num_cached_tokens"),
)
_WRITTEN: Final = (*("cache_write_tokens", "cache_creation_input_tokens", "cache_creation_tokens"),)
_REASONING: Final = ("reasoning_tokens", "thoughtsTokenCount", "thoughts_token_count")
_BESIDE_OUTPUT: Final = ("thoughtsTokenCount", "thoughts_token_count")
"""Google's names, whose output tokens never include the reasoning."""

_ANTHROPIC: Final = {"cache_read_input_tokens", "cache_creation_input_tokens"}
_DETAILS: Final = (
    *("prompt_tokens_details", "input_tokens_details", "completion_tokens_details"),
    "output_tokens_details",
)


_Tokens = Annotated[int, msgspec.Meta(ge=0, le=_MOST_TOKENS)]


class _Details(msgspec.Struct, gc=False):
    cached_tokens: _Tokens | None = None
    cache_write_tokens: _Tokens | None = None
    reasoning_tokens: _Tokens | None = None


class _Usual(msgspec.Struct, gc=False):
    """A usage object in the form of most servers."""

    prompt_tokens: _Tokens
    completion_tokens: _Tokens
    total_tokens: _Tokens
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None
    prompt_cache_hit_tokens: _Tokens = 0
    cache_read_input_tokens: _Tokens = 0
    cache_creation_input_tokens: _Tokens = 0


_usual: Final = msgspec.json.Decoder(_Usual)
_NO_DETAILS: Final = _Details()


class _Nonsense(Exception):
    """Raised for an implausible figure."""


def usage_in(raw: msgspec.Raw | bytes) -> Usage | None:
    """The figures of a usage object, or None if they are missing or implausible."""
    try:
        bill = _usual.decode(raw)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return _slowly(raw)
    taken, given = bill.prompt_tokens, bill.completion_tokens
    of_input = bill.prompt_tokens_details or _NO_DETAILS
    reasoning = (bill.completion_tokens_details or _NO_DETAILS).reasoning_tokens or 0
    cached = of_input.cached_tokens or bill.prompt_cache_hit_tokens or bill.cache_read_input_tokens
    written = of_input.cache_write_tokens or bill.cache_creation_input_tokens
    if bill.total_tokens != taken + given or reasoning > given or cached + written > taken:
        return _slowly(raw)
    return Usage(
        taken,
        given,
        cached_tokens=cached,
        cache_written_tokens=written,
        reasoning_tokens=reasoning,
        stated_cost=stated_cost(raw) if b"cost" in bytes(raw) else None,
    )


def _slowly(raw: msgspec.Raw | bytes) -> Usage | None:
    try:
        found = msgspec.json.decode(raw)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    try:
        usage = _read(found)
    except _Nonsense:
        return None
    if usage is None or usage.total_tokens > 2 * _MOST_TOKENS:
        return None
    return msgspec.structs.replace(usage, stated_cost=stated_cost(raw))


def _read(found: dict[str, Any]) -> Usage | None:
    places = [found, *(d for key in _DETAILS if isinstance(d := found.get(key), dict))]
    taken, given = _figure([found], _INPUT), _figure([found], _OUTPUT)
    total = _figure([found], _TOTAL)
    if taken is None and given is None and not total:
        return None
    cached, written, reasoning = (
        _figure(places, names) or 0 for names in (_CACHED, _WRITTEN, _REASONING)
    )
    if total is not None:
        if taken is None:
            taken = max(0, total - given) if given is not None else 0
        if given is None:
            given = max(0, total - taken)
    if taken is None or given is None:
        return None  # one figure is missing, and there is no total to derive it from
    if _excludes_cache(found, taken, given, cached + written, total):
        taken += cached + written
    if reasoning > given or any(name in found for name in _BESIDE_OUTPUT):
        given += reasoning
    if total is not None:
        given += max(0, total - taken - given)
    return Usage(
        taken,
        given,
        cached_tokens=min(cached, taken),
        cache_written_tokens=min(written, taken),
        reasoning_tokens=min(reasoning, given),
    )


def _excludes_cache(
    found: Mapping[str, Any], taken: int, given: int, cache: int, total: int | None
) -> bool:
    """Whether the figure of the input excludes cached tokens."""
    if not cache:
        return False
    if cache > taken:
        return True
    if total is not None and total > taken + given:
        return total >= taken + given + cache and bool(found.keys() & _ANTHROPIC)
    return total is None and "prompt_tokens" not in found and bool(found.keys() & _ANTHROPIC)


def _figure(places: Iterable[Mapping[str, Any]], names: tuple[str, ...]) -> int | None:
    """The first of ``names`` that is present."""
    for place in places:
        for name in names:
            if (value := place.get(name)) is not None:
                return _whole(value)
    return None


def _whole(value: object) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MOST_TOKENS:
        raise _Nonsense
    return value
