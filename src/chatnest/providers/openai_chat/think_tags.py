"""Thinking that stands in the text itself, between tags at its start. No I/O.

Local servers that do not know a model's template pass its thinking on as text. Some templates open
the tag in the prompt, so that only the closing one is part of the answer.
"""

import re
from typing import Final

from chatnest.events import Delta, NotReasoning, ProviderEvent, Reasoning

__all__ = ["BARE", "FIRST_OF_TAGS", "TagHabit", "ThinkTags"]

_PAIRS: Final = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("[THINK]", "[/THINK]"),
)
FIRST_OF_TAGS: Final = frozenset({"", *(opening[0] for opening, _ in _PAIRS)})
"""How a text begins that may begin with a tag, behind its blanks."""
_OPENING: Final = tuple(opening for opening, _ in _PAIRS)
BARE: Final = "</think>"
"""The tag that comes without its opening one, where that stands in the prompt."""

_MOST_KEPT: Final = 64
"""Characters, blanks for the most part, that wait for what may become a tag."""

_THINKS: Final = re.compile("deepseek-?r1|r1-distill|qwq|thinking|reasoner", re.IGNORECASE)


class TagHabit:
    """What is known of a model's tags. ``bare`` says that its answers start within the thinking, so
    that they are held back until the closing tag. ``always`` is the operator's word for it.
    """

    __slots__ = ("_always", "bare")

    def __init__(self, model: str, *, always: bool = False) -> None:
        self._always = always or _THINKS.search(model) is not None
        self.bare: bool = self._always

    def learn(self, *, bare: bool) -> None:
        """What an answer showed."""
        self.bare = bare or self._always


class ThinkTags:
    """Tells thinking from text, piece by piece. ``over`` is True once all that follows is text.
    An answer that starts within the thinking, and has no tag to its end, was no thinking after all.
    """

    __slots__ = ("_begun", "_closing", "_habit", "_kept", "_rest_begins", "over")

    def __init__(self, habit: TagHabit) -> None:
        self._habit = habit
        self._begun = habit.bare
        self._closing = BARE if habit.bare else ""  # within the thinking: what ends it
        self._kept = ""  # it may become a tag
        self._rest_begins = False
        self.over: bool = False

    def feed(self, text: str) -> list[ProviderEvent]:
        """What ``text`` is."""
        if self._rest_begins:
            return self._rest(text)
        text, self._kept = self._kept + text, ""
        if not self._closing or self._begun:
            began = text.lstrip()
            opening = next((o for o in _OPENING if began.startswith(o)), None)
            if opening is not None:
                self._begun, self._closing = False, dict(_PAIRS)[opening]
                return self._think(began[len(opening) :])
            if len(text) < _MOST_KEPT and any(o.startswith(began) for o in _OPENING):
                self._kept = text
                return []
            if not self._closing:
                return self._none(text)
        return self._think(text)

    def end(self) -> list[ProviderEvent]:
        """What was kept: the answer has ended."""
        kept, self._kept = self._kept, ""
        self.over = True
        if not self._closing:
            return [Delta(kept)] if kept else []
        thought: list[ProviderEvent] = [Reasoning(kept)] if kept else []
        if self._begun:
            self._habit.learn(bare=False)
            return [*thought, NotReasoning()]
        return thought

    def _none(self, text: str) -> list[ProviderEvent]:
        """It does not begin with a tag. The closing one may stand in the same piece."""
        before, tag, after = text.partition(BARE)
        if tag:
            self._habit.learn(bare=True)
            self._closing = BARE
            return [Reasoning(before), *self._rest(after)]
        self.over = True
        return [Delta(text)]

    def _think(self, text: str) -> list[ProviderEvent]:
        before, tag, after = text.partition(self._closing)
        if tag:
            thought: list[ProviderEvent] = [Reasoning(before)] if before else []
            self._begun = False
            return [*thought, *self._rest(after)]
        size = _begun_tag(text, self._closing)
        self._kept = text[len(text) - size :]
        said = text[: len(text) - size]
        return [Reasoning(said)] if said else []

    def _rest(self, text: str) -> list[ProviderEvent]:
        """The text behind the thinking, without the blanks between them."""
        self._rest_begins = True
        rest = text.lstrip()
        if not rest:
            return [Reasoning(text)] if text else []
        self.over = True
        return [Delta(rest)]


def _begun_tag(text: str, tag: str) -> int:
    """Characters at the end of ``text`` that may be the beginning of ``tag``."""
    longest = min(len(text), len(tag) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(tag[:n])), 0)
