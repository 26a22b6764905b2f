"""Mark: the word by which books in Redis are known to be the same ones as before. No I/O.

It is a key that never ends, ``SCHEMA WORD TIME FOLLOWS``, and each script compares it with the one
that its worker knows. A store that was emptied, or that is another one, has none or another.

========================== ====================================================================
``1 8f3c... 0 -``          the books as they were begun
``1 20bd... TIME 8f3c...`` adopted by an operator at TIME, where 8f3c... or nothing (-) had been
``1 lost TIME 8f3c...``    a worker that knows 8f3c... found no mark at TIME
========================== ====================================================================
"""

import re
from datetime import UTC, datetime
from typing import Final
from uuid import uuid4

import msgspec

from chatnest.stores.survey import Reason

__all__ = ["SCHEMA", "Mark", "described", "new_word", "trouble"]

SCHEMA: Final = 1
"""The layout of the keys. A worker refuses a store with another one."""

_LOST: Final = "lost"
_WAY_BACK: Final = (
    "lead the address back to the right store, or make this one the books with "
    "`chatnest ledger adopt`"
)
_FORM: Final = re.compile(r"(\d+) (\S+) (\d+) (\S+)")


class Mark(msgspec.Struct, frozen=True):
    """``adopted_at`` is in milliseconds, by the server's clock; 0 for books that were begun."""

    word: str
    adopted_at: int = 0
    follows: str = "-"
    schema: int = SCHEMA

    def __str__(self) -> str:
        return f"{self.schema} {self.word} {self.adopted_at} {self.follows}"

    @property
    def is_lost(self) -> bool:
        return self.word == _LOST

    @classmethod
    def read(cls, text: str) -> "Mark | None":
        """The mark in a key; None for a key that is missing. Another form is a newer schema."""
        if not text:
            return None
        if found := _FORM.fullmatch(text):
            schema, word, at, follows = found.groups()
            return cls(word, int(at), follows, int(schema))
        return cls(text, schema=SCHEMA + 1)


def new_word() -> str:
    """Make the random word by which books are told apart."""
    return uuid4().hex


def described(mark: Mark | None) -> str:
    """For an operator, as in "found ..."."""
    if mark is None:
        return "no mark of books"
    if mark.is_lost:
        return f"books that were missing since {_time(mark)}"
    return f"books that were adopted at {_time(mark)}" if mark.adopted_at else "books"


def _time(mark: Mark) -> str:
    found = datetime.fromtimestamp(mark.adopted_at / 1000, UTC)
    return found.isoformat(timespec="seconds").replace("+00:00", "Z")


def trouble(known: Mark | None, found: Mark | None, heard: int) -> Reason | None:
    """Why a worker must not count in a store with the mark ``found``, or None where it may.

    A mark that it does not know is taken over where it follows the known one, or where an operator
    set it after ``heard``, the last time that the known one was there. An older one belongs to
    other books, or to a primary from before a failover.
    """
    if found is None:
        return Reason("the books are gone: the store has no mark of them", _WAY_BACK)
    if found.schema != SCHEMA:
        return Reason(
            f"the books have the layout {found.schema}, and this chatnest knows {SCHEMA}",
            "use the chatnest that wrote them",
        )
    if found.is_lost:
        return Reason("the books are gone: the store was found empty", _WAY_BACK)
    if known is None or found == known or known.word == found.follows:
        return None
    if found.adopted_at > heard:
        return None
    return Reason("these are not the books that this worker counted in", _WAY_BACK)
