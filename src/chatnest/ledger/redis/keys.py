"""Keys: the names of a RedisLedger's keys, and the parts of an operation that share a step. No I/O.

All keys begin with the prefix and the account as hash tag, as in ``chatnest:{ann}:``. They expire
by themselves, except those of a lifetime.

============== ============= =================================================== ================
``counters``   hash          ``NAME:DAY`` to ``settled held overrun expired      end of the last
                             adjusted ends``; ``NAME:ever`` and                  window + keep_days,
                             ``NAME:granted`` of a lifetime; ``NAME:late`` and   62 days with one of
                             ``NAME:~WINDOW``, the sums of windows;              several days; never
                             ``NAME:~!WINDOW`` and ``NAME:~!WINDOW:THRESHOLD``   with a lifetime
                             of limits with ``warn_at``
``holds``      hash          hold to ``STATE TOKENS,MONEY,OUTPUT ADMITTED_AT     lease + keep_days
                             LINES``, for live and expired holds
``due``        sorted set    hold by the end of its lease                        lease + keep_days
``window:N:W`` sorted set    hold by its time of admission                       the window
``bucket:N:W`` hash          the amounts of a sliding window, in buckets         the window
``end:HOLD``   string        how a hold ended, and its charge, with the first    remember
                             account of the hold
``turns:DAY``  stream        records, at most ``max_turns`` of a day (UTC): each keep_days + 1
                             settlement, with the first account of the hold;
                             each expiry, and its release, with every account
                             that it charged; each adjustment. No content of
                             messages. ``turns:granted`` has those of grants.    never
``pending``    sorted set    reached thresholds whose warnings are not           30 days
                             delivered yet, beside the mark of their slot
``usage:MONTH`` hash         the roll-up of usage: ``DAY NAMES`` to its figures  400 days
``refusals:M`` hash          refusals in a month, by hour and name of a limit    400 days
``currency``   string        the currency of all amounts of money                never
``adjust:ID``  string        an adjustment                                       keep_days + 35;
                                                                                 never for a grant
============== ============= =================================================== ================
"""

import re
from binascii import crc_hqx
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, timedelta
from functools import cache
from typing import Final, NamedTuple

import msgspec

from chatnest.errors import ConfigurationError
from chatnest.ledger.base import Limit, Line, Reservation
from chatnest.ledger.books import GRANTED
from chatnest.ledger.days import day_end, day_of, end_of
from chatnest.ledger.limit import Unit
from chatnest.ledger.watch import Watch

__all__ = [
    "Days",
    "Keys",
    "Part",
    "Plan",
    "Today",
    "fields_of",
    "has_account",
    "letter_of",
    "lines_of",
    "split_line",
    "tag_of",
    "unit_of",
    "word_of",
]

_DAY = 86_400_000
_LONG_DAYS: Final = 62
"""Days for which a day is kept that may be part of two months."""

_SLOTS: Final = 16_384
"""Number of slots of a cluster of any size."""

_MOST_PARTS: Final = 4_096
"""Maximum tuples of limits whose parts are kept for their next request."""

_OF_ID: Final = "%id:"


class Plan(msgspec.Struct, frozen=True):
    """The limits of a part as the scripts take them, from ``since`` until ``until``, and the keys
    of their windows.
    """

    since: int
    until: int
    windows: tuple[bytes, ...]
    packed: bytes


class Part(msgspec.Struct):
    """The part of an operation that one script does: the tags of the accounts that it charges, and
    the limits that it checks, each with its index in the operation. The first account has the key
    that records the hold's end. One part of a hold ``keeps`` its usage.

    The parts of a reservation are kept for the next one under the same limits, with what was worked
    out for them: their ``plan``, and the keys that belong to a day.
    """

    homes: list[str]
    limits: list[tuple[int, Limit]] = []
    lines: list[Line] = []
    keeps: bool = False
    plan: Plan | None = None
    day: str = ""
    day_keys: tuple[list[bytes], bytes, bytes] = ([], b"", b"")

    @property
    def tag(self) -> str:
        """A hash tag in the slot of this part."""
        return self.homes[0] if self.homes else tag_of(self.limits[0][1].account)

    @property
    def under(self) -> tuple[Limit, ...]:
        """The limits, without their indexes."""
        return tuple([limit for _, limit in self.limits])


