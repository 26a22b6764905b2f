"""Books: which ones a RedisLedger counts in, and what to do where the store has others.

See mark.py for the mark. In a cluster each slot has a copy of it, since a script reads keys
of one slot alone: made before the first step on that slot, when a bit beside the first mark is set.
So a slot whose mark is missing, and whose bit is set, has lost its keys.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from chatnest.errors import LedgerUnavailable, ZoneConflict
from chatnest.ledger.base import Limit
from chatnest.ledger.redis.keys import Keys
from chatnest.ledger.redis.mark import SCHEMA, Mark, described, new_word, trouble
from chatnest.stores.survey import Reason, StoreChanged

if TYPE_CHECKING:
    from chatnest.stores.redis import Link, Script

__all__ = ["Books"]

_log = logging.getLogger("chatnest.ledger")

_CHANGED: Final = -1
"""The first word of an answer: the mark is another one, and nothing was done."""

_ATTEMPTS: Final = 5


class Books:
    """What this process knows of the mark, and of the zones that limits are counted in."""

    def __init__(
        self,
        link: Callable[[], "Link"],
        scripts: "dict[str, Script]",
        keys: Keys,
        *,
        shown: str,
        clock: Callable[[], int] | None,
    ) -> None:
        self._link = link
        self._scripts = scripts
        self._keys = keys
        self._shown = shown
        self._clock = clock
        self._mark: Mark | None = None
        self._expected = ""
        self._heard = 0
        self._zones: dict[str, str] = {}
        self._ready: set[str] = set()
        self._troubles: dict[str, Reason] = {}

    # ------------------------------------------------ operations

    async def run(
        self,
        name: str,
        home: str,
        keys: Sequence[str],
        args: Sequence[str | int],
        *,
        time_at: int = 1,
        limits: Sequence[Limit] = (),
    ) -> Any:
        """Run a script in the books, in the slot of ``home``. Raises LedgerUnavailable in others.

        ``limits`` are those whose zones have to be the books' own, and ``time_at`` is where the
        answer has the server's time.
        """
        key = self._keys.of_mark(home)
        for attempt in range(_ATTEMPTS):
            if key not in self._ready:
                await self._prepare(key)
            if attempt and limits:  # zones are changed with the mark
                await self.agree(limits)
            expected = self._expected
            given = "" if self._clock is None else self._clock()
            answer = await self._link().run(
                self._scripts[name], [key, *keys], [expected, given, *args]
            )
            if answer[0] != _CHANGED:
                self._heard = answer[time_at]
                if self._troubles:
                    self._recover(key)
                return answer
            if expected == self._expected:
                await self._face(key, Mark.read(answer[1].decode()))
        raise LedgerUnavailable  # a mark that changes all the time

    async def check(self) -> None:
        """Write something wherever the mark matters: where it is first, and where it was lost."""
        await self.run("check", self._keys.home, [self._keys.of(self._keys.home, "check")], ())
        for key in list(self._troubles):
            home = self._keys.home_of(key)
            await self.run("check", home, [self._keys.of(home, "check")], ())

    async def agree(self, limits: Iterable[Limit]) -> dict[str, str]:
        """Raise ZoneConflict for a budget of another zone than its name has in the books. Returns
        the names that have none there.
        """
        asked = self._zones_of(limits)
        if not all(name in self._zones for name in asked):
            if self._keys.mark not in self._ready:
                await self._enter()
            _, zones, _ = await self._learn("")
            self._zones.update(zones)
        for name, zone in asked.items():
            if (kept := self._zones.get(name, zone)) != zone:
                raise ZoneConflict(name, kept, zone)
        return {name: zone for name, zone in asked.items() if name not in self._zones}

    async def keep_zones(self, zones: dict[str, str]) -> None:
        """Those of names that have been admitted for the first time. Raises ZoneConflict where
        another worker was first.
        """
        for name, zone in zones.items():
            home = self._keys.home
            answer = await self.run("zone", home, [self._keys.of(home, "zones")], [name, zone])
            kept = self._zones[name] = answer[2].decode()
            if kept != zone:
                raise ZoneConflict(name, kept, zone)

    # ------------------------------------------------ by an operator

    async def peek(self) -> Mark | None:
        """The mark in the store, which is not begun by that."""
        text, _, _ = await self._learn("")
        return Mark.read(text)

    async def touch(self) -> None:
        """Write something, whatever the books are."""
        await self._link().write(self._keys.of(self._keys.home, "check"))

    async def adopt(self) -> str:
        """Make the store at this address the books from now on, whatever it is. Workers that run
        take them over with their next operation. Returns a sentence.

        Raises LedgerUnavailable, also for a store of a newer chatnest.
        """
        found = await self._remark("", "", "")
        accounts = len(await self._link().scan(self._keys.pattern("counters")))
        return (
            f"{self._shown}: found {described(found)}, with counters of {accounts:,} accounts. "
            "They are the books from now on."
        )

    async def zones(self) -> dict[str, str]:
        """The zone of each budget's name that was admitted."""
        if self._keys.mark not in self._ready:
            await self._enter()
        _, zones, _ = await self._learn("")
        return zones

    async def change_zone(self, name: str, zone: str) -> None:
        """Workers learn it by the mark, which changes with it. Raises LedgerUnavailable where these
        are other books by now.
        """
        await self._remark(self._expected, name, zone)

    async def _remark(self, expected: str, name: str, zone: str) -> Mark | None:
        given = "" if self._clock is None else self._clock()
        old, new, bits = await self._link().run(
            self._scripts["remark"],
            [self._keys.mark, self._keys.of(self._keys.home, "zones"), self._slots_key],
            [given, SCHEMA, new_word(), expected, name, zone],
        )
        found, mark = Mark.read(old.decode()), Mark.read(new.decode())
        if new == old:
            reason = trouble(None, mark, 0) or Reason("the books changed", "try again")
            raise LedgerUnavailable from StoreChanged(reason)
        marks = {self._keys.of_slot(slot) for slot in _ones(bits)} if self._keys.is_cluster else ()
        for key in sorted({*marks, *await self._marks_of_slots()}):
            await self._link().run(self._scripts["put"], [key], [new])
        self._take(mark)
        return found

    # ------------------------------------------------ their parts

    @staticmethod
    def _zones_of(limits: Iterable[Limit]) -> dict[str, str]:
        zones: dict[str, str] = {}
        for limit in limits:
            if limit.kind == "budget":
                zone = zones.setdefault(limit.name, limit.timezone)
                if zone != limit.timezone:
                    raise ZoneConflict(limit.name, zone, limit.timezone)
        return zones

    @property
    def _slots_key(self) -> str:
        return self._keys.of(self._keys.home, "slots")

    async def _marks_of_slots(self) -> set[str]:
        if not self._keys.is_cluster:
            return set()
        return await self._link().scan(self._keys.pattern("mark")) - {self._keys.mark}

    async def _learn(self, begins: str) -> tuple[str, dict[str, str], int]:
        given = "" if self._clock is None else self._clock()
        keys = [self._keys.mark, self._keys.of(self._keys.home, "zones")]
        text, flat, now = await self._link().run(self._scripts["learn"], keys, [given, begins])
        words = [word.decode() for word in flat]
        return text.decode(), dict(zip(words[::2], words[1::2], strict=True)), now

    async def _prepare(self, key: str) -> None:
        """Know what the first script with this mark expects there."""
        if self._keys.mark not in self._ready:
            await self._enter()
        if key not in self._ready:
            await self._enrol(key)
            self._ready.add(key)

    async def _enter(self) -> None:
        known = self._mark
        text, zones, now = await self._learn("")
        if not text and known is None:
            if await self._marks_of_slots():
                self._meet(self._keys.mark, None)
            text, zones, now = await self._learn(str(Mark(new_word())))
        self._meet(self._keys.mark, Mark.read(text))
        self._zones, self._heard = zones, now
        self._ready.add(self._keys.mark)

    async def _enrol(self, key: str) -> None:
        slot = self._keys.slot(self._keys.home_of(key))
        _, _, was_there = await self.run("enrol", self._keys.home, [self._slots_key], [slot, 0])
        if not was_there:
            await self._link().run(self._scripts["put"], [key], [self._expected])
            await self.run("enrol", self._keys.home, [self._slots_key], [slot, 1])

    async def _face(self, key: str, found: Mark | None) -> None:
        """Of a slot's copy, only what the first mark does not explain is trouble."""
        if key != self._keys.mark:
            text, _, _ = await self._learn("")
            first = Mark.read(text)
            if first != self._mark:
                return self._meet(self._keys.mark, first)
        return self._meet(key, found)

    def _meet(self, key: str, found: Mark | None) -> None:
        """Take over what was found, or raise LedgerUnavailable."""
        reason = trouble(self._mark, found, self._heard)
        if reason is None:
            if found != self._mark:
                self._take(found)
            return
        if self._troubles.get(key) != reason:
            self._troubles[key] = reason
            _log.error("%s: %s. No request is admitted there", self._shown, reason)
        raise LedgerUnavailable from StoreChanged(reason)

    def _take(self, mark: Mark | None) -> None:
        if self._mark is not None:
            _log.warning("%s: its books have a new mark, and are used from now on", self._shown)
        self._mark, self._expected = mark, str(mark)
        self._zones.clear()
        self._ready.clear()

    def _recover(self, key: str) -> None:
        if self._troubles.pop(key, None):
            _log.warning("%s: the books are there again", self._shown)


def _ones(bits: bytes) -> list[int]:
    return [8 * at + n for at, byte in enumerate(bits) for n in range(8) if byte & 128 >> n]
