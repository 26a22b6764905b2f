"""RedisAudit: an audit of a RedisLedger's books while workers write them.

Two accounts are never read at the same instant, and a record may belong to several. So counters are
read before the records and again after them. If a counter and its holds are the same both times,
the records read in between are complete for it. A difference counts if a second round finds it
again.
"""

from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from datetime import date, timedelta
from typing import Final

import msgspec

from chatnest.errors import ConfigurationError
from chatnest.ledger.audit import (
    Adjusted,
    Adjustment,
    Balance,
    Drift,
    LiveHold,
    TurnRecord,
    UsageDrift,
    Verdict,
    ZoneChange,
    check_kept,
    check_total,
    usage_key,
)
from chatnest.ledger.books import GRANTED, unit_of_scale, zone_of_scale
from chatnest.ledger.days import day_of, is_zone
from chatnest.ledger.limit import MOST
from chatnest.ledger.redis.books import Books
from chatnest.ledger.redis.keys import Keys, Part, tag_of
from chatnest.ledger.redis.reader import Account, Reader, account_of
from chatnest.ledger.redis.records import Entry, counted, records_of, standing
from chatnest.ledger.redis.server import Server
from chatnest.ledger.redis.steps import Steps
from chatnest.ledger.redis.usage import rows_of, sums_of
from chatnest.ledger.usage import Refusals, UsageRow, Use, Used
from chatnest.ledger.verification import judge, recounted, usage_drifts, verify
from chatnest.ledger.watch import Crossing

__all__ = ["RedisAudit"]

_DAY: Final = 86_400_000
_PAGE: Final = 1_000
_ROUNDS: Final = 4
_REMEMBERED: Final = 35 * _DAY
"""Milliseconds for which an adjustment is known after its counter has expired, so that a repetition
does nothing.
"""


AnyDrift = Drift | UsageDrift


class _Round(msgspec.Struct, frozen=True):
    """One reading of the books: the differences, and the counters that changed during it."""

    keys: frozenset[str]
    drifts: Mapping[str, tuple[AnyDrift, ...]]
    moving: frozenset[str]
    gaps: tuple[str, ...]
    rows: frozenset[str]


