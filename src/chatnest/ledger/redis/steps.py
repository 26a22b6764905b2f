"""Steps: scripts over accounts that share a slot, each atomic and one round trip."""

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, Final

from chatnest.errors import LedgerUnavailable
from chatnest.ledger.base import Charge, Hold, Limit, wall_clock
from chatnest.ledger.books import is_day
from chatnest.ledger.days import day_of
from chatnest.ledger.redis.answers import DAYS
from chatnest.ledger.redis.books import Books
from chatnest.ledger.redis.keys import (
    Days,
    Keys,
    Part,
    fields_of,
    has_account,
    split_line,
    tag_of,
    word_of,
)
from chatnest.ledger.redis.plan import plan_of
from chatnest.ledger.redis.usage import usage_of

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
        args: tuple[str | int | bytes, ...],
        more_keys: Sequence[str | bytes] = (),
        now: int | None = None,
        *,
        limits: Sequence[Limit] = (),
        principal: str = "",
    ) -> Any:
        """Run a script over the accounts of ``part``. ``principal`` is whose usage it is. Raises
        LedgerUnavailable.
        """
        now = self.now() if now is None else now
        today = day_of(now, "UTC")
        accounts, pending, usage = self._keys.of_day(part, today)
        time_at = _TIME_AT.get(name, 1)
        answer = await self._books.run(
            name,
            part.tag,
            [
                *accounts,
                *more_keys,
                pending,
                self._keys.of_usage(part, principal, today) if principal else usage,
            ],
            [self.keep, self._max_turns, len(part.homes), *args],
            time_at=time_at,
            limits=limits,
        )
        self._ahead = answer[time_at] - wall_clock()
        return answer

    async def run_limits(
        self,
        name: str,
        part: Part,
        more_keys: tuple[str, ...],
        args: tuple[str | int, ...],
        limits: tuple[Limit, ...],
    ) -> list[int]:
        """Run a script that evaluates the limits of ``part``, which are among ``limits``.

        If the server's day is not the day assumed here, its answer contains its time, and the
        second attempt uses that.
        """
        for _ in range(2):
            now = self.now()
            plan = plan_of(part, self._keys, self._days, now)
            answer: list[int] = await self.run(
                name,
                part,
                (plan.packed, *args),
                (*plan.windows, *more_keys),
                now,
                limits=limits,
            )
            if answer[0] != DAYS:
                break
        else:
            raise LedgerUnavailable  # the server's clock jumps
        return answer

    async def renew(
        self, part: Part, hold_id: str, lease: int, most: int = -1, per_output: int = 0
    ) -> None:
        """Renew the lease of a hold. ``most`` lowers its output, unless it is negative; a token of
        output costs ``per_output``.
        """
        keys = [] if most < 0 else self._windows_of(part)
        places = self._bucket_places(part, keys, 0)
        await self.run("renew", part, (hold_id, lease, most, per_output, *places), tuple(keys))

    async def release(self, part: Part, hold_id: str, *, undo: bool) -> None:
        """Release a hold. ``undo`` also removes its admissions from the windows."""
        buckets = self._windows_of(part)
        windows = [
            self._keys.of_window(limit) for _, limit in part.limits if not has_account(limit)
        ]
        windows = windows if undo else []
        places = self._bucket_places(part, buckets, 1)
        first = 3 + 4 * len(part.homes) + len(buckets)
        await self.run(
            "release",
            part,
            (
                hold_id,
                self.remember,
                int(undo),
                *places,
                *(first + number for number in range(len(windows))),
            ),
            (self._keys.of_end(part.homes[0], hold_id), *buckets, *windows),
        )

    async def settle(self, part: Part, hold: Hold, charge: Charge, record: tuple[str, ...]) -> Any:
        """Charge a hold."""
        buckets = list(
            dict.fromkeys(self._keys.of_bucket(line) for line in part.lines if line.serial >= 0)
        )
        places: list[str | int] = []
        for line in part.lines:
            if line.serial >= 0:
                name, window, account = split_line(line)
                home = part.homes.index(tag_of(account)) + 1
                at = 3 + 4 * len(part.homes) + buckets.index(self._keys.of_bucket(line))
                places += [f"{home} {name}:{window}", at]
        return await self.run(
            "settle",
            part,
            (
                *(hold.id, self.remember, charge.tokens, charge.money, hold.tokens, hold.money),
                *(usage_of(charge) if part.keeps else ("", 0)),
                *(len(places) // 2, *places),
                *chain.from_iterable(self._lines_of(part, tag, hold) for tag in part.homes),
                *record,
            ),
            (self._keys.of_end(part.homes[0], hold.id), *buckets),
            principal=charge.principal,
        )

    def _lines_of(self, part: Part, tag: str, hold: Hold) -> list[str | int]:
        """The counters and watches of an account in a hold, and when the days of these end."""
        ends: list[str | int] = []
        for line in part.lines:
            name, day, account = split_line(line)
            if line.serial < 0 and tag_of(account) == tag and is_day(day):
                ends += [f"{name}:{day}", self._books.end_of(name, day)]
        words = [word_of(watch) for watch in hold.watched if tag_of(watch.account) == tag]
        return [" ".join([fields_of(part.lines, tag), *words]), len(ends) // 2, *ends]

    def _windows_of(self, part: Part) -> list[str]:
        """The keys of the windows of amounts in a part."""
        limits = [limit for _, limit in part.limits if limit.kind == "rate" and has_account(limit)]
        return list(dict.fromkeys(map(self._keys.of_window, limits)))

    def _bucket_places(self, part: Part, keys: list[str], more: int) -> list[str | int]:
        """How many windows of amounts there are, and for each its account and name, and its key.
        ``more`` are the keys between those of accounts and these.
        """
        places: list[str | int] = []
        for _, limit in part.limits:
            if keys and limit.kind == "rate" and has_account(limit):
                home = part.homes.index(tag_of(limit.account)) + 1
                at = 2 + 4 * len(part.homes) + more + keys.index(self._keys.of_window(limit))
                places += [f"{home} {limit.name}:{limit.window}", at]
        return [len(places) // 2, *places]
