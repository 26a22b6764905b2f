"""An audit of RedisLedger's books, read beside those who write them.

No two accounts are read at one instant, and records belong to several. So counters are read before
the records and again after them: one that is the same both times, with the same holds, has all of
its records in between. A difference counts when a second round finds it again.
"""

import re
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import msgspec

from chatnest.ledger._redis_client import Link, Script
from chatnest.ledger._redis_keys import Keys, Part, tag_of
from chatnest.ledger._redis_records import Entry, read_entry, records_of, standing
from chatnest.ledger.audit import (
    Adjusted,
    Adjustment,
    Balance,
    Drift,
    LiveHold,
    TurnRecord,
    Verdict,
    check_kept,
    judge,
    verify,
)
from chatnest.ledger.base import Line
from chatnest.ledger.days import day_of

__all__ = ["RedisAudit"]

_DAY: Final = 86_400_000
_PAGE: Final = 1_000
_ROUNDS: Final = 4
_REMEMBERED: Final = 35 * _DAY
"""For how long an adjustment is known beyond its counter, so that a repetition does nothing."""


class _Account(msgspec.Struct, frozen=True):
    """An account at one instant."""

    balances: tuple[Balance, ...] = ()
    holds: tuple[LiveHold, ...] = ()

    def by_key(self) -> dict[str, tuple[Balance | None, list[tuple[str, int]]]]:
        """What bears on each counter."""
        held: defaultdict[str, list[tuple[str, int]]] = defaultdict(list)
        for hold in self.holds:
            for line in hold.lines:
                held[line.key].append((hold.id, hold.tokens))
        balances = {balance.key: balance for balance in self.balances}
        return {key: (balances.get(key), sorted(held[key])) for key in {*balances, *held}}


class _Round(msgspec.Struct, frozen=True):
    """One reading of everything: differences, and counters that changed meanwhile."""

    keys: frozenset[str]
    drifts: Mapping[str, tuple[Drift, ...]]
    moving: frozenset[str]
    gaps: tuple[str, ...]