class RedisAudit:
    """The books of a RedisLedger. ``clock`` is for tests, and replaces the server's time."""

    def __init__(
        self,
        server: Server,
        steps: Steps,
        books: Books,
        keys: Keys,
        *,
        clock: Callable[[], int] | None,
        max_turns: int,
    ) -> None:
        self._reader = Reader(server, keys, max_turns)
        self._run, self._run_limits = steps.run, steps.run_limits
        self._keep = steps.keep
        self._books = books
        self._keys = keys
        self._clock = clock

    async def now(self) -> int:
        if self._clock is not None:
            return self._clock()
        return await self._reader.now()

    async def balances(self, account: str | None = None) -> list[Balance]:
        if account is None:
            tags = await self._reader.tags("counters")
        else:
            tags = [tag_of(account)]
        scales = await self._books.zones()
        found = [
            msgspec.structs.replace(b, unit=unit_of_scale(scales.get(b.name, "")))
            if b.day is not None
            else b
            for each in await self._reader.accounts(tags)
            for b in each.balances
        ]
        return sorted(found, key=lambda b: (b.account, b.day or "", b.name))

    async def holds(self) -> list[LiveHold]:
        merged: dict[str, LiveHold] = {}
        for account in await self._reader.accounts(await self._reader.tags("holds")):
            for hold in account.holds:
                known = merged.get(hold.id, hold)
                merged[hold.id] = msgspec.structs.replace(
                    known,
                    lines=tuple(dict.fromkeys((*known.lines, *hold.lines))),
                    expires_at=min(known.expires_at, hold.expires_at),
                )
        return sorted(merged.values(), key=lambda hold: (hold.admitted_at, hold.id))

    async def records(self, since: int) -> AsyncGenerator[TurnRecord | Adjustment, None]:
        # After a clock was set back, a record may be in the stream of the day before.
        first = date.fromisoformat(day_of(since, "UTC")) - timedelta(days=1)
        streams = await self._reader.streams(first.isoformat())
        entries = [e for read, _ in (await self._reader.entries(streams)).values() for e in read]
        for record in records_of(entries):
            at = record.at if isinstance(record, Adjustment) else record.settled_at
            if at >= since:
                yield record

    async def warnings(self) -> list[Crossing]:
        tags = await self._reader.tags("counters")
        found = [each for a in await self._reader.accounts(tags) for each in a.crossings]
        return sorted(found, key=lambda each: (each.at, *each.key))

    async def adjust(self, adjustment: Adjustment) -> Adjusted:
        scales = await self._books.zones()
        scale = scales.get(adjustment.name, "")
        check_kept(adjustment, await self.now(), self._keep, scale)
        tag, ends = tag_of(adjustment.account), 0
        if adjustment.day != GRANTED:
            ends = self._books.end_of(adjustment.name, adjustment.day)
        first, _, done, packed = await self._run(
            "adjust",
            Part([tag]),
            (
                adjustment.id,
                f"{adjustment.name}:{adjustment.day}",
                adjustment.amount,
                adjustment.reason,
                ends,
                self._keep + _REMEMBERED,
                MOST,
            ),
            self._keys.of_adjustment(tag, adjustment.id),
        )
        if not done:
            check_total(adjustment, int(packed))
        amount, at, field, reason = done.decode().split(" ", 3)
        name, day = field.split(":")
        made = Adjustment(
            id=adjustment.id,
            account=adjustment.account,
            name=name,
            day=day,
            amount=int(amount),
            reason=reason,
            at=int(at),
        )
        balance = Balance.at(made.key, map(int, packed.split()), scales)
        return Adjusted(adjustment=made, first=first == 1, balance=balance)

    async def usage(self, since: str, by: tuple[str, ...]) -> list[Used]:
        return sums_of(await self._reader.usage(since), since, by)

    async def refusals(self, since: str) -> list[Refusals]:
        return await self._reader.refusals(since)

    async def currency(self) -> str:
        return await self._books.currency()

    async def change_zone(self, name: str, zone: str) -> ZoneChange:
        scale = (await self._books.zones()).get(name)
        if scale is None:
            raise ConfigurationError(
                f"name: expected a budget that was counted, got {name!r}. Check the name."
            )
        if not is_zone(zone):
            raise ConfigurationError(
                f"timezone: expected an IANA name such as 'Europe/Berlin' or 'UTC', got {zone!r}."
            )
        before = zone_of_scale(scale)
        if before != zone:
            await self._refuse_while_held(name)
            await self._books.change_zone(name, scale.removesuffix(before) + zone)
        return ZoneChange(name=name, before=before, after=zone)

    async def _refuse_while_held(self, name: str) -> None:
        tags = await self._reader.tags("holds")
        for tag in tags:  # charges the leases that have ended
            await self._run_limits("usage", Part([tag]), (), (), ())
        held = [
            balance
            for account in await self._reader.accounts(tags)
            for balance in account.balances
            if balance.name == name and balance.day is not None and balance.held
        ]
        if held:
            raise ConfigurationError(
                f"{name}: expected a budget without holds, got answers being written for "
                f"{len(held):,} accounts. Stop all workers, wait 30 seconds, and run the same "
                "command again."
            )

    async def adopt(self) -> str:
        return await self._books.adopt()

    # ------------------------------------------------ verification

    async def verdict(self) -> Verdict:
        first = await self._round()
        open_keys, seen = set(first.keys), dict[str, tuple[AnyDrift, ...]]()
        certain: list[AnyDrift] = []
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
        rows = latest.rows
        busy = [
            f"{key}: the {'row' if key in rows else 'counter'} changed during every reading."
            for key in sorted(open_keys)
        ]
        kept_since = await self.now() - self._keep - _DAY
        drifts = [drift for drift in certain if isinstance(drift, Drift)]
        verdict = judge(
            len(first.keys) - len(first.rows), drifts, kept_since=kept_since, gaps=latest.gaps
        )
        usage = [drift for drift in certain if isinstance(drift, UsageDrift)]
        unsure = [*verdict.unsure, *busy]
        if usage and latest.gaps:
            unsure.append("usage: the roll-up may differ because records are missing.")
            usage = []
        return msgspec.structs.replace(
            verdict, unsure=tuple(unsure), usage=tuple(usage), rows=len(first.rows)
        )

    async def _round(self) -> _Round:
        tags = set(await self._reader.tags("counters", "holds"))
        scales = await self._books.zones()
        before = await self._reader.accounts(tags)
        since = await self.now() - self._keep - _DAY
        rows_before = await self._rows(since)
        entries: list[Entry] = []
        gaps = []
        streams = await self._reader.streams("")
        for (tag, day), (read, whole) in (await self._reader.entries(streams)).items():
            entries.extend(read)
            if not whole:
                gaps.append(
                    f"{account_of(tag)}: records of {day} are missing: the day had too many."
                )
        after = await self._reader.accounts(tags | {tag_of(account) for account in _named(entries)})
        states, were = _by_key(after), _by_key(before)
        moving = {key for key in {*states, *were} if states.get(key) != were.get(key)}
        turns, adjustments = standing(entries)
        drifts = defaultdict[str, tuple[AnyDrift, ...]](tuple)
        balances = [balance for each in after for balance in each.balances]
        holds = [hold for account in after for hold in account.holds]
        for drift in verify(balances, holds, turns, adjustments, scales):
            drifts[drift.key] += (drift,)
        rows = await self._rows(since)
        moving |= {
            usage_key(row) for row in {*rows, *rows_before} if rows.get(row) != rows_before.get(row)
        }
        for found in usage_drifts(rows, recounted(counted(entries)), since):
            drifts[found.key] += (found,)
        used = frozenset(map(usage_key, rows))
        keys = frozenset({*states, *drifts, *used})
        return _Round(keys, drifts, frozenset(moving), tuple(gaps), used)

    async def _rows(self, since: int) -> dict[UsageRow, Use]:
        day = day_of(since, "UTC")
        return rows_of(await self._reader.usage(day), day)


def _sizes(drifts: Iterable[AnyDrift]) -> list[tuple[str, int]]:
    return [(drift.figure, drift.recorded - drift.recomputed) for drift in drifts]


def _by_key(accounts: Iterable[Account]) -> dict[str, object]:
    return {key: state for account in accounts for key, state in account.by_key().items()}


def _named(entries: Iterable[Entry]) -> set[str]:
    """The accounts in these records."""
    return {key.split(":", 2)[2] for entry in entries for key in entry.lines}
