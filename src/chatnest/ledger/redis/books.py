"""Books: the identity of the books that a RedisLedger counts in, and its check in every step."""

import logging
from collections.abc import Iterable, Sequence
from typing import Any, Final

from chatnest.errors import LedgerUnavailable
from chatnest.ledger.base import Limit
from chatnest.ledger.books import check_scale, zone_of_scale
from chatnest.ledger.days import end_of, span_of
from chatnest.ledger.redis.keys import Keys
from chatnest.ledger.redis.mark import Mark, described, new_word, trouble
from chatnest.ledger.redis.marks import Marks
from chatnest.ledger.redis.server import Server
from chatnest.ledger.redis.zones import Zones, zones_of
from chatnest.stores.survey import Reason, StoreChanged

__all__ = ["Books"]

_log = logging.getLogger("chatnest.ledger")

_CHANGED: Final = -1
"""The first word of an answer: the mark is another one, and the script did nothing."""

_ATTEMPTS: Final = 5
"""How often to run a script again when the mark keeps changing."""


class Books:
    """The mark that this process knows, and the zones of the budgets in those books."""

    def __init__(self, server: Server, keys: Keys, marks: Marks) -> None:
        self._server = server
        self._keys = keys
        self._marks = marks
        self._mark: Mark | None = None
        self._expected = ""
        self._seen_at = 0  # the server's time when the mark was last found
        self._zones = Zones()
        self._ready: set[str] = set()  # keys of marks that scripts can expect
        self._troubles: dict[str, Reason] = {}

    # ------------------------------------------------ operations

    async def run(
        self,
        name: str,
        home: str,
        keys: Sequence[str | bytes],
        args: Sequence[str | int | bytes],
        *,
        time_at: int = 1,
        limits: Sequence[Limit] = (),
    ) -> Any:
        """Run a script in the slot of ``home``. Raises LedgerUnavailable if these are other books.

        ``limits`` are the limits whose zones must match those of the books; ``time_at`` is the
        position of the server's time in the answer.
        """
        key = self._keys.of_mark(home)
        for attempt in range(_ATTEMPTS):
            if key not in self._ready:
                await self._prepare(key)
            if attempt and limits:  # the zones may have changed with the mark
                await self.agree(limits)
            expected = self._expected
            answer = await self._server.link().run(
                self._server.scripts[name],
                [key, *keys],
                [expected, self._marks.given_time(), *args],
            )
            if answer[0] != _CHANGED:
                self._seen_at = answer[time_at]
                if self._troubles:
                    self._recover(key)
                return answer
            if expected == self._expected:
                await self._face(key, Mark.read(answer[1].decode()))
        raise LedgerUnavailable  # the mark changes all the time

    async def check(self) -> None:
        """Write a key beside the first mark, and beside each mark that was in trouble."""
        await self.run("check", self._keys.home, [self._keys.of(self._keys.home, "check")], ())
        for key in list(self._troubles):
            home = self._keys.home_of(key)
            await self.run("check", home, [self._keys.of(home, "check")], ())

    async def agree(self, limits: Iterable[Limit]) -> dict[str, str]:
        """Compare the zones of budgets with those of the books. Returns the zones of names that the
        books do not have yet. Raises ZoneConflict.
        """
        wanted = zones_of(limits)
        if not self._zones.know(wanted):
            self._zones.learn(await self.zones())
        return self._zones.unknown(wanted)

    async def keep_zones(self, zones: dict[str, str]) -> None:
        """Store the zones of names that were admitted for the first time. Raises ZoneConflict if
        another worker stored another zone first.
        """
        for name, zone in zones.items():
            home = self._keys.home
            answer = await self.run("zone", home, [self._keys.of(home, "zones")], [name, zone])
            kept = answer[2].decode()
            self._zones.learn({name: kept})
            check_scale(name, kept, zone)

    async def currency(self, given: str = "") -> str:
        """The currency of the books, which is ``given`` if they had none."""
        home = self._keys.home
        answer = await self.run("currency", home, [self._keys.of(home, "currency")], [given])
        kept: str = answer[2].decode()
        return kept

    def end_of(self, name: str, day: str) -> int:
        """When a day of a limit ends; the latest time at which it may, if its zone is not known."""
        scale = self._zones.scale(name)
        return span_of(day)[1] if scale is None else end_of(day, zone_of_scale(scale))

    # ------------------------------------------------ by an operator

    async def peek(self) -> Mark | None:
        """The mark in the store. Does not begin books."""
        return Mark.read((await self._marks.learn()).mark)

    async def touch(self) -> None:
        """Write a key, without a check of the mark."""
        await self._server.link().write(self._keys.of(self._keys.home, "check"))

    async def adopt(self) -> str:
        """Make the store at this address the books from now on. Running workers use them from their
        next operation. Returns a sentence about what was found.

        Raises LedgerUnavailable, also for a store of a newer chatnest.
        """
        found, mark = await self._marks.replace()
        self._take(mark)
        accounts = len(await self._server.link().scan(self._keys.pattern("counters")))
        return (
            f"{self._server.shown}: found {described(found)}, with counters of {accounts:,} "
            "accounts. They are the books from now on."
        )

    async def zones(self) -> dict[str, str]:
        """The zone of each budget's name in the books."""
        if self._keys.mark not in self._ready:
            await self._enter()
        return (await self._marks.learn()).zones

    async def change_zone(self, name: str, zone: str) -> None:
        """Change the zone of a budget's name. The mark changes in the same step, so that workers
        learn of it. Raises LedgerUnavailable if these are other books by now.
        """
        _, mark = await self._marks.replace(self._expected, name, zone)
        self._take(mark)

    # ------------------------------------------------ the mark

    async def _prepare(self, key: str) -> None:
        """Know the mark that the first script with this key must expect."""
        if self._keys.mark not in self._ready:
            await self._enter()
        if key not in self._ready:
            await self._enrol(key)
            self._ready.add(key)

    async def _enter(self) -> None:
        """Read the mark, or begin books in a new store."""
        known = self._mark
        learned = await self._marks.learn()
        if not learned.mark and known is None:
            if await self._marks.copies():
                self._meet(self._keys.mark, None)
            learned = await self._marks.learn(str(Mark(new_word())))
        self._meet(self._keys.mark, Mark.read(learned.mark))
        self._zones.clear()
        self._zones.learn(learned.zones)
        self._seen_at = learned.now
        self._ready.add(self._keys.mark)

    async def _enrol(self, key: str) -> None:
        """Copy the mark into a slot that has no copy yet."""
        slot = self._keys.slot(self._keys.home_of(key))
        bits = [self._marks.slots_key]
        _, _, was_there = await self.run("enrol", self._keys.home, bits, [slot, 0])
        if not was_there:
            await self._marks.copy(key, self._expected)
            await self.run("enrol", self._keys.home, bits, [slot, 1])

    async def _face(self, key: str, found: Mark | None) -> None:
        """Handle an unexpected mark. A slot's copy is in trouble only if the first mark does not
        explain it.
        """
        if key != self._keys.mark:
            first = await self.peek()
            if first != self._mark:
                return self._meet(self._keys.mark, first)
        return self._meet(key, found)

    def _meet(self, key: str, found: Mark | None) -> None:
        """Take over the mark that was found, or raise LedgerUnavailable."""
        reason = trouble(self._mark, found, self._seen_at)
        if reason is None:
            if found != self._mark:
                self._take(found)
            return
        if self._troubles.get(key) != reason:
            self._troubles[key] = reason
            _log.error("%s: %s. No request is admitted there", self._server.shown, reason)
        raise LedgerUnavailable from StoreChanged(reason)

    def _take(self, mark: Mark | None) -> None:
        if self._mark is not None:
            _log.warning("%s: the books have a new mark; using them", self._server.shown)
        self._mark, self._expected = mark, str(mark)
        self._zones.clear()
        self._ready.clear()

    def _recover(self, key: str) -> None:
        if self._troubles.pop(key, None):
            _log.warning("%s: the books are available again", self._server.shown)
