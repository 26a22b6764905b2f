"""Crossings: reached thresholds in Redis whose warnings are not delivered yet.

Each slot of a cluster has its own, beside the copy of the mark. A worker knows the slots of its own
settlements. The others, such as those of a worker that has ended, are found by a survey of all
keys, which one worker does for all about once a minute.
"""

import time
from typing import Final

from chatnest.ledger.redis.books import Books
from chatnest.ledger.redis.keys import Keys, letter_of, tag_of, unit_of
from chatnest.ledger.redis.reader import account_of
from chatnest.ledger.redis.server import Server
from chatnest.ledger.watch import LATEST, SOONEST, Crossing

__all__ = ["Crossings"]

_SURVEY_SECONDS: Final = 60.0
"""Seconds between two surveys, by any worker."""


class Crossings:
    """See Watched in chatnest.ledger.watch."""

    def __init__(self, server: Server, keys: Keys, books: Books) -> None:
        self._server = server
        self._keys = keys
        self._books = books
        self._homes: set[str] = set()  # tags of slots that may have crossings
        self._survey_at = 0.0  # by time.monotonic()

    def note(self, tag: str) -> None:
        """Know that the slot of this tag has a crossing."""
        self._homes.add(self._keys.home_of(self._keys.of_mark(tag)))

    async def next(self) -> Crossing | None:
        """As Watched.next_crossing."""
        if not self._keys.is_cluster:
            return await self._next(self._keys.home)
        crossing = await self._next_at_homes()
        if crossing is None and await self._may_survey():
            for key in await self._server.link().scan(self._keys.pattern("pending")):
                self._homes.add(self._keys.home_of(key))
            crossing = await self._next_at_homes()
        return crossing

    async def end(self, crossing: Crossing, state: str) -> None:
        """As Watched.end_crossing."""
        tag = tag_of(crossing.account)
        field = f"{crossing.limit}:~!{crossing.window}:{crossing.threshold}"
        keys = [self._keys.of(tag, "counters"), self._keys.of_pending(tag)]
        await self._books.run("delivered", tag, keys, [_member(crossing, tag), field, state])

    async def _next_at_homes(self) -> Crossing | None:
        for home in sorted(self._homes):
            crossing = await self._next(home)
            if crossing is not None:
                return crossing
            self._homes.discard(home)
        return None

    async def _next(self, home: str) -> Crossing | None:
        keys = [self._keys.of(home, "pending")]
        _, _, *found = await self._books.run("next", home, keys, [SOONEST, LATEST])
        return _crossing(found[0].decode(), is_new=found[1] == 1) if found else None

    async def _may_survey(self) -> bool:
        """Whether it is time for a survey, and this worker's turn."""
        now = time.monotonic()
        if now < self._survey_at:
            return False
        self._survey_at = now + _SURVEY_SECONDS
        home, milliseconds = self._keys.home, int(_SURVEY_SECONDS * 1000)
        turn = [self._keys.of(home, "survey")]
        _, _, is_ours = await self._books.run("turn", home, turn, [milliseconds])
        return bool(is_ours)


def _member(crossing: Crossing, tag: str) -> str:
    """A crossing as the scripts keep it."""
    return (
        f"{crossing.limit} {crossing.window} {crossing.threshold} {letter_of(crossing.unit)} "
        f"{crossing.used} {crossing.amount} {crossing.at} {tag}"
    )


def _crossing(member: str, *, is_new: bool) -> Crossing:
    limit, window, threshold, unit, used, amount, at, tag = member.split(" ", 7)
    return Crossing(
        limit=limit,
        account=account_of(tag),
        window=window,
        threshold=int(threshold),
        unit=unit_of(unit),
        used=int(used),
        amount=int(amount),
        at=int(at),
        is_new=is_new,
    )
