"""Untrusted text on a terminal: it must not move the cursor or fill the screen. No I/O."""

from typing import Final

__all__ = ["excerpt", "printable"]

_MAX_CHARACTERS: Final = 100


def printable(text: str) -> str:
    """The text with a question mark in place of each control character."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def excerpt(text: str) -> str:
    """The beginning of a server's text, short enough for a sentence and printable."""
    return printable(text[:_MAX_CHARACTERS])
