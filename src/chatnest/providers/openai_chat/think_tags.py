"""ThinkTags: thinking within the text, in tags at its start. No I/O.

Local servers that do not know a model's template send its thinking as text. Some templates put the
opening tag in the prompt, so that the answer only has the closing tag.
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
"""First characters of a text that may begin with a tag, after its blanks."""
_OPENING: Final = tuple(opening for opening, _ in _PAIRS)
BARE: Final = "</think>"
"""The closing tag of templates that put the opening tag in the prompt."""

_MOST_KEPT: Final = 64
"""Maximum characters, mostly blanks, that are held back because they may begin a tag."""

_THINKS: Final = re.compile("deepseek-?r1|r1-distill|qwq|thinking|reasoner", re.IGNORECASE)


class TagHabit:
    """The known habit of a model. If ``bare``, its answers start within the thinking, and text is
    held back until the closing tag. ``always`` is the operator's setting for it.
    """

    __slots__ = ("_always", "bare")

    def __init__(self, model: str, *, always: bool = False) -> None:
        self._always = always or _THINKS.search(model) is not None
        self.bare: bool = self._always

    def learn(self, *, bare: bool) -> None:
        """Note whether an answer started within the thinking."""
        self.bare = bare or self._always


class ThinkTags:
    """Separates thinking from text, piece by piece. ``over`` is True once only text follows. If an
    answer should start within the thinking but ends without a tag, all of it was text.
    """

    __slots__ = ("_begun", "_closing", "_habit", "_kept", "_rest_begins", "over")

    def __init__(self, habit: TagHabit) -> None:
        self._habit = habit
        self._begun = habit.bare
        self._closing = BARE if habit.bare else ""  # the tag that ends the thinking, within it
        self._kept = ""  # text that may begin a tag
        self._rest_begins = False
        self.over: bool = False

    def feed(self, text: str) -> list[ProviderEvent]:
        """The events of ``text``."""
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
        """The events of the text that was held back, at the end of the answer."""
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
        """The events of a text that does not begin with a tag. It may contain a closing tag."""
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
        """The events of the text after the thinking, without the blanks between them."""
        self._rest_begins = True
        rest = text.lstrip()
        if not rest:
            return [Reasoning(text)] if text else []
        self.over = True
        return [Delta(rest)]


def _begun_tag(text: str, tag: str) -> int:
    """Number of characters at the end of ``text`` that may begin ``tag``."""
    longest = min(len(text), len(tag) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(tag[:n])), 0)