class Keys:
    """Keys under ``prefix``, with the account as hash tag. ``slot_of`` returns the slot of a tag,
    and is None without a cluster.
    """

    def __init__(self, prefix: str, slot_of: Callable[[str], int] | None) -> None:
        if not prefix or set(prefix) & set("{} "):
            raise ConfigurationError(
                f"prefix: expected a word without braces or spaces, got {prefix!r}. Write a name "
                "such as chatnest."
            )
        self._prefix = prefix
        self._slot_of = slot_of
        self._parts: dict[tuple[tuple[Limit, ...], str], list[Part]] = {}
        self.home: str = "%books"
        """The tag of keys that belong to no account. No account's tag begins like this."""
        self.mark: str = self.of(self.home, "mark")

    @property
    def is_cluster(self) -> bool:
        return self._slot_of is not None

    def of_mark(self, tag: str) -> str:
        """The key of the mark that a script can read together with keys of this tag."""
        if self._slot_of is None or tag == self.home:
            return self.mark
        return self.of_slot(self._slot_of(tag))

    def of_slot(self, slot: int) -> str:
        """The key of the mark's copy in a slot."""
        return self.of(_tags_of_slots()[slot], "mark")

    def home_of(self, mark: str) -> str:
        """The tag of a mark's key."""
        return mark.removeprefix(f"{self._prefix}:{{").partition("}:")[0]

    def of_pending(self, tag: str) -> str:
        """The key of pending crossings, in the slot of this tag."""
        return self.of(self.home_of(self.of_mark(tag)), "pending")

    def pattern(self, kind: str) -> str:
        """The pattern with which ``SCAN`` finds keys of this kind. It may match other keys, too."""
        return re.sub(r"([][*?\\^-])", r"\\\1", f"{self._prefix}:{{") + f"*}}:{kind}"

    def of_day(self, part: Part, day: str) -> tuple[list[bytes], bytes, bytes]:
        """The keys that every step over a part has: four of each account, the pending crossings,
        and the roll-up in the slot.
        """
        if part.day != day:
            kinds = "counters", "holds", "due", f"turns:{day}"
            accounts = [self.of(tag, kind).encode() for tag in part.homes for kind in kinds]
            pending, usage = self.of_pending(part.tag), self.of_usage(part, "", day)
            part.day, part.day_keys = day, (accounts, pending.encode(), usage.encode())
        return part.day_keys

    def of_adjustment(self, tag: str, adjustment_id: str) -> tuple[str, str]:
        """The keys of an adjustment: its id, and the records of grants."""
        return self.of(tag, f"adjust:{adjustment_id}"), self.of(tag, f"turns:{GRANTED}")

    def of_end(self, tag: str, hold_id: str) -> str:
        return self.of(tag, f"end:{hold_id}")

    def of_window(self, limit: Limit) -> str:
        kind = "window" if limit.unit == "requests" else "bucket"
        return self.of(tag_of(limit.account), f"{kind}:{limit.name}:{limit.window}")

    def of_bucket(self, line: Line) -> str:
        """The key of the window that a line has a bucket of."""
        name, window, account = split_line(line)
        return self.of(tag_of(account), f"bucket:{name}:{window}")

    def of(self, tag: str, kind: str) -> str:
        return f"{self._prefix}:{{{tag}}}:{kind}"

    def parts_of_limits(self, limits: Sequence[Limit]) -> list[Part]:
        """The parts of a look-up, as few as possible, in the order of their slots."""
        parts: dict[int, Part] = {}
        for index, limit in enumerate(limits):
            tag = tag_of(limit.account)
            part = parts.setdefault(self.slot(tag), Part([]))
            part.limits.append((index, limit))
            if has_account(limit) and tag not in part.homes:
                part.homes.append(tag)
        return [parts[slot] for slot in sorted(parts)]

    def parts_of_wish(self, wish: Reservation) -> list[Part]:
        """The parts of a reservation. Each has an account, which makes a repetition idempotent."""
        kind = wish.limits, wish.principal
        parts = self._parts.get(kind)
        if parts is None:
            parts = self._new_parts(wish)
            if not any(tag.startswith(_OF_ID) for part in parts for tag in part.homes):
                if len(self._parts) >= _MOST_PARTS:
                    self._parts.clear()
                self._parts[kind] = parts
        return parts

    def _new_parts(self, wish: Reservation) -> list[Part]:
        parts = self.parts_of_limits(wish.limits)
        if not any(part.homes for part in parts):
            own = _tag_of_id(wish.id)
            if parts and self._slot_of is None:
                parts[0].homes.append(own)
            else:
                parts.append(Part([own]))
        self._choose_keeper([part for part in parts if part.homes], wish.principal)
        for part in parts:
            if not part.homes:
                part.homes.append(tag_of(part.limits[0][1].account))
        return parts

    def parts_of_lines(
        self, lines: Iterable[Line], hold_id: str, principal: str = ""
    ) -> list[Part]:
        """The parts of a hold: the same as those in which it was admitted."""
        parts: dict[int, Part] = {}
        for line in lines:
            tag = tag_of(split_line(line)[2])
            part = parts.setdefault(self.slot(tag), Part([]))
            part.lines.append(line)
            if tag not in part.homes:
                part.homes.append(tag)
        if not parts:
            parts[0] = Part([_tag_of_id(hold_id)])
        found = [parts[slot] for slot in sorted(parts)]
        self._choose_keeper(found, principal)
        return found

    def _choose_keeper(self, parts: Sequence[Part], principal: str) -> None:
        """Let one part of a hold keep its usage: the one in the slot of the principal, if any."""
        slot = self.slot(tag_of(principal))
        keeper = next((part for part in parts if self.slot(part.tag) == slot), parts[0])
        keeper.keeps = True

    def of_usage(self, part: Part, principal: str, day: str) -> str:
        """The key of the roll-up for a step: the principal's own, if it is in the same slot."""
        own = tag_of(principal)
        tag = own if principal and self.slot(own) == self.slot(part.tag) else part.tag
        return self.of(tag, f"usage:{day[:7]}")

    def of_refusals(self, day: str) -> str:
        """The key of the refusals in the month of a day."""
        return self.of(self.home, f"refusals:{day[:7]}")

    def of_own_usage(self, principal: str, days: Iterable[str]) -> list[str]:
        """The keys of a principal's roll-up, of the months of these days."""
        months = dict.fromkeys(day[:7] for day in days)
        return [self.of(tag_of(principal), f"usage:{month}") for month in months]

    def slot(self, tag: str) -> int:
        """The slot of a tag's keys; 0 without a cluster."""
        return self._slot_of(tag) if self._slot_of is not None else 0


