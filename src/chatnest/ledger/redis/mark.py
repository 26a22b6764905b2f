"""Mark: the word that identifies books in Redis, so that a worker notices other books. No I/O.

The mark is a key without expiry, ``SCHEMA WORD TIME FOLLOWS``. Each script compares it with the
mark that its worker knows. An emptied store has no mark, and another store has another mark.

========================== ====================================================================
``1 8f3c... 0 -``          books as they were begun
``1 20bd... TIME 8f3c...`` books adopted by an operator at TIME, in place of 8f3c... or nothing (-)
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
"""The version of the keys' layout. A worker refuses a store with another version."""

_LOST: Final = "lost"
_WAY_BACK: Final = (
    "correct the address, so that it is the right store's again, or make this store the books with "
    "`chatnest ledger adopt`"
)
_FORM: Final = re.compile(r"(\d+) (\S+) (\d+) (\S+)")


class Mark(msgspec.Struct, frozen=True):
    """A mark. ``adopted_at`` is in milliseconds by the server's clock, or 0 for books that were
    begun and not adopted.
    """

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
        """The mark in a text, or None if it is empty. Another form means a newer schema."""
        if not text:
            return None
        if found := _FORM.fullmatch(text):
            schema, word, at, follows = found.groups()
            return cls(word, int(at), follows, int(schema))
        return cls(text, schema=SCHEMA + 1)


def new_word() -> str:
    """A new random word."""
    return uuid4().hex


def described(mark: Mark | None) -> str:
    """The mark in words for an operator, as in "found ..."."""
    if mark is None:
        return "a store without books"
    if mark.is_lost:
        return f"books missing since {_time(mark)}"
    return f"books adopted at {_time(mark)}" if mark.adopted_at else "books"


def _time(mark: Mark) -> str:
    found = datetime.fromtimestamp(mark.adopted_at / 1000, UTC)
    return found.isoformat(timespec="seconds").replace("+00:00", "Z")


def trouble(known: Mark | None, found: Mark | None, seen_at: int) -> Reason | None:
    """The reason why a worker must not count in a store with the mark ``found``, or None if it may.

    A worker takes over an unknown mark if it follows the known one, or if an operator set it after
    ``seen_at``, when the known mark was last found. An older mark belongs to other books, or to a
    primary from before a failover.
    """
    if found is None:
        return Reason("the books are gone: the store does not contain their mark", _WAY_BACK)
    if found.schema != SCHEMA:
        return Reason(
            f"the books have layout {found.schema}, and this chatnest supports layout {SCHEMA}",
            "use the version of chatnest that wrote them",
        )
    if found.is_lost:
        return Reason("the books are gone: the store was found empty", _WAY_BACK)
    if known is None or found == known or known.word == found.follows:
        return None
    if found.adopted_at > seen_at:
        return None
    return Reason("these are not the books that this worker counted in", _WAY_BACK)
