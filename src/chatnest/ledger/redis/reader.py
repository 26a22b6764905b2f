"""Reader: reads the books of a RedisLedger, many accounts or streams with one script.

Each account is read at one instant. In a cluster, a script reads keys of one slot. Answers are
packed, since the client needs much longer to parse the same values one by one.
"""

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec

from chatnest.errors import LedgerUnavailable
from chatnest.ledger.audit import Balance, LiveHold
from chatnest.ledger.books import GRANTED
from chatnest.ledger.redis.keys import Keys, lines_of, unit_of
from chatnest.ledger.redis.mark import SCHEMA, Mark, trouble
from chatnest.ledger.redis.records import Entry, read_entry
from chatnest.ledger.redis.server import Server
from chatnest.ledger.redis.usage import decode_hashes
from chatnest.ledger.usage import Refusals, day_before
from chatnest.ledger.watch import Crossing
from chatnest.stores.survey import StoreChanged

__all__ = ["Account", "Reader", "account_of"]

_VALUES: Final = 1_000
"""Maximum values of accounts in one answer: about a millisecond of the server's time."""

_ENTRIES: Final = 250
"""Maximum entries of streams in one answer. Each has a dozen values."""

_ROW_VALUES: Final = 2_000
"""Maximum values of the roll-up in one answer: a millisecond or two of the server's time."""

_LONGEST_MONTH: Final = 31

_KEYS: Final = 200
"""Maximum accounts or streams that are passed to one script."""


_WATCH: Final = ":~!"
"""Follows the name in a field about a watched window."""

_decode_accounts = msgspec.msgpack.Decoder(list[tuple[list[str], list[str], list[str]]]).decode
_decode_streams = msgspec.msgpack.Decoder(list[tuple[int, int, list[tuple[str, list[str]]]]]).decode


class Account(msgspec.Struct, frozen=True):
    """The state of an account at one instant."""

    balances: tuple[Balance, ...] = ()
    holds: tuple[LiveHold, ...] = ()
    crossings: tuple[Crossing, ...] = ()

    def by_key(self) -> dict[str, tuple[Balance | None, list[tuple[str, int]]]]:
        """The balance of each counter, and the holds on it."""
        held: defaultdict[str, list[tuple[str, int]]] = defaultdict(list)
        for hold in self.holds:
            for line in hold.lines:
                held[line.key].append((hold.id, hold.tokens))
        balances = {balance.key: balance for balance in self.balances}
        return {key: (balances.get(key), sorted(held[key])) for key in {*balances, *held}}