def tag_of(account: str) -> str:
    """The hash tag of an account: not empty, and without braces."""
    return account.replace("%", "%25").replace("{", "%7B").replace("}", "%7D") or "%"


@cache
def _tags_of_slots() -> tuple[str, ...]:
    """A tag for each slot: always the one with the lowest number."""
    found: dict[int, str] = {}
    number = 0
    while len(found) < _SLOTS:
        tag = f"%slot:{number}"
        found.setdefault(crc_hqx(tag.encode(), 0) % _SLOTS, tag)  # the same CRC16 as the server's
        number += 1
    return tuple(found[slot] for slot in range(_SLOTS))


def _tag_of_id(hold_id: str) -> str:
    # A hold without counters belongs to no account. No account's tag begins like this.
    return f"{_OF_ID}{tag_of(hold_id)}"


def split_line(line: Line) -> list[str]:
    """The limit's name, the day and the account."""
    return line.key.split(":", 2)


def has_account(limit: Limit) -> bool:
    """Whether a hold has a line for this limit. A window of requests has its entry alone."""
    return limit.kind != "rate" or limit.unit != "requests"


_UNITS: Final[Mapping[str, Unit]] = {"T": "tokens", "M": "money", "Q": "requests", "S": "streams"}
_LETTERS: Final = {unit: letter for letter, unit in _UNITS.items()}


def letter_of(unit: Unit) -> str:
    """The letter of a unit in the scripts."""
    return _LETTERS[unit]


def unit_of(letter: str) -> Unit:
    """The unit of a letter in the scripts."""
    return _UNITS[letter]


def line_of(word: str, account: str) -> Line:
    """The line of a word such as ``T=NAME:DAY``, as the scripts keep it for an account."""
    letter, _, field = word.partition("=")
    if letter.isupper():
        return Line(f"{field}:{account}", _UNITS[letter])
    place, _, serial = field.rpartition(":")
    return Line(f"{place}:{account}", _UNITS[letter.upper()], int(serial))


def word_of(watch: Watch) -> str:
    """A watch as the scripts keep it in the lines of a hold. It has no ``=``, unlike a line."""
    name = watch.name.replace("%", "%25").replace("=", "%3D")
    return (
        f"!{name}:{watch.period}:{watch.first}:{watch.last}:{watch.start}:"
        f"{letter_of(watch.unit)}:{watch.amount}:{','.join(map(str, watch.thresholds))}"
    )


def lines_of(words: Iterable[str], account: str) -> tuple[Line, ...]:
    """The lines among the words that the scripts keep for an account."""
    return tuple(line_of(word, account) for word in words if word and not word.startswith("!"))


def fields_of(lines: Iterable[Line], tag: str) -> str:
    """The lines of one account that are counters, in the form that the scripts use."""
    words = []
    for line in lines:
        name, day, account = split_line(line)
        if line.serial < 0 and tag_of(account) == tag:
            words.append(f"{letter_of(line.unit)}={name}:{day}")
    return " ".join(words)


class Today(NamedTuple):
    """The current day of a time zone, as the scripts take it: its name, its end and its start, and
    the oldest days that are kept, for windows of a day and for longer ones.
    """

    name: str
    end: int
    start: int
    oldest: str
    long_ago: str


class Days:
    """The current days of time zones. ``keep_days`` is how long a day is kept."""

    def __init__(self, keep_days: int) -> None:
        self._keep = keep_days * _DAY
        self._known: dict[str, Today] = {}

    def today(self, zone: str, now: int) -> Today:
        """The current day of a zone."""
        known = self._known.get(zone)
        if known is None or not known.start <= now < known.end:
            name = day_of(now, zone)
            before = date.fromisoformat(name) - timedelta(days=1)
            known = self._known[zone] = Today(
                name,
                day_end(now, zone),
                end_of(before.isoformat(), zone),
                day_of(now - self._keep, zone),
                day_of(now - _LONG_DAYS * _DAY, zone),
            )
        return known
