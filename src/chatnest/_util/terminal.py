"""Text of others' on a terminal: it must not move the cursor, nor fill the screen. No I/O."""

from typing import Final

__all__ = ["printable", "said"]

_MOST: Final = 100


def printable(text: str) -> str:
    """All of it, with nothing that does more than show a letter."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def said(text: str) -> str:
    """What a server says, as much as a sentence has room for."""
    return printable(text[:_MOST])