class RedisAudit:
    """The books of a RedisLedger.

    ``run`` runs a script over an account as the ledger does, ``keep`` is in milliseconds.
    """

    def __init__(
        self,
        link: Callable[[], Link],
        run: Callable[..., Awaitable[Any]],
        scripts: Mapping[str, Script],
        keys: Keys,
        *,
        clock: Callable[[], int] | None,
        keep: int,
        max_turns: int,
    ) -> None:
        self._link = link
        self._run = run
        self._scripts = scripts
        self._keys = keys
        self._clock = clock
        self._keep = keep
        self._max_turns = max_turns

    async def now(self) -> int:
        if self._clock is not None:
            return self._clock()
        *_, (seconds, micros) = await self._ask("look", self._account_keys("%now"))
        return int(seconds) * 1000 + int(micros) // 1000

    async def balances(self, account: str | None = None) -> list[Balance]:
        if account is None:
            tags = await self._tags("counters")
        else:
            tags = [tag_of(account)]
        found = [b for tag in tags for b in (await self._account(tag)).balances]
        return sorted(found, key=lambda b: (b.account, b.day or "", b.name))

    async def holds(self) -> list[LiveHold]:
        merged: dict[str, LiveHold] = {}
        for tag in await self._tags("holds"):
            for hold in (await self._account(tag)).holds:
                known = merged.get(hold.id, hold)
                merged[hold.id] = msgspec.structs.replace(
                    known,
                    lines=tuple(dict.fromkeys((*known.lines, *hold.lines))),
                    expires_at=min(known.expires_at, hold.expires_at),
                )
        return sorted(merged.values(), key=lambda hold: (hold.admitted_at, hold.id))

    async def records(self, since: int) -> AsyncGenerator[TurnRecord | Adjustment, None]:
        # A clock that was set back leaves records in the stream of another day.
        first = date.fromisoformat(day_of(since, "UTC")) - timedelta(days=1)
        streams = await self._streams(first.isoformat())
        entries = [entry for stream in streams for entry in (await self._entries(*stream))[0]]
        for record in records_of(entries):
            at = record.at if isinstance(record, Adjustment) else record.settled_at
            if at >= since:
                yield record

    async def adjust(self, adjustment: Adjustment) -> Adjusted:
        check_kept(adjustment, await self.now(), self._keep)
        tag = tag_of(adjustment.account)
        ends = datetime.fromisoformat(adjustment.day).replace(tzinfo=UTC) + timedelta(hours=36)
        first, _, done, packed = await self._run(
            "adjust",
            Part([tag]),
            (
                adjustment.id,
                f"{adjustment.name}:{adjustment.day}",
                adjustment.tokens,
                adjustment.reason,
                int(ends.timestamp() * 1000),
                self._keep + _REMEMBERED,
            ),
            (self._keys.of(tag, f"adjust:{adjustment.id}"),),
        )
        tokens, at, field, reason = done.decode().split(" ", 3)
        name, day = field.split(":")
        made = Adjustment(
            id=adjustment.id,
            account=adjustment.account,
            name=name,
            day=day,
            tokens=int(tokens),
            reason=reason,
            at=int(at),
        )
        balance = Balance.at(made.key, map(int, packed.split()))
        return Adjusted(adjustment=made, first=first == 1, balance=balance)

    # ------------------------------------------------ verification

    async def verdict(self) -> Verdict:
        first = await self._round()
        open_keys, seen, certain = set(first.keys), dict[str, tuple[Drift, ...]](), list[Drift]()
        latest = first
        for turn in range(_ROUNDS):
            if turn:
                latest = await self._round()
            for key in sorted(open_keys - latest.moving):
                found = latest.drifts.get(key, ())
                if found and _sizes(seen.get(key, ())) != _sizes(found):
                    seen[key] = found
                    continue
                open_keys.remove(key)
                certain.extend(found)
            if not open_keys:
                break
        busy = [f"{key}: it changed each time while it was read." for key in sorted(open_keys)]
        kept_since = await self.now() - self._keep - _DAY
        verdict = judge(len(first.keys), certain, kept_since=kept_since, gaps=latest.gaps)
        return msgspec.structs.replace(verdict, unsure=(*verdict.unsure, *busy))

    async def _round(self) -> _Round:
        tags = set(await self._tags("counters", "holds"))
        before = await self._accounts(tags)
        entries: list[Entry] = []
        gaps = []
        for tag, day in await self._streams(""):
            read, whole = await self._entries(tag, day)
            entries.extend(read)
            if not whole:
                gaps.append(
                    f"{_account_of(tag)}: records of {day} were dropped, for there were too many."
                )
        after = await self._accounts(tags | {tag_of(account) for account in _named(entries)})
        states, were = _by_key(after), _by_key(before)
        moving = {key for key in {*states, *were} if states.get(key) != were.get(key)}
        turns, adjustments = standing(entries)
        drifts = defaultdict[str, tuple[Drift, ...]](tuple)
        balances = [balance for each in after for balance in each.balances]
        for drift in verify(balances, [h for a in after for h in a.holds], turns, adjustments):
            drifts[drift.key] += (drift,)
        keys = frozenset({*states, *drifts})
        return _Round(keys, drifts, frozenset(moving), tuple(gaps))

    # ------------------------------------------------ reading

    async def _accounts(self, tags: Iterable[str]) -> list[_Account]:
        return [await self._account(tag) for tag in sorted(tags)]

    async def _account(self, tag: str) -> _Account:
        counters, holds, due, _ = await self._ask("look", self._account_keys(tag))
        account, ends = _account_of(tag), _pairs(due)
        balances = [
            Balance.at(f"{field}:{account}", map(int, packed.split()))
            for field, packed in _pairs(counters).items()
        ]
        live = [
            _hold(hold_id, packed, account, int(float(ends.get(hold_id, "0"))))
            for hold_id, packed in _pairs(holds).items()
            if packed.startswith("R ")
        ]
        return _Account(tuple(balances), tuple(live))

    async def _entries(self, tag: str, day: str) -> tuple[list[Entry], bool]:
        """A stream's entries, and whether none are missing."""
        entries: list[Entry] = []
        key, account, start = self._keys.of(tag, f"turns:{day}"), _account_of(tag), "-"
        while True:
            added, length, page = await self._ask("page", [key], start, _PAGE)
            entries.extend(read_entry(account, name, fields) for name, fields in page)
            if len(page) < _PAGE:
                trimmed = length >= self._max_turns if added < 0 else added > length
                return entries, not trimmed
            milliseconds, _, number = page[-1][0].decode().partition("-")
            start = f"{milliseconds}-{int(number) + 1}"

    async def _streams(self, first: str) -> list[tuple[str, str]]:
        """Accounts' tags and days, from a day on, that have records."""
        found = [
            (tag, kind.removeprefix("turns:"))
            for tag, kind in await self._scan()
            if kind.startswith("turns:")
        ]
        return sorted(stream for stream in found if stream[1] >= first)

    async def _tags(self, *kinds: str) -> list[str]:
        return sorted({tag for tag, kind in await self._scan() if kind in kinds})

    async def _scan(self) -> list[tuple[str, str]]:
        """The accounts' tags and kinds of all keys."""
        head = self._keys.of("*", "*").removesuffix("{*}:*")
        pattern = re.sub(r"([][*?\\^-])", r"\\\1", head) + "{*}:*"
        keys = await self._link().scan(pattern)
        parts = (key.removeprefix(head + "{").partition("}:") for key in keys)
        return [(tag, kind) for tag, _, kind in parts]

    def _account_keys(self, tag: str) -> list[str]:
        return self._keys.of_account(tag, "")[:3]

    async def _ask(self, name: str, keys: list[str], *args: str | int) -> Any:
        return await self._link().run(self._scripts[name], keys, args)


def _sizes(drifts: Iterable[Drift]) -> list[tuple[str, int]]:
    return [(drift.figure, drift.recorded - drift.recomputed) for drift in drifts]


def _by_key(accounts: Iterable[_Account]) -> dict[str, object]:
    return {key: state for account in accounts for key, state in account.by_key().items()}


def _named(entries: Iterable[Entry]) -> set[str]:
    """The accounts that records speak of."""
    return {key.split(":", 2)[2] for entry in entries for key in entry.lines}


def _hold(hold_id: str, packed: str, account: str, ends: int) -> LiveHold:
    _, tokens, at, *lines = packed.split(" ")
    units = [line.partition("=") for line in lines if line]
    return LiveHold(
        id=hold_id,
        tokens=int(tokens),
        lines=tuple(
            Line(f"{field}:{account}", "tokens" if unit == "T" else "streams")
            for unit, _, field in units
        ),
        admitted_at=int(at),
        expires_at=ends,
    )


def _pairs(flat: list[bytes]) -> dict[str, str]:
    words = [word.decode() for word in flat]
    return dict(zip(words[::2], words[1::2], strict=True))


def _account_of(tag: str) -> str:
    """The account of a hash tag, as tag_of in _redis_keys.py made it."""
    if tag == "%":
        return ""
    return tag.replace("%7B", "{").replace("%7D", "}").replace("%25", "%")
