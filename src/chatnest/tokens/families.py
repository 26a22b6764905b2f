"""Families of models without a public tokenizer: how their counts compare with o200k_base. No I/O.

Sources, of 2025 and 2026:

- [anthropic] Anthropic, "Token counting": from Opus 4.7, Sonnet 5 and Fable 5 on, a newer tokenizer
  makes about 30 percent more tokens of the same text than the one before.
- [prose] [code] Comparisons that users have published: Claude's earlier tokenizer makes up to 20
  percent more tokens of prose than o200k_base, and up to 30 percent more of code, tables and JSON;
  Gemini's makes up to 15 percent more.

A factor is not a bound: texts of rare characters may exceed it. ``encoding = "bytes"`` is one.
"""

import re
from typing import Final

__all__ = ["percent_of"]

_ROWS: Final = (
    (r"claude-(?:[a-z]+-(?:4[.-][7-9]|[5-9])|mythos)", 170),  # 1.3 [anthropic] times 1.3 [code]
    (r"claude", 130),  # [code]
    (r"gemini|gemma", 120),  # [prose]
)
"""The families, as they stand in a model's name, and tokens for 100 tokens of o200k_base."""

_FAMILIES: Final = tuple((re.compile(rf"(?:^|[^a-z]){name}"), percent) for name, percent in _ROWS)


def percent_of(model: str) -> int:
    """Tokens of a model for 100 tokens of o200k_base, or 100 for an unknown family."""
    name = model.lower()
    for family, percent in _FAMILIES:
        if family.search(name):
            return percent
    return 100
