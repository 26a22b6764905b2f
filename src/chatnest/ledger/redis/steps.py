"""Steps: scripts over accounts that share a slot, each atomic and one round trip."""

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, Final

from chatnest.errors import LedgerUnavailable
from chatnest.ledger.base import Limit, wall_clock
from chatnest.ledger.days import day_of
from chatnest.ledger.redis.answers import DAYS
from chatnest.ledger.redis.books import Books
from chatnest.ledger.redis.keys import Days, Keys, Part, field_of, tag_of

__all__ = ["Steps"]

_TIME_AT: Final = {"settle": 2}
"""The position of the server's time in the answers in which it is not 1."""


class Steps:
    """Runs the scripts of the accounting rules, each over one part of an operation.

    ``keep_days`` and ``remember`` are those of RedisLedger, ``remember`` in milliseconds; ``clock``
    is for tests, and replaces the server's time.
    """

    def __init__(
        self,
        books: Books,
        keys: Keys,
        *,
        keep_days: int,
        remember: int,
        max_turns: int,
        clock: Callable[[], int] | None,
    ) -> None:
        self._books = books
        self._keys = keys
        self._days = Days(keep_days)
        self.keep: int = keep_days * 86_400_000
        self.remember: int = remember
        self._max_turns = max_turns
        self._clock = clock
        self._ahead = 0  # milliseconds by which the server's clock is ahead

    def now(self) -> int:
        """The server's time, estimated from its last answer."""
        return wall_clock() + self._ahead if self._clock is None else self._clock()

    async def run(
        self,
        name: str,
        part: Part,
        args: tuple[str | int, ...],
        more_keys: tuple[str, ...] = (),
        now: int | None = None,
        *,
        limits: Sequence[Limit] = (),
    ) -> Any:
        """Run a script over the accounts of ``part``. Raises LedgerUnavailable."""
        now = self.now() if now is None else now
        today = day_of(now, "UTC")
        keys = list(chain.from_iterable(self._keys.of_account(tag, today) for tag in part.homes))
        common = (self.keep, self._max_turns, len(part.homes))
        time_at = _TIME_AT.get(name, 1)
        answer = await self._books.run(
            name, part.tag, [*keys, *more_keys], [*common, *args], time_at=time_at, limits=limits
        )
        self._ahead = answer[time_at] - wall_clock()
        return answer

    async def run_limits(
        self, name: str, part: Part, more_keys: tuple[str, ...], args: tuple[str | int, ...]
    ) -> list[int]:
        """Run a script that evaluates the limits of ``part``.

        If the server's day is not the day assumed here, its answer contains its time, and the
        second attempt uses that.
        """
        windows = list(
            dict.fromkeys(
                self._keys.of_window(limit) for _, limit in part.limits if limit.kind == "rate"
            )
        )
        before = 1 + 4 * len(part.homes) + len(more_keys)
        places = {key: before + place for place, key in enumerate(windows, 1)}
        for _ in range(2):
            now = self.now()
            words = chain.from_iterable(
                self._arguments(each, part, places, now) for each in part.limits
            )
            answer: list[int] = await self.run(
                name,
                part,
                (len(part.limits), *words, *args),
                (*more_keys, *windows),
                now,
                limits=[limit for _, limit in part.limits],
            )
            if answer[0] != DAYS:
                break
        else:
            raise LedgerUnavailable  # the server's clock jumps
        return answer

    async def renew(self, part: Part, hold_id: str, lease: int, most: int = -1) -> None:
        """Renew the lease of a hold. ``most`` lowers its tokens, unless it is negative."""
        await self.run("renew", part, (hold_id, lease, most))

    async def release(self, part: Part, hold_id: str, *, undo: bool) -> None:
        """Release a hold. ``undo`` also removes its admissions from the windows."""
        windows = [self._keys.of_window(limit) for _, limit in part.limits if limit.kind == "rate"]
        await self.run(
            "release",
            part,
            (hold_id, self.remember, int(undo)),
            (self._keys.of_end(part.homes[0], hold_id), *(windows if undo else ())),
        )

    def _arguments(
        self, placed: tuple[int, Limit], part: Part, places: dict[str, int], now: int
    ) -> tuple[str | int, ...]:
        _, limit = placed
        if limit.kind == "rate":
            window = places[self._keys.of_window(limit)]
            return limit.kind, limit.limit, limit.window * 1000, window
        home = part.homes.index(tag_of(limit.account)) + 1
        if limit.kind == "concurrency":
            return limit.kind, limit.limit, home, field_of(limit.name, "")
        start, middle, stop, first, second, oldest = self._days.around(limit.timezone, now)
        fields = field_of(limit.name, first), field_of(limit.name, second)
        return limit.kind, limit.limit, home, start, middle, stop, *fields, oldest
