"""Marks: reads and writes the mark of the books, and its copies in the slots of a cluster.

mark.py describes the mark. A script reads keys of one slot only, so each slot has a copy, written
before the first step in that slot. A bit beside the first mark records that the copy was written:
a slot with the bit but without the copy has lost its keys.
"""

from collections.abc import Callable
from typing import NamedTuple

from chatnest.errors import LedgerUnavailable
from chatnest.ledger.redis.keys import Keys
from chatnest.ledger.redis.mark import SCHEMA, Mark, new_word, trouble
from chatnest.ledger.redis.server import Server
from chatnest.stores.survey import Reason, StoreChanged

__all__ = ["Learned", "Marks"]


class Learned(NamedTuple):
    """The mark as text (empty if it is missing), the time zones by limit, and the server's time."""

    mark: str
    zones: dict[str, str]
    now: int


class Marks:
    """The marks in the store. ``clock`` is for tests, and replaces the server's time."""

    def __init__(self, server: Server, keys: Keys, clock: Callable[[], int] | None) -> None:
        self._server = server
        self._keys = keys
        self._clock = clock

    @property
    def slots_key(self) -> str:
        """The key whose bits record which slots have a copy."""
        return self._keys.of(self._keys.home, "slots")

    @property
    def _zones_key(self) -> str:
        return self._keys.of(self._keys.home, "zones")

    def given_time(self) -> int | str:
        """The time that a script uses, or "" for the server's."""
        return "" if self._clock is None else self._clock()

    async def learn(self, begins: str = "") -> Learned:
        """Read the mark. If it is missing and ``begins`` is not empty, write ``begins`` first."""
        text, flat, now = await self._server.link().run(
            self._server.scripts["learn"],
            [self._keys.mark, self._zones_key],
            [self.given_time(), begins],
        )
        words = [word.decode() for word in flat]
        return Learned(text.decode(), dict(zip(words[::2], words[1::2], strict=True)), now)

    async def copies(self) -> set[str]:
        """The keys of the copies in a cluster's slots."""
        if not self._keys.is_cluster:
            return set()
        return await self._server.link().scan(self._keys.pattern("mark")) - {self._keys.mark}

    async def copy(self, key: str, text: str | bytes) -> None:
        """Write a copy of the mark."""
        await self._server.link().run(self._server.scripts["put"], [key], [text])

    async def replace(
        self, expected: str = "", name: str = "", zone: str = ""
    ) -> tuple[Mark | None, Mark | None]:
        """Write a new mark and its copies. Returns the old mark and the new one.

        If ``expected`` is given, the mark is replaced only if it equals ``expected``, and the time
        zone of the limit ``name`` becomes ``zone`` in the same step. Raises LedgerUnavailable if
        the mark is a different one, or was written by a newer chatnest.
        """
        old, new, bits = await self._server.link().run(
            self._server.scripts["remark"],
            [self._keys.mark, self._zones_key, self.slots_key],
            [self.given_time(), SCHEMA, new_word(), expected, name, zone],
        )
        found, mark = Mark.read(old.decode()), Mark.read(new.decode())
        if new == old:
            reason = trouble(None, mark, 0) or Reason("the books changed", "try again")
            raise LedgerUnavailable from StoreChanged(reason)
        marks = {self._keys.of_slot(slot) for slot in _ones(bits)} if self._keys.is_cluster else ()
        for key in sorted({*marks, *await self.copies()}):
            await self.copy(key, new)
        return found, mark


def _ones(bits: bytes) -> list[int]:
    """The numbers of the bits that are set."""
    return [8 * at + n for at, byte in enumerate(bits) for n in range(8) if byte & 128 >> n]
