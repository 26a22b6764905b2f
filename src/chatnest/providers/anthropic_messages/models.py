"""Traits: the fields that a model accepts, by its name and by its refusals. No I/O.

The rules are those of Anthropic's pages on thinking, effort, structured outputs, and of the
migration guides of its models. A model of another name is one of a server that imitates the API: it
gets the fields of the oldest models, which the imitators know.
"""

import re
from typing import Final, Literal

import msgspec

from chatnest.providers.refusals.error_documents import Refusal

__all__ = ["Traits"]

_NAME: Final = re.compile(
    r"claude-(?:(?P<before>[a-z]+)-)?(?:(?P<major>\d{1,2})(?:[-.](?P<minor>\d{1,2}))?(?![\d]))?"
    r"(?:-(?P<after>[a-z]+))?",
    re.ASCII,
)
"""Names such as ``claude-opus-4-5-20251101``, ``claude-3-7-sonnet``, ``us.anthropic.claude-opus-5``
and ``anthropic/claude-sonnet-4.5``. The version does not include a date.
"""

_SERIES: Final = ("fable", "haiku", "mythos", "opus", "sonnet")
_ALWAYS: Final = ("fable", "mythos")
"""Series that always think."""

_UNSUPPORTED: Final = re.compile(
    r"not (?:be )?(?:supported|available|permitted|allowed|enabled)|n't support|not support"
    r"|deprecated|may only|may not|cannot|unsupported|unknown|unrecognized|unexpected|extra inputs"
)
"""Words of a refusal for a field that the model does not accept."""

_FORMAT: Final = re.compile(r"output_config(?:\.format)?(?![.a-z])|output_format|structured output")
"""Words of a refusal for a schema of the answer as such, and not for a part of it."""


class Traits(msgspec.Struct, frozen=True, kw_only=True):
    """The fields that a model accepts.

    ``thinking`` is the form in which thinking is requested: with a budget of tokens, or adaptive,
    where the model decides. ``thinks`` is whether it does so without being asked, and ``off`` how
    this is turned off, None if it cannot be. ``efforts`` are the levels of effort that it accepts.
    ``sampling`` is whether it accepts a temperature, and ``both`` also ``top_p`` beside it.
    ``forced_tools`` is whether a tool call can be required, without thinking. ``formats`` is
    whether it accepts a schema for its answer and strict tools. ``is_claude`` is whether it checks
    signatures: then only signed thinking of the current turn goes back.
    """

    thinking: Literal["budget", "adaptive"] | None = "budget"
    thinks: bool = False
    off: Literal["disabled", "between_tools"] | None = "disabled"
    efforts: tuple[str, ...] = ()
    sampling: bool = True
    both: bool = True
    forced_tools: bool = True
    formats: bool = True
    is_claude: bool = False

    @classmethod
    def of(cls, model: str) -> "Traits":
        """The traits by the model's name."""
        found = _NAME.search(model.lower())
        if found is None:
            return cls()
        series = next((s for s in (found["before"], found["after"]) if s in _SERIES), "")
        version = (int(found["major"] or 0), int(found["minor"] or 0))
        if version == (0, 0):
            version = (5, 0) if series in _ALWAYS else (4, 5)
        return _of_claude(series, version)

    def without(self, refusal: Refusal, sent: dict[str, object]) -> "Traits | None":
        """The traits of a model that refused one of the fields that were ``sent``; None if the
        refusal names none of them.
        """
        words = refusal.words
        if not _UNSUPPORTED.search(words):
            return None
        output = sent.get("output_config")
        change = msgspec.structs.replace
        for name in ("temperature", "top_p"):
            if name in sent and name in words:
                return change(self, sampling=False)
        if "tool_choice" in sent and "tool_choice" in words:
            return change(self, forced_tools=False)
        if isinstance(output, dict) and "format" in output and _FORMAT.search(words):
            return change(self, formats=False)
        if "thinking" in sent and "thinking" in words and "block" not in words:
            return self._without_thinking(words)
        if isinstance(output, dict) and "effort" in output and "effort" in words:
            return change(self, efforts=())
        return None

    def _without_thinking(self, words: str) -> "Traits":
        change = msgspec.structs.replace
        if "disabled" in words or "between_tools" in words:
            return change(self, off=None, thinks=True)
        if "thinking.type.enabled" in words or ("adaptive" in words and self.thinking == "budget"):
            return change(self, thinking="adaptive", efforts=_EFFORTS, sampling=False)
        if self.thinking == "adaptive":
            return change(self, thinking="budget", thinks=False, efforts=())
        return change(self, thinking=None)


_EFFORTS: Final = ("low", "medium", "high")


def _of_claude(series: str, version: tuple[int, int]) -> Traits:
    always = series in _ALWAYS or (series == "opus" and version >= (5, 5))
    off: Literal["disabled", "between_tools"] | None = "disabled"
    if always:
        off = None
    elif series == "sonnet" and version >= (5, 5):
        off = "between_tools"
    efforts: tuple[str, ...] = ()
    if version >= (4, 7):
        efforts = (*_EFFORTS, "xhigh")
    elif version == (4, 6) or (series == "opus" and version == (4, 5)):
        efforts = _EFFORTS
    thinking: Literal["budget", "adaptive"] | None = None
    if version >= (3, 7):
        thinking = "adaptive" if version >= (4, 6) else "budget"
    return Traits(
        thinking=thinking,
        thinks=version >= (5, 0),
        off=off,
        efforts=efforts,
        sampling=version < (4, 7),
        both=version < (4, 1),
        forced_tools=not (always or off == "between_tools"),
        formats=version >= (4, 5),
        is_claude=True,
    )
