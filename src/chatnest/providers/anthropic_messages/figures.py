"""Figures: the usage of one answer, from the parts that its events have. No I/O.

``input_tokens`` excludes tokens that were read from a cache or written to one. The figures of
``message_delta`` are cumulative, and replace those of ``message_start``.
"""

from typing import Any, Final

from chatnest.events import Usage

__all__ = ["Figures"]

_MOST_TOKENS: Final = 1_000_000_000
"""Maximum tokens of a plausible figure: above any model's, and within every ledger's columns."""

_INPUT: Final = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")


class Figures:
    """The latest figures. A figure of 0 does not replace another one: some servers repeat the usage
    at the end without its input.
    """

    __slots__ = ("_found",)

    def __init__(self) -> None:
        self._found: dict[str, int] = {}

    def add_input(self, usage: object) -> None:
        """Add the input of a usage object. Implausible figures are ignored."""
        if isinstance(usage, dict):
            for name in _INPUT:
                self._set(name, usage.get(name))

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
        return Usage(
            taken,
            given,
            cached_tokens=cached,
            cache_written_tokens=written,
            reasoning_tokens=min(found.get("thinking_tokens", 0), given),
        )

    def _set(self, name: str, value: Any) -> None:
        is_whole = type(value) is int or (type(value) is float and value.is_integer())
        if is_whole and 0 < value <= _MOST_TOKENS:
            self._found[name] = int(value)
