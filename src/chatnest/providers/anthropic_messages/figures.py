"""Figures: the usage of one answer, from the parts that its events have. No I/O.

``input_tokens`` excludes tokens that were read from a cache or written to one. The figures of
``message_delta`` are cumulative, and replace those of ``message_start``.
"""

from typing import Any, Final

from chatnest.events import Usage
from chatnest.providers.served import Served

__all__ = ["Figures"]

_MOST_TOKENS: Final = 1_000_000_000
"""Maximum tokens of a plausible figure: above any model's, and within every ledger's columns."""

_INPUT: Final = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
_WRITTEN_1H: Final = "ephemeral_1h_input_tokens"
_FAST: Final = "fast"


class Figures:
    """The latest figures. A figure of 0 does not replace another one: some servers repeat the usage
    at the end without its input.
    """

    __slots__ = ("_found", "_served")

    def __init__(self) -> None:
        self._found: dict[str, int] = {}
        self._served = Served()

    def add_start(self, message: dict[str, Any]) -> None:
        """Add the names of a message, and the input of its usage."""
        usage = message.get("usage")
        self._served = Served.of(message)
        self.add_input(usage)

    def add_input(self, usage: object) -> None:
        """Add the input of a usage object, and its service tier. Implausible figures are ignored.
        The fast mode of a model has prices of its own, and counts as a tier.
        """
        if isinstance(usage, dict):
            for name in _INPUT:
                self._set(name, usage.get(name))
            if isinstance(written := usage.get("cache_creation"), dict):
                self._set(_WRITTEN_1H, written.get(_WRITTEN_1H))
            tier = _FAST if usage.get("speed") == _FAST else usage.get("service_tier")
            self._served = self._served.with_tier(tier)

    def add(self, usage: object) -> None:
        """Add all figures of a usage object. The output at the start of a message is not among
        them, since it is not final.
        """
        self.add_input(usage)
        if isinstance(usage, dict):
            self._set("output_tokens", usage.get("output_tokens"))
            if isinstance(details := usage.get("output_tokens_details"), dict):
                self._set("thinking_tokens", details.get("thinking_tokens"))

    def usage(self) -> Usage | None:
        """The usage, or None while the input or the output is unknown: then chatnest counts."""
        found = self._found
        uncached, cached, written = (found.get(name, 0) for name in _INPUT)
        taken, given = uncached + cached + written, found.get("output_tokens", 0)
        if not taken or not given or taken > _MOST_TOKENS:
            return None
        usage = Usage(
            taken,
            given,
            cached_tokens=cached,
            cache_written_tokens=written,
            reasoning_tokens=min(found.get("thinking_tokens", 0), given),
            cache_written_1h_tokens=min(found.get(_WRITTEN_1H, 0), written),
        )
        return self._served.on(usage)

    def _set(self, name: str, value: Any) -> None:
        is_whole = type(value) is int or (type(value) is float and value.is_integer())
        if is_whole and 0 < value <= _MOST_TOKENS:
            self._found[name] = int(value)
