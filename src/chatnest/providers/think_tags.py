"""Thinking that stands in the text itself, between tags at its start. No I/O.

Local servers that do not know a model's template pass its thinking on as text. Some templates open
the tag in the prompt, so that only the closing one is part of the answer.
"""

import re
from typing import Final

from chatnest.events import Delta, NotReasoning, ProviderEvent, Reasoning

__all__ = ["ThinkTags", "opens_in_prompt"]

_PAIRS: Final = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("[THINK]", "[/THINK]"),
)
_OPENING: Final = tuple(opening for opening, _ in _PAIRS)
_BARE: Final = "</think>"

_THINKS: Final = re.compile("deepseek-?r1|r1-distill|qwq|thinking|reasoner", re.IGNORECASE)


def opens_in_prompt(model: str) -> bool:
    """Whether a model of this name always thinks, and its template opens the tag in the prompt."""
    return _THINKS.search(model) is not None


class ThinkTags:
    """Tells thinking from text, piece by piece. ``over`` is True once all that follows is text,
    ``bare`` where the closing tag came and no opening one. With ``begun`` the text starts within
    the thinking: without a tag to its end, it was no thinking after all.
    """

    __slots__ = ("_begun", "_closing", "_kept", "_rest_begins", "bare", "over")

    def __init__(self, *, begun: bool = False) -> None:
        self._begun = begun
        self._closing = _BARE if begun else ""  # within the thinking: what ends it
        self._kept = ""  # it may become a tag
        self._rest_begins = False
        self.over: bool = False
        self.bare: bool = False

    def feed(self, text: str) -> list[ProviderEvent]:
        """What ``text`` is."""
        if self._rest_begins:
            return self._rest(text)
        kept = self._kept + text
        if not self._closing or (self._begun and not self.bare):
            began = kept.lstrip()
            opening = next((o for o in _OPENING if began.startswith(o)), None)
            if opening is not None:
                self._begun, self._closing = False, dict(_PAIRS)[opening]
                kept = began[len(opening) :]
            elif not began or any(o.startswith(began) for o in _OPENING):
                self._kept = kept
                return []
            elif not self._closing:
                return self._none(kept)
            else:
                self.bare = True
        return self._think(kept)

    def end(self) -> list[ProviderEvent]:
        """What was kept: the answer has ended."""
        kept, self._kept = self._kept, ""
        self.over = True
        if not self._closing:
            return [Delta(kept)] if kept else []
        thought: list[ProviderEvent] = [Reasoning(kept)] if kept else []
        return [*thought, NotReasoning()] if self._begun else thought

    def _none(self, text: str) -> list[ProviderEvent]:
        """It does not begin with a tag. The closing one may stand in the same piece."""
        before, tag, after = text.partition(_BARE)
        if tag:
            self.bare = True
            return [Reasoning(before), *self._rest(after)]
        self.over = True
        return [Delta(text)]

    def _think(self, text: str) -> list[ProviderEvent]:
        before, tag, after = text.partition(self._closing)
        if tag:
            thought: list[ProviderEvent] = [Reasoning(before)] if before else []
            self._kept = ""
            self._begun = False
            return [*thought, *self._rest(after)]
        size = _begun_tag(text, self._closing)
        self._kept = text[len(text) - size :]
        said = text[: len(text) - size]
        return [Reasoning(said)] if said else []

    def _rest(self, text: str) -> list[ProviderEvent]:
        """The text behind the thinking, without the blanks between them."""
        self._rest_begins = True
        text = text.lstrip()
        if not text:
            return []
        self.over = True
        return [Delta(text)]


def _begun_tag(text: str, tag: str) -> int:
    """Characters at the end of ``text`` that may be the beginning of ``tag``."""
    longest = min(len(text), len(tag) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(tag[:n])), 0)