class Reader:
    """Reads the books on a server, and changes nothing."""

    def __init__(self, server: Server, keys: Keys, max_turns: int) -> None:
        self._server = server
        self._keys = keys
        self._max_turns = max_turns

    async def now(self) -> int:
        """The server's time."""
        (seconds, micros), _ = await self._ask("look", "%now", self._keys_of("%now"), _VALUES)
        return int(seconds) * 1000 + int(micros) // 1000

    async def accounts(self, tags: Iterable[str]) -> list[Account]:
        """The accounts of these tags, in the order of the tags."""
        found: dict[str, Account] = {}
        for batch in self._batches(sorted(tags)):
            left = deque(batch)
            while left:
                keys = [key for tag in left for key in self._keys_of(tag)]
                _, packed = await self._ask("look", left[0], keys, _VALUES)
                for parts in _decode_accounts(packed):
                    tag = left.popleft()
                    found[tag] = _account(tag, *parts)
        return [found[tag] for tag in sorted(found)]

    async def entries(
        self, streams: Iterable[tuple[str, str]]
    ) -> dict[tuple[str, str], tuple[list[Entry], bool]]:
        """The entries of each stream, a tag and a day, and whether the stream is complete."""
        found: dict[tuple[str, str], tuple[list[Entry], bool]] = {}
        days: defaultdict[str, list[str]] = defaultdict(list)
        for tag, day in streams:
            days[tag].append(day)
        for batch in self._batches(sorted(days)):
            await self._read(deque((tag, day) for tag in batch for day in sorted(days[tag])), found)
        return found

    async def _read(
        self,
        left: deque[tuple[str, str]],
        found: dict[tuple[str, str], tuple[list[Entry], bool]],
    ) -> None:
        start = "-"
        while left:
            named = list(left)[:_KEYS]
            keys = [self._keys.of(tag, f"turns:{day}") for tag, day in named]
            (packed,) = await self._ask("page", left[0][0], keys, start, _ENTRIES)
            room = _ENTRIES
            for added, length, page in _decode_streams(packed):
                stream = left[0]
                account = account_of(stream[0])
                trimmed = length >= self._max_turns if added < 0 else added > length
                trimmed = trimmed and stream[1] != GRANTED
                entries, _ = found.setdefault(stream, ([], not trimmed))
                entries.extend(read_entry(account, name, fields) for name, fields in page)
                found[stream] = entries, not trimmed
                if len(page) >= room:  # the stream may have more entries
                    milliseconds, _, number = page[-1][0].partition("-")
                    start = f"{milliseconds}-{int(number) + 1}"
                    break
                left.popleft()
                room, start = room - 1 - len(page), "-"

    async def usage(self, since: str) -> list[list[str]]:
        """The hashes of the roll-up that may have rows from the day ``since`` on."""
        # After a clock was set back, a row may be in the hash of the month before.
        first = f"usage:{day_before(since, _LONGEST_MONTH)[:7]}"
        found: list[list[str]] = []
        keys = await self._scan("usage:*")
        kinds: defaultdict[str, list[str]] = defaultdict(list)
        for tag, kind in keys:
            if kind >= first:
                kinds[tag].append(kind)
        for batch in self._batches(sorted(kinds)):
            left = deque((tag, kind) for tag in batch for kind in sorted(kinds[tag]))
            while left:
                named = [self._keys.of(tag, kind) for tag, kind in list(left)[:_KEYS]]
                (packed,) = await self._ask("rows", left[0][0], named, _ROW_VALUES)
                hashes = decode_hashes(packed)
                found.extend(hashes)
                for _ in hashes:
                    left.popleft()
        return found

    async def refusals(self, since: str) -> list[Refusals]:
        """The refusals from a day on, by hour and limit."""
        home, sums = self._keys.home, defaultdict[tuple[str, str], int](int)
        for tag, kind in sorted(await self._scan("refusals:*")):
            if tag == home and kind >= f"refusals:{since[:7]}":
                (packed,) = await self._ask("rows", home, [self._keys.of(home, kind)], _ROW_VALUES)
                (words,) = decode_hashes(packed)
                for field, number in _pairs(words).items():
                    hour, _, name = field.partition(" ")
                    sums[hour, name] += int(number)
        found = sorted(sums.items())
        return [Refusals(*place, number) for place, number in found if place[0] >= since]

    async def streams(self, first: str) -> list[tuple[str, str]]:
        """The tags and days with records, from the day ``first`` on, and those with grants."""
        found = [
            (tag, kind.removeprefix("turns:"))
            for tag, kind in await self._scan()
            if kind.startswith("turns:")
        ]
        return sorted(stream for stream in found if stream[1] >= first)

    async def tags(self, *kinds: str) -> list[str]:
        """The tags with keys of these kinds."""
        return sorted({tag for tag, kind in await self._scan() if kind in kinds})

    async def _scan(self, kinds: str = "*") -> list[tuple[str, str]]:
        """The tag and the kind of each key."""
        head = self._keys.of("*", "*").removesuffix("{*}:*")
        keys = await self._server.link().scan(self._keys.pattern(kinds))
        parts = (key.removeprefix(head + "{").partition("}:") for key in keys)
        return [(tag, kind) for tag, _, kind in parts]

    def _batches(self, tags: list[str]) -> Iterator[list[str]]:
        slots: defaultdict[int, list[str]] = defaultdict(list)
        for tag in tags:
            slots[self._keys.slot(tag)].append(tag)
        for slot in sorted(slots):
            of_slot = slots[slot]
            for first in range(0, len(of_slot), _KEYS):
                yield of_slot[first : first + _KEYS]

    def _keys_of(self, tag: str) -> list[str]:
        return [self._keys.of(tag, kind) for kind in ("counters", "holds", "due")]

    async def _ask(self, name: str, tag: str, keys: list[str], *args: str | int) -> list[Any]:
        mark = self._keys.of_mark(tag)
        answer = await self._server.link().run(
            self._server.scripts[name], [mark, *keys], [SCHEMA, *args]
        )
        if answer[0] < 0:
            reason = trouble(None, Mark.read(answer[1].decode()), 0)
            raise LedgerUnavailable from StoreChanged(reason) if reason else None
        return list(answer[1:])


def _account(tag: str, counters: list[str], holds: list[str], due: list[str]) -> Account:
    account, ends = account_of(tag), _pairs(due)
    balances = [
        Balance.at(f"{field}:{account}", map(int, packed.split()))
        for field, packed in _pairs(counters).items()
        if _is_counter(field)
    ]
    live = [
        _hold(hold_id, packed, account, int(float(ends.get(hold_id, "0"))))
        for hold_id, packed in _pairs(holds).items()
        if packed.startswith("R ")
    ]
    crossings = [
        _crossing(account, field, packed)
        for field, packed in _pairs(counters).items()
        if _WATCH in field and field.count(":") > 1
    ]
    return Account(tuple(balances), tuple(live), tuple(crossings))


def _is_counter(field: str) -> bool:
    """Whether a field of an account's counters is a counter, and not a sum or a mark."""
    _, colon, day = field.partition(":")
    return bool(colon) and day != "late" and not day.startswith("~")


def _hold(hold_id: str, packed: str, account: str, ends: int) -> LiveHold:
    _, amounts, at, *lines = packed.split(" ")
    tokens, money, *_ = *amounts.split(","), "0"
    return LiveHold(
        id=hold_id,
        tokens=int(tokens),
        money=int(money),
        lines=lines_of(lines, account),
        admitted_at=int(at),
        expires_at=ends,
    )


def _crossing(account: str, field: str, packed: str) -> Crossing:
    name, _, place = field.partition(_WATCH)
    window, _, threshold = place.partition(":")
    unit, used, amount, at, state = packed.split(" ")
    return Crossing(
        limit=name,
        account=account,
        window=window,
        threshold=int(threshold),
        unit=unit_of(unit),
        used=int(used),
        amount=int(amount),
        at=int(at),
        state=state,
    )


def _pairs(words: list[str]) -> dict[str, str]:
    return dict(zip(words[::2], words[1::2], strict=True))


def account_of(tag: str) -> str:
    """The account of a hash tag. The inverse of ``tag_of`` in keys.py."""
    if tag == "%":
        return ""
    return tag.replace("%7B", "{").replace("%7D", "}").replace("%25", "%")
