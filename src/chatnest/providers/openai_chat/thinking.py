"""ThinkingHabit: the field in which a model's server takes its thinking back. No I/O.

There is no standard. DeepSeek, Moonshot, Qwen, SGLang and llama.cpp read ``reasoning_content``, as
vLLM did until 0.11; since then it reads ``reasoning``, as do OpenRouter, Ollama and Groq. Groq and
Mistral reject a field that they do not know. DeepSeek and Moonshot reject a tool call without its
thinking, even where that is empty.
"""

import re
from typing import Final

from chatnest.providers.openai_chat.shapes import Delta
from chatnest.providers.refusals.error_documents import Refusal

__all__ = ["FIELDS_OF_THINKING", "ThinkingHabit"]

FIELDS_OF_THINKING: Final = ("reasoning_content", "reasoning")

_NEEDS: Final = re.compile(r"(?:^|[^a-z])(?:deepseek|kimi)", re.IGNORECASE)
"""Names of models whose makers reject a tool call without its thinking."""


_MISSING: Final = re.compile(
    r"reasoning_content.{0,40}(?:must be passed back|is missing)|missing .?reasoning_content"
)
"""Words of a refusal of a tool call without its thinking: DeepSeek's and Moonshot's."""

_UNKNOWN: Final = re.compile(r"unsupported|not supported|unknown|unrecognized|not permitted|extra")


class ThinkingHabit:
    """The known habit of one model: ``field`` is the name of the field, or empty if none is
    accepted, and ``is_needed`` whether it goes back even where it is empty.
    """

    __slots__ = ("_refused", "field", "is_needed")

    def __init__(self, model: str) -> None:
        self.field: str = FIELDS_OF_THINKING[0]
        self.is_needed: bool = _NEEDS.search(model) is not None
        self._refused: frozenset[str] = frozenset()

    def see(self, delta: Delta) -> None:
        """Note the field in which the thinking arrives. A server that has both sends the older one
        for clients that know no other.
        """
        name = FIELDS_OF_THINKING[delta.reasoning is not None]
        if name not in self._refused:
            self.field = name

    def learn(self, refusal: Refusal) -> bool:
        """Note what a refusal says of the field. Returns whether it is now sent in another way."""
        if _MISSING.search(refusal.words) and not self.is_needed:
            self.is_needed = True
            return True
        field = self.field
        names = rf"(?<![a-z_]){field}(?![a-z_])"
        if not field or not (refusal.param == field or re.search(names, refusal.words)):
            return False
        if not (_UNKNOWN.search(refusal.words) or "extraforbidden" in refusal.names):
            return False
        self._refused |= {field}
        self.field = ""
        return True
